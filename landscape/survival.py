"""Times that may be cut off by a budget: survival, quantiles and ratios of medians.

All walks are cut off at one budget, so that the part still there at a step is the Kaplan-Meier estimate itself.

Source: Kaplan and Meier 1958, J. Am. Stat. Assoc. 53, 457; Efron 1979, Ann. Stat. 7(1), 1 (bootstrap).
"""

from __future__ import annotations

import numpy as np

from landscape.result import Array


def survival(times: Array, budget: int) -> tuple[Array, Array]:
    """The part still there after each step.

    Args:
        times: Steps, shape (S,), inf where cut off.
        budget: Step at which walks are cut off.

    Returns:
        Steps at which the curve falls with 0 before and the budget after them, and the part left there.
    """
    steps = np.unique(np.concatenate([[0.0], times[np.isfinite(times)], [float(budget)]]))
    return steps, np.array([(times > step).mean() for step in steps])


def quantile(times: Array, q: float) -> float:
    """The smallest time by which a part q has gone: inf where fewer have within the budget.

    Args:
        times: Steps, shape (S,), inf where cut off.
        q: Part in (0, 1].

    Returns:
        The quantile, one of the times.
    """
    return float(np.sort(times)[max(0, int(np.ceil(q * len(times) - 1e-9)) - 1)])


def median_ratio(times: Array, others: Array, seed: int = 0, draws: int = 2000) -> tuple[float, float, float]:
    """Median of one sample over that of another, with a 95 % bootstrap interval.

    Args:
        times: Steps, shape (S,), inf where cut off.
        others: Steps, shape (R,).
        seed: Seed of the resampling.
        draws: Resamples.

    Returns:
        Ratio, lower and upper end; inf where a median is past the budget, NaN where both are.
    """
    source = np.random.default_rng(seed)

    def medians(sample: Array) -> Array:
        drawn = np.sort(source.choice(sample, (draws, len(sample))), axis=1)
        middle: Array = drawn[:, max(0, (len(sample) + 1) // 2 - 1)]
        return middle

    with np.errstate(invalid="ignore"):
        ratios = medians(times) / medians(others)
        known = np.sort(ratios[~np.isnan(ratios)])
        ratio = np.float64(quantile(times, 0.5)) / quantile(others, 0.5)
    if not known.size:
        return float(ratio), float("nan"), float("nan")
    return float(ratio), float(known[int(0.025 * len(known))]), float(known[int(np.ceil(0.975 * len(known))) - 1])
