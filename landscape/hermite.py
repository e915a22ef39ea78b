"""A curve through measured points, with an estimate of how far it is from the truth between them.

Between neighbours runs the cubic that meets both values and both slopes (Hermite); where slopes were not measured,
those of the cubic spline take their place. The cubic is that of the values, or of their logarithm (then the curve is
positive and right in relative terms too): whichever predicts left-out points better.

The error estimate is cross-validation: every point is predicted from all others, and the error of that prediction,
over an interval made of two, is scaled by the fourth power of the lengths to each of the two, as the error of a cubic
is f⁗(ξ) (x − a)² (b − x)² / 24. Networks with kinks are rough on a small scale, where that power is too good to be
true: the median error among the neighbours, unscaled, is added. Where slopes were not measured and no scale is far
better than the other, the estimate is at least twice what their curves are apart. Over a place that failed nothing is
known: the points on either side of it are laid through on their own, with no value and no error between the two.

Source: Birkhoff, Schultz and Varga 1968, Numerische Mathematik 11 (error of Hermite interpolation).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from landscape.result import Array

NEAR = 4
SAFETY = {True: 8.0, False: 4.0}
ROUGH = {True: 1.5, False: 1.25}
EDGE = {True: 2.0, False: 3.0}
APART, ALIKE = 2.0, 10.0
"""How many neighbours tell the roughness; and with and without measured slopes, the factor of the smooth part, of the
roughness, and of the first and last interval, which are known from one side only; of the distance of both scales,
and up to which ratio of their estimates they count as alike.

