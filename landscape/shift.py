"""Where SAM sits on a line through an asymmetric valley, and what that is worth on data that are shifted.

SAM descends L̃(ℓ) = max |ε| ≤ ρ of L(ℓ + ε). Where L falls before its minimum at 0 and rises after it, L̃ is the larger
of L(ℓ − ρ) and L(ℓ + ρ), and its minimum is where both are equal. For an (r, p, c, 0)-asymmetric direction it lies in
[(c − 1)/(c + 1) ρ, ρ): the lower end is that of straight sides.

Test and training loss are compared as functions on the line, the vertical gap between their minima taken out.

Source: thesis, definition 2.3.2, theorems 3.3.2 and 3.3.3; He et al. 2019, arXiv 1902.00744, definition 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from landscape.result import Array

if TYPE_CHECKING:
    from scipy.interpolate import CubicSpline

_FINE = 400
"""Places at which a maximum over an interval is taken; the functions are splines through far fewer points."""


def bias_interval(c: float, rho: float) -> tuple[float, float]:
    """Where SAM's minimum lies, measured from the loss's, along a direction asymmetric with c (theorem 3.3.2).

    Args:
        c: At least 1.
        rho: ρ, below r.

    Returns:
        Lower end, which belongs to the interval, and upper end, which does not; NaN for c < 1.
    """
    return ((c - 1) / (c + 1) * rho, rho) if c >= 1 else (math.nan, math.nan)


def sam_minimum(loss: Callable[[float], float], rho: float) -> float:
    """The minimum of SAM's loss on a line whose minimum is at 0.

    Args:
        loss: L, falling before 0 and rising after it on (−2ρ, 2ρ).
        rho: ρ, above 0.

    Returns:
        ℓ with L(ℓ − ρ) = L(ℓ + ρ), to 1e-9 ρ; NaN where the loss does not rise to both sides.
    """
    from scipy.optimize import brentq

    def tilt(x: float) -> float:
        return loss(x + rho) - loss(x - rho)

    low, high = tilt(-rho), tilt(rho)
    if not (low <= 0 <= high and math.isfinite(low) and math.isfinite(high)):
        return math.nan
    return float(brentq(tilt, -rho, rho, xtol=1e-9 * rho))


def generalization_bound(c: float, p: float, rho: float, gap: float) -> float:
    """How much lower the expected population loss is at SAM's minimum, at least (theorem 3.3.3, equation 3.1).

    Args:
        c: Asymmetry of the direction.
        p: Its p, nats/θ.
        rho: ρ.
        gap: ξ, bound of the shift gap, nats.

    Returns:
        (c − 1)² p ρ / (2 (c + 1)) − 2ξ, nats.
    """
    return (c - 1) ** 2 * p * rho / (2 * (c + 1)) - 2 * gap


def rho_range(c: float, p: float, gap: float, radius: float, shift: float) -> tuple[float, float]:
    """The open interval of ρ for which theorem 3.3.3 speaks.

    Args:
        c: Asymmetry of the direction.
        p: Its p, nats/θ.
        gap: ξ, nats.
        radius: r.
        shift: Size of the shift along the direction, δ̄.

    Returns:
        Lower and upper end; NaN for c ≤ 1.
    """
    if not c > 1:
        return math.nan, math.nan
    return 4 * (c + 1) * gap / ((c - 1) ** 2 * p), (c + 1) / (c - 1) * min(radius - shift, shift)


def _lowest(spline: CubicSpline, points: Array) -> float:
    """Where a cubic spline is smallest: a root of its derivative, or an end."""
    flat = spline.derivative().roots(extrapolate=False)
    candidates = np.concatenate([points[[0, -1]], flat[np.isfinite(flat)]])
    return float(candidates[np.argmin(spline(candidates))])


@dataclass(frozen=True)
class Profile:
    """Training and test loss on a line, between its points by cubic splines.

    Attributes:
        offset: Places, ascending, 0 at the minimum of the training loss, shape (P,).
        train: Training loss, nats, shape (P,).
        test: Test loss, nats, shape (P,).
    """

    offset: Array
    train: Array
    test: Array

    @cached_property
    def _splines(self) -> tuple[CubicSpline, CubicSpline]:
        from scipy.interpolate import CubicSpline

        return CubicSpline(self.offset, self.train), CubicSpline(self.offset, self.test)

    @cached_property
    def minima(self) -> tuple[float, float]:
        """Where training and test loss are smallest on the line."""
        train, test = self._splines
        return _lowest(train, self.offset), _lowest(test, self.offset)

    @cached_property
    def error(self) -> float:
        """How far the gap between the splines through every second point is from that through all, nats."""
        half = Profile(self.offset[::2], self.train[::2], self.test[::2])
        x = np.linspace(half.offset[0], half.offset[-1], _FINE + 1)
        pairs = zip(self._splines, half._splines, strict=True)
        return sum(float(np.abs(one(x) - other(x)).max()) for one, other in pairs)

    def gap(self, delta: float, radius: float) -> float:
        """The (δ, R)-shift gap ξ along the line: max over |t| ≤ R of |L′(t + δ) − L̂(t)| (definition 2.3.2).

        L′ is the test loss, moved vertically so that its minimum on the line is that of the training loss L̂.

        Args:
            delta: δ.
            radius: R; |δ| + R within the profile.

        Returns:
            The gap in nats.
        """
        train, test = self._splines
        lift = float(train(np.array(self.minima[0])) - test(np.array(self.minima[1])))
        t = np.linspace(-radius, radius, _FINE + 1)
        return float(np.abs(test(t + delta) + lift - train(t)).max())

    def best_shift(self, radius: float) -> tuple[float, float]:
        """The shift δ that leaves the smallest gap, and that gap.

        Args:
            radius: R.

        Returns:
            δ, searched for as far as the profile reaches, and ξ in nats.
        """
        from scipy.optimize import minimize_scalar

        reach = min(-self.offset[0], self.offset[-1]) - radius
        places = np.linspace(-reach, reach, 161)
        gaps = [self.gap(float(x), radius) for x in places]
        i = int(np.argmin(gaps))
        near = (float(places[max(0, i - 1)]), float(places[min(len(places) - 1, i + 1)]))
        found = minimize_scalar(
            lambda x: self.gap(x, radius), bounds=near, method="bounded", options={"xatol": 1e-6 * reach}
        )
        return float(found.x), float(found.fun)
