"""The asymmetry detector: everything that is asked of one direction, in one record.

The direction is chosen before and elsewhere; here it is followed to both sides of the training loss's minimum on it.
Slopes give c* for several r and ζ, the same line with weight decay its own minimum, moved lines the neighbourhood test,
and test examples, which had no part in choosing anything, the same rises on held-out data.

Source: thesis, definition 2.3.1 and assumption 2.3.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from landscape.asymmetric import Sides, Slopes
from landscape.metric import Metric
from landscape.noise import Noise
from landscape.ray import Decayed, Ray, Stand
from landscape.result import Array
from landscape.valley import OK, ROUNDED, Valley, log_ratio, measure

HELD = tuple(i / 4 for i in range(-4, 5))
"""Places of held-out losses, as parts of r."""
SLACK = 0.02
"""Part by which bounds of slopes may differ: each is certified to one per cent."""
_PROBES = (0.05, 0.25, 1.0)  # parts of r at which rounding is measured
_SPAN, _PLACES, _DRAWS = 1.6, 33, 200
_LEAST = 0.1
"""Examples are drawn again: to which part of r, at how many places, how often; and the standard errors that a ratio
counts as at least, were its sign a coin's."""


@dataclass(frozen=True)
class Terms:
    """What is asked of each direction.

    Attributes:
        reach: First step of searches, in units of the metric.
        rise: Mean rise of both sides that sets r, nats.
        radius: r in units of the metric, or 0 for the rise's.
        points: Points on each side for the curve, evenly.
        zeta: ζ as parts of r, ascending.
        radii: Radii of the map as parts of r, ascending, the last one 1.
        chosen: The ζ of the neighbourhood test, one of `zeta`.
        decay: Weight decay λ.
        population: Examples that the training data were drawn from.
        neighbours: Points of the neighbourhood to test.
        neighbourhood: R′, in units of the metric.
        seed: Seed of these points.
    """

    reach: float
    rise: float
    radius: float
    points: int
    zeta: tuple[float, ...]
    radii: tuple[float, ...]
    chosen: float
    decay: float
    population: int
    neighbours: int
    neighbourhood: float
    seed: int

    @property
    def parts(self) -> list[float]:
        """Places of a side, as parts of r: the even ones and every end of an interval of the map."""
        even = [i / self.points for i in range(1, self.points + 1)]
        return sorted({*even, *(z * r for z in self.zeta for r in self.radii), *self.radii})


@dataclass(frozen=True)
class Neighbourhood:
    """The asymmetry at points around the minimum.

    Attributes:
        asymmetric: Part of the points where the direction asked, u or −u, is asymmetric for some c ≥ 1.
        within: Part of the points where it is so with the p and c that were asked for, to `SLACK`; NaN if none were.
        smallest: Smallest c* of any of them; 0 where one is no valley.
        common: The c that holds with one p for all: smallest s* over largest p*; 0 where one is no valley.
    """

    asymmetric: float
    within: float
    smallest: float
    common: float


@dataclass(frozen=True)
class Direction:
    """What was found along one direction.

    Attributes:
        valley: The data's loss.
        decayed: The same with weight decay, with its own minimum and r.
        ratio_error: Standard error of the log rise ratio that is due to the sample; 0 on all data.
        sides: Slopes between ζ and r, one list of ζ for each r.
        rounding: Error of slopes up to r by rounding, nats per unit of ℓ.
        sampling: Standard error of the slope at the chosen ζ that is due to the sample; 0 on all data.
        held_out: Test loss at the places `HELD`, nats, shape (H,).
        held_out_ratio: Log rise ratio of the test loss between the same three points.
        held_out_error: Its standard error over test examples.
        around: The neighbourhood test, where asked for.
    """

    valley: Valley
    decayed: Valley
    ratio_error: float
    sides: list[list[Sides]]
    rounding: float
    sampling: float
    held_out: Array
    held_out_ratio: float
    held_out_error: float
    around: Neighbourhood | None

    def symmetric(self, terms: Terms) -> tuple[float, float]:
        """The a and b of the symmetric direction at the chosen ζ and the full r; NaN where there is no valley."""
        return self.sides[-1][terms.zeta.index(terms.chosen)].symmetric if self.sides else (math.nan, math.nan)


