"""The command's eigenvalues against dense float64 matrices: every matrix, block, rule of BatchNorm and subset."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import curvature_nets as nets
import numpy as np
import pytest
import torch
from conftest import Command, Pair
from torch import Tensor
from torch.func import functional_call

from analyses import hessian
from landscape import checkpoint as checkpoints
from landscape.curvature import HessianOperator, Objective, dense_hessian, subset
from landscape.matrix import TITLES
from landscape.pooling import recalibrate
from landscape.problem import Problem
from landscape.vector import layout_of

TOL = 1e-6  # of the residual, relative; eigenvalues are then right to its square, or to itself where they crowd


@pytest.fixture(scope="module")
def problem() -> Problem:
    return nets.problem()


def outputs(objective: Objective) -> Callable[[Tensor], Tensor]:
    """Logits (N, C) as a function of theta."""
    model = objective.model.eval()
    layout, buffers = layout_of(model), dict(model.named_buffers())
    return lambda theta: functional_call(model, {**layout.views(theta), **buffers}, (objective.data.inputs,))


def theta_of(objective: Objective) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in objective.model.parameters()])


def gauss_newton(objective: Objective) -> Tensor:
    """J' (diag p − p p') J / N with the whole Jacobian."""
    theta, network = theta_of(objective), outputs(objective)
    jacobian = torch.autograd.functional.jacobian(network, theta)  # (N, C, D)
    p = torch.softmax(network(theta), 1)
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    return torch.einsum("nci,ncd,ndj->ij", jacobian, inner, jacobian) / len(p)


def second_moment(objective: Objective) -> Tensor:
    """G' G / N with the gradient of each example."""
    network, targets = outputs(objective), objective.data.targets
    slopes = torch.autograd.functional.jacobian(lambda t: nets.cross_entropy(network(t), targets), theta_of(objective))
    return slopes.T @ slopes / len(slopes)


def ascended(objective: Objective, rho: float) -> Tensor:
    """The dense Hessian a step of length rho up the gradient."""
    gradient = HessianOperator(objective).gradient()
    torch.nn.utils.vector_to_parameters(
        theta_of(objective) + rho * gradient / gradient.norm(), objective.model.parameters()
    )
    return dense_hessian(objective)


DENSE: dict[str, Callable[[Objective], Tensor]] = {
    "hessian": dense_hessian,
    "ggn": gauss_newton,
    "fisher": gauss_newton,  # the same matrix for a cross-entropy on logits
    "empirical-fisher": second_moment,
    "sam": lambda objective: ascended(objective, 0.05),
}


def judged(found: hessian.Sharpness, truth: Tensor, i: int = 0) -> None:
    """Every true eigenvalue is in its interval, and the interval is narrow."""
    expected = torch.linalg.eigvalsh(truth).flip(0)[: found.eigenvalue.shape[1]].numpy()
    assert found.converged[i]
    assert (found.interval_low[i] <= expected).all()
    assert (expected <= found.interval_high[i]).all()
    assert found.eigenvalue[i] == pytest.approx(expected, rel=TOL)
    assert (found.interval_high[i] - found.interval_low[i] <= 4 * TOL * expected).all()
    assert (found.gap_bound <= found.residual).all()


@pytest.mark.parametrize("operator", sorted(TITLES))
def test_every_matrix_has_the_eigenvalues_of_its_dense_twin(problem: Problem, operator: str) -> None:
    at = nets.point(problem, 0)
    options = hessian.Options(top=3, operator=operator, rho=0.05, tol=TOL, batch_size=17)
    found = hessian.compute(problem, at, options=options, dtype="float64")
    # statistics pool what each batch normalises by its own, so that the judge must take the same batches
    judge = nets.placed(problem, at, recalibrated=False)
    recalibrate(judge.model, problem.train, 17)
    judged(found, DENSE[operator](judge))
    assert found.operator == operator
    assert np.isnan(found.rho) == (operator != "sam")


def test_a_layer_is_a_block_of_the_matrix(problem: Problem) -> None:
    at = nets.point(problem, 0)
    options = hessian.Options(top=2, layer="3.*", tol=TOL)
    found = hessian.compute(problem, at, options=options, dtype="float64")
    places = {name: place for name, _, place in at.layout.slices()}
    block = dense_hessian(nets.placed(problem, at))[places["3.weight"], places["3.weight"]]
    judged(found, block)
    assert found.eigenvector.shape[2] == len(block)
    assert "block 3.*" in hessian.label(found)


