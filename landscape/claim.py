"""Claim: what a source says, what was found, and whether the one bears out the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from landscape.result import Array

if TYPE_CHECKING:
    from landscape.report import Table

HOLDS, FAILS, OPEN = "holds", "does not hold", "not decided at this scale"


@dataclass(frozen=True)
class Claim:
    """One claim beside what was found.

    Attributes:
        place: Where it is made.
        text: What is said.
        claimed: The number or relation that follows from it.
        found: What was measured, with its uncertainty.
        verdict: `HOLDS`, `FAILS` or `OPEN`, which may go on with what would decide it.
        detail: What carries the finding.
        anchor: The panel of a report that shows it.
    """

    place: str
    text: str
    claimed: str
    found: str
    verdict: str
    detail: str = ""
    anchor: str = ""

    @property
    def tone(self) -> Literal["yes", "no", "open"]:
        """Yes where it holds, no where it does not, open where that is not decided."""
        return "yes" if self.verdict == HOLDS else "no" if self.verdict == FAILS else "open"


def verdict(holds: bool) -> str:
    """Whether what was found bears out what was claimed, where that can be decided."""
    return HOLDS if holds else FAILS


def counted(claims: Sequence[Claim]) -> str:
    """How many claims hold, as "3 of 5 claims hold"."""
    return f"{sum(c.verdict == HOLDS for c in claims)} of {len(claims)} claims hold"


def pooled(values: Sequence[Array], errors: Sequence[Array]) -> tuple[Array, Array]:
    """Mean and standard error over results that have equally many draws each.

    Args:
        values: A mean of each result.
        errors: Its standard error.

    Returns:
        The mean of means, and its standard error.
    """
    return np.mean(values, axis=0), np.sqrt(np.sum(np.square(errors), axis=0)) / len(values)


def table(claims: Sequence[Claim], note: str, title: str = "Claimed and found") -> Table:
    """Claims as a table of a report: claimed | found | verdict."""
    from landscape.report import Table

    columns = ("claim", "claimed", "found", "verdict", "where it is made")
    return Table(title, columns, tuple((c.text, c.claimed, c.found, c.verdict, c.place) for c in claims), note)
