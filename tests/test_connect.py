"""The curve between two checkpoints: closed forms of points, lengths, gradients, and a valley whose path is known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command, Pair
from torch import Tensor, nn

from analyses import REGISTRY, connect
from landscape import checkpoint as checkpoints
from landscape import store
from landscape.checkpoint import Checkpoint
from landscape.curve import SHAPES, Curve, bend, slope, weights
from landscape.errors import DivergedError, UsageError
from landscape.problem import Problem
from landscape.result import equal
from landscape.split import Split
from landscape.surface import Surface
from landscape.task import SquaredError
from landscape.vector import layout_of


class Bow(nn.Module):
    """Two parameters on every input: loss (y + x² − 1)², 0 on the parabola y = 1 − x²."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2))

    def forward(self, inputs: Tensor) -> Tensor:
        return (self.w[1] + self.w[0] ** 2 - 1).expand(len(inputs), 1)


def bow() -> Problem:
    data = Split(torch.zeros(40, 1), torch.zeros(40, 1))
    return Problem(model=Bow, train=data, test=data, task=SquaredError())


def point(problem: Problem, *w: float) -> Checkpoint:
    return Checkpoint(torch.tensor(w), {}, layout_of(problem.build(0)), name=str(w), sha256=str(w))


def test_the_curve_finds_the_parabola_along_which_the_loss_is_zero() -> None:
    """(−1, 0) and (1, 0) with control (0, 2) is the Bézier curve (2t − 1, 4t(1 − t)), which is y = 1 − x²."""
    problem = bow()
    options = connect.Options(epochs=150, lr=0.2, sgd_batch=4, points=11)
    ends = point(problem, -1.0, 0.0), point(problem, 1.0, 0.0)
    found = connect.compute(problem, *ends, options=options, dtype="float64")
    assert found.curve_loss.max() < 1e-6
    assert found.line_loss[0] == pytest.approx((1 - (2 * found.t - 1) ** 2) ** 2, abs=1e-12)  # on y = 0
    assert found.line_barrier[0] == pytest.approx(1, abs=1e-12)
    arc = math.sqrt(5) + math.asinh(2) / 2  # ∫ √(1 + 4x²) over [−1, 1]
    assert found.length == pytest.approx(arc, rel=1e-3)
    assert found.distance == 2
    surface = Surface(problem, dtype=torch.float64)
    curve, losses = bend(surface, *ends, shape="bezier", epochs=150, lr=0.2, batch=4, seed=1)
    assert curve.control.tolist() == pytest.approx([0, 2], abs=2e-3)
    assert losses[-1] < 1e-6 < losses[0]


def test_a_chain_bends_as_the_integral_of_the_loss_asks() -> None:
    """Minimiser of ∫ L along (−1, 0), (x, y), (1, 0), found on a fine grid by the dense formula."""
    problem = bow()
    ends = point(problem, -1.0, 0.0), point(problem, 1.0, 0.0)
    s = np.linspace(0, 1, 2001)
    heights = np.linspace(1.0, 1.6, 601)
    sums = [np.mean((s * y + (s - 1) ** 2 - 1) ** 2) for y in heights]  # one segment; the other mirrors it
    best = heights[int(np.argmin(sums))]
    curve, _ = bend(Surface(problem, dtype=torch.float64), *ends, shape="chain", epochs=300, lr=0.1, batch=4, seed=0)
    assert curve.control.tolist() == pytest.approx([0, best], abs=0.02)  # SGD over 3,000 random places


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_add_up_to_one_and_ends_are_exact(shape: str, pair: Pair) -> None:
    for t in np.linspace(0, 1, 11):
        assert sum(weights(shape, float(t))) == pytest.approx(1, abs=1e-15)
    a, b = pair.checkpoints
    surface = Surface(pair.problem)
    curve = Curve(shape, a, b, torch.randn(len(a.theta), generator=torch.Generator().manual_seed(0)))
    for t, end in ((0.0, a), (1.0, b)):
        assert torch.equal(curve.at(surface, t)[0], end.theta)
    middle = curve.control if shape == "chain" else (a.theta + 2 * curve.control + b.theta) / 4
    assert torch.allclose(curve.at(surface, 0.5)[0], middle, atol=1e-7)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_length_is_that_of_a_fine_polygon(shape: str) -> None:
    problem = bow()
    a, b = point(problem, -1.0, 0.5), point(problem, 2.0, -1.0)
    curve = Curve(shape, a, b, torch.tensor([0.3, 4.0], dtype=torch.float64))
    surface = Surface(problem, dtype=torch.float64)
    points = torch.stack([curve.at(surface, float(t))[0] for t in np.linspace(0, 1, 4001)])
    polygon = float((points[1:] - points[:-1]).norm(dim=1).sum())
    assert curve.length() == pytest.approx(polygon, rel=1e-6)  # a polygon of P sides is short by O(P⁻²)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_of_the_control_point_is_dense_autograd_through_the_curve(shape: str, pair: Pair) -> None:
    a, b = pair.checkpoints
    surface = Surface(pair.problem, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    control = ((a.theta + b.theta) / 2).double() + 0.01 * torch.randn(len(a.theta), generator=generator).double()
    curve, chosen = Curve(shape, a, b, control), torch.arange(0, 40, 2)
    loss, gradient = slope(surface, curve, 0.3, chosen)
    model = pair.problem.build(0, dtype=torch.float64).train()
    variable = control.clone().requires_grad_()
    x, y, z = (0.49, 0.42, 0.09) if shape == "bezier" else (0.4, 0.6, 0.0)
    theta = x * a.theta.double() + y * variable + z * b.theta.double()
    train = surface.problem.train
    inputs = train.prepare(train.inputs[chosen], torch.float64)
    output = torch.func.functional_call(model, a.layout.views(theta), (inputs,))
    expected = pair.problem.task.losses(output, train.targets[chosen]).mean()
    (dense,) = torch.autograd.grad(expected, variable)
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-12)
    assert float((gradient - dense).norm()) <= 1e-10 * float(dense.norm())


