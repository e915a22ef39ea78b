"""The (r, p, c, ζ)-asymmetric and the (r, a, b, ζ)-symmetric directions of the thesis, measured.

With g(ℓ) = d/dℓ L(w + ℓu), the unit direction u is (r, p, c, ζ)-asymmetric if 0 < g(ℓ) < p and g(−ℓ) < −c p for
ζ < ℓ < r. So the largest c for given r and ζ is c* = s*/p* with p* = sup g(ℓ) and s* = inf −g(−ℓ) over the interval,
provided that the slopes keep their signs; u is asymmetric for every c < c*. For a smooth valley c* shrinks with ζ/r
whatever its sides are like, a ℓ² | b ℓ² having c* = (a/b)(ζ/r): so c* is a map over ζ and r and not one number.

u is (r, a, b, ζ)-symmetric if a < |g| < b on both sides. Every valley is that for some a < b; what it is worth is
(b − a)/(a + b), by theorem 3.3.2 the largest part of ρ that SAM moves along u.

Source: He et al. 2019, arXiv 1902.00744, definition 1; thesis, definitions 2.3.1 and 3.3.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from landscape.extremes import BUDGET, Curve, Extremes
from landscape.valley import Line

LEVEL = 1.959964
"""Standard errors below s* and above p*: each holds with 97.5 %, both together with 95 % or more."""
FLOOR = 3.0
"""Standard errors that a slope must differ from zero by."""


def exact(offset: float) -> float:
    """The standard error of slopes that have none."""
    del offset
    return 0.0


@dataclass(frozen=True)
class Sides:
    """Slopes of both sides of a valley between ζ and r.

    Attributes:
        ahead: Bounds of g(ℓ) on ζ < ℓ < r, nats/θ.
        behind: Bounds of −g(−ℓ) there.
        ahead_error: Standard errors of the smallest and the largest slope ahead.
        behind_error: The same behind.
    """

    ahead: Extremes
    behind: Extremes
    ahead_error: tuple[float, float]
    behind_error: tuple[float, float]

    @property
    def certified(self) -> bool:
        """Whether refinement can move neither side's bounds by more than one per cent."""
        return self.ahead.certified and self.behind.certified

    @property
    def is_valley(self) -> bool:
        """Whether the slopes keep their signs on both sides, by `FLOOR` standard errors."""
        return self.ahead.low > FLOOR * self.ahead_error[0] and self.behind.low > FLOOR * self.behind_error[0]

    @property
    def c(self) -> float:
        """c* of u; NaN where the line is no valley in the sense of the definition."""
        return self.behind.low / self.ahead.high if self.is_valley else math.nan

    @property
    def c_low(self) -> float:
        """What c* exceeds with 95 %."""
        if not self.is_valley:
            return math.nan
        steep = self.behind.low - LEVEL * self.behind_error[0]
        return steep / (self.ahead.high + LEVEL * self.ahead_error[1])

    @property
    def symmetric(self) -> tuple[float, float]:
        """The a and b for which u is symmetric; NaN where the line is no valley."""
        if not self.is_valley:
            return math.nan, math.nan
        return min(self.ahead.low, self.behind.low), max(self.ahead.high, self.behind.high)

    @property
    def reversed(self) -> Sides:
        """The same for −u."""
        return Sides(self.behind, self.ahead, self.behind_error, self.ahead_error)


class Slopes:
    """Slopes on both sides of a point of a line, refined where bounds need it."""

    def __init__(
        self, line: Line, centre: float, points: Sequence[float] = (),
        error: Callable[[float], float] = exact, budget: int = BUDGET,
    ) -> None:  # fmt: skip
        """Look along a line from one of its points.

        Args:
            line: Loss and slope.
            centre: The point.
            points: Distances from it, at least two, where both sides are known or will be.
            error: Standard error of the slope at a place on the line.
            budget: Slopes that refinement may take on each side.
        """
        self._centre, self._error = centre, error
        self._ahead = Curve(lambda x: line.slope(centre + x), points, budget)
        self._behind = Curve(lambda x: -line.slope(centre - x), points, budget)

    def between(self, zeta: float, radius: float) -> Sides:
        """Both sides on (ζ, r).

        Args:
            zeta: ζ in units of ℓ, above 0.
            radius: r, above ζ.

        Returns:
            Bounds with their errors.
        """
        ahead, behind = self._ahead.extremes(zeta, radius), self._behind.extremes(zeta, radius)

        def errors(found: Extremes, sign: int) -> tuple[float, float]:
            return tuple(self._error(self._centre + sign * at) for at in (found.at_low, found.at_high))  # type: ignore[return-value]

        return Sides(ahead, behind, errors(ahead, 1), errors(behind, -1))
