"""Intervals, tests, power and corrections agree with closed forms, with scipy's own, and with what simulation says."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from landscape.statistics import counts, means, power, several, trend

VALUES = np.array([0.3, -0.1, 0.4, 0.25, 0.7, -0.05])


def test_the_interval_of_a_mean_is_students() -> None:
    found = means.mean(VALUES)
    low, high = stats.t.interval(0.95, 5, loc=VALUES.mean(), scale=stats.sem(VALUES))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert found.spread == pytest.approx(VALUES.std(ddof=1))
    assert found.count == 6


def test_the_test_of_a_mean_is_students() -> None:
    found = means.against(VALUES, 0.1)
    for side, name in ((found.above, "greater"), (found.below, "less")):
        assert side == pytest.approx(stats.ttest_1samp(VALUES, 0.1, alternative=name).pvalue, rel=1e-12)


def test_one_seed_tells_no_spread_and_decides_nothing() -> None:
    assert math.isnan(means.mean(np.array([1.0])).low)
    assert means.against(np.array([1.0]), 0.0) == means.Sides(1.0, 1.0)
    assert math.isnan(means.mean(np.array([])).value)


def test_values_that_are_all_equal_are_judged_by_their_signs() -> None:
    assert means.against(np.full(6, 0.02), 0.0) == means.Sides(0.5**6, 1.0)
    assert means.against(np.zeros(6), 0.0) == means.Sides(1.0, 1.0)


@pytest.mark.parametrize(("bootstrap", "n", "least", "most"), [(False, 5, 0.938, 0.962), (True, 40, 0.88, 1.0)])
def test_intervals_hold_the_truth_as_often_as_they_say(bootstrap: bool, n: int, least: float, most: float) -> None:
    """Standard errors of a coverage of 0.95 are 0.005 and 0.022; percentiles are known to be a little narrow."""
    repeats = 100 if bootstrap else 2000
    samples = np.random.default_rng(1).normal(0.3, 2.0, size=(repeats, n))
    held = [f.low <= 0.3 <= f.high for f in (means.mean(sample, bootstrap=bootstrap) for sample in samples)]
    assert least <= np.mean(held) <= most


def test_the_bootstrap_agrees_with_students_t_where_there_are_many_seeds() -> None:
    values = np.random.default_rng(2).normal(0.3, 1.0, size=60)
    one, other = means.against(values, 0.1), means.against(values, 0.1, bootstrap=True)
    assert other.above == pytest.approx(one.above, abs=0.02)
    assert one.above + one.below == pytest.approx(1.0)


def test_the_sign_test_is_the_binomial_one() -> None:
    found = counts.sign(7, 1)  # the thesis: 7 of 8 cases
    assert found.above == pytest.approx((8 + 1) / 2**8)
    assert found.below == pytest.approx(1 - 1 / 2**8)
    assert counts.sign(0, 0) == means.Sides(1.0, 1.0)


def test_mcnemar_is_exact() -> None:
    found = counts.mcnemar(12, 3)
    assert found.above == pytest.approx(stats.binomtest(12, 15, alternative="greater").pvalue, rel=1e-12)
    assert found.below == pytest.approx(stats.binomtest(12, 15, alternative="less").pvalue, rel=1e-12)


@pytest.mark.parametrize("hits", [0, 3, 10])
def test_the_interval_of_a_part_is_clopper_and_pearsons(hits: int) -> None:
    expected = stats.binomtest(hits, 10).proportion_ci(0.95, method="exact")
    assert counts.part(hits, 10) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_holms_rule_by_hand() -> None:
    assert several.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert several.holm([0.9, 0.6]) == [1.0, 1.0]
    assert several.holm([]) == []


def test_holms_rule_keeps_the_chance_of_a_false_decision() -> None:
    """8 true nulls, 4000 families: below 0.05 + 3 standard errors of 0.0034."""
    p = np.random.default_rng(3).uniform(size=(4000, 8))
    assert np.mean([min(several.holm(list(row))) < 0.05 for row in p]) < 0.061


@pytest.mark.parametrize(("effect", "n"), [(0.5, 10), (1.0, 5), (0.2, 40)])
def test_power_is_what_simulation_finds(effect: float, n: int) -> None:
    """4000 samples: three standard errors are 0.024 at most."""
    samples = np.random.default_rng(4).normal(effect, 1.0, size=(4000, n))
    found = np.mean(stats.ttest_1samp(samples, 0.0, axis=1).pvalue < 0.05)
    assert power.power(effect, n) == pytest.approx(found, abs=0.024)


@pytest.mark.parametrize(("effect", "seeds"), [(0.5, 34), (0.8, 15), (0.2, 199)])
def test_the_seeds_that_would_decide_are_those_of_the_tables(effect: float, seeds: int) -> None:
    """Cohen 1988: one sample, two-sided 0.05, power 0.8; G*Power gives the same."""
    assert power.seeds_needed(effect) == seeds
    assert power.power(effect, seeds) >= 0.8 > power.power(effect, seeds - 1)


def test_no_number_of_seeds_finds_what_is_not_there() -> None:
    assert power.seeds_needed(0.0) is None
    assert power.seeds_needed(math.nan) is None
    assert power.seeds_needed(1e-4) is None
    assert power.seeds_needed(1e4) == 2


def test_kendalls_tau_is_scipys() -> None:
    x, y = np.array([1.0, 2, 2, 3, 5]), np.array([2.0, 1, 4, 4, 6])
    assert trend.kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, rel=1e-12)
    assert trend.kendall(x, np.ones(5)) == 0.0
    cut_off = np.array([math.inf, math.inf, 3.0, 2.0, 1.0])  # the order is all that counts
    assert trend.kendall(np.arange(5), cut_off) == trend.kendall(np.arange(5), np.minimum(cut_off, 9))


def test_pages_test_agrees_with_scipys_and_with_all_permutations() -> None:
    table = np.random.default_rng(5).normal(size=(12, 5)) + 0.25 * np.arange(5)
    expected = stats.page_trend_test(table, method="exact").pvalue
    assert expected <= trend.page(table).above < 1.2 * expected  # normal tails are heavier than the exact ones
    one = np.array([[1.0, 2.0, 3.0, 4.0]])
    ranks = [sum(k * r for k, r in enumerate(p, 1)) for p in permutations(range(1, 5))]
    exact = np.mean([x >= 30 for x in ranks])
    assert exact <= trend.page(one).above < exact + 0.02


def test_pages_test_finds_no_trend_in_ties_and_both_directions() -> None:
    assert trend.page(np.ones((4, 5))) == means.Sides(1.0, 1.0)
    growing = np.tile(np.arange(5.0), (6, 1))
    assert trend.page(growing).above < 1e-5
    assert trend.page(-growing).below < 1e-5
