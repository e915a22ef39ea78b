"""Where a line is measured: how far it goes, and an even grid or as many places as its estimated error asks for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from landscape.options import option
from landscape.result import Array

START = 17
"""Points that an adaptive line begins with; fewer can miss a barrier."""


@dataclass(frozen=True)
class Places:
    """Options of the places."""

    low: float | None = option(
        None, "smallest α; found where the training loss has risen by --rise", kind=float, high=0
    )
    high: float | None = option(None, "largest α; found likewise", kind=float, low=1)
    rise: float = option(0.1, "rise of the training loss above both ends that ends the line, in nats", low=0.0)
    points: int | None = option(
        None, "a fixed grid of so many points, about half of them in [0, 1]; otherwise adaptive", kind=int, low=5
    )
    tolerance: float = option(
        0.01, "estimated error between points that ends the refinement, in parts of the range", low=1e-6
    )
    most: int = option(65, "most points of the adaptive line", low=START)
    slopes: bool = option(
        True, "slopes of the training loss at every point: three times the time, but fewer points and a surer estimate"
    )

    @property
    def count(self) -> int:
        """Points at most."""
        return self.points or self.most


def grid(low: float, high: float, points: int) -> Array:
    """Even points in [0, 1], about as many outside it, and even points on both sides.

    Args:
        low: Smallest α, at most 0.
        high: Largest α, at least 1.
        points: How many, about.

    Returns:
        Places with low, 0, 1/2, 1 and high among them, ascending, float64, shape (P,).
    """
    beyond = high - low - 1
    inside = np.linspace(0, 1, 2 * (points // 4) + 1 if beyond else points // 2 * 2 + 1)
    outside = points - len(inside)
    below = max(1, round(outside * -low / beyond)) if low < 0 else 0
    above = max(1, outside - below) if high > 1 else 0
    return np.concatenate([np.linspace(low, 0, below + 1)[:-1], inside, np.linspace(1, high, above + 1)[1:]])