def test_ends_of_curve_and_line_are_the_checkpoints_and_equal_arguments_give_equal_curves(pair: Pair) -> None:
    options = connect.Options(epochs=2, points=4)
    one, again = (connect.compute(pair.problem, *pair.checkpoints, options=options) for _ in range(2))
    assert np.array_equal(one.curve_loss, again.curve_loss)
    assert one.t.tolist() == pytest.approx([0, 1 / 3, 0.5, 2 / 3, 1])
    surface = Surface(pair.problem)
    for place, end in ((0, pair.checkpoints[0]), (-1, pair.checkpoints[1])):
        surface.at(end)
        loss, error = surface.scores()
        for on in ("curve", "line"):
            assert np.array_equal(getattr(one, f"{on}_loss")[:, place], loss)
            assert np.array_equal(getattr(one, f"{on}_error")[:, place], error)
    other = connect.compute(pair.problem, *pair.checkpoints, options=connect.Options(epochs=2, points=4, seed=1))
    assert not np.array_equal(one.curve_loss, other.curve_loss)


def test_a_curve_that_diverges_or_has_one_end_is_refused(pair: Pair) -> None:
    with pytest.raises(UsageError, match="2 checkpoints"):
        connect.compute(pair.problem, pair.checkpoints[0])
    problem = bow()
    with pytest.raises(DivergedError, match="control point"):
        bend(
            Surface(problem), point(problem, -1.0, 0.0), point(problem, 1.0, 0.0), shape="bezier", epochs=50,
            lr=1e4, batch=4, seed=0,
        )  # fmt: skip


def test_a_line_without_a_loss_in_the_middle_is_named_as_the_cause() -> None:
    class Root(Bow):
        def forward(self, inputs: Tensor) -> Tensor:
            return torch.sqrt(self.w[0] ** 2 - 0.5).expand(len(inputs), 1)

    problem = replace(bow(), model=Root)
    ends = point(problem, -1.0, 0.0), point(problem, 1.0, 0.0)
    with pytest.raises(
        DivergedError, match=r"straight line, where the curve begins, at t = 0\.25, .*0\.5, .*0\.75\n"
    ) as told:
        bend(Surface(problem), *ends, shape="bezier", epochs=5, lr=0.1, batch=4, seed=0)
    assert "lower --lr" not in told.value.remedy


@pytest.fixture(scope="module")
def measured(pair: Pair) -> connect.Connection:
    return connect.compute(pair.problem, *pair.checkpoints, options=connect.Options(epochs=1, points=3, lr=0.0))


def test_regressions_are_drawn_in_one_panel_without_nats() -> None:
    problem = bow()
    ends = point(problem, -1.0, 0.0), point(problem, 1.0, 0.0)
    found = connect.compute(problem, *ends, options=connect.Options(epochs=1, points=3), dtype="float64")
    assert [axis.title.text for axis in connect.figure(found).select_yaxes()] == ["loss"]
    assert "nats" not in " ".join(connect.words(found))


