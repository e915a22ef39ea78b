"""Walks along a line, measuring where it is asked for or least certain; a walk that is stopped goes on.

Every place follows from values measured before it. So a walk that begins again with the points of an earlier one asks
for the same places in the same order, takes what is known, and comes to the same line, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from landscape.hermite import refine
from landscape.line import Line, Point
from landscape.places import START, Places, grid
from landscape.types import Progress, quiet
from landscape.unfinished import Unfinished

REACH = 16.0
"""Largest distance beyond an end that is looked at unasked, in units of b − a."""


def walk(line: Line, places: Places, progress: Progress = quiet, rest: Unfinished | None = None) -> list[Point]:
    """Measure a line.

    Args:
        line: What is measured.
        places: Where.
        progress: Told (points done, points at most, the pair).
        rest: Begun; holds the points of an earlier walk, and is given each new one.

    Returns:
        The points, α ascending.
    """
    known = {} if rest is None else {values[0]: unpacked(values) for values in rest.points.values()}
    found: dict[float, Point] = {}
    most, text = places.count, f"{line.a.name} | {line.b.name}"

    def at(alpha: float) -> tuple[float, float]:
        if alpha not in found:
            found[alpha] = known[alpha] if alpha in known else line.measure(alpha, places.slopes)
            if rest and alpha not in known:
                rest.keep(len(found) - 1, packed(found[alpha]))
                rest.check(most if places.points else f"at most {most}")
            progress(min(len(found), most), most, text)
        return float(found[alpha].mean[0, 0]), found[alpha].slope

    low = _reach(at, places.rise, -1) if places.low is None else places.low
    high = _reach(at, places.rise, 1) if places.high is None else places.high
    start = grid(low, high, places.points or START)
    if places.points:
        chosen = {float(x): at(float(x)) for x in start}
    else:
        chosen = refine(at, np.union1d(start, list(found)), places.tolerance, most)
    progress(most, most, text)
    return [found[alpha] for alpha in sorted(chosen)]


def _reach(at: Callable[[float], tuple[float, float]], rise: float, side: int) -> float:
    """The α on one side, doubling its distance to the nearer end, where the training loss has risen enough."""
    ends = max(at(0.0)[0], at(1.0)[0])
    reach = 1.0
    while reach < REACH and at(1 + reach if side > 0 else -reach)[0] < ends + rise:
        reach *= 2
    return 1 + reach if side > 0 else -reach


def packed(point: Point) -> tuple[float, ...]:
    """The numbers of a point in one row, α first."""
    arrays = np.concatenate([point.mean.ravel(), point.rise.ravel(), point.spread.ravel()])
    return (point.alpha, float(point.status), *arrays.tolist(), point.slope)


def unpacked(values: tuple[float, ...]) -> Point:
    """The point that was `packed`, bit for bit."""
    alpha, status, *numbers, slope = values
    mean, rise, spread = np.split(np.array(numbers), [4, 12])
    return Point(alpha, int(status), mean.reshape(2, 2), rise.reshape(2, 2, 2), spread.reshape(2, 2), slope)
