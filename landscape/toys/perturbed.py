"""The loss that SAM stands for, L̃(w) = max over ‖ε‖₂ ≤ ρ of L(w + ε), computed without SAM's approximation.

On one parameter the maximum lies at an end of the interval or at a maximum of L inside it; of a convex L on two
parameters it lies on the circle, where a fine grid of angles is refined by golden sections.

Source: Foret et al. 2021, arXiv 2010.01412, equation 1; thesis, equation 2.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from landscape.toys.functions import Toy

ANGLES = 64
GOLDEN = (math.sqrt(5) - 1) / 2


def on_line(toy: Toy, w: Tensor, rho: Tensor, maxima: tuple[float, ...] = ()) -> Tensor:
    """L̃ of a function of one parameter, exact.

    Args:
        toy: The function.
        w: Places, shape (...,).
        rho: Radius, at least 0, to be broadcast with them.
        maxima: Where the function has its local maxima.

    Returns:
        L̃, in the shape of both.
    """
    ends = torch.stack([w - rho, w + rho])
    best = toy.value(ends.unsqueeze(-1)).amax(0)
    for place in maxima:
        top = toy.value(w.new_tensor([place]))
        best = torch.where((w - place).abs() <= rho, best.maximum(top), best)
    return best


def on_plane(toy: Toy, w: Tensor, rho: Tensor) -> Tensor:
    """L̃ of a convex function of two parameters.

    Args:
        toy: The function, convex, so that the maximum over the disc lies on its circle.
        w: Points, shape (..., 2).
        rho: Radius, at least 0, to be broadcast with shape (...,).

    Returns:
        L̃, shape (...,).
    """

    def at(angle: Tensor) -> Tensor:
        around = torch.stack([angle.cos(), angle.sin()], -1)
        return toy.value(w + rho.unsqueeze(-1) * around)

    width = 2 * math.pi / ANGLES
    angle = torch.zeros_like(w[..., 0] + rho)
    best = torch.full_like(angle, -math.inf)
    for k in range(ANGLES):
        value = at(torch.full_like(angle, k * width))
        angle = torch.where(value > best, k * width, angle)
        best = best.maximum(value)
    return at(golden(lambda a: -at(a), angle - width, angle + width))


def golden(function: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, rounds: int = 60) -> Tensor:
    """Minimise many functions of one parameter at once, each with one minimum in its interval.

    Args:
        function: From places (...,) to values (...,).
        low: Lower ends, shape (...,).
        high: Upper ends.
        rounds: Sections; each leaves 0.618 of the interval.

    Returns:
        Where the minima are. A smooth minimum is found to the square root of rounding, a kink to rounding.
    """
    for _ in range(rounds):
        a, b = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        left = function(a) <= function(b)
        low, high = torch.where(left, low, a), torch.where(left, b, high)
    return (low + high) / 2


def lowest(function: Callable[[Tensor], Tensor], centre: Tensor, reach: float, rounds: int = 20) -> Tensor:
    """Minimise many convex functions of two parameters at once, on a grid that closes in.

    Args:
        function: From points (..., 2) to values (...,).
        centre: Where to begin, shape (..., 2).
        reach: Half of the first grid's width, which must hold the minima.
        rounds: Grids of 15 × 15 points, each 0.43 as wide as the one before: the new one spans three cells on each
            side of the best point.

    Returns:
        Where the minima are, shape (..., 2), to a part 2·10⁻⁸ of the reach.
    """
    ticks = torch.linspace(-1, 1, 15, dtype=centre.dtype, device=centre.device)
    grid = torch.cartesian_prod(ticks, ticks)  # (225, 2)
    for _ in range(rounds):
        points = centre.unsqueeze(-2) + reach * grid
        best = function(points).argmin(-1)
        centre = centre + reach * grid[best]
        reach *= 3 / 7
    return centre


def linex_shift(a: float, rho: float) -> float:
    """Where L̃ of exp(aw) − aw − 1 has its minimum: ln(aρ/sinh aρ)/a, on the flat side of 0.

    There both ends of the interval are equally high: e^{aw}·2 sinh(aρ) = 2aρ.

    Args:
        a: Coefficient.
        rho: ρ.

    Returns:
        The place of the minimum.
    """
    x = a * rho
    return math.log(x / math.sinh(x)) / a if x else 0.0
