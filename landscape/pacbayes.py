"""The PAC-Bayes bound that motivates SAM, computed with its constants.

Theorem 1 of the review of SAM: for a loss in [0, 1] with L_D(θ) ≤ E L_D(θ + ε), with probability 1 − δ over a sample
of n examples,

    L_D(θ) ≤ max_{‖ε‖₂ ≤ ρ} L_S(θ + ε)
             + √{[d ln(1 + (1 + √(ln n / d))² ‖θ‖²/ρ²) + 4 ln(n/δ) + 8 ln(6n + 3d)] / (n − 1)}.

What is computed is this form, with natural logarithms. Four things about it:

- The statement draws ε from N(0, ρI), whose length is about √(ρd) and not ρ. The proof needs N(0, σ²I) with
  ρ = σ(√d + √ln n), so that ε lies in the ball with probability 1 − 1/√n. The formula is the same for both readings.
- Its square root is about twice what the proof gives, where 4(n − 1) stands for n − 1; that is room for the 1/√n.
- ρ is chosen before the sample is seen. The smallest of R bounds at R radii holds with probability 1 − δ if each
  is taken at δ/R (union bound).
- The loss must lie in [0, 1]. Cross-entropy does not, so the bound is one for the error. Above 1 it says nothing.

Source: Foret et al. 2021, arXiv 2010.01412, theorem 2 and appendix A.1; Liu, Chen, Shi, review of SAM, theorem 1.
"""

from __future__ import annotations

import math


def complexity(parameters: int, examples: int, norm: float, rho: float, delta: float) -> float:
    """The square root in the bound.

    Args:
        parameters: d, at least 1.
        examples: n, at least 1.
        norm: ‖θ‖₂.
        rho: ρ, above 0; chosen before the sample is seen.
        delta: δ of this one radius, in (0, 1).

    Returns:
        What is added to the largest error in the ball; alone above 1 where the bound is vacuous whatever that error
        is, and infinite for one example, which bounds nothing.
    """
    d, n = parameters, examples
    if n < 2:
        return math.inf
    spread = (1 + math.sqrt(math.log(n) / d)) ** 2
    volume = d * math.log1p((norm / rho) ** 2 * spread)
    return math.sqrt((volume + 4 * math.log(n / delta) + 8 * math.log(6 * n + 3 * d)) / (n - 1))
