"""What is differentiated: the mean loss of a network over a data set, as a function of its parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from landscape.errors import InputError, UsageError
from landscape.split import Split

Losses = Callable[[Tensor, Tensor], Tensor]
"""(outputs (B, ...), targets (B, ...)) -> losses in nats, shape (B,)."""


@dataclass(frozen=True, eq=False)
class Objective:
    """Mean loss over all N examples, each with the same weight 1/N whatever chunk it falls into.

    Attributes:
        model: Network; it is called, never changed.
        losses: Loss of each example in nats: (outputs, targets) -> (B,).
        data: The N examples, on the model's device.
        chunk: Examples processed at once. It costs memory and, with fixed BatchNorm statistics, changes no result.
        parameters: Shell pattern on parameter names: only these form theta, the others are constants.
    """

    model: nn.Module
    losses: Losses
    data: Split
    chunk: int = 512
    parameters: str = "*"

    def __post_init__(self) -> None:
        """Check that there is something to differentiate, in one floating point type, on the data's device.

        Raises:
            InputError: If the parameters' types or devices differ, or the data lie on another device.
            UsageError: If no parameter is left, or the parameters are narrower than float32.
            ValueError: If the chunk is not positive.
        """
        if self.chunk < 1:
            raise ValueError(f"expected a chunk of at least 1 example, got {self.chunk}")
        chosen = self._chosen()
        if not chosen:
            names = ", ".join(name for name, _ in self.model.named_parameters()) or "none at all"
            raise UsageError(
                f"no trainable parameter matches '{self.parameters}'", f"the model's parameters are: {names}"
            )
        kinds = {(parameter.dtype, parameter.device) for parameter in chosen.values()}
        if len(kinds) > 1:
            raise InputError(
                f"the parameters have {len(kinds)} types or devices: {sorted(map(str, kinds))}",
                "convert the model to one floating point type on one device",
            )
        if self.dtype not in {torch.float32, torch.float64}:
            raise UsageError(
                f"curvature needs float32 or float64 parameters, got {self.dtype}", "call model.float() first"
            )
        if self.data.inputs.device != self.device:
            raise InputError(
                f"the model lies on {self.device} and the data on {self.data.inputs.device}",
                f"move the data: data.to('{self.device}')",
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters that form theta, in order; a tied weight counts once, under its first name."""
        return tuple(self._chosen())

    @property
    def size(self) -> int:
        """D, the number of parameters that form theta."""
        return sum(parameter.numel() for parameter in self._chosen().values())

    @property
    def dtype(self) -> torch.dtype:
        """Floating point type of the parameters."""
        return next(iter(self._chosen().values())).dtype

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(iter(self._chosen().values())).device

    def chunks(self) -> list[tuple[int, int]]:
        """Cut the data front to back.

        Returns:
            (start, stop) of each chunk; the last may be shorter.
        """
        total = len(self.data)
        return [(start, min(start + self.chunk, total)) for start in range(0, total, self.chunk)]

    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Losses of a batch.

        Args:
            outputs: What the network returned, shape (B, ...).
            targets: Targets, shape (B, ...).

        Returns:
            Losses in nats, shape (B,).

        Raises:
            ValueError: If the loss function does not return one number for each example.
        """
        losses = self.losses(outputs, targets)
        if losses.shape != (len(targets),):
            raise ValueError(f"expected losses of shape ({len(targets)},), one for each example; got {losses.shape}")
        return losses

    def _chosen(self) -> dict[str, nn.Parameter]:
        named = self.model.named_parameters()
        return {name: p for name, p in named if p.requires_grad and fnmatchcase(name, self.parameters)}
