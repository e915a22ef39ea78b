"""A claim on given numbers gets the verdict of its test."""

from __future__ import annotations

import numpy as np
import pytest

from analyses.studies.claims import _judge, _verdict
from analyses.studies.table import Hypothesis
from landscape.claim import FAILS, HOLDS, OPEN


def verdicts(values: list[float], **more: object) -> tuple[str, int | None, float]:
    """The verdict of a claim on numbers that are given, what would decide it, and the p-value."""
    claim = Hypothesis("c", "", "", "", "", "", **{"test": "less", **more})  # type: ignore[arg-type]
    found = _judge(claim, [np.array(v) for v in values], [], True)
    tested = _verdict(claim, "", len(values), found, found.p, 1)
    return tested.verdict, tested.seeds_needed, tested.p


def test_a_verdict_is_one_of_three_and_says_what_would_decide() -> None:
    assert verdicts([-1.0, -1.2, -0.9, -1.1])[:2] == (HOLDS, None)
    assert verdicts([1.0, 1.2, 0.9, 1.1])[:2] == (FAILS, None)
    undecided, needed, _ = verdicts([-1.0, 0.9, -0.6, 0.3])
    assert undecided == OPEN
    assert needed is not None
    assert needed > 4
    assert verdicts([-1.0])[:2] == (OPEN, None)
    assert verdicts([0.5, 0.51, 0.49], test="between", low=0.3, high=0.7)[0] == HOLDS
    assert verdicts([0.9, 0.91, 0.89], test="between", low=0.3, high=0.7)[0] == FAILS
    assert verdicts([0.9, 0.2, 0.6], test="between", low=0.3, high=0.7)[0] == OPEN
    assert verdicts([1.25, 1.25], test="equals", than=1.25)[0] == HOLDS
    assert verdicts([1.25, 1.26], test="equals", than=1.25, tolerance=1e-3)[0] == FAILS


def test_a_test_between_two_bounds_is_two_one_sided_tests() -> None:
    from scipy import stats

    values = np.array([0.45, 0.6, 0.52, 0.38])
    p = verdicts(list(values), test="between", low=0.3, high=0.7)[2]
    low = stats.ttest_1samp(values, 0.3, alternative="greater").pvalue
    high = stats.ttest_1samp(values, 0.7, alternative="less").pvalue
    assert p == pytest.approx(2 * max(low, high))
