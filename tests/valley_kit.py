"""Problems whose loss is a known function of three parameters, for detectors that must find what is known.

Each example's loss is f(w − shift) + tilt·w, its shift and tilt being the six numbers of its input. f acts on rotated
coordinates z = Rᵀ(w − m): a profile of z₀, and ½ k z² across it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from landscape.checkpoint import Checkpoint
from landscape.problem import Problem
from landscape.split import Split
from landscape.vector import Layout

Profile = Callable[[Tensor], Tensor]
MINIMUM = torch.tensor([0.4, -1.1, 0.7], dtype=torch.float64)
ROTATION = torch.linalg.qr(torch.tensor([[1.0, 2.0, 0.5], [-1.0, 1.0, 3.0], [2.0, 0.3, -1.0]], dtype=torch.float64))[0]
AXIS = ROTATION[:, 0]
ACROSS = 2.0


def quadratic(steep: float, flat: float) -> Profile:
    return lambda z: torch.where(z < 0, steep, flat) * z.square() / 2


def linear(steep: float, flat: float) -> Profile:
    return lambda z: torch.where(z < 0, -steep * z, flat * z)


def exponential(z: Tensor) -> Tensor:
    """Slope 1 − exp(−z): below 1 ahead, exp(ℓ) − 1 behind."""
    return torch.exp(-z) + z - 1


class Known(nn.Module):
    def __init__(self, profile: Profile) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(3))
        self.profile = profile

    def forward(self, inputs: Tensor) -> Tensor:
        moved = self.w - inputs[:, :3] - MINIMUM.to(inputs)
        z = moved @ ROTATION.to(inputs)
        return self.profile(z[:, 0]) + ACROSS * z[:, 1:].square().sum(1) / 2 + inputs[:, 3:] @ self.w


@dataclass(frozen=True)
class Itself:
    """The output is the loss."""

    classifies = False
    unused: tuple[int, ...] = field(default=())

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        return output

    def errors(self, output: Tensor, target: Tensor) -> Tensor:
        return output


def problem(profile: Profile, train: Tensor | None = None, test: Tensor | None = None) -> Problem:
    """Inputs of shape (N, 6); by default four examples that are all the same."""
    nothing = torch.zeros(4, 6, dtype=torch.float64)
    splits = [nothing if x is None else x for x in (train, test)]
    train_split, test_split = (Split(x, torch.zeros(len(x), dtype=torch.int64)) for x in splits)
    return Problem(model=lambda: Known(profile), train=train_split, test=test_split, task=Itself())


def at(w: Tensor, name: str = "w") -> Checkpoint:
    return Checkpoint(w.double(), {}, Layout(("w",), ((3,),)), name=name, sha256=name)
