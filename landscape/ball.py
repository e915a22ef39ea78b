"""The highest point of a ball: projected gradient ascent with spectral steps.

Steps are as long as the last change of the gradient says (Barzilai and Borwein); where the function curves upward there
is no such length, and the step goes to the point of the ball farthest along the gradient, which for a quadratic on
the sphere is one step of the power method. A climb never goes down, so what it ends at is a point of the ball whose
height is known: a lower bound of the maximum, whatever the function.

Source: Birgin, Martínez, Raydan 2000, SIAM J. Optim. 10 (spectral projected gradient).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Height = Callable[[Tensor], tuple[Tensor, Tensor]]
"""z (D,) -> height, 0-dimensional float64, and its gradient (D,)."""

_ENOUGH = 1e-4  # of the rise that the gradient promises: Armijo's constant
_HALVINGS = 60
_FAR = 1e6  # a step this many times the radius ends where the gradient points


@dataclass(frozen=True)
class Peak:
    """Where a climb ended.

    Attributes:
        point: z, shape (D,), ‖z‖ ≤ ρ.
        height: Height there.
        gap: max over the ball of ⟨gradient, s − z⟩: 0 at a stationary point, in the unit of the height.
        evaluations: Evaluations of height and gradient.
    """

    point: Tensor
    height: float
    gap: float
    evaluations: int


def project(z: Tensor, rho: float) -> Tensor:
    """The nearest point of the ball ‖z‖₂ ≤ ρ, shape (D,)."""
    length = torch.linalg.vector_norm(z)
    return torch.where(length > rho, z * (rho / length), z)


def climb(height: Height, start: Tensor, rho: float, steps: int, tol: float) -> Peak:
    """Climb from a start as high as the steps go.

    Args:
        height: What to climb.
        start: Where to begin, shape (D,); brought into the ball, and halved until the height there is finite.
        rho: ρ, above 0.
        steps: Evaluations at most, at least 2; halving the start may take more.
        tol: End where the gap is at most this part of the height.

    Returns:
        The end of the climb, the highest point it has seen.
    """
    z, value, slope, made = _foot(height, project(start, rho))
    top, gap, reach = _state(value, slope, z, rho)
    step = _FAR * reach
    while made < steps and gap > tol * abs(top):
        way = project(z + step * slope, rho) - z
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
        top, gap, reach = _state(value, slope, z, rho)
        step = min(step, _FAR * reach)
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


def _state(value: Tensor, slope: Tensor, z: Tensor, rho: float) -> tuple[float, float, float]:
    """Height, gap, and the step that moves by ρ; one read from the device."""
    length = torch.linalg.vector_norm(slope.double())
    told = torch.stack([value.double(), length, slope.double() @ z.double()]).tolist()
    return told[0], rho * told[1] - told[2], rho / told[1] if told[1] > 0 else 0.0


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
