"""The valley along one direction: its minimum, how far it reaches, and how unequal its sides are.

Everything is measured from the minimum along the line, found as a root of the exact derivative g(ℓ) = d/dℓ L(w + ℓu):
a biased solution sits beside it, and where it sits is the quantity of interest. Scale-free companions of the
(r, p, c, ζ)-asymmetry (see `landscape.asymmetric`) are the rise ratio [L(r) − L₀] / [L(−r) − L₀], the curvatures of
the two sides, and the third derivative in units of the second and of r.

Source: He et al. 2019, arXiv 1902.00744, definitions 1 and 2; thesis, definition 2.3.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from landscape.result import Array


class Line(Protocol):
    """A loss on a line, ℓ in units of theta, each point computed once."""

    def loss(self, offset: float) -> float:
        """L(ℓ), nats."""
        ...

    def slope(self, offset: float) -> float:
        """g(ℓ) = dL/dℓ, exact, nats per unit of theta."""
        ...


OK, NO_MINIMUM, NO_RISE, NOT_FINITE, ROUNDED = 0, 1, 2, 3, 4
STATUS = (
    "measured", "no minimum within reach", "the loss does not rise that far", "the loss is not finite",
    "one side rises by no more than rounding",
)  # fmt: skip
_DOUBLINGS = 40


@dataclass(frozen=True)
class Valley:
    """One line through a valley, measured from its minimum.

    Attributes:
        status: Index into `STATUS`.
        centre: ℓ₀, where the minimum along the line lies, from the line's origin.
        radius: r.
        offsets: ℓ − ℓ₀ from −r to r, ascending, 0 among them, shape (P,).
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
        floor = self.losses[len(self.losses) // 2]
        return float(self.losses[0] - floor), float(self.losses[-1] - floor)

    @property
    def log_ratio(self) -> float:
        """Log of the rise at r over the rise at −r: negative where u points to the flat side; NaN if not both rise."""
        return log_ratio(*self.rises)

    @property
    def curvatures(self) -> tuple[float, float]:
        """Second derivative behind and ahead of the minimum, from the nearest slopes, nats/θ²."""
        middle = len(self.offsets) // 2
        return tuple(float(self.slopes[i] / self.offsets[i]) for i in (middle - 1, middle + 1))  # type: ignore[return-value]

    @property
    def skewness(self) -> float:
        """L‴ r / L″ at the minimum, from the nearest slopes: 0 for a symmetric valley, NaN without curvature."""
        back, ahead = self.curvatures
        middle = len(self.offsets) // 2
        if back + ahead == 0:
            return math.nan
        return 2 * (ahead - back) / (ahead + back) * self.radius / float(self.offsets[middle + 1])


def log_ratio(back: float, ahead: float) -> float:
    """Log of the rise ahead over the rise behind; NaN if not both rise."""
    return math.log(ahead / back) if ahead > 0 and back > 0 else math.nan


def measure(line: Line, reach: float, rise: float, radius: float, parts: Sequence[float]) -> Valley:
    """Measure a valley along a line.

    Args:
        line: Loss and slope.
        reach: First step of the search for minimum and radius, in units of ℓ; a thousandth of ‖θ‖ is good.
        rise: If `radius` is 0: the mean rise of both sides, in nats, that sets the radius.
        radius: r in units of ℓ, or 0.
        parts: Where each side is measured, as parts of r, ascending, in (0, 1], the last one 1.

    Returns:
        The valley; with a status other than 0 its arrays hold NaN where nothing was measured.
    """
    blank = np.full(2 * len(parts) + 1, np.nan)
    centre = find_minimum(line.slope, reach)
    if centre is None:
        return Valley(NO_MINIMUM, math.nan, math.nan, blank, blank, blank)
    r = radius or find_radius(line.loss, centre, reach, rise)
    if r is None:
        return Valley(NO_RISE, centre, math.nan, blank, blank, blank)
    offsets = r * np.array([*(-p for p in reversed(parts)), 0.0, *parts])
    slopes = np.array([line.slope(centre + x) for x in offsets.tolist()])
    losses = np.array([line.loss(centre + x) for x in offsets.tolist()])
    status = OK if np.isfinite(slopes).all() and np.isfinite(losses).all() else NOT_FINITE
    if status == OK and np.ptp(losses) == 0:  # r is below what the weights' floating point type can tell
        return Valley(NO_RISE, centre, math.nan, blank, blank, blank)
    return Valley(status, centre, r, offsets, losses, slopes)


def find_minimum(slope: Callable[[float], float], step: float) -> float | None:
    """The root of the slope that lies downhill from the origin: bracket by doubling, then Brent's method.

    Args:
        slope: Exact derivative along the line.
        step: First step of the bracket.

    Returns:
        ℓ₀ to 1e-4 of a step, or None if the slope does not change its sign within 2^40 steps or is not finite.
    """
    from scipy.optimize import brentq

    start = slope(0.0)
    if start == 0 or not math.isfinite(start):
        return 0.0 if start == 0 else None
    downhill = -math.copysign(1.0, start)
    near, far = 0.0, downhill * step
    for _ in range(_DOUBLINGS):
        at = slope(far)
        if not math.isfinite(at):
            return None
        if at * downhill >= 0:
            return float(brentq(slope, near, far, xtol=step * 1e-4, rtol=1e-10))
        near, far = far, 2 * far
    return None


def find_radius(loss: Callable[[float], float], centre: float, step: float, rise: float) -> float | None:
    """The r at which the mean rise of both sides reaches a level, to 2 % of the level.

    Doubling brackets it; then r is scaled as if the rise grew with r², and the bracket halved, in turn.

    Args:
        loss: Loss along the line.
        centre: ℓ₀.
        step: First radius tried.
        rise: The level in nats.

    Returns:
        r, or None if the level is not reached within 2^40 steps.
    """
    floor = loss(centre)

    def mean(r: float) -> float:
        found = (loss(centre - r) + loss(centre + r)) / 2 - floor
        return found if math.isfinite(found) else math.inf

    low, high = 0.0, step
    found = mean(high)
    while found < rise:
        if high > step * 2**_DOUBLINGS:
            return None
        low, high = high, 2 * high
        found = mean(high)
    r = high
    for step_number in range(_DOUBLINGS):
        if abs(found - rise) <= 0.02 * rise:
            break
        low, high = (r, high) if found < rise else (low, r)
        scaled = r * math.sqrt(rise / found) if 0 < found < math.inf else 0.0
        r = scaled if low < scaled < high and step_number % 2 == 0 else (low + high) / 2
        found = mean(r)
    return r
