"""The valley along one direction: its minimum, how far it reaches, and how unequal its sides are.

With g(ℓ) = d/dℓ L(w + ℓu), the unit direction u is (r, p, c, ζ)-asymmetric if 0 < g(ℓ) < p for ζ < ℓ < r and
g(−ℓ) < −c p there. So for given r and ζ the largest c is s*/p* with p* = sup g(ℓ) and s* = inf −g(−ℓ), provided that
g > 0 on the flat side and s* > 0. For a smooth valley c* shrinks with ζ/r whatever its sides are like, so the
scale-free rise ratio [L(−r) − L₀] / [L(r) − L₀] stands beside it.

Everything is measured from the minimum along the line, found as a root of the exact derivative: a biased solution
sits beside it, and where it sits is the quantity of interest.

Source: He et al. 2019, arXiv 1902.00744, definitions 1 and 2; thesis, definition 2.3.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from landscape.result import Array

Line = Callable[[float], tuple[float, float]]
"""ℓ -> (L(ℓ), g(ℓ)): loss in nats and exact slope in nats per unit of theta."""

OK, NO_MINIMUM, NO_RISE, NOT_FINITE = 0, 1, 2, 3
STATUS = ("measured", "no minimum within reach", "the loss does not rise that far", "the loss is not finite")
_DOUBLINGS = 40


@dataclass(frozen=True)
class Valley:
    """One line through a valley, measured from its minimum.

    Attributes:
        status: Index into `STATUS`.
        centre: ℓ₀, where the minimum along the line lies, from the line's origin.
        radius: r.
        offsets: ℓ − ℓ₀ from −r to r, ascending, shape (P,); the middle one is 0.
        losses: L there, nats.
        slopes: g there, nats per unit of theta.
    """

    status: int
    centre: float
    radius: float
    offsets: Array
    losses: Array
    slopes: Array

    @property
    def rises(self) -> tuple[float, float]:
        """L − L₀ at −r and at r, in nats."""
        middle = self.losses[len(self.losses) // 2]
        return float(self.losses[0] - middle), float(self.losses[-1] - middle)

    @property
    def log_ratio(self) -> float:
        """Log of the rise at r over the rise at −r: negative where u points to the flat side; NaN if not both rise."""
        back, ahead = self.rises
        return math.log(ahead / back) if ahead > 0 and back > 0 else math.nan

    def largest_c(self, zeta: float) -> tuple[float, float]:
        """The largest c for which u, and for which −u, is asymmetric with these r and ζ, on the points measured.

        Args:
            zeta: ζ as a part of r, in [0, 1).

        Returns:
            c* of u and of −u; NaN where the valley is no valley in the sense of the definition.
        """
        outside = np.abs(self.offsets) >= zeta * self.radius * (1 - 1e-9)
        ahead = self.slopes[outside & (self.offsets > 0)]
        back = -self.slopes[outside & (self.offsets < 0)]
        return _ratio(back, ahead), _ratio(ahead, back)


def _ratio(steep: Array, flat: Array) -> float:
    """Smallest steep slope over largest flat one."""
    usable = flat.size and steep.size and flat.min() > 0 and steep.min() > 0
    return float(steep.min() / flat.max()) if usable else math.nan


def measure(line: Line, reach: float, rise: float, radius: float, points: int) -> Valley:
    """Measure a valley along a line.

    Args:
        line: Loss and slope.
        reach: First step of the search for minimum and radius, in units of theta; a thousandth of ‖θ‖ is good.
        rise: If `radius` is 0: the mean rise of both sides, in nats, that sets the radius.
        radius: r in units of theta, or 0.
        points: Points on each side.

    Returns:
        The valley; with a status other than 0 its arrays hold NaN where nothing was measured.
    """
    blank = np.full(2 * points + 1, np.nan)
    centre = find_minimum(line, reach)
    if centre is None:
        return Valley(NO_MINIMUM, math.nan, math.nan, blank, blank, blank)
    r = radius or find_radius(line, centre, reach, rise)
    if r is None:
        return Valley(NO_RISE, centre, math.nan, blank, blank, blank)
    offsets = r * np.arange(-points, points + 1) / points
    values = np.array([line(centre + offset) for offset in offsets])
    status = OK if np.isfinite(values).all() else NOT_FINITE
    return Valley(status, centre, r, offsets, values[:, 0], values[:, 1])


def find_minimum(line: Line, step: float) -> float | None:
    """The root of the slope that lies downhill from the origin: bracket by doubling, then Brent's method.

    Args:
        line: Loss and slope.
        step: First step of the bracket.

    Returns:
        ℓ₀, or None if the slope does not change its sign within 2^40 steps or is not finite.
    """
    from scipy.optimize import brentq

    slope = line(0.0)[1]
    if slope == 0:
        return 0.0
    downhill = -math.copysign(1.0, slope)
    near, far = 0.0, downhill * step
    for _ in range(_DOUBLINGS):
        at = line(far)[1]
        if not math.isfinite(at):
            return None
        if at * downhill >= 0:
            return float(brentq(lambda x: line(x)[1], near, far, xtol=abs(far - near) * 1e-4, rtol=1e-10))
        near, far = far, 2 * far
    return None


def find_radius(line: Line, centre: float, step: float, rise: float) -> float | None:
    """The r at which the mean rise of both sides reaches a level, to 2 % of the level.

    Args:
        line: Loss and slope.
        centre: ℓ₀.
        step: First radius tried.
        rise: The level in nats.

    Returns:
        r, or None if the level is not reached within 2^40 steps.
    """
    floor = line(centre)[0]

    def excess(r: float) -> float:
        mean = (line(centre - r)[0] + line(centre + r)[0]) / 2 - floor
        return mean - rise if math.isfinite(mean) else math.inf

    low, high = 0.0, step
    for _ in range(_DOUBLINGS):
        if excess(high) > 0:
            break
        low, high = high, 2 * high
    else:
        return None
    for _ in range(_DOUBLINGS):
        middle = (low + high) / 2
        found = excess(middle)
        if abs(found) <= 0.02 * rise:
            return middle
        low, high = (middle, high) if found < 0 else (low, middle)
    return (low + high) / 2
