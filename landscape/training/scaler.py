"""Loss scaling for half precision: gradients too small for fp16 are multiplied up in the backward pass and down after.

A step in which any gradient overflowed is taken back, weights and state alike, and the scale is halved; after `GROWTH`
steps without overflow it is doubled. All of it stays on the device. The scale is a power of two, so that scaling
rounds nothing in the range of normal numbers.

Source: Micikevicius et al. 2018, arXiv 1710.03740, section 3.2; the constants are those of torch.amp.GradScaler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

START, GROWTH = 2.0**16, 2000


class Scaler:
    """Scales losses, unscales gradients, remembers overflow."""

    def __init__(self, device: torch.device) -> None:
        """Start at the common scale.

        Args:
            device: Where gradients are.
        """
        self._scale = torch.full((), START, device=device)
        self._since = torch.zeros((), device=device)  # steps since the scale last changed
        self._overflow = torch.zeros((), dtype=torch.bool, device=device)

    def scaled(self, weights: Tensor) -> Tensor:
        """Weights of the examples' losses in the backward pass, multiplied up."""
        return weights * self._scale

    def unscale(self, gradient: Tensor) -> None:
        """Divide a gradient by the scale in place, shape (D,), and note whether it overflowed."""
        self._overflow |= ~torch.isfinite(gradient).all()
        gradient.div_(self._scale)

    def settle(self, live: Callable[[], dict[str, Tensor]], before: Mapping[str, Tensor]) -> None:
        """End a step: after an overflow put everything back as it was; adapt the scale.

        Args:
            live: What the step may have changed, by name.
            before: Copies of it from before the step; what is missing there was zero.
        """
        for name, value in live().items():
            old = before.get(name)
            value.copy_(torch.where(self._overflow, torch.zeros_like(value) if old is None else old, value))
        self._since = torch.where(self._overflow, 0.0, self._since + 1)
        grown = torch.where(self._since >= GROWTH, 2.0, 1.0)
        self._scale = self._scale * torch.where(self._overflow, 0.5, grown)
        self._since = torch.where(self._since >= GROWTH, 0.0, self._since)
        self._overflow = torch.zeros_like(self._overflow)

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs."""
        return {"scale": self._scale, "since": self._since}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        self._scale.copy_(state["scale"])
        self._since.copy_(state["since"])
