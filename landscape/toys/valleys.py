"""Valleys of toy functions, and what becomes of one when the loss is replaced by its worst within ρ.

Source: thesis, theorems 3.2.1 and 3.3.2 with their proofs in sections 7.1.1 and 7.1.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.toys.functions import SEXTIC, Toy, kink, linex, quadratic
from landscape.toys.perturbed import golden, on_line, on_plane


@dataclass(frozen=True)
class Valley:
    """A minimum of a function of one parameter with the interval D around it, in which it is the only one.

    Attributes:
        name: What it is called.
        toy: The function.
        minimum: w*.
        ends: The ends of D.
        view: The interval that is drawn.
        maxima: Local maxima of the function.
    """

    name: str
    toy: Toy
    minimum: float
    ends: tuple[float, float]
    view: tuple[float, float]
    maxima: tuple[float, ...] = ()

    @property
    def reach(self) -> float:
        """r, the radius of the largest ball around w* inside D."""
        return min(self.minimum - self.ends[0], self.ends[1] - self.minimum)

    def value(self, w: Tensor) -> Tensor:
        """L at places (...,)."""
        return self.toy.value(w.unsqueeze(-1))

    def slope(self, w: Tensor) -> Tensor:
        """L' at places (...,)."""
        return self.toy.gradient(w.unsqueeze(-1)).squeeze(-1)

    def worst(self, w: Tensor, rho: Tensor) -> Tensor:
        """L̃ at places (...,)."""
        return on_line(self.toy, w, rho, self.maxima)


_TOPS = (1 - 1 / math.sqrt(3), 1 + 1 / math.sqrt(3))
_LEFT = 1 - 2 / math.sqrt(3)  # where the sextic is as high as its local maxima
VALLEYS = (
    Valley("quadratic w²", quadratic(2.0), 0, (-1, 1), (-2, 2)),
    Valley("sextic at 1", SEXTIC, 1, _TOPS, (-0.4, 2.4), _TOPS),
    Valley("sextic at 0", SEXTIC, 0, (_LEFT, _TOPS[0]), (-0.4, 2.4), _TOPS),
    Valley("LINEX, a = −0.3", linex(-0.3), 0, (-2, 2), (-4, 4)),
    Valley("kinked, c = 3", kink(3.0), 0, (-2, 2), (-2, 2)),
)
DRAWN = (VALLEYS[1], VALLEYS[3], VALLEYS[4])
PLANE = linex(-1.0, -1.0)  # figure 3.2 does not say its function; this one has two asymmetric directions


def measure(valley: Valley, rho: Tensor) -> dict[str, Tensor]:
    """Minimum, depth and curvature of L̃ in a valley, and what the theorems say of them.

    Args:
        valley: The valley.
        rho: Radii ρ, shape (R,).

    Returns:
        By name, each of shape (R,): `minimum`, `depth`, `depth_claimed`, `curvature`, `curvature_claimed`, `kink`,
        `shift_claimed`. What does not exist is NaN: a minimum where L̃ has none left, a claim where ρ ≥ r.
    """
    start, r = rho.new_full(rho.shape, valley.minimum), valley.reach
    brim = min(float(valley.value(rho.new_tensor(end))) for end in valley.ends)
    low, high = (rho.new_full(rho.shape, end) for end in valley.ends)
    place = golden(lambda w: valley.worst(w, rho), low, high)
    deepest = valley.worst(place, rho)
    there = deepest < brim * (1 - 1e-9)
    bend = valley.toy.hessian(start[:1, None])[0, 0, 0]
    depth = brim - float(valley.value(start[:1])) - bend * rho**2 / 2
    delta = torch.where(rho < r, r - rho, math.nan)
    around = valley.worst(place + delta, rho) + valley.worst(place - delta, rho)
    steep, flat = -valley.slope(start - rho), valley.slope(start + rho)
    c = torch.where(rho > 0, steep / flat, 1.0)
    found = {
        "minimum": place,
        "depth": brim - deepest,
        "curvature": (around - 2 * deepest) / delta**2,
        "kink": valley.slope(place + rho) - valley.slope(place - rho),
    }
    claimed = {
        "depth_claimed": torch.where(bend > 0, depth, math.nan),
        "curvature_claimed": torch.where(bend > 0, bend * (1 + rho / delta), math.nan),
        "shift_claimed": (c - 1) / (c + 1) * rho,
    }
    return {key: torch.where(there, value, math.nan) for key, value in found.items()} | {
        key: torch.where(rho < r, value, math.nan) for key, value in claimed.items()
    }


def disc_depth(condition: float, rho: Tensor, angles: int = 91) -> tuple[Tensor, Tensor]:
    """Depth of L̃ for ½(w₁² + w₂²/κ) on the unit disc, over the disc of radius 1 − ρ where L̃ sees nothing else.

    Args:
        condition: κ, at least 1.
        rho: Radii ρ, shape (R,).
        angles: Directions, over a quarter of the circle with both axes, in which the rim is looked at.

    Returns:
        ΔL̃ and theorem 3.2.1's ΔL − ½λ_max·ρ², each of shape (R,); NaN where ρ ≥ 1.
    """
    toy = quadratic(1.0, 1 / condition)
    turn = torch.linspace(0, math.pi / 2, angles, dtype=rho.dtype, device=rho.device)
    rim = (1 - rho)[:, None, None] * torch.stack([turn.cos(), turn.sin()], -1)  # (R, angles, 2)
    depth = on_plane(toy, rim, rho[:, None]).amin(-1) - rho**2 / 2  # L̃(0) = ½λ_max·ρ²
    within = rho < 1
    return torch.where(within, depth, math.nan), torch.where(within, (1 / condition - rho**2) / 2, math.nan)
