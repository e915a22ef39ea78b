"""Is a network right on fewer than a given part of a data set? Asked after every step, answered from few examples.

Examples are drawn without replacement, so their number right is hypergeometric. "Not fewer" is settled as soon as the
number seen would have a probability below a share of `risk` at the largest number right of all that is fewer; so it
is wrong with probability `risk` at most. "Fewer" is settled only when more are wrong than "not fewer" allows, so
that a step that is named is exact.

Source: Wald 1945, Ann. Math. Stat. 16(2), 117 (sequential tests), here at fixed looks with exact tails.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RISK = 0.02
_FIRST = 0.9  # of the risk is spent on the first look, which settles most questions
_LATER = 0.8  # what each later look leaves of the rest to those behind it


@dataclass(frozen=True)
class Answer:
    """What was found.

    Attributes:
        fewer: Whether fewer than the given part are right.
        examples: Examples looked at.
    """

    fewer: bool
    examples: int


class Screen:
    """Looks at growing parts of a data set until the question is settled."""

    def __init__(self, n: int, part: float, risk: float = RISK) -> None:
        """Work out at which looks how many right settle the question.

        Args:
            n: Examples in all.
            part: The part in (0, 1]: asked is whether fewer than part·n are right.
            risk: Probability of a wrong "not fewer" in one question; 0 looks at all examples at once.
        """
        self.n, self._few = n, math.ceil(part * n - 1e-9) - 1  # the largest number right that is fewer
        self._looks = _looks(n, self._few, risk) if risk > 0 and self._few >= 0 else [(n, self._few + 1)]

    def ask(self, right: Callable[[int, int], int], everything: Callable[[], int] | None = None) -> Answer:
        """Ask about a network as it is now.

        Args:
            right: (start, stop) -> how many of these examples, in an order that is random, are right.
            everything: -> how many of all are right, where `right` only estimates it; it then has the last word on
                "fewer".

        Returns:
            The answer, and what it took.
        """
        seen = found = 0
        for size, enough in self._looks:
            if everything and size > self.n // 4:  # looking at all is then the cheaper way to know
                break
            found += right(seen, size)
            seen = size
            if found >= enough:
                return Answer(False, seen)
            if not everything and seen - found > self.n - self._few - 1:
                return Answer(True, seen)
        assert everything is not None
        return Answer(everything() <= self._few, seen + self.n)


def _looks(n: int, few: int, risk: float) -> list[tuple[int, int]]:
    """Sizes of the looks, each half as large again as the one before, and how many right settle "not fewer"."""
    from scipy.stats import hypergeom

    spent, left = risk * _FIRST, risk * (1 - _FIRST)
    size = next((m for m in range(8, n) if hypergeom.sf(m - 1, n, few, m) <= spent), n)
    looks = []
    while size < n:
        settling = hypergeom.sf(np.arange(size + 1) - 1, n, few, size) <= spent  # P(at least r right | `few` of n are)
        looks.append((size, int(np.argmax(settling)) if settling.any() else size + 1))
        size, spent, left = math.ceil(size * 1.5), left * (1 - _LATER), left * _LATER
    return [*looks, (n, few + 1)]
