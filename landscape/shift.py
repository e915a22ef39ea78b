"""Where SAM sits on a line through an asymmetric valley, and what that is worth on data that are shifted.

SAM descends L̃(ℓ) = max |ε| ≤ ρ of L(ℓ + ε). Where L falls before its minimum at 0 and rises after it, L̃ is the larger
of L(ℓ − ρ) and L(ℓ + ρ), and its minimum is where both are equal. For an (r, p, c, 0)-asymmetric direction it lies in
[(c − 1)/(c + 1) ρ, ρ): the lower end is that of straight sides.

The shift gap ξ between test and training loss is `landscape.profile`'s.

Source: thesis, theorems 3.3.2 and 3.3.3; He et al. 2019, arXiv 1902.00744.
"""

from __future__ import annotations

import math
from collections.abc import Callable


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