class TestWords:
    """On the line the training loss rises by 1 nat, the test error by 0.3."""

    def told(self, measured: connect.Connection, loss: float, error: float = 0.1) -> str:
        line, curve = np.array([[1.0, 1.0], [0.3, 0.3]]), np.array([[loss, loss], [error, error]])
        return connect.words(replace(measured, line_barrier=line, curve_barrier=curve))[0].partition(":")[0]

    def test_a_curve_along_the_line_lowers_nothing(self, measured: connect.Connection) -> None:
        assert not connect.words(measured)[0].startswith("A curve lowers")
        assert self.told(measured, 1 - 1e-9) == "No lower barrier on the curve in training"
        assert self.told(measured, 1.2) == "No lower barrier on the curve in training"
        assert self.told(measured, 0.95) == "The curve lowers the barrier hardly in training"
        assert self.told(measured, 0.5) == "A curve lowers the barrier in training"

    def test_a_test_error_that_is_no_better_is_named(self, measured: connect.Connection) -> None:
        assert self.told(measured, 0.5, 0.3) == "A curve lowers the barrier in training, not that of the test error"

    def test_what_was_not_computed_is_not_compared(self, measured: connect.Connection) -> None:
        holed = replace(measured, line_loss=np.where(measured.t == 0.5, np.nan, measured.line_loss),
                        line_barrier=np.full((2, 2), np.nan))  # fmt: skip
        answer, detail = connect.words(holed)
        assert answer.startswith("Not compared: the loss was not computed everywhere: ")
        assert answer.endswith("not computed on the straight line; missing 1 of 3 points on the straight line")
        assert "nan" not in answer + detail


QUICK = ("--epochs", "2", "--points", "5", "-q")


@pytest.fixture(scope="module")
def halfway(run: Command, pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("halfway") / "curve.h5"
    done = run("connect", *pair.paths, *QUICK, "--save-at", "0.25", "--out", out)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == f"  written to {out} and {out.with_name('curve@0.25.pt')}"
    return out


class TestSavedPoint:
    def test_it_scores_with_its_own_statistics_what_the_curve_measured_there(self, halfway: Path, pair: Pair) -> None:
        found, point = store.load(halfway, connect.Connection), checkpoints.load(halfway.with_name("curve@0.25.pt"))
        surface = Surface(pair.problem)
        surface.at(point, recalibrated=False)
        loss, error = surface.scores()
        (place,) = np.flatnonzero(found.t == 0.25)
        assert np.array_equal(loss, found.curve_loss[:, place])
        assert np.array_equal(error, found.curve_error[:, place])
        a, b = pair.checkpoints
        assert point.origin == f"t = 0.25 on a Bézier curve from sgd ({a.sha256[:16]}) to sgd-sam ({b.sha256[:16]})"
        assert point.theta.dtype == a.theta.dtype
        assert not torch.equal(point.theta, a.theta)

    def test_it_changes_nothing_of_the_result(self, halfway: Path, run: Command, pair: Pair) -> None:
        out = halfway.with_name("alone.h5")
        assert run("connect", *pair.paths, *QUICK, "--out", out).exit_code == 0
        assert equal(store.load(out, connect.Connection), store.load(halfway, connect.Connection))
        assert not list(halfway.parent.glob("alone*.pt"))

    def test_every_command_opens_it(self, halfway: Path, run: Command, pair: Pair, tmp_path: Path) -> None:
        point, out = halfway.with_name("curve@0.25.pt"), tmp_path / "out"
        assert "t = 0.25 on a Bézier curve" in run("inspect", point).stdout
        for analysis in REGISTRY:
            others = pair.paths[1:] if analysis.TAKES[1] > 1 and analysis.NAME != "asymmetry" else ()
            done = run(analysis.NAME, point, *others, "--out", out.with_suffix(".h5"), "--dry-run")
            assert done.exit_code == 0, done.output
        done = run("align", pair.paths[0], point, "--out", out.with_suffix(".pt"), "--points", "0", "--starts", "1")
        assert done.exit_code == 0, done.output
        done = run("interpolate", point, pair.paths[1], "--points", "5", "--low", "0", "--high", "1", "--out", out)
        assert done.exit_code == 0, done.output

    @pytest.mark.parametrize("t", ["1.5", "-0.1", "nan", "half"])
    def test_a_place_off_the_curve_is_refused(self, t: str, run: Command, pair: Pair, tmp_path: Path) -> None:
        done = run("connect", *pair.paths, "--save-at", t, "--out", tmp_path / "curve.h5")
        assert done.exit_code == 2
        assert not list(tmp_path.iterdir())

    def test_a_file_that_is_there_stays_unless_forced(self, run: Command, pair: Pair, tmp_path: Path) -> None:
        words, there = ("--save-at", "0.5", "--out", tmp_path / "curve.h5"), tmp_path / "curve@0.5.pt"
        there.write_text("precious")
        done = run("connect", *pair.paths, *QUICK, *words)
        assert done.exit_code == 2
        assert "exists already" in done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["curve@0.5.pt"]
        assert there.read_text() == "precious"
        assert run("connect", *pair.paths, *QUICK, *words, "--force").exit_code == 0
        assert checkpoints.load(there).origin.startswith("t = 0.5")
        assert {path.name for path in tmp_path.iterdir()} == {"curve.h5", "curve@0.5.pt"}
