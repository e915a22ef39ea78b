"""Training and test loss on a line, and the shift gap between them, with how sure it is.

Both losses are compared as functions on the line, the vertical gap between their minima taken out (definition 2.3.2).
Between the points they are the cubics of `landscape.hermite`, whose estimated errors bound the gap from both sides. A
kink keeps a cubic from converging, so points are added where the gap is least certain: at the kinks of the training
loss within R, those of the test loss within R of the shift, and at both minima.

Source: thesis, definition 2.3.2; He et al. 2019, arXiv 1902.00744, definition 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from landscape.hermite import Curve, fit
from landscape.result import Array

CAUTION = 2.0
"""Factor on the estimated errors of both curves: alone they hold on 19 of 20 lines, here many intervals count."""
_FINE = 200
"""Places at which a maximum over an interval is taken, beside the measured points."""
_SCAN = 80
_BASINS = 2
_HALVINGS = 14
"""Intervals of the first look for the shift, the lowest of its minima that are followed, and how often a line is
halved at most."""


@dataclass(frozen=True)
class Gap:
    """The shift that leaves the smallest gap.

    Attributes:
        shift: δ, in units of the line; NaN where nothing is known.
        shift_low: Smallest δ whose gap may be as small.
        shift_high: Largest such δ.
        gap: ξ at δ, nats.
        low: What the smallest gap is at least, given the estimated errors.
        high: What ξ at δ is at most.
    """

    shift: float
    shift_low: float
    shift_high: float
    gap: float
    low: float
    high: float


UNKNOWN = Gap(*[math.nan] * 6)


@dataclass(frozen=True)
class Profile:
    """Training and test loss on a line.

    Attributes:
        offset: Places, ascending, 0 at the minimum of the training loss, shape (P,), at least five.
        train: Training loss, nats, finite, shape (P,).
        test: Test loss, nats, finite, shape (P,).
    """

    offset: Array
    train: Array
    test: Array

    @cached_property
    def curves(self) -> tuple[Curve, Curve]:
        """Both losses between the points."""
        return fit(self.offset, self.train), fit(self.offset, self.test)

    @cached_property
    def minima(self) -> tuple[float, float]:
        """Where training and test loss are smallest on the line."""
        train, test = self.curves
        return _lowest(train), _lowest(test)

    @cached_property
    def _lift(self) -> tuple[float, float]:
        """What levels the minima, added to the test loss, and its error."""
        lowest = [np.array(place) for place in self.minima]
        train, test = (float(curve(place)) for curve, place in zip(self.curves, lowest, strict=True))
        errors = [float(_error(curve, place)) for curve, place in zip(self.curves, lowest, strict=True)]
        return train - test, sum(errors)

    def apart(self, delta: float, radius: float) -> tuple[Array, Array]:
        """|L′(t + δ) − L̂(t)| at places −R ≤ t ≤ R, and its error there.

        Args:
            delta: δ.
            radius: R; |δ| + R within the profile.

        Returns:
            Both in nats, shape (T,), at even places and at all measured points.
        """
        knots = np.concatenate([self.offset, self.offset - delta])
        t = np.concatenate([np.linspace(-radius, radius, _FINE + 1), knots[np.abs(knots) <= radius]])
        (train, test), (lift, slack) = self.curves, self._lift
        return np.abs(test(t + delta) + lift - train(t)), _error(train, t) + _error(test, t + delta) + slack

    def gap(self, delta: float, radius: float) -> float:
        """The (δ, R)-shift gap ξ along the line: max over |t| ≤ R of |L′(t + δ) − L̂(t)| (definition 2.3.2).

        L′ is the test loss, moved vertically so that its minimum on the line is that of the training loss L̂.

        Args:
            delta: δ.
            radius: R; |δ| + R within the profile.

        Returns:
            The gap in nats.
        """
        return float(self.apart(delta, radius)[0].max())

    def bounds(self, delta: float, radius: float) -> tuple[float, float]:
        """What that gap is at least and at most, given the estimated errors of both curves."""
        distance, error = self.apart(delta, radius)
        return max(0.0, float((distance - error).max())), float((distance + error).max())

    def best_shift(self, radius: float) -> float:
        """The shift δ that leaves the smallest gap, searched for as far as the profile reaches.

        Args:
            radius: R.

        Returns:
            δ.
        """
        from scipy.optimize import minimize_scalar

        places = self._places(radius)
        gaps = np.array([self.gap(float(x), radius) for x in places])
        walls = np.concatenate([[np.inf], gaps, [np.inf]])
        basins = np.flatnonzero((gaps <= walls[:-2]) & (gaps <= walls[2:]))
        found = [(float(gaps.min()), float(places[gaps.argmin()]))]
        for i in basins[np.argsort(gaps[basins], kind="stable")][:_BASINS]:
            ends = (float(places[max(0, i - 1)]), float(places[min(len(places) - 1, i + 1)]))
            tight = {"xatol": 1e-6 * float(places[-1])}
            low = minimize_scalar(lambda x: self.gap(x, radius), bounds=ends, method="bounded", options=tight)
            found.append((float(low.fun), float(low.x)))
        return min(found)[1]

    def _places(self, radius: float) -> Array:
        reach = min(-self.offset[0], self.offset[-1]) - radius
        return np.linspace(-reach, reach, _SCAN + 1)

    def ends(self, shift: float, radius: float) -> bool:
        """Whether a minimum, or the shift found, lies at the end of what was measured."""
        places = self._places(radius)
        return abs(shift) > places[-2] or any(x in (self.offset[0], self.offset[-1]) for x in self.minima)

    def smallest(self, radius: float, shift: float | None = None) -> Gap:
        """The smallest gap with its shift, and what both may be.

        Args:
            radius: R.
            shift: What `best_shift` found, if it is known.

        Returns:
            The gap.
        """
        shift = self.best_shift(radius) if shift is None else shift
        high = self.bounds(shift, radius)[1]
        places = self._places(radius)
        step = float(places[1] - places[0])
        near = np.clip(np.linspace(shift - step, shift + step, _SCAN // 2 + 1), places[0], places[-1])
        places = np.unique(np.concatenate([places, near, [shift]]))
        lows = np.array([self.bounds(float(x), radius)[0] for x in places])
        as_small = np.flatnonzero(lows <= high)
        first, last = max(0, as_small[0] - 1), min(len(places) - 1, as_small[-1] + 1)  # the next that is not
        gap = self.gap(shift, radius)
        return Gap(shift, float(places[first]), float(places[last]), gap, float(lows.min()), high)


def _error(curve: Curve, at: Array) -> Array:
    """Estimated error of a curve at places, same shape."""
    i = np.clip(np.searchsorted(curve.x, at, side="right") - 1, 0, len(curve.error) - 1)
    return CAUTION * curve.error[i]


def _lowest(curve: Curve) -> float:
    """Where a curve is smallest: a root of its derivative, or a measured point."""
    from scipy.interpolate import CubicHermiteSpline

    scaled = np.log(curve.y) if curve.log else curve.y
    flat = CubicHermiteSpline(curve.x, scaled, curve.slopes).derivative().roots(extrapolate=False)
    places = np.concatenate([curve.x, flat[np.isfinite(flat)]])
    return float(places[np.argmin(curve(places))])


def explore(
    measure: Callable[[float], tuple[float, float]], start: Array, radius: float, tolerance: float, most: int
) -> tuple[Profile, Gap]:
    """Measure both losses where the smallest gap is least certain, until it is certain enough.

    Args:
        measure: Training and test loss at a place, nats.
        start: Places to begin with, ascending, reaching beyond ±R.
        radius: R.
        tolerance: Error of the gap that ends it, as a part of the training loss's rise within R.
        most: Most places to measure.

    Returns:
        The profile, and its smallest gap; `UNKNOWN` where losses are finite at fewer than five places or not beyond ±R,
        and where a minimum or the shift lies at the end of what was measured: the true one may lie beyond.
    """
    found = {float(x): measure(float(x)) for x in start}
    smallest = float(np.ptp(start)) / 2**_HALVINGS
    while True:
        profile = _finite(found)
        if len(profile.offset) < 5 or min(-profile.offset[0], profile.offset[-1]) <= radius:
            return profile, UNKNOWN
        if len(found) >= most:
            break
        shift = profile.best_shift(radius)
        rise = np.ptp(profile.curves[0](np.linspace(-radius, radius, _FINE + 1)))
        if profile.bounds(shift, radius)[1] - profile.gap(shift, radius) <= tolerance * rise:
            break
        middle = _least_certain(profile, shift, radius, smallest)
        if middle is None or middle in found:
            break
        found[middle] = measure(middle)
    return profile, UNKNOWN if profile.ends(shift := profile.best_shift(radius), radius) else profile.smallest(
        radius, shift
    )


def _finite(found: dict[float, tuple[float, float]]) -> Profile:
    """The profile of the places around 0 up to the first on each side where a loss is not finite."""
    table = np.array(sorted((x, *values) for x, values in found.items()))
    gone = table[~np.isfinite(table).all(1), 0]
    low, high = gone[gone <= 0].max(initial=-math.inf), gone[gone >= 0].min(initial=math.inf)
    offset, train, test = table[(table[:, 0] > low) & (table[:, 0] < high)].T
    return Profile(offset, train, test)


def _least_certain(profile: Profile, shift: float, radius: float, smallest: float) -> float | None:
    """The middle of the interval with the largest error that the gap depends on; None if all are too short."""
    low, high = profile.offset[:-1], profile.offset[1:]
    errors = np.zeros(len(low))
    for curve, centre, minimum in zip(profile.curves, (0.0, shift), profile.minima, strict=True):
        used = (high > centre - radius) & (low < centre + radius) | (low <= minimum) & (minimum <= high)
        errors = np.maximum(errors, np.where(used & (high - low > smallest), curve.error, 0.0))
    i = int(np.argmax(errors))
    return float(low[i] + high[i]) / 2 if errors[i] > 0 else None