def detect(start: Stand, metric: Metric, direction: Tensor, terms: Terms, other: Callable[[], Stand]) -> Direction:
    """Ask everything of one direction.

    Args:
        start: Where the line starts, and the BatchNorm rule.
        metric: What lengths are measured in.
        direction: u, of length 1 in the metric, in the units of theta, shape (D,).
        terms: What is asked.
        other: Makes the same stand in the other one of float32 and float64, see `Noise`.

    Returns:
        The record; NaN where there is no valley to measure.
    """
    line = Ray(start, direction)
    valley = measure(line, terms.reach, terms.rise, terms.radius, terms.parts)
    decayed = measure(Decayed(line, terms.decay), terms.reach, terms.rise, terms.radius, (terms.zeta[0], 1.0))
    if valley.status != OK:
        return _nothing(valley, decayed)
    r = valley.radius
    noise = Noise(line, valley.centre, [p * r for p in _PROBES], other, terms.population)
    if noise.hides(valley):
        return _nothing(replace(valley, status=ROUNDED), decayed)
    slopes = Slopes(line, valley.centre, [p * r for p in terms.parts], noise)
    interval, ball = (terms.chosen * r, r), (metric, terms.neighbourhood)
    count = terms.neighbours
    flat = valley.log_ratio < 0  # the side that is asked is the one that looks flat
    around = neighbourhood(line, valley.centre, interval, ball, count, terms.seed, noise, flat) if count else None
    held = line.held_out([valley.centre + p * r for p in HELD])
    ratio, error = paired_log_ratio(held[0] - held[4], held[8] - held[4])
    return Direction(
        valley=valley,
        decayed=decayed,
        ratio_error=_ratio_error(line, valley, terms.population, terms.seed),
        sides=[[slopes.between(z * part * r, part * r) for z in terms.zeta] for part in terms.radii],
        rounding=noise.rounding[-1],
        sampling=noise.sampling(valley.centre + terms.chosen * r),
        held_out=held.mean(1),
        held_out_ratio=ratio,
        held_out_error=error,
        around=around,
    )


def _nothing(valley: Valley, decayed: Valley) -> Direction:
    """The record of a line that is no valley to measure."""
    gone = np.full_like(valley.losses, np.nan)
    blank = replace(valley, offsets=gone, losses=gone, slopes=gone)
    held = np.full(len(HELD), np.nan)
    return Direction(blank, decayed, math.nan, [], math.nan, math.nan, held, math.nan, math.nan, None)


def _ratio_error(line: Ray, valley: Valley, population: int, seed: int) -> float:
    """Standard error of the log rise ratio over training examples drawn from more; 0 if there are no more.

    Examples are drawn again with replacement, and the ratio of each draw is taken about its own minimum: at the bottom
    of a flat valley the minimum moves far, and the ratio jumps from one sign to the other. So the error is the spread
    of the draws, or where that is more the error of a normal ratio that has the other sign as often as they do.

    Args:
        line: The line.
        valley: What was measured on it, r its radius.
        population: Examples that those used were drawn from.
        seed: Seed of the draws.

    Returns:
        The error, with the correction for a finite population; NaN where less than half of the draws have a ratio.

    Source: Efron 1979, Annals of Statistics 7 (drawing the sample again).
    """
    n = len(line.start.surface.problem.train)
    if n == population:
        return 0.0
    offsets = _SPAN * valley.radius * np.linspace(-1, 1, _PLACES)
    each = np.stack([line.start.losses(line.point(valley.centre + x), "train").cpu().numpy() for x in offsets])
    generator = np.random.default_rng(seed)
    ratios = np.array([_ratio_of(offsets, each[:, generator.integers(n, size=n)].mean(1), valley.radius)
                       for _ in range(_DRAWS)])  # fmt: skip
    known = ratios[np.isfinite(ratios)]
    if len(known) < _DRAWS / 2 or math.isnan(valley.log_ratio):
        return math.nan
    other = 1 - int((known * valley.log_ratio > 0).sum()) / (1 + _DRAWS)  # a draw without a ratio may have either sign
    spread = float(known.std(ddof=1)) * math.sqrt(1 - n / population)
    certain = NormalDist().inv_cdf(1 - min(other, 0.5))
    return float(max(spread, abs(valley.log_ratio) / max(certain, _LEAST)))


