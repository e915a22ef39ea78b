"""The highest point of a ball, round or cubic: projected gradient ascent with spectral steps.

Steps are as long as the last change of the gradient says (Barzilai and Borwein); where the function curves upward there
is no such length, and the step goes to the point of the ball farthest along the gradient. For a quadratic on the
sphere that is one step of the power method; in a box it is the sign step, ρ sign(∇). A climb never goes down, so what
it ends at is a point of the ball whose height is known: a lower bound of the maximum, whatever the function. In a box
even that of a convex quadratic is NP-hard to find.

Source: Birgin, Martínez, Raydan 2000, SIAM J. Optim. 10 (spectral projected gradient).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Height = Callable[[Tensor], tuple[Tensor, Tensor]]
"""z (D,) -> height, 0-dimensional float64, and its gradient (D,)."""

_ENOUGH = 1e-4  # of the rise that the gradient promises: Armijo's constant
_HALVINGS = 60
_FAR = 1e6  # a step this many times the radius goes to the farthest point


class Body(Protocol):
    """A convex set around 0 in which a climb stays."""

    @property
    def rho(self) -> float:
        """ρ, above 0."""

    def project(self, z: Tensor) -> Tensor:
        """The nearest point, shape (D,)."""

    def farthest(self, slope: Tensor) -> Tensor:
        """A point where ⟨slope, z⟩ is largest, shape (D,)."""

    def support(self, slope: Tensor) -> Tensor:
        """The largest ⟨slope, z⟩, float64, 0-dimensional."""


@dataclass(frozen=True)
class Ball:
    """‖z‖₂ ≤ ρ."""

    rho: float

    def project(self, z: Tensor) -> Tensor:
        """The nearest point, shape (D,)."""
        length = torch.linalg.vector_norm(z)
        return torch.where(length > self.rho, z * (self.rho / length), z)

    def farthest(self, slope: Tensor) -> Tensor:
        """ρ slope / ‖slope‖₂, 0 for a slope of 0."""
        length: Tensor = torch.linalg.vector_norm(slope).clamp_min(torch.finfo(slope.dtype).tiny)
        farthest: Tensor = self.rho * (slope / length)
        return farthest

    def support(self, slope: Tensor) -> Tensor:
        """ρ‖slope‖₂."""
        length: Tensor = torch.linalg.vector_norm(slope.double())
        return self.rho * length


@dataclass(frozen=True)
class Box:
    """‖z‖_∞ ≤ ρ: every coordinate is free from −ρ to ρ."""

    rho: float

    def project(self, z: Tensor) -> Tensor:
        """The nearest point, shape (D,)."""
        return z.clamp(-self.rho, self.rho)

    def farthest(self, slope: Tensor) -> Tensor:
        """ρ sign(slope), a corner; 0 where the slope is."""
        return self.rho * slope.sign()

    def support(self, slope: Tensor) -> Tensor:
        """ρ‖slope‖₁."""
        return self.rho * slope.double().abs().sum()


@dataclass(frozen=True)
class Peak:
    """Where a climb ended.

    Attributes:
        point: z, shape (D,), in the body.
        height: Height there.
        gap: max over the body of ⟨gradient, s − z⟩: 0 at a stationary point, in the unit of the height.
        evaluations: Evaluations of height and gradient.
    """

    point: Tensor
    height: float
    gap: float
    evaluations: int


def climb(height: Height, start: Tensor, body: Body, steps: int, tol: float) -> Peak:
    """Climb from a start as high as the steps go.

    Args:
        height: What to climb.
        start: Where to begin, shape (D,); brought into the body, and halved until the height there is finite.
        body: Where to stay.
        steps: Evaluations at most, at least 2; halving the start may take more.
        tol: End where the gap is at most this part of the height.

    Returns:
        The end of the climb, the highest point it has seen.
    """
    z, value, slope, made = _foot(height, body.project(start))
    top, gap, far = _state(value, slope, z, body)
    step = math.inf
    while made < steps and gap > tol * abs(top):
        way = (body.project(z + step * slope) if step < far else body.farthest(slope)) - z
        promise = float(slope.double() @ way.double())
        share, moved = 1.0, z + way
        value, new = height(moved)
        made += 1
        while not top + _ENOUGH * share * promise <= float(value) < math.inf and made < steps:
            share = _shorter(share, promise, float(value) - top)
            moved = z + share * way
            value, new = height(moved)
            made += 1
        if not top < float(value) < math.inf:
            break
        step = _spectral(moved - z, new - slope)
        z, slope = moved, new
        top, gap, far = _state(value, slope, z, body)
    return Peak(z, top, gap, made)


def _foot(height: Height, z: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """Where a climb begins: the start, halved until the height is finite; the height, its gradient, evaluations."""
    for made in range(1, _HALVINGS):
        value, slope = height(z)
        if math.isfinite(float(value)):
            return z, value, slope, made
        z = z / 2
    value, slope = height(torch.zeros_like(z))
    return torch.zeros_like(z), value, slope, _HALVINGS


def _state(value: Tensor, slope: Tensor, z: Tensor, body: Body) -> tuple[float, float, float]:
    """Height, gap, and the step that moves far beyond the body; one read from the device."""
    slope = slope.double()
    told = torch.stack([value.double(), body.support(slope), slope @ z.double(), slope @ slope]).tolist()
    return told[0], told[1] - told[2], _FAR * body.rho / math.sqrt(told[3]) if told[3] > 0 else 0.0


def _shorter(share: float, promise: float, rise: float) -> float:
    """The top of the parabola through both ends, kept between a tenth and a half of the last share."""
    bend = share * promise - rise
    top = share * share * promise / (2 * bend) if bend > 0 else 0.0  # NaN and infinity compare as false
    return min(max(top, 0.1 * share), 0.5 * share)


def _spectral(way: Tensor, change: Tensor) -> float:
    """‖s‖² / −⟨s, y⟩ where the function bends downward along s, infinity where it does not."""
    way, change = way.double(), change.double()
    square, bend = torch.stack([way @ way, -(way @ change)]).tolist()
    return square / bend if bend > 0 else float("inf")
