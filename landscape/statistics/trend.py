"""Does a quantity grow with a setting, seed by seed? Page's test, and Kendall's τ to say how much.

Source: Page 1963, Ordered hypotheses for multiple treatments; Kendall 1938 (τ-b, which allows for ties).
"""

from __future__ import annotations

import math

import numpy as np

from landscape.result import Array
from landscape.statistics.means import Sides


def kendall(x: Array, y: Array) -> float:
    """Kendall's τ-b: agreeing pairs less disagreeing ones, over the pairs that are not tied.

    Args:
        x: Values, shape (N,).
        y: Values, shape (N,).

    Returns:
        In [−1, 1]; 0 where all of x or all of y are tied, since then nothing orders them.
    """
    one, other = (_signs(np.asarray(v)) for v in (x, y))
    scale = math.sqrt(float((one != 0).sum()) * float((other != 0).sum()))
    return float((one * other).sum()) / scale if scale else 0.0


def _signs(v: Array) -> Array:
    """Which of each pair is larger, 1, 0 or −1, shape (N (N − 1) / 2,); infinite values are as good as others."""
    larger = np.greater.outer(v, v).astype(int) - np.less.outer(v, v)
    found: Array = larger[np.triu_indices(len(v), 1)]
    return found


def page(table: Array) -> Sides:
    """Page's test of a trend over K ordered settings.

    L = Σ_k k·R_k with R_k the sum over seeds of the rank of setting k within its seed. Without a trend each seed's
    ranks are a random permutation, so that L has mean S·K(K+1)²/4 and a variance that is the sum over seeds of
    (Σ(k − k̄)²)(Σ(r − r̄)²)/(K − 1), ties included; L is taken as normal, half a step corrected.

    Args:
        table: One row for each seed in the order of the setting, shape (S, K), K at least 2.

    Returns:
        p-values: `above` is small if the quantity grows.
    """
    from scipy import stats

    ranks = stats.rankdata(np.asarray(table, dtype=float), axis=1)  # (S, K)
    k = np.arange(1, ranks.shape[1] + 1) - (ranks.shape[1] + 1) / 2
    centred = ranks - ranks.mean(1, keepdims=True)
    surplus = float((centred @ k).sum())
    variance = float((k**2).sum() * (centred**2).sum() / (len(k) - 1))
    if variance == 0:
        return Sides(1.0, 1.0)
    z = math.sqrt(variance)
    return Sides(float(stats.norm.sf((surplus - 0.5) / z)), float(stats.norm.cdf((surplus + 0.5) / z)))
