"""Entropy-SGD: a step towards the mean of a Langevin walk, which smooths the loss by a local entropy.

Source: Chaudhari et al. 2017, arXiv 1611.01838, Algorithm 1. With `variant` "code" what the authors' program does is
followed where it differs: Nesterov momentum and weight decay inside the walk, noise of size ε√(2η'), and x − μ as the
gradient of the outer step, where the paper has γ(x − μ), which needs a learning rate of the order of 1/γ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from landscape.training.batches import Batches
from landscape.training.order import derive, generator
from landscape.training.passes import Passes
from landscape.training.settings import Settings
from landscape.training.sharpness import Told

FORGETTING = 0.75
"""α of the paper: μ ← αμ + (1−α)x'."""


class Entropy:
    """x − μ after L Langevin steps, each on its own batch; the walk begins anew in every step, so it has no state.

    Step t uses the batches tL to tL + L − 1: a run reads L times the epochs it is asked for. Every inner pass moves
    the running BatchNorm statistics. Loss, error and gradient told are those of the first pass, at the weights.
    """

    def __init__(self, settings: Settings, passes: Passes, batches: Batches) -> None:
        self._settings, self._passes, self._batches, self._flat = settings, passes, batches, passes.flat
        self._code = settings.variant == "code"
        self._saved, self._mean, self._velocity = (torch.empty_like(passes.flat.theta) for _ in range(3))

    def __call__(self, t: int) -> Told:
        """Put the direction of step t into the flat gradient."""
        s, flat = self._settings, self._flat
        gamma = s.scoping * (1 + s.scoping_growth) ** t
        self._saved.copy_(flat.theta)
        self._mean.copy_(flat.theta)
        self._velocity.zero_()
        told: Told = {}
        for number in range(t * s.inner_steps, (t + 1) * s.inner_steps):
            found = self._passes.gradient(*self._batches(number), derive(s.seed, "noise", number))
            if not told:
                length = torch.linalg.vector_norm(flat.gradient)
                told = {"loss": found.loss, "error": found.error, "gradient": length}
            self._walk(number, gamma)
        flat.gradient.copy_(self._saved - self._mean)
        if not self._code:
            flat.gradient.mul_(gamma)
        told["perturbation"] = torch.linalg.vector_norm(flat.theta - self._saved)
        flat.theta.copy_(self._saved)
        return told

    def _walk(self, number: int, gamma: float) -> None:
        """One Langevin step: x' ← x' − η'[∇L(x') + γ(x' − x)] + noise; μ ← αμ + (1−α)x'."""
        s, theta, drift = self._settings, self._flat.theta, self._flat.gradient
        source = generator(s.seed, "langevin", number, theta.device)
        noise = torch.randn(len(theta), generator=source, device=theta.device, dtype=theta.dtype)
        if self._code:
            drift.add_(theta, alpha=s.weight_decay)
            self._velocity.mul_(s.momentum).add_(drift)
            drift.add_(self._velocity, alpha=s.momentum)
        drift.add_(theta - self._saved, alpha=gamma)
        size = s.thermal * math.sqrt((2 if self._code else 1) * s.inner_lr)
        theta.add_(drift, alpha=-s.inner_lr).add_(noise, alpha=size)
        self._mean.mul_(FORGETTING).add_(theta, alpha=1 - FORGETTING)

    def state(self) -> dict[str, Tensor]:
        """No state."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """No state."""
