"""The barrier between two ends of a curve, and how sure it is.

The height is max over α in [0, 1] of L(α) − (1 − α) L(0) − α L(1), 0 at least since both ends count. Three things make
it uncertain: what lies between the measured points; that the examples are a sample; and that a maximum of noisy
numbers is too large. For the second the height is averaged over the same examples at all α, so that its standard
error is that of a paired difference. For the third α is chosen on one half of the examples and the height is taken
on the other, both ways round.

Source: Frankle et al. 2020, arXiv 1912.05671 (barrier); Entezari et al. 2022, arXiv 2110.06296, definition 2 (above
the chord).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from landscape.hermite import Curve
from landscape.result import Array

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.checkpoint import Checkpoint
    from landscape.surface import Surface


def height(alpha: Array, values: Array, rounding: float = 0.0) -> Array:
    """Largest rise above the chord on points that have been measured.

    Args:
        alpha: Places, ascending from 0 to 1, both in it, shape (P,).
        values: Losses or errors there, shape (..., P).
        rounding: Smallest number that the arithmetic tells from 1. Rises up to it, in parts of the largest value and
            of 1, are none.

    Returns:
        Barriers, shape (...), not negative; NaN where a value is NaN.
    """
    chord = values[..., :1] * (1 - alpha) + values[..., -1:] * alpha
    rise: Array = np.maximum((values - chord).max(-1), 0.0)
    return np.where(rise <= rounding * np.maximum(1.0, np.abs(values).max(-1)), 0.0, rise)


Path = Callable[[float], tuple["Tensor", dict[str, "Tensor"]]]
"""Place in [0, 1] -> theta, shape (D,), and buffers by name."""


def along(surface: Surface, path: Path, places: Array, progress: Callable[[int], None] = lambda done: None) -> Array:
    """Loss and error along a path, BatchNorm statistics recomputed at each point.

    Args:
        surface: What is measured.
        path: Where the network goes.
        places: Places, shape (P,).
        progress: Told how many points are done.

    Returns:
        Loss and error, train and test, shape (2, 2, P).
    """
    values = np.empty((2, 2, len(places)))
    for i, x in enumerate(places):
        surface.place(*path(float(x)), recalibrated=True)
        values[:, :, i] = surface.scores()
        progress(i + 1)
    return values


def line(
    surface: Surface, a: Checkpoint, b: Checkpoint, alpha: Array, progress: Callable[[int], None] = lambda done: None
) -> Array:
    """Loss and error on the straight line from a, at 0, to b, at 1; see `along`."""
    return along(surface, lambda x: surface.between(a, b, x), alpha, progress)


@dataclass(frozen=True)
class Barrier:
    """A barrier.

    Attributes:
        height: Largest height above the chord, not negative; NaN if an end is not known.
        place: α there.
        between: How much higher it may be between the measured points, an estimate.
        sampling: Standard error of the height at that place, the examples taken as a sample.
        halves: The height with its place chosen on the other half of the examples; not biased up, may be negative.
    """

    height: float
    place: float
    between: float
    sampling: float
    halves: float


NONE = Barrier(math.nan, math.nan, math.nan, math.nan, math.nan)


def chord(x: Array, first: float, last: float) -> Array:
    """(1 − α) L(0) + α L(1)."""
    return (1 - x) * first + x * last


def measure(curve: Curve | None, rise: Array, spread: Array, smooth: bool) -> Barrier:
    """Find the barrier.

    Args:
        curve: The curve, measured at 0 and 1 among others; None if there is none.
        rise: Height above the chord at the measured points over two halves of the examples, shape (P, 2).
        spread: Its standard error over all examples, shape (P,).
        smooth: Whether the top may lie between measured points; otherwise it is looked for among them.

    Returns:
        The barrier; `NONE` if the curve lacks an end.
    """
    if curve is None or not {0.0, 1.0} <= set(curve.x.tolist()):
        return NONE
    first, last = (float(curve.y[curve.x == end][0]) for end in (0.0, 1.0))
    inside = (curve.x >= 0) & (curve.x <= 1)
    x, heights = curve.x[inside], (curve.y - chord(curve.x, first, last))[inside]
    tops = np.maximum(heights[:-1], heights[1:])  # of each interval
    place, height = float(x[np.argmax(heights)]), float(heights.max())
    if smooth:
        fine = x[:-1, None] + np.diff(x)[:, None] * np.linspace(0, 1, 17)[1:-1]  # (P − 1, 15)
        above = curve(fine) - chord(fine, first, last)
        tops = np.maximum(tops, above.max(1))
        if float(above.max()) > height:
            place, height = float(fine.ravel()[np.argmax(above)]), float(above.max())
    height = max(height, 0.0)
    error = curve.error[(curve.x[:-1] >= 0) & (curve.x[1:] <= 1)]
    between = max(0.0, float((tops + error).max()) - height)
    nearest = int(np.argmin(np.abs(x - place)))
    return Barrier(height, place, between, float(spread[inside][nearest]), _across(rise[inside]))


def _across(rise: Array) -> float:
    """Height on each half at the place that is highest on the other, averaged."""
    one, other = rise[:, 0], rise[:, 1]
    return float((other[np.argmax(one)] + one[np.argmax(other)]) / 2)
