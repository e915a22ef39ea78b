"""The mean over seeds: its interval and how far it is from a number, by Student's t or by the bootstrap.

Sources: Student 1908; Efron and Tibshirani 1993, sections 12.5 and 16.4 (percentile interval, shifted bootstrap test).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from landscape.result import Array

RESAMPLES = 20_000


@dataclass(frozen=True)
class Mean:
    """A mean over seeds.

    Attributes:
        value: The mean; NaN of nothing.
        low: Lower end of the interval; NaN where one seed or none tells no spread.
        high: Upper end.
        spread: Standard deviation over seeds, S − 1 in the denominator; NaN below two.
        count: S.
    """

    value: float
    low: float
    high: float
    spread: float
    count: int


@dataclass(frozen=True)
class Sides:
    """One-sided p-values.

    Attributes:
        above: Chance of so large a value if the truth were at the bound or below.
        below: Chance of so small a value if the truth were at the bound or above.
    """

    above: float
    below: float


def mean(values: Array, level: float = 0.95, bootstrap: bool = False) -> Mean:
    """Mean and interval.

    Args:
        values: One number for each seed, shape (S,).
        level: Part of such intervals that hold the truth.
        bootstrap: Percentiles of resampled means instead of Student's t; too narrow below about ten seeds.

    Returns:
        The mean; of one seed without an interval.
    """
    values = np.asarray(values, dtype=float)
    n = len(values)
    if n < 2:
        return Mean(float(values[0]) if n else math.nan, math.nan, math.nan, math.nan, n)
    middle, spread = float(values.mean()), float(values.std(ddof=1))
    if bootstrap:
        low, high = np.quantile(resampled(values), [(1 - level) / 2, (1 + level) / 2])
        return Mean(middle, float(low), float(high), spread, n)
    from scipy import stats

    reach = float(stats.t.ppf((1 + level) / 2, n - 1)) * spread / math.sqrt(n)
    return Mean(middle, middle - reach, middle + reach, spread, n)


def resampled(values: Array, count: int = RESAMPLES) -> Array:
    """Means of samples drawn from the values with replacement, always the same ones, shape (count,)."""
    draws = np.random.default_rng(0).integers(0, len(values), size=(count, len(values)))
    means: Array = np.asarray(values, dtype=float)[draws].mean(1)
    return means


def against(values: Array, bound: float, bootstrap: bool = False) -> Sides:
    """Test a mean over seeds against a number.

    Values that are all equal have no spread to speak of; then the sign test decides, which asks at least six seeds.

    Args:
        values: One number for each seed, shape (S,).
        bound: The number.
        bootstrap: Resampled means, shifted to the bound, instead of Student's t.

    Returns:
        p-values; 1 on both sides for fewer than two seeds.
    """
    off = np.asarray(values, dtype=float) - bound
    n = len(off)
    if n < 2:
        return Sides(1.0, 1.0)
    middle, spread = float(off.mean()), float(off.std(ddof=1))
    if spread <= 1e-12 * abs(middle):
        return Sides(0.5**n if middle > 0 else 1.0, 0.5**n if middle < 0 else 1.0)
    if bootstrap:
        shifted = resampled(off - middle)
        return Sides(_part(shifted >= middle), _part(shifted <= middle))
    from scipy import stats

    t = middle / (spread / math.sqrt(n))
    return Sides(float(stats.t.sf(t, n - 1)), float(stats.t.cdf(t, n - 1)))


def _part(found: Array) -> float:
    return float((found.sum() + 1) / (len(found) + 1))