def test_the_rule_for_statistics_is_explicit_and_matters(problem: Problem) -> None:
    at, top = nets.point(problem, 0), {}
    for rule in ("recalibrated", "stored", "train"):
        options = hessian.Options(top=2, batchnorm=rule, tol=TOL)
        found = hessian.compute(problem, at, options=options, dtype="float64")
        judge = nets.placed(problem, at, recalibrated=rule == "recalibrated")
        judged(found, dense_hessian(judge, "train" if rule == "train" else "eval"))
        assert found.batchnorm == rule
        top[rule] = float(found.eigenvalue[0, 0])
    assert len(set(top.values())) == 3


def test_weight_decay_is_told_apart(problem: Problem) -> None:
    plain, decayed, foreign = (
        nets.point(problem, 0, lr=0.1),
        nets.point(problem, 0, weight_decay=0.02),
        nets.point(problem, 0),
    )
    found = hessian.compute(problem, plain, decayed, foreign, options=hessian.Options(top=1), dtype="float64")
    assert found.weight_decay[:2].tolist() == [0.0, 0.02]
    assert np.isnan(found.weight_decay[2])
    assert np.ptp(found.eigenvalue) == 0  # eigenvalues stay those of the data
    assert "net0 + wd: weight decay adds 0.02 to each" in hessian.listing(found)
    rows = hessian.table(found).rows
    column = hessian.table(found).columns.index("+ wd")
    assert rows[2][column] == pytest.approx(rows[2][3] + 0.02)  # type: ignore[operator]


def test_a_subset_has_its_own_eigenvalues_and_a_sampling_error(problem: Problem) -> None:
    at = nets.point(problem, 0)
    options = hessian.Options(top=2, examples=30, seed=3, tol=TOL)
    found = hessian.compute(problem, at, options=options, dtype="float64")
    judged(found, dense_hessian(dataclasses.replace(subset(nets.placed(problem, at), 30, 3), chunk=30)))
    assert found.examples == 30
    assert (found.sampling_error > 0).all()
    assert "sampling error" in hessian.listing(found)[0]
    assert not hessian.compute(problem, at, options=hessian.Options(top=2), dtype="float64").sampling_error.any()


def test_alignments_are_cosines(problem: Problem) -> None:
    a, b = nets.point(problem, 0), nets.point(problem, 1)
    found = hessian.compute(problem, a, b, options=hessian.Options(top=2), dtype="float64")
    apart = (b.theta - a.theta).numpy()
    for i, at in enumerate((a, b)):
        gradient = HessianOperator(nets.placed(problem, at)).gradient().numpy()
        v = found.eigenvector[i]
        assert found.gradient_alignment[i] == pytest.approx(np.abs(v @ gradient) / np.linalg.norm(gradient), abs=1e-6)
        assert found.gradient_norm[i] == pytest.approx(np.linalg.norm(gradient))
        assert found.direction_alignment[i] == pytest.approx(np.abs(v @ apart) / np.linalg.norm(apart), abs=1e-12)
    alone = hessian.compute(problem, a, options=hessian.Options(top=2), dtype="float64")
    assert np.isnan(alone.direction_alignment).all()


def test_the_largest_batch_changes_nothing_with_stored_statistics(problem: Problem) -> None:
    at, values = nets.point(problem, 0), []
    for batch in (48, 17, 5, 1):
        options = hessian.Options(top=3, batchnorm="stored", batch_size=batch)
        values.append(hessian.compute(problem, at, options=options, dtype="float64").eigenvalue)
    assert all(v == pytest.approx(values[0], rel=1e-10) for v in values)


RANDOM = """
import torch
from torch.nn import functional as F
from landscape.problem import Problem
from landscape.split import Split

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)
    def forward(self, x):
        return self.outer(F.dropout(self.inner(x).tanh(), 0.5))

def problem():
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    return Problem(model=lambda: Net(), train=Split(x, (x[:, 0] > 0).long()), test=Split(x, (x[:, 0] > 0).long()))
"""


