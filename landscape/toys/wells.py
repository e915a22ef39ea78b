"""A population loss with a sharp and a flat minimum, and empirical losses drawn around it.

ℓ(w; z) = ½cw² − Σ_k a_k exp(−(w − z − m_k)²/2s_k²) with z ~ N(0, τ²): an empirical loss is the mean over n draws of z,
the population loss its expectation, in closed form two wells of widths √(s_k² + τ²). Their depths in the population
are set, so that "flat" and "better" are not the same thing by construction.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PLACES, WIDTHS = (-2.0, 2.0), (0.25, 1.0)
BOWL = 0.02


@dataclass(frozen=True)
class Wells:
    """The losses.

    Attributes:
        depths: Depth of the sharp and of the flat well in the population.
        spread: τ.
    """

    depths: tuple[float, float]
    spread: float

    def population(self, w: Tensor) -> Tensor:
        """Population loss at places (...,)."""
        total = BOWL / 2 * w**2
        for depth, place, width in zip(self.depths, PLACES, WIDTHS, strict=True):
            total = total - depth * torch.exp(-((w - place) ** 2) / (2 * (width**2 + self.spread**2)))
        return total

    def empirical(self, w: Tensor, z: Tensor) -> Tensor:
        """Empirical losses.

        Args:
            w: Places, shape (P,).
            z: Draws, shape (S, n).

        Returns:
            Their means, shape (S, P).
        """
        total = BOWL / 2 * w**2 + z.new_zeros(len(z), 1)
        for depth, place, width in zip(self.depths, PLACES, WIDTHS, strict=True):
            height = depth * (width**2 + self.spread**2) ** 0.5 / width  # so that the expectation has this depth
            for column in z.T:  # one draw of each sample at a time keeps memory at (S, P)
                away = w - place - column[:, None]
                total = total - height / z.shape[1] * torch.exp(-(away**2) / (2 * width**2))
        return total


def worst(losses: Tensor, reach: int) -> Tensor:
    """L̃ on a grid: the largest value within a number of grid points.

    Args:
        losses: Values on a grid, shape (S, P).
        reach: ρ in grid points.

    Returns:
        Maxima, shape (S, P); the grid's ends see only what is inside.
    """
    pooled: Tensor = torch.nn.functional.max_pool1d(losses.unsqueeze(1), 2 * reach + 1, stride=1, padding=reach)
    return pooled.squeeze(1)
