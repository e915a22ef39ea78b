"""Rise ratios along many random directions: what a direction with nothing to it would show.

Two families: Gaussian directions, and Gaussian ones whose signs are those of the weights, which are as asymmetric as
directions that nobody chose can be. A direction costs a few forward passes. One backward pass at the point gives the
slopes along sixteen of them; two losses nearby add curvature and third derivative, and so the minimum along the line;
two losses at r give the ratio. r is that of the direction before, corrected where the mean rise is off by more than a
sixth. Where that does not lead there, minimum and r are searched for as in `landscape.valley.measure`.

Source: Li et al., NeurIPS 2024, "Exploring and Exploiting the Asymmetric Valley" (sign consistency).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from landscape.metric import Metric, sign_matched
from landscape.ray import Ray, Stand
from landscape.types import Progress, quiet
from landscape.valley import Line, find_minimum, find_radius, log_ratio

FAMILIES = ("Gaussian", "sign-matched")
_TOGETHER = 16  # directions held at once
_NEAR = 0.05  # part of r at which curvature is taken
_WALK = 5  # places tried downhill
_SLACK = 1 / 6  # of the rise, which the ratio hardly feels
_POWER = 3  # of r with which the rise grows around there


def rise_ratios(
    start: Stand, metric: Metric, counts: Sequence[int], rise: float, reach: float, seed: int,
    progress: Progress = quiet, radius: float = 0.0,
) -> list[tuple[int, float]]:  # fmt: skip
    """Log rise ratios along random unit directions.

    Args:
        start: Where the lines start, and the BatchNorm rule.
        metric: What a direction's length is measured in.
        counts: How many of each of `FAMILIES`.
        rise: Mean rise of both sides in nats that sets r, met to a sixth.
        reach: First step of a search, in units of the metric.
        seed: Seed of the directions.
        progress: Told (directions done, directions in all).
        radius: r in units of the metric, the same for all; 0 for the rise's.

    Returns:
        (index of the family, log of the rise ahead over the rise behind, NaN where there is none), one for each.
    """
    found: list[tuple[int, float]] = []
    last = radius
    for family, count in enumerate(counts):
        for line in _lines(start, metric, family, count, seed):
            progress(len(found), sum(counts), FAMILIES[family])
            ratio, last = (_ratio_at(line, radius, reach), radius) if radius else _ratio(line, last, rise, reach)
            found.append((family, ratio))
    return found


def _lines(start: Stand, metric: Metric, family: int, count: int, seed: int) -> Iterator[Ray]:
    """Lines whose slope at the origin is known, `_TOGETHER` from one backward pass."""
    generator = torch.Generator().manual_seed(seed)
    for first in range(0, count, _TOGETHER):
        drawn = [metric.gaussian(generator) for _ in range(min(_TOGETHER, count - first))]
        if family:
            drawn = [metric.unit(sign_matched(vector, start.theta)) for vector in drawn]
        directions = torch.stack(drawn)
        loss, slopes = start.slopes(start.theta, directions)
        for direction, slope in zip(directions, slopes.tolist(), strict=True):
            line = Ray(start, direction)
            line.know(0.0, loss, slope)
            yield line


def _ratio_at(line: Ray, radius: float, reach: float) -> float:
    """Log rise ratio of a line at an r that is given."""
    near = near_minimum(line, _NEAR * radius)
    centre = find_minimum(line.slope, reach) if math.isnan(near) else near
    if centre is None:
        return math.nan
    floor = line.loss(centre)
    return log_ratio(line.loss(centre - radius) - floor, line.loss(centre + radius) - floor)


def _ratio(line: Ray, radius: float, rise: float, reach: float) -> tuple[float, float]:
    """Log rise ratio of a line and its r, starting from the r of another one."""
    centre = near_minimum(line, _NEAR * radius) if radius else math.nan
    if math.isnan(centre):
        found = find_minimum(line.slope, reach)
        if found is None:
            return math.nan, radius
        centre = found
    floor = line.loss(centre)
    for _ in range(3 if radius else 0):
        back, ahead = (line.loss(centre + sign * radius) - floor for sign in (-1, 1))
        mean = (back + ahead) / 2
        if not 0 < mean < math.inf:
            break
        if abs(mean / rise - 1) <= _SLACK:
            return log_ratio(back, ahead), radius
        radius *= (rise / mean) ** (1 / _POWER)
    reached = find_radius(line.loss, centre, radius / 2 or reach, rise)
    if reached is None:
        return math.nan, radius
    return log_ratio(line.loss(centre - reached) - floor, line.loss(centre + reached) - floor), reached


def near_minimum(line: Line, step: float) -> float:
    """The minimum of the cubic through three losses and the slope in the middle, walking downhill until it is near.

    Args:
        line: A line.
        step: Distance of the two outer losses, in units of ℓ.

    Returns:
        ℓ₀; NaN where no minimum is found within a few steps.
    """
    place = 0.0
    for _ in range(_WALK):
        middle, slope = line.loss(place), line.slope(place)
        ahead, back = line.loss(place + step), line.loss(place - step)
        second = (ahead + back - 2 * middle) / step**2
        third = 6 * ((ahead - back) / (2 * step) - slope) / step**2
        inside = second**2 - 2 * slope * third
        if second > 0 and inside >= 0:
            away = -2 * slope / (second + math.sqrt(inside))
            if abs(away) <= step:
                return place + away
        place -= math.copysign(2 * step, slope)
    return math.nan
