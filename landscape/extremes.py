"""Largest and smallest slope on an interval, by refinement until it is known to one per cent.

Between two points where a function is known, it differs from the chord by at most |g''|/2 · h²/4. The divided
difference of three neighbours stands for g''/2, doubled for what it does not see; at a kink of jump J it gives J h/4,
which is the most a kink can do. An interval that could hold a value beyond the extremes by more than the tolerance is
cut in half, until none is left ("certified") or the budget is spent ("not certified"). So the certificate holds for
what the first points resolve: a spike narrower than their distance is not seen, by this or by any number of samples.

Cutting an interval costs one slope, three passes over the data; its second derivative by a Hessian-vector product
would cost five and tell less.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

TOLERANCE = 0.01
"""Part of an extreme that refinement may still move."""
BUDGET = 48
"""Values that the refinement of one curve may take in all."""


@dataclass(frozen=True)
class Extremes:
    """Bounds of a function on an interval.

    Attributes:
        low: Smallest value found.
        high: Largest value found.
        at_low: Where the smallest was found.
        at_high: Where the largest was found.
        certified: Whether no interval can hold a value beyond them by more than the tolerance.
    """

    low: float
    high: float
    at_low: float
    at_high: float
    certified: bool


class Curve:
    """A function at points that are only ever added.

    Attributes:
        budget: Values that refinement may still take.
    """

    def __init__(self, function: Callable[[float], float], points: Iterable[float] = (), budget: int = BUDGET) -> None:
        """Evaluate a function.

        Args:
            function: What is bounded; called once for each point.
            points: First points.
            budget: Values that refinement may take in all, beyond the first points and the ends of intervals.
        """
        self.budget = budget
        self._function = function
        self._values: dict[float, float] = {}
        self._points: list[float] = []
        for point in points:
            self.at(point)

    def at(self, point: float) -> float:
        """The value at a point."""
        if point not in self._values:
            self._values[point] = self._function(point)
            bisect.insort(self._points, point)
        return self._values[point]

    def extremes(self, start: float, stop: float, tolerance: float = TOLERANCE) -> Extremes:
        """Bounds on [start, stop].

        Args:
            start: Lower end.
            stop: Upper end, above it.
            tolerance: Part of an extreme that may be missing.

        Returns:
            The extremes; not certified where a value is not finite.
        """
        for point in (start, (start + stop) / 2, stop):
            self.at(point)
        while True:
            inside = self._points[bisect.bisect_left(self._points, start) : bisect.bisect_right(self._points, stop)]
            values = [self._values[point] for point in inside]
            low, high = min(values), max(values)
            found = Extremes(low, high, inside[values.index(low)], inside[values.index(high)], certified=False)
            if not all(math.isfinite(value) for value in values):
                return found
            beyond = _open(inside, values, low - tolerance * abs(low), high + tolerance * abs(high))
            if not beyond:
                return replace(found, certified=True)
            _, i = max(beyond)
            middle = (inside[i] + inside[i + 1]) / 2
            if self.budget == 0 or not inside[i] < middle < inside[i + 1]:
                return found  # spent, or at the resolution of floating point numbers
            self.budget -= 1
            self.at(middle)


def _open(points: list[float], values: list[float], low: float, high: float) -> list[tuple[float, int]]:
    """Intervals that could hold a value outside [low, high]: by how much, and which."""
    bends = [_divided_difference(points[i - 1 : i + 2], values[i - 1 : i + 2]) for i in range(1, len(points) - 1)]
    found = []
    for i in range(len(points) - 1):
        near = bends[max(0, i - 1) : i + 1]
        reach = 2 * max(near) * (points[i + 1] - points[i]) ** 2 / 4
        ends = values[i : i + 2]
        beyond = max(max(ends) + reach - high, low - min(ends) + reach)
        if beyond > 0:
            found.append((beyond, i))
    return found


def _divided_difference(x: list[float], y: list[float]) -> float:
    """|g[a, b, c]|, which is |g''|/2 somewhere between a and c."""
    return abs(((y[2] - y[1]) / (x[2] - x[1]) - (y[1] - y[0]) / (x[1] - x[0])) / (x[2] - x[0]))
