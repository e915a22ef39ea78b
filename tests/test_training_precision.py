"""Half precision and compilation: what they may change is rounding, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn
from training_kit import kit, make_problem, same, settings

from landscape import checkpoint as checkpoints
from landscape.errors import UsageError
from landscape.problem import Problem
from landscape.training.run import train
from landscape.training.scaler import GROWTH, START, Scaler

METHODS = {
    "psam": {"method": "psam"},
    "looksam": {"method": "looksam", "period": 4},
    "ssam-d": {"method": "ssam-d", "mask_every": 2},
    "entropy-sgd": {"method": "entropy-sgd", "inner_steps": 2},
    "sam, adam": {"method": "sam", "optimizer": "adam", "lr": 1e-3},
}
COMPILER = pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on the CPU")


def without_dropout(seed: int = 0) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


@pytest.fixture(scope="module")
def problem() -> Problem:
    return make_problem()


@pytest.mark.parametrize("name", METHODS)
def test_a_run_in_fp16_goes_on_bit_for_bit_with_its_scale(problem: Problem, name: str, tmp_path: Path) -> None:
    chosen = settings(**METHODS[name], precision="fp16")
    whole = train(problem, chosen)
    assert bool(torch.isfinite(whole.theta).all())
    for stop in (1, 5, 13, 24, 30):
        half = checkpoints.save(train(problem, chosen, stop_at=stop), tmp_path / "half.pt", force=True)
        assert half.optimizer["scaler.scale"] <= START
        assert same(whole, train(problem, chosen, start=checkpoints.load(tmp_path / "half.pt"))), stop
    assert not torch.equal(whole.theta, train(problem, settings(**METHODS[name])).theta)


def test_without_perturbation_sam_is_sgd_in_fp16(problem: Problem) -> None:
    never, zero = (train(problem, settings(method=m, rho=0.0, precision="fp16")) for m in ("sgd", "sam"))
    assert torch.equal(never.theta, zero.theta)


def test_the_unscaled_gradient_is_that_of_fp32_up_to_fp16s_rounding(problem: Problem) -> None:
    found = {}
    for precision in ("fp32", "fp16"):
        made = kit(problem, settings(method="sgd", precision=precision), dtype=torch.float32)
        if made.passes.scaler:
            made.passes.scaler.load({"scale": torch.tensor(2.0**10), "since": torch.tensor(0.0)})
        made.step(0)
        found[precision] = made.flat.gradient.clone()
    apart = torch.linalg.vector_norm(found["fp16"] - found["fp32"]) / torch.linalg.vector_norm(found["fp32"])
    assert 0 < float(apart) < 2**-7  # some tens of roundings of 2⁻¹¹ each


@pytest.mark.parametrize("name", METHODS)
def test_a_step_that_overflows_is_taken_back_and_the_scale_halved(problem: Problem, name: str) -> None:
    made = kit(problem, settings(**METHODS[name], precision="fp16"), lr=0.01, dtype=torch.float32)
    scaler = made.passes.scaler
    assert scaler is not None
    scaler.load({"scale": torch.tensor(2.0**8), "since": torch.tensor(0.0)})
    made.step(0)
    before = {"theta": made.flat.theta.clone(), **made.stepper.state()}
    scaler.load({"scale": torch.tensor(2.0**60), "since": torch.tensor(5.0)})
    made.step(1)
    after = {"theta": made.flat.theta, **made.stepper.state()}
    for key in before.keys() - {"scaler.scale", "scaler.since", "mask.last"}:
        assert torch.equal(before[key], after[key]), key
    assert float(after["scaler.scale"]) == 2.0**59
    assert float(after["scaler.since"]) == 0


def test_a_long_time_without_overflow_doubles_the_scale() -> None:
    scaler = Scaler(torch.device("cpu"))
    for _ in range(GROWTH - 1):
        scaler.settle(dict, {})
    assert float(scaler.state()["scale"]) == START
    scaler.settle(dict, {})
    assert float(scaler.state()["scale"]) == 2 * START
    assert float(scaler.state()["since"]) == 0


@COMPILER
@pytest.mark.filterwarnings("ignore")  # of the compiler's own making
def test_a_compiled_network_trains_alike_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    problem, chosen = make_problem(without_dropout), settings(method="psam", compile=True)
    whole, eager = train(problem, chosen), train(problem, settings(method="psam"))
    assert torch.allclose(whole.theta, eager.theta, rtol=0, atol=1e-4)  # 36 steps of float32 rounding
    assert whole.cost == eager.cost
    half = checkpoints.save(train(problem, chosen, stop_at=13), tmp_path / "half.pt")
    assert same(whole, train(problem, chosen, start=half))


def test_what_would_be_compiled_anew_at_every_step_is_refused(problem: Problem) -> None:
    with pytest.raises(UsageError, match="compiled anew"):
        train(problem, settings(method="esam", compile=True))
