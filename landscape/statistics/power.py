"""How many seeds would decide: the power of the t test by the noncentral t distribution.

Source: Cohen 1988, chapter 2; Student's t under the alternative is noncentral with parameter δ√S.
"""

from __future__ import annotations

import math

POWER = 0.8
MOST = 100_000
"""Numbers of seeds above this one are called none."""


def power(effect: float, seeds: int, level: float = 0.05) -> float:
    """Chance that a two-sided one-sample t test finds an effect.

    Args:
        effect: δ, the distance of the mean from the bound in standard deviations over seeds.
        seeds: S, at least 2.
        level: α.

    Returns:
        Chance in [0, 1].
    """
    from scipy import stats

    edge = stats.t.ppf(1 - level / 2, seeds - 1)
    shift = abs(effect) * math.sqrt(seeds)
    return float(stats.nct.sf(edge, seeds - 1, shift) + stats.nct.cdf(-edge, seeds - 1, shift))


def seeds_needed(effect: float, level: float = 0.05, wanted: float = POWER) -> int | None:
    """Fewest seeds at which the effect is found with the wanted chance.

    Args:
        effect: δ.
        level: α.
        wanted: The chance.

    Returns:
        S, at least 2; None if more than `MOST` would be needed.
    """
    if not abs(effect) > 0:
        return None
    low, high = 1, 2
    while _found(effect, high, level) < wanted:
        low, high = high, 2 * high
        if low > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _found(effect, middle, level) >= wanted else (middle, high)
    return high


def _found(effect: float, seeds: int, level: float) -> float:
    """Power; beyond 30 standard errors it is 1, where the noncentral t is not computed reliably."""
    return 1.0 if abs(effect) * math.sqrt(seeds) > 30 + 700 / seeds**2 else power(effect, seeds, level)
