"""Each analysis against a closed form: a linear network with squared error, whose loss is a quadratic of theta.

With inputs x in ℝ² and one output w·x, L(w) = mean (w·x − y)²: gradient 2 X'(Xw − y)/N, Hessian 2 X'X/N.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import Pair
from torch import nn

from analyses import asymmetry, distance, evaluate, hessian, interpolate, shift
from landscape.checkpoint import Checkpoint
from landscape.errors import UsageError
from landscape.evaluate import evaluate as score
from landscape.interpolation import NEGATIVE_VARIANCE
from landscape.options import make
from landscape.problem import Problem
from landscape.split import Split
from landscape.surface import Surface
from landscape.task import SquaredError
from landscape.vector import layout_of

N = 60


@pytest.fixture(scope="module")
def quadratic() -> Problem:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2 * N, 3, generator=generator, dtype=torch.float64)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64)
    return Problem(
        model=lambda: nn.Linear(3, 1, bias=False),
        train=Split(x[:N], y[:N]),
        test=Split(x[N:], y[N:]),
        task=SquaredError(),
    )


def point(problem: Problem, *w: float) -> Checkpoint:
    layout = layout_of(problem.build(0))
    return Checkpoint(torch.tensor(w, dtype=torch.float64), {}, layout, name=str(w), sha256=str(w))


def loss(problem: Problem, w: np.ndarray, split: str = "train") -> float:
    data = problem.train if split == "train" else problem.test
    return float(np.mean((data.inputs.numpy() @ w - data.targets.numpy()[:, 0]) ** 2))


def test_the_line_is_the_closed_form_at_the_stored_places(quadratic: Problem) -> None:
    a, b = np.array([0.3, 1.0, -1.0]), np.array([2.0, -1.0, 0.7])
    line = interpolate.compute(quadratic, point(quadratic, *a), point(quadratic, *b), dtype="float64")
    for i, alpha in enumerate(line.alpha):
        for s, name in enumerate(("train", "test")):
            assert line.loss[s, i] == pytest.approx(loss(quadratic, (1 - alpha) * a + alpha * b, name), abs=1e-9)
    assert line.barrier_loss.tolist() == [0.0, 0.0]  # a quadratic is convex
    assert {0.0, 0.5, 1.0} <= set(line.alpha.tolist())
    assert line.alpha[0] < 0 < 1 < line.alpha[-1]


@pytest.mark.parametrize("rule", ["interpolate", "keep"])
def test_both_ends_of_a_line_are_bit_identical_to_evaluating_the_checkpoints(pair: Pair, rule: str) -> None:
    options = interpolate.Options(low=-1.0, high=2.0, points=9, batchnorm=rule)
    line = interpolate.compute(pair.problem, *pair.checkpoints, options=options)
    for alpha, checkpoint in zip((0.0, 1.0), pair.checkpoints, strict=True):
        if rule == "keep" and alpha == 1:  # the second network with the first one's statistics
            checkpoint = replace(checkpoint, buffers=pair.checkpoints[0].buffers)
        surface = Surface(pair.problem)
        surface.at(checkpoint, recalibrated=False)
        for s, split in enumerate((pair.problem.train, pair.problem.test)):
            expected = score(surface.flat.model, split, pair.problem.task, 500)
            assert line.loss[s, line.alpha == alpha].item() == float(expected.loss)
            assert line.error[s, line.alpha == alpha].item() == float(expected.error)


def test_stored_statistics_are_evaluated_beside_the_recalibrated_ones(pair: Pair) -> None:
    line = interpolate.compute(
        pair.problem, *pair.checkpoints, options=interpolate.Options(low=0.0, high=1.0, points=5)
    )
    model = pair.problem.build(0)
    names = dict(model.named_parameters())
    checkpoint = pair.checkpoints[1]
    state = checkpoint.layout.views(checkpoint.theta) | dict(checkpoint.buffers)
    assert names.keys() <= state.keys()
    model.load_state_dict(state)
    expected = score(model, pair.problem.test, pair.problem.task, 500)
    assert line.stored_loss[1, 1] == float(expected.loss)


def test_a_mixed_variance_that_is_negative_is_marked_not_computed(pair: Pair) -> None:
    a, b = pair.checkpoints
    small = {k: v * 0.01 if k.endswith("running_var") else v for k, v in b.buffers.items()}
    options = interpolate.Options(low=-1.0, high=3.0, points=9, batchnorm="interpolate")
    line = interpolate.compute(pair.problem, a, replace(b, buffers=small), options=options)
    assert line.status[line.alpha == 3.0].item() == NEGATIVE_VARIANCE
    assert np.isnan(line.loss[:, line.status != 0]).all()
    assert np.isfinite(line.loss[:, line.status == 0]).all()


@pytest.mark.parametrize("engine", ["lanczos", "power", "pyhessian", "dense"])
def test_every_engine_finds_the_known_eigenvalues(quadratic: Problem, engine: str) -> None:
    x = quadratic.train.inputs.numpy()
    expected = np.linalg.eigvalsh(2 * x.T @ x / N)[::-1]
    options = hessian.Options(top=2, engine=engine, tol=1e-6)
    found = hessian.compute(quadratic, point(quadratic, 0.0, 0.0, 0.0), options=options, dtype="float64")
    assert found.eigenvalue[0] == pytest.approx(expected[:2], rel=1e-5)
    assert bool(found.converged.all()) or engine == "pyhessian"  # which stops by change, not by residual
    assert found.eigenvector.shape == (1, 2, 3)
    residual = np.linalg.norm(
        2 * x.T @ (x @ found.eigenvector[0, 0]) / N - found.eigenvalue[0, 0] * found.eigenvector[0, 0]
    )
    assert found.residual[0, 0] == pytest.approx(residual, abs=1e-9)


def test_a_quadratic_valley_is_symmetric_and_its_minimum_is_where_it_should_be(quadratic: Problem) -> None:
    start, other = np.array([1.3, -2.0, 0.1]), np.array([-1.0, 0.5, 2.0])
    found = asymmetry.compute(
        quadratic, point(quadratic, *start), point(quadratic, *other), dtype="float64",
        options=asymmetry.Options(eigenvectors=2, gaussian=3, sign_matched=0),
    )  # fmt: skip
    assert found.directions[0].startswith("toward")
    assert np.abs(found.log_ratio).max() < 1e-3
    x = quadratic.train.inputs.numpy()
    h, best = 2 * x.T @ x / N, np.array([1.0, -2.0, 0.5])
    u = (other - start) / np.linalg.norm(other - start)
    assert found.centre[0] == pytest.approx(u @ h @ (best - start) / (u @ h @ u), rel=1e-4)
    assert found.radius[0] == pytest.approx(math.sqrt(2 * 0.5 / (u @ h @ u)), rel=0.02)
    slope = (u @ h @ u) * found.offset[0]
    assert found.slope[0] == pytest.approx(slope, abs=1e-4)


def test_slopes_are_derivatives_of_the_recalibrated_loss(pair: Pair) -> None:
    surface = Surface(pair.problem, dtype=torch.float64)
    here, there = (c.theta.double() for c in pair.checkpoints)
    direction = (there - here) / (there - here).norm()
    surface.at(pair.checkpoints[0])
    value, slopes = surface.loss_and_slopes(here, direction[None], by_batch=True)
    ahead, _ = surface.loss_and_slopes(here + 1e-4 * direction, direction[None], by_batch=True)
    behind, _ = surface.loss_and_slopes(here - 1e-4 * direction, direction[None], by_batch=True)
    assert float(slopes[0]) == pytest.approx((ahead - behind) / 2e-4, rel=1e-4)
    surface.at(pair.checkpoints[0])
    assert value == pytest.approx(float(surface.score("train").loss), rel=1e-9)


def test_distances_are_those_of_the_definition(pair: Pair) -> None:
    found = distance.compute(pair.problem, *pair.checkpoints)
    a, b = (c.theta.double().numpy() for c in pair.checkpoints)
    assert found.l2[0, 1] == pytest.approx(np.linalg.norm(a - b), rel=1e-12)
    assert found.relative[0, 1] == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(a), rel=1e-12)
    assert found.cosine[0, 1] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-12)
    assert np.square(found.layer_l2[0, 1]).sum() == pytest.approx(found.l2[0, 1] ** 2, rel=1e-12)
    assert np.diag(found.l2).tolist() == [0.0, 0.0]
    assert found.disagreement[0, 1].tolist() == found.disagreement[1, 0].tolist()
    decisions = []
    for checkpoint in pair.checkpoints:
        surface = Surface(pair.problem)
        surface.at(checkpoint)
        decisions.append(surface.outputs("test").argmax(1))
    assert found.disagreement[0, 1, 1] == pytest.approx(float((decisions[0] != decisions[1]).double().mean()))


def test_evaluation_holds_what_training_recorded(pair: Pair) -> None:
    found = evaluate.compute(pair.problem, *pair.checkpoints)
    history = pair.checkpoints[0].history
    assert found.epoch_loss.shape == (2, 10)
    assert found.epoch_loss[0, 3] == pytest.approx(float(history["loss"][30:40].double().mean()))
    assert found.test_error[0, -1] == pytest.approx(float(found.stored_error[0, 1]))
    assert found.cost.tolist() == [1.0, 1.4]
    assert found.evaluated[0, -1] == 10
    assert found.forward[:, -1].tolist() == [c.forward for c in pair.checkpoints]
    assert found.backward[1, -1] == pair.checkpoints[1].backward
    assert np.isnan(found.epoch_perturbation[0]).all()
    assert np.isnan(found.relative_radius[0]).all()
    perturbed = np.isfinite(found.epoch_perturbation[1])  # SAM in the last four of ten epochs, on the sphere of ρ
    assert perturbed.tolist() == [False] * 6 + [True] * 4
    rho = float(str(pair.checkpoints[1].settings["rho"]))
    assert found.epoch_perturbation[1, perturbed] == pytest.approx(rho, rel=1e-5)
    assert found.relative_radius[1, -1] == pytest.approx(rho / found.norm[1], rel=1e-5)
    assert found.epoch_gradient[0, 3] == pytest.approx(float(history["gradient"][30:40].double().mean()))


def test_analyses_change_nothing(pair: Pair) -> None:
    before = [(c.theta.clone(), {k: v.clone() for k, v in c.buffers.items()}) for c in pair.checkpoints]
    torch.manual_seed(1)
    state = torch.get_rng_state()
    small = {
        interpolate: {"points": 5},
        asymmetry: {"gaussian": 1, "sign_matched": 1, "eigenvectors": 0, "points": 4},
        shift: {"points": 8, "neighbours": 1},
        hessian: {"top": 1},
    }
    for analysis in (evaluate, hessian, interpolate, asymmetry, shift, distance):
        options: object = make(analysis.Options, small.get(analysis, {}))  # type: ignore[arg-type]
        analysis.compute(pair.problem, *pair.checkpoints, options=options)  # type: ignore[arg-type]
        assert torch.equal(torch.get_rng_state(), state), analysis.NAME
    for (theta, buffers), c in zip(before, pair.checkpoints, strict=True):
        assert torch.equal(theta, c.theta)
        assert all(torch.equal(v, c.buffers[k]) for k, v in buffers.items())


def test_what_cannot_be_asked_is_refused(quadratic: Problem) -> None:
    one = point(quadratic, 1.0, 1.0, 1.0)
    with pytest.raises(UsageError, match="2 checkpoints"):
        interpolate.compute(quadratic, one)
    with pytest.raises(UsageError, match="same point"):
        asymmetry.compute(quadratic, one, one)
    with pytest.raises(UsageError, match="no direction"):
        asymmetry.compute(quadratic, one, options=asymmetry.Options(eigenvectors=0, gaussian=0))


def test_frozen_weights_lie_on_the_line_too() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 4, generator=generator), torch.randint(0, 2, (30,), generator=generator)

    def model() -> nn.Module:
        first = nn.Linear(4, 3)
        return nn.Sequential(first.requires_grad_(False), nn.BatchNorm1d(3), nn.Linear(3, 2))

    problem = Problem(model=model, train=Split(x, y), test=Split(x, y))
    made = []
    for seed in (0, 1):
        surface = Surface(problem)
        network = problem.build(seed)
        theta = torch.cat([p.detach().reshape(-1) for p in network.parameters() if p.requires_grad])
        frozen = {k: p.detach() for k, p in network.named_parameters() if not p.requires_grad}
        made.append(Checkpoint(theta, frozen | dict(network.named_buffers()), layout_of(network), name=str(seed)))
    for rule in ("recalibrate", "keep", "interpolate"):
        line = interpolate.compute(
            problem, *made, options=interpolate.Options(low=0.0, high=1.0, points=5, batchnorm=rule)
        )
        surface.at(made[1], recalibrated=rule == "recalibrate")
        there = float(surface.score("train").loss)  # stored statistics are the initial ones, of mean 0 and variance 1
        assert line.loss[0, -1] == pytest.approx(there, rel=1e-6 if rule == "recalibrate" else 0, abs=0), rule
