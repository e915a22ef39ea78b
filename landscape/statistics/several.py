"""Several claims at once: p-values by Holm's rule.

Source: Holm 1979, A simple sequentially rejective multiple test procedure.
"""

from __future__ import annotations

from collections.abc import Sequence


def holm(p: Sequence[float]) -> list[float]:
    """Correct p-values so that the chance of any false decision among them stays below the level.

    The k-th smallest of m is multiplied by m − k + 1; none may fall below a smaller one's, none exceeds 1.

    Args:
        p: p-values, in any order.

    Returns:
        Corrected p-values, in the same order.
    """
    corrected = [0.0] * len(p)
    so_far = 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        so_far = min(1.0, max(so_far, (len(p) - rank) * p[i]))
        corrected[i] = so_far
    return corrected
