"""Planes against closed forms: a quadratic in theta, and softmax of a linear network, both written again in NumPy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Pair
from torch import nn

from analyses import plane
from analyses.plane import Options, compute, words
from landscape import axes
from landscape.checkpoint import Checkpoint
from landscape.errors import UsageError
from landscape.options import make
from landscape.plane import Plane, before
from landscape.problem import Problem
from landscape.sheet import NEGATIVE_VARIANCE, NOT_FINITE, OK, Sheet
from landscape.split import Split
from landscape.surface import Surface
from landscape.task import CrossEntropy, SquaredError
from landscape.vector import Layout, layout_of

N = 40


@pytest.fixture(scope="module")
def quadratic() -> Problem:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2 * N, 4, generator=generator, dtype=torch.float64)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5], [0.0]], dtype=torch.float64)
    model = lambda: nn.Linear(4, 1, bias=False)  # noqa: E731
    return Problem(model=model, train=Split(x[:N], y[:N]), test=Split(x[N:], y[N:]), task=SquaredError())


@pytest.fixture(scope="module")
def softmax() -> Problem:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2 * N, 3, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 3, (2 * N,), generator=generator)
    return Problem(model=lambda: nn.Linear(3, 3), train=Split(x[:N], y[:N]), test=Split(x[N:], y[N:]))


def point(problem: Problem, w: Any, name: str = "") -> Checkpoint:
    theta = torch.as_tensor(np.asarray(w), dtype=torch.float64)
    return Checkpoint(theta, {}, layout_of(problem.build(0)), name=name or str(w[0]), sha256=str(w))


def some(problem: Problem, count: int, seed: int = 0) -> list[Checkpoint]:
    size = layout_of(problem.build(0)).size
    drawn = np.random.default_rng(seed).normal(size=(count, size))
    return [point(problem, w, f"c{i}") for i, w in enumerate(drawn)]


def values(problem: Problem, theta: np.ndarray, split: str) -> tuple[float, float]:
    data = problem.train if split == "train" else problem.test
    x, y = data.inputs.numpy(), data.targets.numpy()
    if isinstance(problem.task, SquaredError):
        loss = float(np.mean((x @ theta - y[:, 0]) ** 2))
        return loss, loss
    assert isinstance(problem.task, CrossEntropy)
    logits = x @ theta[:9].reshape(3, 3).T + theta[9:]
    chosen = logits[np.arange(len(y)), y]
    return float(np.mean(np.log(np.exp(logits).sum(1)) - chosen)), float(np.mean(logits.argmax(1) != y))


def basis(points: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors along b − a and across toward c, by NumPy's QR."""
    q, r = np.linalg.qr(np.stack([points[1] - points[0], points[2] - points[0]], axis=1))
    q = q * np.sign(np.diag(r))
    return q[:, 0], q[:, 1]


