"""Tests the claims of a study: one number for each seed, a mean with its interval, a verdict.

The unit is the training seed and differences are paired within it. All p-values of a study are corrected together by
Holm's rule and a verdict takes a corrected p below 0.05; a claim that is found not to hold has to be so significantly,
in the other direction. What closed forms say is not tested but compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analyses.pages import Stored
from analyses.studies.plan import Asked, Graph
from analyses.studies.quantity import Instance, evaluate, parse, references
from analyses.studies.table import Hypothesis
from landscape.claim import FAILS, HOLDS, OPEN
from landscape.errors import UsageError
from landscape.result import Array
from landscape.statistics import counts, means, power, several, trend
from landscape.statistics.means import Mean

LEVEL = 0.05


@dataclass(frozen=True)
class Tested:
    """A claim with what was found.

    Attributes:
        claim: The claim.
        network: The problem, where there are several.
        values: What the mean is over, shape (S,): one number for each seed, or each entry.
        mean: Mean and 95 % interval, not corrected for the other claims.
        p: Two-sided p-value; NaN where nothing random is in it and it was compared.
        corrected: After correction for the other claims of the study.
        verdict: `HOLDS`, `FAILS` or `OPEN`.
        seeds_needed: Seeds that would decide it with a chance of 80 % if the truth is as found; None if unknown or
            beyond reach.
        note: What else there is to say.
        missing: Seeds for which there is no number.
    """

    claim: Hypothesis
    network: str
    values: Array
    mean: Mean
    p: float
    corrected: float
    verdict: str
    seeds_needed: int | None
    note: str
    missing: int


@dataclass(frozen=True)
class _Judged:
    """Before correction: p-values for and against, or what a comparison says."""

    values: Array
    mean: Mean
    favour: float = 1.0
    against: float = 1.0
    compared: bool | None = None
    effect: float = math.nan
    note: str = ""

    @property
    def p(self) -> float:
        """Two-sided."""
        return math.nan if self.compared is not None else min(1.0, 2 * min(self.favour, self.against))


def instances(graph: Graph, stored: Mapping[str, Stored], network: str, seed: int, id: str) -> list[Instance]:
    """Results of an analysis of the study for one seed.

    Args:
        graph: The graph.
        stored: Results by key.
        network: The problem.
        seed: The seed.
        id: The analysis's id.

    Returns:
        One for each choice of what was repeated, in the order of its numbers.
    """

    def result(asked: Asked) -> Any:
        key = asked.keys.get(seed, asked.keys[0])
        return stored[key].result if key in stored else None

    found = [Instance(a.varied, result(a)) for a in graph.asked if a.id == id and a.network in {network, ""}]
    ordered = all(isinstance(value, (int, float)) for each in found for value in each.varied.values())
    return sorted(found, key=lambda each: tuple(each.varied.values())) if ordered else found


def per_seed(graph: Graph, stored: Mapping[str, Stored], network: str, text: str) -> list[Array]:
    """A quantity for each seed, or once where no part of it depends on the seed.

    Args:
        graph: The graph.
        stored: Results by key.
        network: The problem.
        text: The quantity.

    Returns:
        Numbers or vectors.
    """

    def find(seed: int) -> Callable[[str], list[Instance]]:
        return lambda id: instances(graph, stored, network, seed, id)

    seeds = range(graph.seeds) if random(graph, text) else range(1)
    return [evaluate(text, find(seed)) for seed in seeds]


def random(graph: Graph, text: str) -> bool:
    """Whether a quantity depends on the training seed."""
    named = {name for name, _ in references(parse(text))}
    return any(asked.seeded for asked in graph.asked if asked.id in named)


def judge(graph: Graph, stored: Mapping[str, Stored]) -> list[Tested]:
    """Test all claims of a study, on each of its problems.

    Args:
        graph: The graph.
        stored: Results by key.

    Returns:
        The claims in their order.

    Raises:
        UsageError: If a quantity cannot be computed, or is not what its test needs.
    """
    judged = []
    for claim in graph.study.claims:
        for network in graph.networks:
            rows = per_seed(graph, stored, network, claim.quantity)
            seeded = random(graph, claim.quantity)
            other = per_seed(graph, stored, network, claim.other) if claim.other else []
            try:
                judged.append((claim, network, len(rows), _judge(claim, rows, other, seeded)))
            except (ValueError, IndexError, TypeError) as error:
                shape = rows[0].shape
                raise UsageError(
                    f"the claim '{claim.id}' cannot be tested: its quantity has the shape {shape}",
                    "less, greater, between, equals and mcnemar take a number for each seed, a trend takes a vector",
                ) from error
    tested = [i for i, each in enumerate(judged) if each[3].compared is None]
    corrected = dict(zip(tested, several.holm([judged[i][3].p for i in tested]), strict=True))
    return [
        _verdict(claim, network, n, found, corrected.get(i, math.nan), len(tested))
        for i, (claim, network, n, found) in enumerate(judged)
    ]


def _judge(claim: Hypothesis, rows: Sequence[Array], other: Sequence[Array], seeded: bool) -> _Judged:
    if claim.test in {"increasing", "decreasing"}:
        return _trend(claim, rows)
    if claim.test == "mcnemar":
        return _pairs(rows, other)
    values = (
        np.concatenate([np.ravel(row) for row in rows]) if claim.entries else np.array([float(row) for row in rows])
    )
    values = values[~np.isnan(values)]
    mean = means.mean(values, bootstrap=claim.bootstrap)
    if claim.test == "equals":
        off = np.abs(values - claim.than)
        told = f"largest difference {off.max():.2g}, allowed {claim.tolerance:.2g}" if len(values) else ""
        return _Judged(values, mean, compared=bool(len(values) and (off <= claim.tolerance).all()), note=told)
    if not seeded and not claim.entries:
        return _Judged(values, mean, compared=_compared(claim, mean.value), note="exact, compared without a test")
    if claim.test == "sign":
        above, below = int((values > claim.than).sum()), int((values < claim.than).sum())
        sides = counts.sign(above, below)
        return _Judged(values, mean, sides.above, sides.below, note=f"above in {above} of {above + below}, sign test")
    return _mean(claim, values, mean)


def _compared(claim: Hypothesis, value: float) -> bool:
    """Whether a number that nothing random is in is as claimed."""
    if claim.test == "between":
        return claim.low <= value <= claim.high
    return value < claim.than if claim.test == "less" else value > claim.than


def _mean(claim: Hypothesis, values: Array, mean: Mean) -> _Judged:
    """Against a bound, or against both ends of an interval, which the mean is in if it is above one and below one."""
    if claim.test == "between":
        low, high = (means.against(values, bound, claim.bootstrap) for bound in (claim.low, claim.high))
        nearest = min(abs(mean.value - claim.low), abs(mean.value - claim.high))
        favour, against = max(low.above, high.below), min(low.below, high.above)
    else:
        found = means.against(values, claim.than, claim.bootstrap)
        nearest = abs(mean.value - claim.than)
        favour, against = (found.below, found.above) if claim.test == "less" else (found.above, found.below)
    return _Judged(values, mean, favour, against, effect=nearest / mean.spread if mean.spread else math.nan)


def _trend(claim: Hypothesis, rows: Sequence[Array]) -> _Judged:
    table = np.stack([row for row in rows if not np.isnan(row).any()]) if rows else np.empty((0, 2))
    found = trend.page(table)
    taus = np.array([trend.kendall(np.arange(table.shape[1]), row) for row in table])
    favour, against = (found.above, found.below) if claim.test == "increasing" else (found.below, found.above)
    mean = means.mean(taus)
    mean = replace(mean, low=max(mean.low, -1.0), high=min(mean.high, 1.0))  # τ goes no further
    effect = abs(mean.value) / mean.spread if mean.spread else math.nan
    return _Judged(
        taus, mean, favour, against, effect=effect, note=f"Kendall's τ over {table.shape[1]} values, Page's test"
    )


def _pairs(rows: Sequence[Array], other: Sequence[Array]) -> _Judged:
    """McNemar's test within every pair; the claim is of all of them, so that the largest p counts."""
    both = [(int(a), int(b)) for a, b in zip(rows, other, strict=True) if not np.isnan(a + b)]
    found = [counts.mcnemar(a, b) for a, b in both]
    values = np.array([a - b for a, b in both], dtype=float)
    clear = sum(min(each.above, each.below) < LEVEL / 2 for each in found)
    told = f"{clear} of {len(found)} pairs differ by McNemar's test alone"
    favour, against = (max((getattr(f, side) for f in found), default=1.0) for side in ("above", "below"))
    return _Judged(values, means.mean(values), favour, against, note=told)


def _verdict(claim: Hypothesis, network: str, n: int, found: _Judged, corrected: float, tests: int) -> Tested:
    if found.compared is not None:
        verdict = HOLDS if found.compared else FAILS
    elif corrected < LEVEL:
        verdict = HOLDS if found.favour < found.against else FAILS
    else:
        verdict = OPEN
    needed = _needed(claim, found, LEVEL / max(tests, 1)) if verdict == OPEN else None
    missing = 0 if claim.entries else n - len(found.values)
    return Tested(
        claim, network, found.values, found.mean, found.p, corrected, verdict, needed, found.note, missing
    )  # fmt: skip


def _needed(claim: Hypothesis, found: _Judged, level: float) -> int | None:
    """Seeds that would decide at the level that Holm's rule gives the first of all claims."""
    if math.isfinite(found.effect):
        needed = power.seeds_needed(found.effect, level)
        return None if needed is None else max(needed, found.mean.count + 1)
    tied = found.mean.count > 1 and found.mean.spread == 0 and min(found.favour, found.against) < 0.5
    return math.ceil(math.log2(2 / level)) if tied and claim.test != "mcnemar" else None