Chosen on more than 100 random lines of digits networks so that the estimate holds on 95 % of them; judged on others by
benchmarks/lines.py.
"""


@dataclass(frozen=True)
class Curve:
    """A piecewise cubic.

    Attributes:
        x: Where it was measured, ascending, shape (P,).
        y: Measured values, shape (P,).
        slopes: Slopes of the cubics at the points, in the units of `scaled`, shape (P,).
        log: Whether the cubics are those of the logarithm.
        error: Estimated largest error in each interval, in the units of y, shape (P − 1,); NaN where the interval has
            no neighbour to tell it, and over a hole.
        hole: Whether a place between the points failed, shape (P − 1,); None for nowhere.
    """

    x: Array
    y: Array
    slopes: Array
    log: bool
    error: Array
    hole: Array | None = None

    def __call__(self, at: Array) -> Array:
        """Values of the curve, exact at the measured points; NaN outside them and within a hole.

        Args:
            at: Places, any shape.

        Returns:
            Values, same shape.
        """
        scaled = np.log(self.y) if self.log else self.y
        values = hermite(self.x, scaled, self.slopes, at := np.asarray(at, dtype=float))
        values = np.exp(values) if self.log else values
        return values if self.hole is None else np.where(within(self.x, self.hole, at), np.nan, values)

    def positive(self) -> Curve:
        """The curve to draw through positive values: cubics of the logarithm where its own fall to 0 or below."""
        inside = self.x[:-1, None] + np.diff(self.x)[:, None] * np.linspace(0, 1, 17)[1:-1]  # (P − 1, 15)
        if self.log or self.y.min() <= 0 or not (self(inside) <= 0).any():
            return self
        return replace(self, slopes=self.slopes / self.y, log=True)

    def worst(self, low: float = -np.inf, high: float = np.inf) -> float:
        """The largest estimated error of the intervals in a range that have one, in the units of y; else 0."""
        inside = (self.x[:-1] >= low) & (self.x[1:] <= high) & np.isfinite(self.error)
        return float(self.error[inside].max(initial=0.0))


def within(x: Array, marked: Array, at: Array) -> Array:
    """Whether places lie inside a marked interval, its ends left out.

    Args:
        x: Knots, ascending, shape (P,), at least two.
        marked: Marks of the intervals, shape (P − 1,).
        at: Places, any shape.

    Returns:
        Same shape as `at`.
    """
    i = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    inside: Array = marked[i] & (at > x[i]) & (at < x[i + 1])
    return inside


def hermite(x: Array, y: Array, slopes: Array, at: Array) -> Array:
    """The cubic of each interval through both values with both slopes.

    Args:
        x: Knots, ascending, shape (P,), at least two.
        y: Values, shape (P,).
        slopes: Slopes, shape (P,).
        at: Places, any shape.

    Returns:
        Values, same shape as `at`; NaN outside [x₀, x_P].
    """
    i = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    h = x[i + 1] - x[i]
    t = (at - x[i]) / h
    ends = (1 - t) ** 2 * ((1 + 2 * t) * y[i] + t * h * slopes[i])
    ends = ends + t**2 * ((3 - 2 * t) * y[i + 1] - (1 - t) * h * slopes[i + 1])
    return np.where((at < x[0]) | (at > x[-1]), np.nan, ends)


def fit(x: Array, y: Array, slopes: Array | None = None, hole: Array | None = None) -> Curve:
    """Lay a curve through measured points.

    Args:
        x: Places, ascending, shape (P,), at least 2.
        y: Finite values, shape (P,).
        slopes: Measured derivatives, shape (P,), or None.
        hole: Whether a place between the points failed, shape (P − 1,), or None for nowhere.

    Returns:
        The curve of the scale, values or logarithms, whose largest estimated error is smaller.
    """
    plain = _over(x, y, slopes, hole, log=False)
    if y.min() <= 0:
        return plain
    best, other = sorted([plain, _over(x, y, slopes, hole, log=True)], key=Curve.worst)
    if slopes is None and other.worst() <= ALIKE * best.worst():
        return replace(best, error=np.maximum(best.error, APART * _apart(best, other)))
    return best


def _apart(one: Curve, other: Curve) -> Array:
    """Largest distance of two curves through the same points in each interval, shape (P − 1,)."""
    inside = one.x[:-1, None] + np.diff(one.x)[:, None] * np.linspace(0, 1, 9)[1:-1]  # (P − 1, 7)
    distance: Array = abs(one(inside) - other(inside)).max(1)
    return distance


def _over(x: Array, y: Array, slopes: Array | None, hole: Array | None, log: bool) -> Curve:
    """The curve on one scale, every run of points between two holes on its own."""
    if hole is None or not hole.any():
        return _on_scale(x, y, slopes, log)
    cuts = np.flatnonzero(hole) + 1
    each = zip(*(_cut(values, cuts) for values in (x, y, slopes)), strict=True)
    runs = [_on_scale(places, values, known, log) for places, values, known in each]
    error = np.full(len(hole), np.nan)
    error[~hole] = np.concatenate([run.error if len(run.x) > 2 else np.full(len(run.x) - 1, np.nan) for run in runs])
    return Curve(x, y, np.concatenate([run.slopes for run in runs]), log, error, hole)


def _cut(values: Array | None, cuts: Array) -> list[Any]:
    return [None] * (len(cuts) + 1) if values is None else np.split(values, cuts)


def _on_scale(x: Array, y: Array, slopes: Array | None, log: bool) -> Curve:
    scaled = np.log(y) if log else y
    known = None if slopes is None else slopes / y if log else slopes
    back = np.exp if log else np.asarray
    misses = np.zeros(len(x))
    for i in range(1, len(x) - 1):
        rest = np.arange(len(x)) != i
        tangents = _spline(x[rest], scaled[rest]) if known is None else known[rest]
        with np.errstate(over="ignore"):
            misses[i] = abs(back(hermite(x[rest], scaled[rest], tangents, x[i])) - y[i])
    return Curve(x, y, _spline(x, scaled) if known is None else known, log, _spread(x, misses, slopes is not None))


def _spline(x: Array, y: Array) -> Array:
    """Slopes at the knots of the cubic spline without a knot at the second and last but one point."""
    from scipy.interpolate import CubicSpline

    if len(x) > 2:
        return np.asarray(CubicSpline(x, y)(x, 1))
    return np.full(len(x), (y[-1] - y[0]) / (x[-1] - x[0]) if len(x) > 1 else 0.0)


def _spread(x: Array, misses: Array, measured: bool) -> Array:
    """Turn the error of predicting each inner point into one of each interval."""
    h = np.diff(x)
    error = np.zeros(len(h))
    for i in range(1, len(x) - 1):
        floor = ROUGH[measured] * np.median(misses[max(1, i - NEAR) : min(len(x) - 1, i + NEAR + 1)])
        for j in (i - 1, i):
            ratio = h[j] ** 4 / 16 / (h[i - 1] * h[i]) ** 2
            error[j] = max(error[j], misses[i] * min(1.0, SAFETY[measured] * ratio) + floor)
    if len(h):
        error[[0, -1]] *= EDGE[measured]
    return error


def refine(
    measure: Callable[[float], tuple[float, float]], start: Array, tolerance: float, most: int
) -> dict[float, tuple[float, float]]:
    """Measure where the curve is least certain, until it is certain enough.

    The interval of the largest estimated error is halved, again and again.

    Args:
        measure: Value and slope at a place; NaN for a value that cannot be had, NaN for a slope that is not measured.
        start: Places to begin with.
        tolerance: Largest estimated error, as a part of the range of the values.
        most: Most places to measure.

    Returns:
        What was measured, by place.
    """
    found = {float(x): measure(float(x)) for x in start}
    smallest = np.ptp(start) / 2**12
    while len(found) < most:
        curve = through(found)
        if curve is None:
            break
        open_ = np.array([_is_open(found, *ends, smallest) for ends in pairwise(curve.x)])
        error = np.where(open_, np.nan_to_num(curve.error, nan=np.inf), -1.0)  # what nothing tells is worst
        worst = int(np.argmax(error))
        if error[worst] <= tolerance * np.ptp(curve.y):
            break
        middle = float(curve.x[worst] + curve.x[worst + 1]) / 2
        found[middle] = measure(middle)
    return found


def _is_open(found: dict[float, tuple[float, float]], low: float, high: float, smallest: float) -> bool:
    """Whether an interval may be halved: it is not too short, and no place in it has failed."""
    return high - low > smallest and not any(low < x < high for x in found)


def through(found: dict[float, tuple[float, float]]) -> Curve | None:
    """The curve through all finite values; None if there are fewer than three."""
    table = np.array(sorted((x, *values) for x, values in found.items()))
    places = np.flatnonzero(np.isfinite(table[:, 1]))
    table = table[places]
    if len(table) < 3:
        return None
    slopes = table[:, 2] if np.isfinite(table[:, 2]).all() else None
    return fit(table[:, 0], table[:, 1], slopes, np.diff(places) > 1)
