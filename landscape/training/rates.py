"""Learning rate η_t and radius ρ_t: pure functions of the settings and the step t.

"sqrt" for both is the decay under which SAM converges: review of SAM, Theorem 2 (η_t = η₀/√t and ρ_t = ρ₀/√t with t
counted from 1). "lr" for ρ is GSAM's rule, ρ_t = ρ_min + (ρ − ρ_min)·η_t/η₀ (Zhuang et al. 2022, arXiv 2203.08065).
"""

from __future__ import annotations

import math

from landscape.training.settings import Settings


def decayed(start: float, schedule: str, t: int, steps: int) -> float:
    """A value at step t of T.

    Args:
        start: Value at step 0.
        schedule: "cosine" (half a cosine to 0 at T), "constant" or "sqrt" (start/√(t+1)).
        t: Step, counted from 0.
        steps: T.

    Returns:
        The value.
    """
    if schedule == "cosine":
        return start / 2 * (1 + math.cos(math.pi * t / steps))
    return start / math.sqrt(t + 1) if schedule == "sqrt" else start


def learning_rate(settings: Settings, n: int, t: int) -> float:
    """η_t over n training examples; with SWA constant from step E on."""
    switch = settings.switch_step(n)
    if settings.part("average") == "swa" and t >= switch:
        if settings.swa_lr > 0:
            return settings.swa_lr
        t = switch
    return decayed(settings.lr, settings.lr_schedule, t, settings.steps(n))


def radius(settings: Settings, n: int, t: int) -> float:
    """ρ_t over n training examples."""
    if settings.rho_schedule == "constant":
        return settings.rho
    low = min(settings.rho_min, settings.rho)
    if settings.rho_schedule == "lr":
        share = learning_rate(settings, n, t) / settings.lr if settings.lr else 0.0
        return low + (settings.rho - low) * share
    return low + decayed(settings.rho - low, settings.rho_schedule, t, settings.steps(n))
