"""Training is exact: SAM is what its paper says, ρ = 0 is SGD, a resumed or forked run is the uninterrupted one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from training_kit import make_problem, sam_by_hand, same, theta_of

from landscape.batchnorm import frozen_statistics
from landscape.checkpoint import Checkpoint
from landscape.errors import DivergedError, InputError, UsageError
from landscape.problem import Problem
from landscape.task import CrossEntropy
from landscape.training.fork import relation
from landscape.training.methods import METHODS
from landscape.training.order import crop_and_flip, crops, derive, permutation
from landscape.training.perturbation import sam_perturbation
from landscape.training.run import train
from landscape.training.schedule import Every, Until, count
from landscape.training.settings import Settings, resolve


@pytest.fixture(scope="module")
def problem() -> Problem:
    return make_problem(n=40)


def settings(**values: object) -> Settings:
    base = {"epochs": 6, "batch_size": 8, "rho": 0.1, "period": 4, "switch": 0.6, "evaluations": 3}
    return resolve({**base, "label_smoothing": 0.0, **values})  # type: ignore[dict-item]


def plain_loop(problem: Problem, chosen: Settings, step: Callable[..., None] | None = None) -> nn.Module:
    """A training loop a reader would write: torch.optim over the parameters, no flat buffers."""
    model = problem.build(chosen.seed)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=chosen.lr, momentum=0.9, nesterov=True, weight_decay=chosen.weight_decay
    )
    steps, task = chosen.steps(len(problem.train)), CrossEntropy()
    for t in range(steps):
        epoch, k = divmod(t, chosen.steps_per_epoch(len(problem.train)))
        index = permutation(len(problem.train), chosen.seed, epoch)[k * 8 : (k + 1) * 8]
        raw = crop_and_flip(problem.train.inputs[index], crops(40, 1, chosen.seed, epoch)[index], 1)
        x, y = problem.train.prepare(raw), problem.train.targets[index]
        optimizer.param_groups[0]["lr"] = chosen.lr / 2 * (1 + math.cos(math.pi * t / steps))

        def backward(x: Tensor = x, y: Tensor = y, t: int = t) -> None:
            optimizer.zero_grad()
            torch.manual_seed(derive(chosen.seed, "noise", t))
            task.losses(model(x), y).mean().backward()

        backward()
        if step is not None:
            step(model, backward)
        optimizer.step()
    return model


@pytest.mark.parametrize(
    "values",
    [{"method": "sgd"}, {"method": "sam", "rho": 0.0}, {"method": "psam", "switch": 1.0, "period": 10**6, "rho": 0.0}],
    ids=["never", "rho zero", "E = T"],
)
def test_without_perturbation_training_is_plain_sgd_bit_for_bit(problem: Problem, values: dict[str, object]) -> None:
    chosen = settings(epochs=10, **values)  # 50 steps
    ours = train(problem, chosen)
    theirs = plain_loop(problem, chosen)
    assert torch.equal(ours.theta, theta_of(theirs))
    assert all(torch.equal(ours.buffers[name], value) for name, value in theirs.named_buffers())


def test_sam_equals_a_loop_written_from_the_paper(problem: Problem) -> None:
    double = replace(problem, train=replace(problem.train), test=problem.test)
    ours, theirs = train(double, settings(method="sam")), plain_loop(double, settings(method="sam"), sam_by_hand)
    assert torch.allclose(ours.theta, theta_of(theirs), rtol=0, atol=1e-5)  # 30 steps of float32 rounding
    assert not torch.equal(ours.theta, train(double, settings(method="sgd")).theta)


@pytest.mark.parametrize("norm", [1.0, 1.01, 1.5, 2.0, 3.0, 50.0, math.inf])
def test_perturbation_meets_hoelder_with_equality(norm: float) -> None:
    g = torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    q = math.inf if norm == 1 else 1.0 if math.isinf(norm) else norm / (norm - 1)
    epsilon = sam_perturbation(g, 0.3, norm)
    assert math.isclose(torch.linalg.vector_norm(epsilon, ord=norm), 0.3, rel_tol=1e-9)
    assert math.isclose(float(epsilon @ g), 0.3 * float(torch.linalg.vector_norm(g, ord=q)), rel_tol=1e-6)


@pytest.mark.parametrize("norm", [1.0, 2.0, 3.0, math.inf])
def test_zero_gradient_means_no_perturbation(norm: float) -> None:
    assert torch.equal(sam_perturbation(torch.zeros(5), 0.1, norm), torch.zeros(5))


def test_psam_costs_what_the_thesis_says() -> None:
    steps = 800
    schedule = METHODS["psam"].schedule(600, 20)
    assert 1 + count(schedule, steps) / steps == 1.2875
    assert [t for t in range(60) if schedule(t)] == [0, 20, 40]
    assert all(schedule(t) for t in range(600, steps))
    assert schedule == Until(600, Every(20), METHODS["sam"].schedule(0, 1))


@pytest.mark.parametrize(
    ("method", "cost"), [("sgd", 1), ("sam", 2), ("psam", 1 + (5 + 12) / 30), ("sgd-sam", 1.4), ("sam-sgd", 1.6)]
)
def test_passes_are_counted(problem: Problem, method: str, cost: float) -> None:
    made = train(problem, settings(method=method))  # T = 30, E = 18, n = 4: SAM at 0, 4, 8, 12, 16
    assert made.cost == pytest.approx(cost, abs=1e-12)
    assert made.forward == made.backward == round(30 * cost)


@pytest.mark.parametrize("method", ["sgd", "sam", "psam", "sgd-sam", "sam-sgd"])
def test_a_run_stopped_at_any_step_goes_on_bit_for_bit(problem: Problem, method: str) -> None:
    chosen = settings(method=method)
    whole = train(problem, chosen)
    for stop in (0, 1, 4, 7, 16, 17, 18, 19, 29):  # before, at and after E = 18, in the middle of epochs of 5 steps
        half = train(problem, chosen, stop_at=stop)
        assert half.step == stop
        assert same(whole, train(problem, chosen, start=half))


@pytest.mark.parametrize(("stem", "branch"), [("sgd", "sgd-sam"), ("sam", "sam-sgd")])
def test_a_fork_is_the_unforked_run(problem: Problem, stem: str, branch: str) -> None:
    common = train(problem, settings(method=stem), stop_at=18)
    forked = train(problem, settings(method=branch), start=common)
    assert same(forked, train(problem, settings(method=branch)))
    assert forked.exact
    assert forked.parent_step == 18
    assert relation(common, settings(method=branch), 40) == []


def test_a_fork_that_differs_says_in_what(problem: Problem) -> None:
    common = train(problem, settings(method="sgd"), stop_at=20)
    assert relation(common, settings(method="sgd", seed=3), 40) == ["seed (0 → 3)"]
    assert relation(common, settings(method="sgd-sam"), 40) == ["sgd and sgd-sam part before step 20"]
    assert not train(problem, settings(method="sgd", seed=3), start=common).exact


def test_momentum_is_carried_across_a_switch(problem: Problem) -> None:
    common = train(problem, settings(method="sgd"), stop_at=18)
    without = replace(common, optimizer={})
    branch = partial(train, problem, settings(method="sgd-sam"))
    assert not torch.equal(branch(start=common).theta, branch(start=without).theta)


def test_the_second_pass_leaves_running_statistics_alone_and_the_way_back_is_exact(problem: Problem) -> None:
    still = settings(method="sam", rho=10.0, lr=0.0, epochs=1)
    made, plain = train(problem, still), train(problem, settings(method="sgd", lr=0.0, epochs=1))
    assert torch.equal(made.theta, theta_of(problem.build(0)))  # lr = 0: exact however far it went
    assert all(torch.equal(made.buffers[name], value) for name, value in plain.buffers.items())
    assert any(float(value.abs().sum()) > 0 for name, value in plain.buffers.items() if "running_mean" in name)


def test_frozen_statistics_protects_any_buffer() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x

    model = nn.Sequential(Counting(), nn.BatchNorm1d(2))
    with frozen_statistics(model):
        model(torch.randn(4, 2))
    assert float(model[0].calls) == 0  # type: ignore[arg-type]
    assert int(model[1].num_batches_tracked) == 0  # type: ignore[arg-type]
    model(torch.randn(4, 2))
    assert int(model[1].num_batches_tracked) == 1  # type: ignore[arg-type]


def test_a_diverged_run_keeps_its_last_good_state(problem: Problem) -> None:
    kept: list[Checkpoint] = []
    with pytest.raises(DivergedError, match="not finite"):
        train(problem, settings(lr=1e30), keep=kept.append)
    assert kept[-1].diverged
    assert bool(torch.isfinite(kept[-1].theta).all())


def test_training_leaves_the_global_random_state_alone(problem: Problem) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    train(problem, settings(epochs=1))
    assert torch.equal(torch.rand(2), expected)


def test_order_and_augmentation_depend_on_seed_and_epoch_alone() -> None:
    assert torch.equal(permutation(10, 1, 2), permutation(10, 1, 2))
    assert not torch.equal(permutation(100, 1, 2), permutation(100, 1, 3))
    assert not torch.equal(crops(10, 4, 1, 2), crops(10, 4, 2, 2))


def test_crop_and_flip_shifts_by_the_drawn_offset() -> None:
    image = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    still = crop_and_flip(image, torch.tensor([[1, 1, 0]]), 1)
    mirrored = crop_and_flip(image, torch.tensor([[1, 1, 1]]), 1)
    corner = crop_and_flip(image, torch.tensor([[0, 2, 0]]), 1)
    assert torch.equal(still, image)
    assert torch.equal(mirrored, image.flip(3))
    assert corner[0, 0].tolist() == [[0, 0, 0, 0], [1, 2, 3, 0], [5, 6, 7, 0], [9, 10, 11, 0]]


def test_a_start_from_other_data_or_past_the_end_is_refused(problem: Problem) -> None:
    done = train(problem, settings(epochs=1))
    with pytest.raises(UsageError, match="is at step 5"):
        train(problem, settings(epochs=1), start=done)
    other = replace(problem, train=problem.train.head(30))
    with pytest.raises(InputError, match="other data"):
        train(other, settings(), start=done)
