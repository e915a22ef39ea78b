"""What theorems 3.3.2 and 3.3.3 suppose, and whether it was seen to hold.

Source: thesis, definition 2.3.1, assumptions 2.3.3 and 2.3.4, theorems 3.3.2 and 3.3.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from landscape.asymmetric import Sides, Slopes
from landscape.profile import Gap
from landscape.shift import rho_range

OPEN, SILENT, UNKNOWN, FAILS, HOLDS = -3, -2, -1, 0, 1
VERDICTS = {
    OPEN: "not decided", SILENT: "does not apply", UNKNOWN: "not measured", FAILS: "fails", HOLDS: "holds"
}  # fmt: skip
ASSUMPTIONS = (
    "the training loss has a minimum on the line, at (θ)",
    "definition 2.3.1 with c > 1 and r > ρ: c is",
    "the same down to the smallest ζ, 0 in the theorem: c is",
    "assumption 2.3.3, the shift lies in [ζ, r]: in θ",
    "assumption 2.3.3, the shift has either sign by chance",
    "assumption 2.3.4, asymmetric nearby: part of points",
    "theorem 3.3.3, ρ is above its lower bound (θ)",
    "theorem 3.3.3, ρ is below its upper bound (θ)",
)


_TIE = 0.02


@dataclass(frozen=True)
class Asymmetric:
    """The strongest asymmetry on a map.

    Attributes:
        radius: r.
        zeta: ζ in the units of r.
        sides: Slopes between them.
        nearest: Slopes between the smallest ζ and the same r.
    """

    radius: float
    zeta: float
    sides: Sides
    nearest: Sides


def strongest(slopes: Slopes, radii: Sequence[float], zeta: Sequence[float], rho: float) -> Asymmetric:
    """The r and ζ with the largest lower bound of c among those with r > ρ.

    Args:
        slopes: Slopes of the line, flat side ahead.
        radii: Radii in units of ℓ; the largest is taken if none is above ρ.
        zeta: ζ as parts of r, ascending.
        rho: ρ, or NaN for no such condition.

    Returns:
        The strongest statement that definition 2.3.1 allows here; of those alike, to what c* is certified to, that on
        the widest interval.
    """
    allowed = [r for r in radii if not r <= rho] or [max(radii)]
    found = []
    for r in allowed:
        row = [slopes.between(z * r, r) for z in zeta]
        found += [Asymmetric(r, z * r, sides, row[0]) for z, sides in zip(zeta, row, strict=True)]
    known = [one for one in found if not math.isnan(one.sides.c_low)] or found[-1:]
    best = max(one.sides.c_low for one in known)
    alike = [one for one in known if not one.sides.c_low < best - _TIE * abs(best)]
    return max(alike, key=lambda one: (one.radius, -one.zeta))


def assumptions(strong: Asymmetric, rho: float, centre: float, gap: Gap, near: float) -> list[tuple[int, float]]:
    """Hold each of `ASSUMPTIONS` against what was measured.

    One that holds for some values within the errors of c, ξ and δ and fails for others is not decided.

    Args:
        strong: The asymmetry the theorems are applied to.
        rho: ρ; NaN if not known.
        centre: Where the minimum on the line is.
        gap: δ along u, and ξ.
        near: Part of the neighbouring points where u is asymmetric; NaN if not measured.

    Returns:
        (one of `VERDICTS`, number) for each.
    """
    r, c, c_low, p = strong.radius, strong.sides.c, strong.sides.c_low, strong.sides.ahead.high
    wide = r > rho
    asymmetric = c_low > 1 and wide
    small, large = _sizes(gap)
    known = not math.isnan(small)
    asked = c > 1 and wide and known and not math.isnan(rho)
    unasked = UNKNOWN if c > 1 and wide else SILENT
    places = [small, large, *([r / 2] if small < r / 2 < large else [])]  # the upper end of ρ is largest at r/2
    weak = c_low if c_low > 1 else math.nan  # the smallest c that the slopes' errors leave, if theorems know it
    lows = [rho_range(value, p, xi, r, small)[0] for value, xi in ((c, gap.low), (c, gap.gap), (weak, gap.high))]
    highs = [[rho_range(value, p, gap.gap, r, size)[1] for size in places] for value in (c, weak)]
    high = rho_range(c, p, gap.gap, r, abs(gap.shift))[1]
    most = max((value for value in chain(*highs) if not math.isnan(value)), default=math.nan)
    inside = _told(strong.zeta <= small and large <= r, strong.zeta <= large and small <= r)
    return [
        (HOLDS, centre),
        (UNKNOWN if math.isnan(rho) else _told(asymmetric, c > 1 and wide), c),
        (_told(strong.nearest.c_low > 1, strong.nearest.c > 1) if c > 1 and wide else SILENT, strong.nearest.c),
        (inside if known else UNKNOWN, gap.shift),
        (UNKNOWN, math.nan),
        (UNKNOWN if math.isnan(near) else _told(near == 1), near),
        (_told(rho > lows[2], rho > lows[0]) if asked else unasked, lows[1]),
        (
            _told(asymmetric and rho < min(highs[0]), rho < most) if asked else unasked,
            high,
        ),
    ]


def _sizes(gap: Gap) -> tuple[float, float]:
    """Smallest and largest size that the shift may have; NaN where it is not known."""
    low, high = sorted((abs(gap.shift_low), abs(gap.shift_high)))
    return (0.0 if gap.shift_low <= 0 <= gap.shift_high else low), high


def _told(surely: bool, maybe: bool = False) -> int:
    """Whether something holds that surely does, or may do."""
    return HOLDS if surely else OPEN if maybe else FAILS