@pytest.mark.parametrize("kind", ["quadratic", "softmax"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_plane_that_is_not_square_is_the_closed_form_at_its_stored_coordinates(
    kind: str, dtype: str, request: pytest.FixtureRequest
) -> None:
    problem = request.getfixturevalue(kind)
    points = some(problem, 3)
    found = compute(problem, *points, options=Options(grid="7x4"), dtype=dtype)
    a, b, c = (p.theta.numpy() for p in points)
    u, v = basis([a, b, c])
    assert found.loss.shape == (2, 4, 7)
    worst = 1e-10 if dtype == "float64" else 1e-6  # float32: theta and its products are rounded to 6e-8
    for s, split in enumerate(("train", "test")):
        for j, y in enumerate(found.y):
            for i, x in enumerate(found.x):
                loss, error = values(problem, a + x * u + y * v, split)
                assert found.loss[s, j, i] == pytest.approx(loss, rel=worst, abs=worst)
                if kind == "softmax":
                    assert found.error[s, j, i] == pytest.approx(error, abs=1e-12)
    assert found.place[:, 0] == pytest.approx([0, np.linalg.norm(b - a), (c - a) @ u], abs=1e-12)
    assert found.place[:, 1] == pytest.approx([0, 0, (c - a) @ v], abs=1e-12)
    assert found.off_plane == pytest.approx(0, abs=1e-12)


def test_a_plane_with_its_axes_exchanged_is_the_transpose(quadratic: Problem) -> None:
    a, b, c = [1.0, 0, 0, 0], [3.0, 0, 0, 0], [1.0, 0, 0, 1.5]  # b − a and c − a at right angles
    points = [point(quadratic, w) for w in (a, b, c)]
    one = compute(quadratic, *points, options=Options(grid="6x3", x="-1:4", y="-2:1"), dtype="float64")
    other = compute(
        quadratic, points[0], points[2], points[1], options=Options(grid="3x6", x="-2:1", y="-1:4"), dtype="float64"
    )
    assert one.loss == pytest.approx(other.loss.transpose(0, 2, 1), abs=1e-12)
    assert not np.allclose(one.loss[0, :, :3], one.loss[0, :, :3].T)
    assert one.x.tolist() == other.y.tolist() == [-1, 0, 1, 2, 3, 4]


@pytest.mark.parametrize("rule", ["recalibrate", "interpolate", "keep"])
def test_each_checkpoint_is_found_at_its_coordinates(pair: Pair, rule: str) -> None:
    a, b = pair.checkpoints
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(a.theta.numel(), generator=generator) * 0.01
    more = {k: v * 1.1 if v.is_floating_point() else v for k, v in a.buffers.items()}
    c = replace(a, theta=a.theta + noise, buffers=more, name="third", sha256="third")
    made = axes.through([a, b, c])
    sheet = Sheet(Surface(pair.problem, dtype=torch.float64), made, [a, b, c], rule)
    place, off = made.coordinates([a, b, c])
    assert off == pytest.approx(0, abs=1e-12)
    for (x, y), checkpoint in zip(place, (a, b, c), strict=True):
        theta, _ = sheet.at(x, y)
        assert torch.dist(theta, checkpoint.theta.double()) < 1e-12
        there, own = sheet.measure(x, y), sheet.own(checkpoint)
        assert there[0] == own[0] == OK
        assert there[1] == pytest.approx(own[1], abs=1e-9)
        if rule == "interpolate":
            surface = Surface(pair.problem, dtype=torch.float64)
            surface.at(checkpoint, recalibrated=False)
            assert own[1][0, 1] == float(surface.score("test").loss)


def test_axes_of_nearly_collinear_checkpoints_are_orthonormal(quadratic: Problem) -> None:
    rng = np.random.default_rng(0)
    big = Layout(("w",), ((1000,),))
    a, way, aside = rng.normal(size=(3, 1000))
    for share in (1e-2, 1e-5, 1e-8):
        thetas = (a, a + way, a + 2 * way + share * aside)
        points = [Checkpoint(torch.from_numpy(t), {}, big, name=str(i)) for i, t in enumerate(thetas)]
        made = axes.through(points)
        gram = torch.stack([made.u, made.v]) @ torch.stack([made.u, made.v]).T
        assert gram.numpy() == pytest.approx(np.eye(2), abs=1e-14)
        place, off = made.coordinates(points)
        assert off.max() < 1e-12
        assert place[2, 1] == pytest.approx(
            np.linalg.norm(share * (aside - (aside @ way) / (way @ way) * way)), rel=1e-6
        )


def test_checkpoints_that_span_no_plane_are_refused_in_one_line(quadratic: Problem) -> None:
    a, b = some(quadratic, 2)
    middle = replace(a, theta=(a.theta + b.theta) / 2, name="middle")
    for kind in ("checkpoints", "trajectory"):
        with pytest.raises(UsageError, match="one line") as told:
            compute(quadratic, a, b, middle, options=Options(axes=kind))
        assert "\n" not in told.value.cause
    with pytest.raises(UsageError, match="same weights"):
        compute(quadratic, a, replace(a, name="twin"), b)
    with pytest.raises(UsageError, match="3 checkpoints or more"):
        compute(quadratic, a, b, options=Options(axes="trajectory"))
    one, other, third = (replace(c, theta=t.float()) for c, t in ((a, a.theta), (b, b.theta), (middle, middle.theta)))
    with pytest.raises(UsageError, match="one line"):  # off it by the rounding of float32 alone
        compute(quadratic, one, other, third)


def test_checkpoints_beside_the_plane_are_projected_and_their_distance_is_told(quadratic: Problem) -> None:
    corners = [[0.0, 0, 0, 0], [2.0, 0, 0, 0], [0, 1.0, 0, 0], [1.0, 0.5, 3.0, 4.0]]
    points = [point(quadratic, w, f"p{i}") for i, w in enumerate(corners)]
    found = compute(quadratic, *points, options=Options(grid="2x2"), dtype="float64")
    assert found.place[3] == pytest.approx([1.0, 0.5])
    assert found.off_plane == pytest.approx([0, 0, 0, 5.0])
    assert found.own_loss[0, 3] == pytest.approx(values(quadratic, np.array(corners[3]), "train")[0])
    assert "off the plane by p3 5.00" in plane.words(found)[1].lower()
    assert found.x[[0, -1]].tolist() == pytest.approx([-0.8, 2.8])  # 0.4 of the longer side all around
    assert found.y[[0, -1]].tolist() == pytest.approx([-0.8, 1.8])


@pytest.mark.parametrize("biases", axes.BIASES)
def test_random_directions_have_the_norms_of_the_filters(pair: Pair, biases: str) -> None:
    c = pair.checkpoints[0]
    d = axes.filter_normalised(c.theta.double(), c.layout, torch.Generator().manual_seed(0), biases)
    weights, moved = c.layout.views(c.theta.double()), c.layout.views(d)
    assert any(w.dim() == 4 for w in weights.values())
    for name, w in weights.items():
        if w.dim() > 1:
            assert torch.allclose(moved[name].flatten(1).norm(dim=1), w.flatten(1).norm(dim=1), rtol=1e-6)
            assert abs(float((moved[name] * w).sum()) / float(w.norm() ** 2)) < 0.5  # a direction of its own
        elif biases == "zero":
            assert not moved[name].any()
        else:
            assert float(moved[name].norm()) == pytest.approx(float(w.norm()), rel=1e-6)
    made = axes.random([c], 0, biases)
    assert made.length[0] == pytest.approx(float(d.norm()), rel=1e-12)
    assert abs(float(made.u @ made.v)) < 1e-14
    assert torch.equal(made.u, axes.random([c], 0, biases).u)
    assert not torch.equal(made.u, axes.random([c], 1, biases).u)


def test_principal_components_are_those_of_numpy(quadratic: Problem) -> None:
    points = some(quadratic, 6)
    thetas = np.stack([p.theta.numpy() for p in points])
    _, s, vt = np.linalg.svd(thetas - thetas.mean(0), full_matrices=False)
    made = axes.principal(points)
    assert made.share == pytest.approx((s**2 / (s**2).sum())[:2], rel=1e-9)
    for k, direction in enumerate((made.u, made.v)):
        assert abs(float(direction @ torch.from_numpy(vt[k]))) == pytest.approx(1, abs=1e-9)
        assert thetas.T @ made.mix[k] == pytest.approx(direction.numpy(), abs=1e-9)
    place, off = made.coordinates(points)
    assert place[-1].tolist() == [0.0, 0.0]
    assert off[-1] == 0
    way = thetas - thetas[-1]
    assert np.hypot(off, np.hypot(*place.T)) == pytest.approx(np.linalg.norm(way, axis=1))
    found = compute(quadratic, *points, options=Options(axes="trajectory", grid="3x2"), dtype="float64")
    assert found.share == pytest.approx(made.share)
    assert f"{100 * made.share.sum():.2f} %" in plane.words(found)[1]


def test_along_eigenvectors_a_quadratic_is_its_eigenvalues(quadratic: Problem) -> None:
    x = quadratic.train.inputs.numpy()
    expected = np.linalg.eigvalsh(2 * x.T @ x / N)[::-1][:2]
    best = point(quadratic, [1.0, -2.0, 0.5, 0.0], "best")
    found = compute(quadratic, best, options=Options(axes="eigenvectors", grid="5x4", rise=2.0), dtype="float64")
    assert found.eigenvalue == pytest.approx(expected, rel=1e-5)
    closed = 0.5 * (expected[0] * found.x[None, :] ** 2 + expected[1] * found.y[:, None] ** 2)
    assert found.loss[0] == pytest.approx(closed, abs=1e-3 * closed.max())  # tol of the search
    assert expected * np.array([found.x[-1], found.y[-1]]) ** 2 / 2 == pytest.approx(2.0, rel=0.02)  # the rise
    assert found.x[0] == -found.x[-1]


def test_points_that_fail_are_missing_and_are_shown_as_missing(pair: Pair) -> None:
    a, b = pair.checkpoints
    small = {k: v * 0.01 if k.endswith("running_var") else v for k, v in b.buffers.items()}
    options = Options(grid="4x3", batchnorm="interpolate", x="-1:2", y="-1:1")
    found = compute(pair.problem, a, replace(b, buffers=small), options=options)
    gone = found.status == NEGATIVE_VARIANCE
    assert 0 < gone.sum() < gone.size
    assert np.isnan(found.loss[:, gone]).all()
    assert np.isfinite(found.loss[:, ~gone]).all()
    assert f"{found.missing} of 12 points are missing" in plane.words(found)[1]
    drawn = plane.figure(found)
    assert drawn.layout.annotations[0].text == f"× {found.missing} missing"
    assert len(drawn.data[4].x) == found.missing
    assert drawn.data[4].cliponaxis is False  # whole on the rim too
    assert all(trace.connectgaps is False for trace in drawn.data[:3])
    assert np.isnan(np.asarray(drawn.data[1].z)[gone]).all()


def test_a_loss_that_is_not_finite_is_missing(quadratic: Problem) -> None:
    points = some(quadratic, 3)
    found = compute(quadratic, *points, options=Options(grid="3x2", x="0:1e60", y="0:1"))
    assert found.status.tolist() == [[OK, NOT_FINITE, NOT_FINITE]] * 2
    assert np.isnan(found.error[:, found.status != OK]).all()
    assert plane.table(found).rows[-1][-1] == "not finite"


def test_a_pair_has_a_random_second_axis(quadratic: Problem) -> None:
    a, b = some(quadratic, 2)
    found = compute(quadratic, a, b, options=Options(grid="3x3", rise=0.5), dtype="float64")
    assert found.place[:, 1] == pytest.approx(0, abs=1e-12)
    ends = compute(
        quadratic,
        a,
        b,
        options=Options(grid="2x3", rise=0.5, x="0:1", y=f"{found.y[0]}:{found.y[-1]}"),
        dtype="float64",
    )
    rise = ends.loss[0, [0, 2], 0].mean() - ends.loss[0, 1, 0]
    assert rise == pytest.approx(0.5, rel=0.03)


def test_nothing_is_touched(pair: Pair) -> None:
    before_theta = [c.theta.clone() for c in pair.checkpoints]
    before_buffers = {k: v.clone() for k, v in pair.checkpoints[0].buffers.items()}
    state = torch.get_rng_state()
    options = Options(grid="2x2", x="-1:1", y="-1:1")
    one, again = (compute(pair.problem, *pair.checkpoints, options=options) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(c.theta, t) for c, t in zip(pair.checkpoints, before_theta, strict=True))
    assert all(torch.equal(pair.checkpoints[0].buffers[k], v) for k, v in before_buffers.items())
    assert np.array_equal(one.loss, again.loss)


def test_statistics_are_not_mixed_where_that_makes_no_sense(pair: Pair, quadratic: Problem) -> None:
    with pytest.raises(UsageError, match="mixed"):
        compute(pair.problem, pair.checkpoints[0], options=Options(axes="random", batchnorm="interpolate"))
    found = compute(
        quadratic, *some(quadratic, 1), options=Options(batchnorm="interpolate", grid="2x2", x="0:1", y="0:1")
    )
    assert found.batchnorm == "none"


def test_a_track_leads_from_each_checkpoint_to_the_next_of_its_run(quadratic: Problem) -> None:
    blank = some(quadratic, 1)[0]
    sgd = [replace(blank, settings={"method": "sgd"}, step=s, sha256=f"sgd{s}") for s in (30, 10, 20)]
    sam = replace(blank, settings={"method": "sgd-sam"}, step=40, parent="sgd20", sha256="sam")
    assert before([*sgd, sam]) == (2, -1, 1, 2)
    assert before([blank, blank, blank]) == (-1, 0, 1)


def test_the_lowest_point_of_the_grid_is_told_with_its_unit_and_beside_lower_checkpoints(pair: Pair) -> None:
    found = compute(pair.problem, *pair.checkpoints, options=Options(grid="3x3"))
    losses = np.array([[3.0, 2.0, 3.0], [3.0, 3.0, 3.0], [3.0, 3.0, 3.0]])
    made = replace(
        found, loss=np.stack([losses] * 2), own_loss=np.array([[2.5, 2.2]] * 2), x=np.array([0.0, 4.0, 8.0]),
        y=np.array([3.0, 5.0, 9.0]), place=np.array([[4.0, 0.0], [90.0, 0.0]]),
    )  # fmt: skip
    told = "Training loss on the grid from 2.00 to 3.00 nats; its lowest point"
    a, b = made.called
    assert words(made)[0] == f"{told} 3.00 (θ) from {a}"
    at = replace(made, place=np.array([[4.0, 3.0 + 5.6e-17], [90.0, 0.0]]), own_loss=np.array([[2.0 - 1e-9, 3.0]] * 2))
    assert words(at)[0] == f"{told} at {a}"
    lower = replace(made, own_loss=np.array([[0.668, 2.5]] * 2))
    assert words(lower)[0] == f"{told} 3.00 (θ) from {a}; {a} itself is lower still, 0.668 nats"
    other = replace(made, own_loss=np.array([[2.5, 0.5]] * 2))
    assert words(other)[0] == f"{told} 3.00 (θ) from {a}; {b} is lower still, 0.500 nats"


@pytest.mark.parametrize(
    ("name", "value"), [("grid", "31"), ("grid", "1x5"), ("grid", "0x0"), ("x", "2:1"), ("y", "1"), ("x", "0:inf")]
)
def test_a_grid_or_range_that_is_none_is_refused_at_the_door(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"--{name} {value}"):
        make(Options, {name: value})


def test_the_figure_switches_view_quantity_and_run(quadratic: Problem) -> None:
    points = some(quadratic, 3)
    one, other = (compute(quadratic, *points, options=Options(grid=f"{n}x3")) for n in (4, 5))
    one = replace(one, classifies=True)
    drawn = plane.figure(one, other)
    views, choices = drawn.layout.updatemenus
    assert [button.label for button in views.buttons] == ["contours", "heat map", "surface"]
    assert [button.label for button in choices.buttons][:4] == [
        "train loss, run 1", "test loss, run 1", "train error, run 1", "test error, run 1"
    ]  # fmt: skip
    data, axes_ = choices.buttons[-1].args
    assert np.shape(data["z"][0]) == (3, 5)
    assert axes_["xaxis.range"] == [other.x[0], other.x[-1]]
    assert {trace.type for trace in drawn.data} == {"contour", "heatmap", "surface", "scatter", "scatter3d"}
    for button in views.buttons:
        assert len(button.args[0]["visible"]) == len(drawn.data)


def test_a_loss_over_more_than_a_power_of_ten_is_drawn_by_its_logarithm(quadratic: Problem) -> None:
    best = point(quadratic, [1.0, -2.0, 0.5, 0.1], "best")
    found: Plane = compute(quadratic, best, options=Options(grid="5x4", x="-2:2", y="-1:1"), dtype="float64")
    drawn = plane.figure(found)
    assert np.asarray(drawn.data[0].z) == pytest.approx(np.log10(found.loss[0]), abs=1e-6)
    bar = drawn.layout.coloraxis.colorbar
    assert [10**v for v in bar.tickvals] == pytest.approx([float(t) for t in bar.ticktext])
    assert drawn.data[1].customdata[0][0] == pytest.approx(found.loss[0, 0, 0], rel=1e-3)
