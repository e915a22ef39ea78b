"""A run stopped at any step goes on bit for bit, whatever state its parts keep; a fork says what it lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from training_kit import N, make_problem, same, settings

from landscape import checkpoint as checkpoints
from landscape.checkpoint import Checkpoint
from landscape.errors import UsageError
from landscape.problem import Problem
from landscape.training.fork import relation
from landscape.training.methods import METHODS
from landscape.training.run import train
from landscape.training.settings import Settings, complete

STOPS = (1, 5, 6, 7, 13, 23, 24, 25, 30, 35)  # T = 36, E = 24, n = 4, epochs of 6: before, at, after E; mid-epoch

RUNS = {
    "psam": {"method": "psam"},
    "psam, chunks of 4": {"method": "psam", "m": 4},
    "looksam": {"method": "looksam", "period": 4},
    "ssam-f": {"method": "ssam-f", "fisher_examples": 3},
    "ssam-d": {"method": "ssam-d", "mask_every": 2},
    "swa": {"method": "swa", "switch": 0.5},
    "swad": {"method": "swad", "patience": 1, "tolerance": 2, "ratio": 1.0},
    "entropy-sgd": {"method": "entropy-sgd", "inner_steps": 2},
    "psam-esam, adam": {"method": "psam-esam", "optimizer": "adam", "lr": 1e-3},
    "noisy-sgd": {"method": "noisy-sgd", "cutout": 2},
    "smoothed-sgd": {"method": "smoothed-sgd", "samples": 2},
}
EVERY_STEP = ("psam", "looksam", "ssam-d", "swa", "entropy-sgd")


@pytest.fixture(scope="module")
def problem() -> Problem:
    return make_problem()


def goes_on(problem: Problem, chosen: Settings, whole: Checkpoint, stop: int, directory: Path) -> None:
    half = checkpoints.save(train(problem, chosen, stop_at=stop), directory / "half.pt", force=True)
    assert half.step == stop
    assert same(whole, train(problem, chosen, start=checkpoints.load(directory / "half.pt"))), stop


@pytest.mark.parametrize("name", RUNS)
def test_a_run_stopped_anywhere_goes_on_bit_for_bit(problem: Problem, name: str, tmp_path: Path) -> None:
    chosen = settings(**RUNS[name])
    whole = train(problem, chosen)
    for stop in STOPS if name not in EVERY_STEP else range(1, 36):
        goes_on(problem, chosen, whole, min(stop, chosen.steps(N) - 1), tmp_path)


@pytest.mark.parametrize("name", ["psam", "looksam", "ssam-d", "swa", "entropy-sgd"])
def test_a_run_in_bf16_goes_on_bit_for_bit(problem: Problem, name: str, tmp_path: Path) -> None:
    chosen = settings(**RUNS[name], precision="bf16")
    whole = train(problem, chosen)
    for stop in (5, 13, 24, 30):
        goes_on(problem, chosen, whole, stop, tmp_path)
    assert not torch.equal(whole.theta, train(problem, settings(**RUNS[name])).theta)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_perturbation_is_sgd_in_any_precision(problem: Problem, precision: str) -> None:
    never, zero = (train(problem, settings(method=m, rho=0.0, precision=precision)) for m in ("sgd", "sam"))
    assert torch.equal(never.theta, zero.theta)


def test_images_channels_last_change_rounding_alone_and_not_the_order_of_theta(problem: Problem) -> None:
    plain, last = (train(problem, settings(method="sam", channels_last=on)) for on in (False, True))
    assert torch.allclose(plain.theta, last.theta, rtol=0, atol=1e-4)  # 36 steps of float32 rounding
    assert plain.layout == last.layout


@pytest.mark.parametrize(
    ("stem", "branch"),
    [("sgd", "sgd-sam"), ("sam", "sam-sgd"), ("sgd", "swa"), ("esam", "esam"), ("swa", "sgd"), ("looksam", "looksam")],
)
def test_a_fork_at_the_switch_is_the_unforked_run(problem: Problem, stem: str, branch: str) -> None:
    common = train(problem, settings(method=stem), stop_at=23)
    forked = train(problem, settings(method=branch), start=common)
    assert relation(common, settings(method=branch), N) == []
    assert same(forked, train(problem, settings(method=branch)))
    assert forked.exact


def test_a_fork_that_cannot_be_exact_says_why(problem: Problem) -> None:
    sgd, sam = (train(problem, settings(method=method), stop_at=30) for method in ("sgd", "sam"))
    assert relation(sgd, settings(method="sgd", seed=3), N) == ["seed (0 → 3)"]
    assert relation(sgd, settings(method="sgd-sam"), N) == ["sgd and sgd-sam part before step 30"]
    assert relation(sgd, settings(method="sgd", optimizer="adam"), N) == ["optimizer (sgd → adam)"]
    assert "part before step 30" in relation(sgd, settings(method="entropy-sgd"), N)[0]
    assert relation(sam, settings(method="asam", rho=0.1), N) == ["adaptive (none → weights)"]
    assert relation(sam, settings(method="sam", rho=0.2), N) == ["rho (0.1 → 0.2)"]
    swa = relation(sgd, settings(method="swa"), N)
    assert swa == ["the learning rates differ before step 30", "weights before step 30 are missing from the average"]
    assert relation(sgd, settings(method="swad", lr_schedule="cosine"), N)[-1] == "validation (0 → 4)"


@pytest.mark.parametrize("branch", METHODS)
def test_any_method_can_start_from_an_sgd_checkpoint(problem: Problem, branch: str) -> None:
    common = train(problem, settings(method="sgd"), stop_at=7)
    made = train(problem, settings(method=branch, inner_steps=2, fisher_examples=2), start=common)
    assert bool(torch.isfinite(made.theta).all())


def test_a_checkpoint_of_before_the_family_is_resumed(problem: Problem) -> None:
    """Settings that did not exist when a checkpoint was written count as their defaults."""
    chosen = settings(method="psam")
    half = train(problem, chosen, stop_at=7)
    old = {k: v for k, v in half.settings.items() if k in {"method", "epochs", "batch_size", "rho", "period", "switch"}}
    forgetful = replace(half, settings={**old, "evaluations": 2})
    assert complete(forgetful.settings) == dict(half.settings)
    assert same(train(problem, chosen), train(problem, chosen, start=forgetful))


def test_swa_ends_at_the_mean_of_its_weights_with_statistics_of_that_point(problem: Problem) -> None:
    chosen = settings(method="swa", switch=0.5)
    at = [train(problem, chosen, stop_at=step) for step in (18, 24, 30)]
    last = train(problem, replace(chosen, average="none", swa_lr=0.0), stop_at=1)
    assert last.step == 1
    made = train(problem, chosen)
    mean = made.optimizer["average.mean"]
    assert torch.equal(made.theta, mean)
    assert int(made.optimizer["average.count"]) == 4
    rest = 4 * mean - torch.stack([c.theta for c in at]).sum(0)  # the weights of step 36
    assert torch.linalg.vector_norm(rest - at[-1].theta) < torch.linalg.vector_norm(at[-1].theta - at[0].theta) * 3
    assert int(made.buffers["1.num_batches_tracked"]) == 36
    assert not torch.equal(made.buffers["1.running_mean"], at[-1].buffers["1.running_mean"])


def test_swad_averages_the_steps_between_its_two_decisions() -> None:
    from landscape.training.averaging import SWAD

    losses = iter([5.0, 3.0, 2.0, 2.1, 2.2, 2.3, 9.0, 9.0, 9.0])
    chosen = settings(method="swad", patience=3, tolerance=2, ratio=1.3)
    average = SWAD(torch.zeros(1), chosen, per_epoch=2, loss=lambda: torch.tensor(next(losses)))
    for done in range(1, 19):  # the weight after each step is its number
        average.take(torch.tensor([float(done)]), done)
    # Epoch 3 is the first of three without improvement: t_s = 5. Epochs 7 and 8 exceed 1.3 · 2.1: t_e = 12.
    result = average.result()
    assert result is not None
    assert float(result) == pytest.approx(sum(range(5, 13)) / 8)


def test_a_method_brings_its_defaults_below_what_the_user_says(problem: Problem) -> None:
    from landscape.training.settings import resolve

    assert resolve({"rho": 0.15}, {"method": "asam"}).rho == 0.5
    assert resolve({"rho": 0.15}, {"method": "asam", "rho": 1.0}).rho == 1.0
    assert resolve({"method": "asam", "rho": 0.15}).rho == 0.15
    assert resolve({"method": "asam"}).rho == 0.5
    assert resolve({"method": "looksam", "alpha": 0.2}, {"epochs": 3}).alpha == 0.2
    assert resolve({"lr": 0.1}, {"method": "adam"}).part("optimizer") == "adam"
    with pytest.raises(UsageError, match="swq"):
        resolve({"mask": "swq"})


def test_frozen_parameters_and_networks_without_batchnorm_train_with_every_method() -> None:
    def frozen(seed: int = 0) -> nn.Module:
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3))
        model[1].weight.requires_grad_(False)
        return model

    problem = make_problem(frozen)
    for name in METHODS:
        made = train(problem, settings(method=name, inner_steps=2, fisher_examples=2, epochs=2))
        assert bool(torch.isfinite(made.theta).all()), name