def test_a_random_network_is_refused_in_two_lines_that_name_the_module(run: Command, tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(RANDOM)
    spec, out = f"{tmp_path / 'noisy.py'}:problem", tmp_path / "a.pt"
    done = run("train", spec, "--epochs", "1", "--out", out, "-q")
    assert done.exit_code == 3
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 2
    assert "the network (Net) gave two different results" in lines[0]
    assert "first what it gives module 'outer' (Linear)" in lines[0]
    assert "dropout" in lines[1]


def test_out_of_memory_halves_the_chunk_and_goes_on(
    run: Command, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("hessian", pair.paths[0], "--top", "1", "--json", "-q", "--memory", "0", "--out")
    expected = json.loads(run(*words, tmp_path / "a.h5").stdout)["result"]
    whole = HessianOperator.linearise

    def small(self: HessianOperator, start: int, stop: int, keep: bool) -> object:
        if stop - start > 200:
            raise torch.OutOfMemoryError("out of memory")
        return whole(self, start, stop, keep)

    monkeypatch.setattr(HessianOperator, "linearise", small)
    found = json.loads(run(*words, tmp_path / "b.h5").stdout)["result"]
    assert found["eigenvalue"][0] == pytest.approx(expected["eigenvalue"][0], rel=1e-4)


def test_every_eigenvalue_is_printed_with_its_interval(run: Command, pair: Pair, tmp_path: Path) -> None:
    told = run("hessian", pair.paths[0], "--top", "3", "-q", "--out", tmp_path / "h.h5").stdout
    lines = [line for line in told.splitlines() if " λ" in line[2:] or "smallest" in line]
    assert len(lines) == 4
    assert all(" ± " in line for line in lines)
    assert all("gap estimate ±" in line for line in lines[:3])
    assert checkpoints.load(pair.paths[0]).settings["weight_decay"] == 5e-4
    assert "+ wd" in told


def test_a_dry_run_tells_the_memory_of_vectors_and_of_graphs(run: Command, pair: Pair) -> None:
    told = json.loads(run("hessian", pair.paths[0], "--dry-run", "--json", "-q").stdout)
    assert told["bytes"] == (2 * 5 + 50 + 5 + 5) * 19074 * 4
    assert 1e6 < told["graph_bytes"] < 1e9
    small = json.loads(run("hessian", pair.paths[0], "--dry-run", "--json", "-q", "--memory", "0.001").stdout)
    assert small["graph_bytes"] == int(0.001 * (1 << 30))
    assert "kept gradient graphs" in run("hessian", pair.paths[0], "--dry-run", "-q").stdout


def test_the_engine_that_knows_the_hessian_only_says_so(run: Command, pair: Pair, tmp_path: Path) -> None:
    done = run("hessian", pair.paths[0], "--operator", "ggn", "--engine", "pyhessian", "--out", tmp_path / "h.h5")
    assert done.exit_code == 2
    assert "knows no matrix but the Hessian" in done.stderr
    assert not (tmp_path / "h.h5").exists()


@pytest.mark.parametrize("operator", TITLES)
def test_the_dense_engine_gives_the_table_of_every_matrix(problem: Problem, operator: str) -> None:
    at = nets.point(problem, 0)
    common = {"top": 3, "operator": operator, "rho": 0.3, "layer": "*weight"}
    dense, fast = (
        hessian.compute(problem, at, options=hessian.Options(engine=engine, **common), dtype="float64")  # type: ignore[arg-type]
        for engine in ("dense", "lanczos")
    )
    np.testing.assert_allclose(fast.eigenvalue, dense.eigenvalue, rtol=1e-5)
    assert (fast.interval_low <= dense.eigenvalue).all()
    assert (dense.eigenvalue <= fast.interval_high).all()


def test_deterministic_algorithms_are_asked_for_inside_and_not_left_on(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, seen = nets.point(problem, 0), []

    def flags() -> tuple[object, ...]:
        cudnn: Any = torch.backends.cudnn
        workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
        return torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark, workspace

    product = HessianOperator.product
    monkeypatch.setattr(HessianOperator, "product", lambda self, v: seen.append(flags()) or product(self, v))
    before = flags()
    plain = hessian.compute(problem, at, options=hessian.Options(top=1), dtype="float64")
    assert set(seen) == {before}
    seen.clear()
    again = hessian.compute(problem, at, options=hessian.Options(top=1, deterministic=True), dtype="float64")
    assert set(seen) == {(True, True, False, before[3] or ":4096:8")}
    assert flags() == before
    assert plain.eigenvalue.tobytes() == again.eigenvalue.tobytes()