def _ratio_of(offsets: Array, losses: Array, radius: float) -> float:
    """Log rise ratio at r about the minimum of a curve through losses; NaN where its sides leave the curve."""
    from scipy.interpolate import CubicSpline

    curve = CubicSpline(offsets, losses)
    fine = np.linspace(offsets[0], offsets[-1], 16 * len(offsets))
    centre = float(fine[np.argmin(curve(fine))])
    if abs(centre) + radius > offsets[-1]:
        return math.nan
    back, floor, ahead = curve(np.array([centre - radius, centre, centre + radius]))
    return log_ratio(float(back - floor), float(ahead - floor))


def neighbourhood(
    line: Ray, centre: float, interval: tuple[float, float], ball: tuple[Metric, float], count: int, seed: int,
    noise: Callable[[float], float], ahead: bool = True, limits: tuple[float, float] | None = None,
) -> Neighbourhood:  # fmt: skip
    """Whether u is asymmetric at points of B(R′) too: at w* + v − ⟨v, u⟩u, the same ζ and r, nothing recentred.

    Args:
        line: The line through the checkpoint.
        centre: ℓ₀, its minimum.
        interval: ζ and r.
        ball: What v is drawn in: metric, and R′ in its units.
        count: How many points, at least 1.
        seed: Seed of the points.
        noise: Standard error of slopes, taken to be that of the line that was not moved.
        ahead: Whether u is asked, or −u.
        limits: p and c that are to hold at each of them, or None.

    Returns:
        What holds at all points, and at how many.

    Source: thesis, assumption 2.3.4.
    """
    generator = torch.Generator().manual_seed(seed)
    metric, radius = ball
    found = []
    for _ in range(count):
        moved = line.point(centre) + metric.without(metric.in_ball(radius, generator), line.direction)
        ray = Ray(line.start, line.direction, moved)
        sides = Slopes(ray, 0.0, error=lambda x: noise(centre + x), budget=4).between(*interval)
        found.append(sides if ahead else sides.reversed)
    part = float(np.mean([sides.c >= 1 for sides in found]))
    within = math.nan if limits is None else float(np.mean([_keeps(sides, *limits) for sides in found]))
    if not all(sides.is_valley for sides in found):
        return Neighbourhood(part, within, 0.0, 0.0)
    common = min(sides.behind.low for sides in found) / max(sides.ahead.high for sides in found)
    return Neighbourhood(part, within, min(sides.c for sides in found), common)


def _keeps(sides: Sides, p: float, c: float) -> bool:
    """Whether slopes are below p ahead and above c p behind, to `SLACK`."""
    steep = sides.behind.low >= c * p * (1 - SLACK)
    return sides.is_valley and sides.ahead.high <= p * (1 + SLACK) and steep


def paired_log_ratio(back: Array, ahead: Array) -> tuple[float, float]:
    """Log of mean rise ahead over mean rise behind, and its standard error over the examples that both share.

    Args:
        back: Rise of each example's loss behind, nats, shape (N,).
        ahead: The same ahead.

    Returns:
        The log and its error to first order; NaN where a mean does not rise, the error also for a single example.
    """
    found = log_ratio(float(back.mean()), float(ahead.mean()))
    if math.isnan(found) or len(back) < 2:
        return found, math.nan
    apart = ahead / ahead.mean() - back / back.mean()
    return found, float(apart.std(ddof=1)) / math.sqrt(len(apart))
