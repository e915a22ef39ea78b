"""What was found, in words and units, and what a verdict means."""

from __future__ import annotations

import math

from analyses.studies.claims import Tested
from landscape.claim import OPEN
from landscape.wording import number


def shown(value: float, unit: str) -> str:
    """A number with its unit; parts of one in percentage points where the unit is "points"."""
    if unit == "points":
        return f"{100 * value:+.2f}".replace("-", "−")
    return number(value)


def found(tested: Tested) -> str:
    """The mean with its interval and unit, and how many it is over."""
    mean, unit = tested.mean, tested.claim.unit
    if not mean.count:
        return "not measured"
    middle = ("τ = " if tested.claim.test in {"increasing", "decreasing"} else "") + shown(mean.value, unit)
    tail = f" {unit}" if unit else ""
    if mean.count == 1 or math.isnan(mean.low) or mean.low == mean.high:
        return f"{middle}{tail}"
    return f"{middle} ({shown(mean.low, unit)} to {shown(mean.high, unit)}){tail}"


def behind(tested: Tested) -> str:
    """What carries the finding: units, p-values, what is missing."""
    what = "entries" if tested.claim.entries else "seeds"
    count = tested.mean.count
    parts = [f"{count} {what if count != 1 else what.replace('ies', 'y').removesuffix('s')}"]
    if not math.isnan(tested.p):
        parts.append(f"p {probability(tested.p)}, corrected {probability(tested.corrected)}")
    if tested.note:
        parts.append(tested.note)
    if tested.missing:
        parts.append(f"{tested.missing} missing")
    return "; ".join(parts)


def probability(p: float) -> str:
    """A p-value to two digits, with its sign of comparison."""
    return f"= {p:.2g}" if p >= 1e-4 else "< 0.0001"


def decision(tested: Tested) -> str:
    """The verdict, and what it would take where there is none."""
    if tested.verdict != OPEN:
        return tested.verdict
    if tested.seeds_needed is None:
        why = "one seed tells no spread" if tested.mean.count < 2 else "no number of seeds in reach would decide it"
        why = "more test examples would decide it, not more seeds" if tested.claim.test == "mcnemar" else why
        return f"{tested.verdict}: {why}"
    return f"{tested.verdict}: about {tested.seeds_needed:,} seeds would decide it"
