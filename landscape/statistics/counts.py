"""Exact tests of counts: how often something went one way, and whether two networks err on different examples.

Sources: Clopper and Pearson 1934 (interval); McNemar 1947, in its exact, conditional form.
"""

from __future__ import annotations

from landscape.statistics.means import Sides


def sign(above: int, below: int) -> Sides:
    """Test whether one way is as likely as the other; ties are left out by the caller.

    Args:
        above: How often it went one way.
        below: How often the other.

    Returns:
        p-values of Binomial(above + below, 1/2): `above` is small if there are more above than chance gives.
    """
    from scipy import stats

    n = above + below
    if n == 0:
        return Sides(1.0, 1.0)
    return Sides(float(stats.binom.sf(above - 1, n, 0.5)), float(stats.binom.cdf(above, n, 0.5)))


def part(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of Clopper and Pearson for a part of one.

    Args:
        hits: How often it happened.
        n: How often it could have.
        level: Part of such intervals that hold the truth, at least.

    Returns:
        Lower and upper end.
    """
    from scipy import stats

    outside = (1 - level) / 2
    low = 0.0 if hits == 0 else float(stats.beta.ppf(outside, hits, n - hits + 1))
    high = 1.0 if hits == n else float(stats.beta.isf(outside, hits + 1, n - hits))
    return low, high


def mcnemar(first_only: int, second_only: int) -> Sides:
    """Compare two networks on the same examples.

    Given how many examples only one of the two gets wrong, each is equally likely to be the one if their errors are
    equal; examples that both or neither get wrong say nothing.

    Args:
        first_only: Examples that only the first gets wrong.
        second_only: Examples that only the second gets wrong.

    Returns:
        p-values: `above` is small if the first errs more often.
    """
    return sign(first_only, second_only)
