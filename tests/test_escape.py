"""Leaving a minimum: sequential looks find the step that exhaustive ones find, and cut-off walks are told as such."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import Pair
from scipy.stats import hypergeom
from torch import nn

from analyses import escape
from landscape.errors import UsageError
from landscape.evaluate import evaluate
from landscape.screening import Answer, Screen
from landscape.survival import median_ratio, quantile, survival
from landscape.training.escape import SHIFT, Walker, walk_settings

QUICK = {"rho": "0,0.3", "walks": 3, "lr": 0.5, "budget": 12}


@pytest.fixture(scope="module")
def found(pair: Pair) -> escape.Escapes:
    return escape.compute(pair.problem, pair.checkpoints[0], options=escape.Options(**QUICK))  # type: ignore[arg-type]


class TestScreening:
    def test_a_wrong_not_fewer_is_rarer_than_the_risk(self) -> None:
        n, few, draws = 1000, 899, 4000
        screen, source = Screen(n, 0.9, 0.05), np.random.default_rng(0)
        wrong = 0
        for _ in range(draws):
            right = source.permutation(n) < few  # the hardest case: one fewer than enough
            wrong += not screen.ask(lambda a, b, right=right: int(right[a:b].sum())).fewer  # type: ignore[misc]
        assert wrong / draws < 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)  # three standard errors
        assert wrong > 0  # a screen that always looks at all would show nothing

    @pytest.mark.parametrize("right", [0, 500, 898, 899])
    def test_fewer_is_never_missed_where_all_are_looked_at(self, right: int) -> None:
        answer = Screen(1000, 0.9, 0.0).ask(lambda a, b: min(right, b) - min(right, a))
        assert answer.fewer
        assert answer.examples == 1000

    def test_enough_is_enough(self) -> None:
        assert not Screen(1000, 0.9, 0.0).ask(lambda a, b: min(900, b) - min(900, a)).fewer
        assert not Screen(7, 1.0).ask(lambda a, b: b - a).fewer
        assert Screen(7, 1.0).ask(lambda a, b: min(6, b) - min(6, a)).fewer

    def test_a_network_that_is_always_right_is_known_from_few_examples(self) -> None:
        answer = Screen(10_000, 0.9).ask(lambda a, b: b - a)
        assert not answer.fewer
        assert hypergeom.sf(answer.examples - 1, 10_000, 8_999, answer.examples) <= 0.018
        assert hypergeom.sf(answer.examples - 2, 10_000, 8_999, answer.examples - 1) > 0.018  # and not one fewer

    def test_an_estimate_has_no_last_word_on_fewer(self) -> None:
        answer = Screen(1000, 0.9).ask(lambda a, b: 0, lambda: 950)
        assert not answer.fewer
        assert answer.examples >= 1000


class TestSurvival:
    def test_the_curve_and_quantiles_of_times_that_are_cut_off(self) -> None:
        times = np.array([3.0, 1.0, math.inf, 3.0])
        steps, left = survival(times, 10)
        assert steps.tolist() == [0, 1, 3, 10]
        assert left.tolist() == [1, 0.75, 0.25, 0.25]
        assert (quantile(times, 0.25), quantile(times, 0.5), quantile(times, 0.75)) == (1, 3, 3)
        assert quantile(times, 0.9) == math.inf

    def test_the_interval_of_a_ratio_of_medians_covers_it(self) -> None:
        source, covered = np.random.default_rng(1), 0
        for k in range(200):
            ratio, low, high = median_ratio(source.exponential(8.0, 40), source.exponential(2.0, 40), k, 300)
            assert low <= ratio <= high
            covered += low <= 4.0 <= high
        assert covered > 200 * (0.95 - 3 * math.sqrt(0.05 * 0.95 / 200))  # three standard errors below nominal

    def test_a_median_past_the_budget_is_no_number(self) -> None:
        assert median_ratio(np.full(5, math.inf), np.ones(5))[0] == math.inf
        assert math.isnan(median_ratio(np.full(5, math.inf), np.full(5, math.inf))[1])

    def test_a_ratio_with_a_median_past_the_budget_is_a_bound(self) -> None:
        late, soon = np.array([50.0, math.inf, math.inf, math.inf]), np.array([3.0, 3.0, 4.0, 5.0])
        assert re.fullmatch(r"> 20\.0 \[\S+, ∞\]", escape._factor(late, soon, 60))
        assert re.fullmatch(r"< 0\.0500 \[0, \S+\]", escape._factor(soon, late, 60))
        assert escape._factor(late, late, 60) == "not known, both are past the budget"


class TestWalks:
    def test_sequential_looks_find_the_step_of_exhaustive_ones(self, pair: Pair, found: escape.Escapes) -> None:
        options = escape.Options(**QUICK, check="exhaustive")  # type: ignore[arg-type]
        judged = escape.compute(pair.problem, pair.checkpoints[0], options=options)
        assert np.array_equal(found.steps, judged.steps)
        assert judged.share.tolist() == [1.0] * len(judged.definitions)
        assert (found.examples <= judged.examples * 2).all()  # where walks end at once, second looks cost most
        assert found.examples.sum() < judged.examples.sum() / 4

    def test_a_step_that_was_overlooked_is_found_from_the_next(
        self, pair: Pair, found: escape.Escapes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start, n = pair.checkpoints[0], len(pair.problem.train)
        settings = walk_settings({**pair.problem.defaults, **start.settings}, n, 0.3, 12, seed=1, lr=0.5)
        step = found.steps[1, 1, 0]
        assert 1 < step < 12
        walker, first = Walker(pair.problem, start, "cpu", 0.9), Walker._ask

        def blind(self: Walker, screen: Screen, place: int, recalibrated: bool) -> Answer:
            answer = first(self, screen, place, recalibrated)
            return Answer(False, answer.examples) if place == SHIFT * (step - 1) else answer

        monkeypatch.setattr(Walker, "_ask", blind)
        assert walker.walk(settings, 12, 0.02).steps[0] == step

    def test_the_step_is_that_of_a_loop_that_looks_at_all_after_each(self, pair: Pair, found: escape.Escapes) -> None:
        start, n = pair.checkpoints[0], len(pair.problem.train)
        base = {**pair.problem.defaults, **start.settings}
        settings = walk_settings(base, n, 0.3, 12, seed=1, lr=0.5)
        steps = [train_by_hand(pair, settings.seed, t) for t in range(1, 13)]
        below = [t for t, accuracy in enumerate(steps, 1) if accuracy < 0.9]
        assert found.steps[1, 1, 0] == (below[0] if below else math.inf)

    def test_walks_are_those_of_their_seeds_and_leave_the_random_state_alone(self, pair: Pair) -> None:
        torch.manual_seed(3)
        state = torch.get_rng_state()
        walker = Walker(pair.problem, pair.checkpoints[0], "cpu", 0.9)
        settings = walk_settings(pair.checkpoints[0].settings, len(pair.problem.train), 0.3, 6, seed=2, lr=0.5)
        assert walker.walk(settings, 6, 1e-3) == walker.walk(settings, 6, 1e-3)
        assert torch.equal(torch.get_rng_state(), state)

    def test_nothing_is_left_where_accuracy_cannot_fall(self, pair: Pair) -> None:
        options = escape.Options(rho="0", walks=2, lr=0.0, budget=3)
        steps = escape.compute(pair.problem, pair.checkpoints[0], options=options).steps
        assert np.isinf(steps[..., 0]).all()

    def test_what_cannot_be_asked_is_refused(self, pair: Pair) -> None:
        with pytest.raises(UsageError, match="not understood"):
            escape.radii("0,x")
        nowhere = replace(pair.checkpoints[0], theta=torch.zeros_like(pair.checkpoints[0].theta))
        with pytest.raises(UsageError, match="classifies only"):
            escape.compute(pair.problem, nowhere, options=escape.Options(walks=1))


def train_by_hand(pair: Pair, seed: int, steps: int) -> float:
    """Training accuracy, running statistics, after some steps of the trainer itself from the checkpoint."""
    from landscape.training.batches import Batches
    from landscape.training.passes import Passes
    from landscape.training.step import Stepper
    from landscape.vector import FlatModel

    problem, start = pair.problem, pair.checkpoints[0]
    settings = walk_settings({**problem.defaults, **start.settings}, len(problem.train), 0.3, 12, seed=seed, lr=0.5)
    flat = FlatModel(problem.build(0))
    flat.load(start.theta, start.buffers)
    batches = Batches(problem, settings)
    stepper = Stepper(settings, len(problem.train), Passes(flat, problem.task, batches.size), batches)
    for t in range(steps):
        stepper.step(t, 0.5)
    assert isinstance(flat.model, nn.Module)
    return 1 - float(evaluate(flat.model, problem.train, problem.task, 500).error)
