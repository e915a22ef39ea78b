"""Rises around checkpoints, judged by closed forms, by dense autograd, and by what rescaling cannot change."""

from __future__ import annotations

import dataclasses
import math
import weakref
from dataclasses import replace
from typing import Any

import curvature_nets as nets
import numpy as np
import pytest
import torch
from conftest import Command, Pair
from test_ball import corners, trust_region
from torch import Tensor, nn

from analyses import sharpness
from landscape import nearby as nearby_module
from landscape.checkpoint import Checkpoint
from landscape.chunks import chunks
from landscape.curvature import dense_hessian
from landscape.errors import UsageError
from landscape.nearby import Nearby, average_rise, direction, normal
from landscape.pacbayes import complexity
from landscape.problem import Problem
from landscape.rescaling import rescaled
from landscape.scaling import length, scaling
from landscape.split import Split
from landscape.surface import Surface
from landscape.task import SquaredError
from landscape.vector import layout_of

FINE = sharpness.Options(
    radii="0.1,1", boxes="0.1,0.5", relative="0.05", restarts=6, steps=2000, tol=1e-10, pairs=30, m=12
)
ROUGH = sharpness.Options(radii="0.02,0.1,0.3", boxes="0.01,0.03", relative="0.01", steps=12, pairs=3, m=20, restarts=1)


def regression() -> Problem:
    """Least squares: the loss is a quadratic of the weights, H = (2/N) XᵀX."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(36, 5, generator=generator, dtype=torch.float64) * torch.tensor([3.0, 1, 1, 0.5, 0.2]).double()
    y = torch.randn(36, 1, generator=generator, dtype=torch.float64)
    return Problem(lambda: nn.Linear(5, 1, bias=False), Split(x, y), Split(x[:9], y[:9] + 1), SquaredError())


def at(problem: Problem, theta: Tensor, name: str = "a", **settings: float) -> Checkpoint:
    model = problem.build(0)
    buffers = dict(model.named_buffers())
    return Checkpoint(theta, buffers, layout_of(model), settings=settings, name=name, sha256=name)


def start(problem: Problem, seed: int = 0, name: str = "a") -> Checkpoint:
    model = problem.build(seed, dtype=torch.float64)
    return replace(at(problem, torch.cat([p.detach().reshape(-1) for p in model.parameters()]), name))


def curvature(problem: Problem) -> Tensor:
    x = problem.train.inputs
    return 2 * x.T @ x / len(x)


def slope(problem: Problem, theta: Tensor) -> Tensor:
    x, y = problem.train.inputs, problem.train.targets
    return 2 * x.T @ (x @ theta - y[:, 0]) / len(x)


def measured(problem: Problem, *points: Checkpoint, options: sharpness.Options = FINE) -> sharpness.Rise:
    return sharpness.compute(problem, *points, options=options, dtype="float64")


def clouds() -> Problem:
    return Problem(lambda: nets.mlp(nn.ReLU), nets.points(), nets.points(21, seed=1))


def trained(problem: Problem, seed: int, name: str) -> Checkpoint:
    model = nets.train(problem.build(seed, dtype=torch.float64), problem.train, 30)
    theta = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    return replace(at(problem, theta, name), buffers=dict(model.named_buffers()))


@pytest.fixture(scope="module")
def line() -> tuple[Problem, Tensor, sharpness.Rise]:
    problem = regression()
    theta = torch.tensor([0.3, -1.0, 0.5, 2.0, 0.1], dtype=torch.float64)
    return problem, theta, measured(problem, at(problem, theta))


class TestQuadratic:
    def test_the_worst_case_is_the_trust_region_maximum(self, line: tuple[Problem, Tensor, sharpness.Rise]) -> None:
        problem, theta, found = line
        g, h = slope(problem, theta), curvature(problem)
        truth = [trust_region(g, h, rho)[0] for rho in (0.1, 1.0)]
        assert found.worst[0] == pytest.approx(truth, rel=1e-8)
        assert found.reach[0] == pytest.approx([1, 1], rel=1e-12)
        assert found.gradient_norm[0] == pytest.approx(float(g.norm()), rel=1e-12)
        assert found.eigenvalue[0] == pytest.approx(float(torch.linalg.eigvalsh(h)[-1]), rel=1e-6)

    def test_in_a_relative_metric_it_is_that_of_the_scaled_quadratic(
        self, line: tuple[Problem, Tensor, sharpness.Rise]
    ) -> None:
        problem, theta, found = line
        for a, t in enumerate((theta.abs(), torch.full((5,), float(theta.norm()), dtype=torch.float64))):
            g, h = t * slope(problem, theta), t[:, None] * curvature(problem) * t
            rho = 0.05 * (math.sqrt(5) if a == 0 else 1.0)
            assert found.length[0, a] * 0.05 == pytest.approx(rho)
            assert found.adaptive_worst[0, a, 0] == pytest.approx(trust_region(g, h, rho)[0], rel=1e-8)
            mean = rho**2 / 2 * float(torch.trace(h)) / 5
            assert abs(found.adaptive_average[0, a, 0] - mean) < 4 * found.adaptive_average_error[0, a, 0]

    def test_the_average_is_the_trace_and_exact_for_its_own_directions(
        self, line: tuple[Problem, Tensor, sharpness.Rise]
    ) -> None:
        problem, theta, found = line
        h = curvature(problem)
        for r, rho in enumerate(found.radius):
            assert abs(found.average[0, r] - rho**2 / 2 * float(torch.trace(h)) / 5) < 4 * found.average_error[0, r]
            drawn = torch.stack([direction(5, 0, k, theta) for k in range(FINE.pairs)])
            each = rho**2 / 2 * torch.einsum("kd,de,ke->k", drawn, h, drawn)
            assert found.average[0, r] == pytest.approx(float(each.mean()), rel=1e-10)
            assert found.average_error[0, r] == pytest.approx(float(each.std()) / math.sqrt(30), rel=1e-8)

    def test_the_worst_of_a_box_is_its_highest_corner(self, line: tuple[Problem, Tensor, sharpness.Rise]) -> None:
        problem, theta, found = line
        g, h = slope(problem, theta), curvature(problem)
        for name, t in (("", torch.ones_like(theta)), ("adaptive_", theta.abs())):
            for b, rho in enumerate(found.relative if name else found.box):
                z = rho * t * corners(5)
                rises = z @ g + (z @ h * z).sum(1) / 2  # convex: the maximum is at a corner
                assert getattr(found, f"{name}box_worst")[0, b] == pytest.approx(float(rises.max()), rel=1e-8)
            assert getattr(found, f"{name}gradient_sum")[0] == pytest.approx(float((t * g).abs().sum()), rel=1e-12)

    def test_the_gaussian_average_is_half_rho_squared_times_the_trace(
        self, line: tuple[Problem, Tensor, sharpness.Rise]
    ) -> None:
        problem, theta, found = line
        drawn = torch.stack([normal(5, 0, k) for k in range(FINE.pairs)])
        for name, t in (("", torch.ones_like(theta)), ("adaptive_", theta.abs())):
            h = t[:, None] * curvature(problem) * t
            for b, rho in enumerate(found.relative if name else found.box):
                mean, error = (getattr(found, f"{name}gaussian{end}")[0, b] for end in ("", "_error"))
                assert abs(mean - rho**2 / 2 * float(torch.trace(h))) < 4 * error
                each = rho**2 / 2 * torch.einsum("kd,de,ke->k", drawn, h, drawn)
                assert mean == pytest.approx(float(each.mean()), rel=1e-9)

    def test_m_sharpness_is_the_mean_of_independent_runs_on_the_chunks(
        self, line: tuple[Problem, Tensor, sharpness.Rise]
    ) -> None:
        problem, theta, found = line
        alone = [
            measured(replace(problem, train=part), at(problem, theta), options=replace(FINE, m=0, pairs=2)).worst[0]
            for part in chunks(problem.train, FINE.m)
        ]
        assert len(alone) == 3
        assert found.chunked[0] == pytest.approx(np.mean(alone, axis=0), rel=1e-8)
        assert found.chunked_error[0] == pytest.approx(np.std(alone, axis=0, ddof=1) / math.sqrt(3), rel=1e-6)
        assert (found.chunked > found.worst).all()

    def test_at_the_minimum_it_is_half_the_largest_eigenvalue(self) -> None:
        problem = regression()
        x, y = problem.train.inputs, problem.train.targets
        found = measured(problem, at(problem, torch.linalg.lstsq(x, y).solution[:, 0]))
        assert found.worst[0] / found.radius**2 == pytest.approx(found.eigenvalue[0] / 2, rel=1e-8)
        assert "Slope and λ₁ explain it up to ρ = 1" in sharpness.words(found)[1]

    def test_the_gap_is_that_of_the_losses_and_a_regression_has_no_bound(
        self, line: tuple[Problem, Tensor, sharpness.Rise]
    ) -> None:
        problem, theta, found = line
        for s, split in enumerate((problem.train, problem.test)):
            truth = float((split.inputs @ theta - split.targets[:, 0]).square().mean())
            assert found.loss[0, s] == pytest.approx(truth, rel=1e-12)
        assert np.isnan(found.bound).all()
        assert "needs a loss in [0, 1]" in sharpness.words(found)[1]


class TestLimits:
    def test_small_balls_show_the_slope(self) -> None:
        problem = Problem(nets.mlp, nets.points(), nets.points(12, seed=1))
        found = measured(problem, trained(problem, 0, "a"), options=replace(ROUGH, radii="1e-6,1e-5", m=0))
        beyond = found.radius * found.eigenvalue[0] / 2  # the next order, relative to the slope
        assert np.abs(found.worst[0] / found.radius - found.gradient_norm[0]).max() <= 2 * beyond.max()

    def test_small_balls_round_a_minimum_show_the_largest_eigenvalue(self) -> None:
        inputs = nets.points().inputs
        teacher = nets.mlp().double()
        for parameter, seed in zip(teacher.parameters(), range(9), strict=False):
            parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)).double() / 2
        with torch.no_grad():
            data = Split(inputs, teacher(inputs))
        problem = Problem(nets.mlp, data, data, SquaredError())
        theta = torch.cat([p.detach().reshape(-1) for p in teacher.parameters()])
        found = measured(problem, at(problem, theta), options=replace(ROUGH, radii="1e-4", m=0, tol=1e-8, steps=200))
        assert found.gradient_norm[0] == pytest.approx(0, abs=1e-12)
        assert found.worst[0, 0] / 1e-8 == pytest.approx(found.eigenvalue[0] / 2, rel=1e-2)  # third order: 1e-4 × O(10)

    def test_rises_never_fall_with_the_radius_and_chunks_rise_no_less(self) -> None:
        problem = clouds()
        for by in ("recalibrated", "train"):
            found = measured(
                problem, *(trained(problem, s, str(s)) for s in range(3)), options=replace(ROUGH, batchnorm=by)
            )
            assert (np.diff(found.worst) >= 0).all()
            assert (np.diff(found.box_worst) >= 0).all()
            assert (found.box_climbs.max(-1) == found.box_worst).all()
            assert (found.worst >= 0).all()
            assert (found.chunked >= found.worst * (1 - 1e-12)).all()
            assert (found.climbs.max(-1) == found.worst).all()
            assert (found.worst >= np.maximum(found.average, 0)).all()


class TestRescaling:
    @pytest.mark.parametrize("factor", [2.0, 3.7])
    def test_relative_forms_stay_and_plain_ones_change(self, factor: float) -> None:
        problem = clouds()
        point = trained(problem, 0, "a")
        found = measured(problem, point, options=replace(ROUGH, rescale=factor, steps=60, tol=1e-6))
        assert found.names == ("a", f"a ×{factor:g}")
        plain = "worst", "average", "box_worst", "gaussian", "eigenvalue"
        for name in (*plain, "adaptive_eigenvalue", "adaptive_gradient_norm"):
            one, other = getattr(found, name)
            change = np.abs(other / one - 1)
            assert change.max() <= 1e-5 if name.startswith("adaptive") else change.min() > 0.05, name
        boxes = "adaptive_box_worst", "adaptive_gaussian", "adaptive_gradient_sum"
        for name in ("adaptive_worst", "adaptive_average", "length", "loss", "error", *boxes):
            one, other = getattr(found, name)
            assert other == pytest.approx(one, rel=1e-5), name

    def test_a_layer_before_batchnorm_may_have_any_scale(self) -> None:
        def quiet() -> nn.Module:
            model = nets.cnn()
            for layer in model.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eps = 1e-12  # which alone does not scale along
            return model

        problem = Problem(quiet, nets.images(), nets.images(12, seed=1))
        for by in ("recalibrated", "stored", "train"):
            options = replace(ROUGH, rescale=5.0, batchnorm=by, radii="0.1", restarts=0, steps=6, m=0)
            found = measured(problem, trained(problem, 0, "a"), options=options)
            boxes = "adaptive_box_worst", "adaptive_gaussian"
            for name in ("adaptive_worst", "adaptive_average", "adaptive_eigenvalue", "loss", *boxes):
                assert getattr(found, name)[1] == pytest.approx(getattr(found, name)[0], rel=1e-5), (by, name)
            assert np.abs(found.eigenvalue[1] / found.eigenvalue[0] - 1) > 0.05

    def test_scaling_single_units_leaves_the_elementwise_form_alone_and_no_other(self) -> None:
        problem = clouds()
        point = trained(problem, 0, "a")
        theta = point.theta.clone()
        views = point.layout.views(theta)
        factors = torch.linspace(0.5, 3, 8, dtype=torch.float64)
        views["0.weight"].mul_(factors[:, None])
        views["0.bias"].mul_(factors)
        views["2.weight"].div_(factors)
        found = measured(problem, point, replace(point, theta=theta, name="b"), options=replace(ROUGH, steps=60))
        change = np.abs(found.adaptive_average[1] / found.adaptive_average[0] - 1)
        assert change[0].max() <= 1e-5 < change[1].min()

    def test_the_copy_is_the_same_function_and_the_original_is_untouched(self, pair: Pair) -> None:
        one = pair.checkpoints[0]
        before = one.theta.clone()
        copy = rescaled(pair.problem, one, 2.0)
        assert torch.equal(one.theta, before)
        moved = [name for name, _, place in one.layout.slices() if not torch.equal(copy.theta[place], before[place])]
        assert {"stem.weight", "blocks.0.conv1.weight", "blocks.0.norm1.weight", "blocks.0.conv2.weight"} <= set(moved)
        assert "norm.weight" not in moved  # it feeds the shortcut too
        surface = Surface(pair.problem, dtype=torch.float64)
        outputs = []
        for checkpoint in (one, copy):
            surface.at(checkpoint)
            outputs.append(surface.outputs("test"))
        assert float((outputs[0] - outputs[1]).abs().max()) < 1e-3 * float(outputs[0].abs().max())

    def test_what_cannot_be_rescaled_is_said(self) -> None:
        for model, reason in ((nets.mlp, "no layer"), (nets.Tied, "no layer"), (Branching, "cannot be traced")):
            problem = Problem(model, nets.points(), nets.points(9))
            with pytest.raises(UsageError, match=reason):
                rescaled(problem, start(problem), 2.0)

    def test_the_scales_are_those_of_weights_and_filters(self) -> None:
        problem = Problem(lambda: nn.Linear(2, 2), nets.points(), nets.points())
        theta = torch.tensor([3.0, 4.0, 0.0, 0.0, -2.0, 0.0])
        layout = layout_of(problem.build(0))
        assert scaling("elementwise", theta, layout).tolist() == [3, 4, 0, 0, 2, 0]
        assert scaling("filter-wise", theta, layout).tolist() == [5, 5, 0, 0, 2, 0]
        assert length(theta, scaling("elementwise", theta, layout)) == pytest.approx(math.sqrt(3))
        assert length(theta, scaling("filter-wise", theta, layout)) == pytest.approx(math.sqrt(2))


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum() > 0 else self.layer(-x)


class TestBound:
    def test_the_square_root_is_that_of_a_calculation_by_hand(self) -> None:
        # d = 10⁴, n = 500, ‖θ‖ = 10, ρ = 0.1, δ = 0.05
        # (1 + √(6.214608/10⁴))² = 1.0504797; 10⁴ ln(10505.797) = 92596.82
        # 4 ln 10⁴ = 36.8414; 8 ln 33000 = 83.2341; 92716.90 / 499 = 185.8054
        assert complexity(10_000, 500, 10.0, 0.1, 0.05) == pytest.approx(math.sqrt(185.8054), rel=1e-6)

    def test_it_is_vacuous_for_networks_and_not_for_many_examples(self) -> None:
        assert complexity(10_000, 500, 10.0, 0.1, 0.05) > 1
        assert complexity(10, 10**6, 1.0, 1.0, 0.05) < 0.02

    def test_the_bound_adds_the_error_found_and_is_labelled(self, clouded: sharpness.Rise) -> None:
        assert clouded.bound == pytest.approx(clouded.worst_error + clouded.complexity)
        norm = float(clouded.norm[0])
        assert clouded.complexity[0, 0] == pytest.approx(complexity(155, 60, norm, 0.02, 0.05 / 3))
        assert (clouded.worst_error >= 0).all()
        cells = {row[-1] for row in sharpness.table(clouded).rows}
        assert any(isinstance(cell, str) and cell.endswith("vacuous") for cell in cells)
        assert "vacuous" in sharpness.words(clouded)[1]


@pytest.fixture(scope="module")
def clouded() -> sharpness.Rise:
    problem = clouds()
    return measured(problem, trained(problem, 0, "a"), trained(problem, 1, "b"), options=ROUGH)


class TestConduct:
    def test_a_seed_decides_all_and_another_one_other_directions(self, clouded: sharpness.Rise) -> None:
        problem = clouds()
        points = trained(problem, 0, "a"), trained(problem, 1, "b")
        again = measured(problem, *points, options=ROUGH)
        for field in dataclasses.fields(again):
            assert np.array_equal(getattr(again, field.name), getattr(clouded, field.name)), field.name
        other = measured(problem, *points, options=replace(ROUGH, seed=1))
        assert not np.array_equal(other.average, clouded.average)

    def test_network_buffers_modes_and_random_state_come_back_bitwise(self) -> None:
        problem = nets.problem()
        for batchnorm in ("eval", "train"):
            surface = Surface(problem, dtype=torch.float64)
            surface.at(nets.point(problem, 0), recalibrated=False)
            model = surface.flat.model
            state = [t.clone() for t in (*model.parameters(), *model.buffers())]
            random, modes = torch.get_rng_state(), [m.training for m in model.modules()]
            nearby = Nearby(surface.flat, surface.objective(), batchnorm)  # type: ignore[arg-type]
            average_rise(nearby, 0.1, 2, lambda number: torch.full_like(surface.flat.theta, number + 1.0))  # noqa: B023
            nearby(torch.ones_like(surface.flat.theta))
            with pytest.raises(RuntimeError):
                nearby(torch.ones(3))
            assert all(torch.equal(a, b) for a, b in zip((*model.parameters(), *model.buffers()), state, strict=True))
            assert torch.equal(torch.get_rng_state(), random)
            assert [m.training for m in model.modules()] == modes

    def test_one_random_step_is_held_at_a_time_however_many_are_drawn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        problem, drawn, most = regression(), list[weakref.ref[Tensor]](), [0]

        def watch(name: str) -> None:
            call = getattr(nearby_module, name)

            def watched(*args: Any) -> Tensor:
                made: Tensor = call(*args)
                drawn.append(weakref.ref(made))
                most[0] = max(most[0], sum(each() is not None for each in drawn))
                return made

            monkeypatch.setattr(nearby_module, name, watched)

        watch("direction")
        watch("normal")
        options = replace(ROUGH, radii="0.1", boxes="0.1", restarts=12, pairs=12, steps=2, m=0)
        measured(problem, start(problem), options=options)
        assert len(drawn) > 100
        assert most[0] <= 2  # the one before lives until its successor is made

    def test_checkpoints_are_not_changed(self) -> None:
        problem = nets.problem()
        point = nets.point(problem, 0)
        before = [t.clone() for t in (point.theta, *point.buffers.values())]
        measured(problem, point, options=replace(ROUGH, rescale=2.0, steps=3))
        assert all(torch.equal(a, b) for a, b in zip((point.theta, *point.buffers.values()), before, strict=True))

    def test_the_rule_for_batchnorm_is_recorded_and_matters(self) -> None:
        problem = nets.problem()
        found = {
            by: measured(problem, nets.point(problem, 0), options=replace(ROUGH, batchnorm=by, m=0))
            for by in ("recalibrated", "stored", "train")
        }
        assert [r.batchnorm for r in found.values()] == list(found)
        assert len({float(r.worst[0, 0]) for r in found.values()}) == 3
        assert "(batch statistics)" in sharpness.label(found["train"])
        dense = dense_hessian(nets.placed(problem, nets.point(problem, 0)))
        assert found["recalibrated"].eigenvalue[0] == pytest.approx(float(torch.linalg.eigvalsh(dense)[-1]), rel=1e-3)

    def test_a_part_of_the_data_has_a_sampling_error_and_all_of_it_none(self, clouded: sharpness.Rise) -> None:
        problem = clouds()
        assert not clouded.sampling_error.any()
        part = measured(problem, trained(problem, 0, "a"), options=replace(ROUGH, examples=40, m=0))
        assert (part.sampling_error > 0).all()
        assert np.isnan(part.chunked).all()
        whole = measured(problem, trained(problem, 0, "a"), options=replace(ROUGH, examples=60, m=0))
        assert whole.sampling_error == pytest.approx(0, abs=1e-15)
        assert whole.worst == pytest.approx(clouded.worst[:1], rel=1e-3)  # the same examples in another order
        with pytest.raises(UsageError, match="1 to 60 examples"):
            measured(problem, trained(problem, 0, "a"), options=replace(ROUGH, examples=61))

    def test_one_batch_size_or_another_is_the_same(self, clouded: sharpness.Rise) -> None:
        problem = clouds()
        small = measured(problem, trained(problem, 0, "a"), options=replace(ROUGH, batch_size=7))
        assert small.worst[0] == pytest.approx(clouded.worst[0], rel=1e-6)

    def test_the_boxes_are_told_in_lines_and_rows(self, clouded: sharpness.Rise) -> None:
        told = [line for line in sharpness.listing(clouded) if " box ±" in line]
        assert len(told) == 4  # in theta and relative, at two checkpoints
        rows = [row for row in sharpness.table(clouded).rows if str(row[2]).endswith("box")]
        assert [row[4] for row in rows[:3]] == [*clouded.box_worst[0], *clouded.adaptive_box_worst[0]]
        assert {len(row) for row in sharpness.table(clouded).rows} == {len(sharpness.table(clouded).columns)}

    @pytest.mark.parametrize("text", ["", "a", "0.1,-1", "0", "nan", "1,,2", "inf"])
    def test_radii_that_are_none_are_refused(self, text: str) -> None:
        problem = regression()
        with pytest.raises(UsageError, match="is not understood"):
            measured(problem, start(problem), options=replace(ROUGH, radii=text))

    def test_the_dry_run_counts_about_what_is_made(self, clouded: sharpness.Rise) -> None:
        told = sharpness.work(ROUGH, 1).text
        assert 0.4 < float(clouded.evaluations[0]) / int(told.split("about ")[1].split()[0]) < 2.5


def counted(part: str) -> bool:
    """Whether this part of the sentence is about the worst case."""
    return "worst" in part or "every form" in part


class TestWords:
    def test_they_say_who_is_flatter_and_count_the_order(self, clouded: sharpness.Rise) -> None:
        worst = clouded.worst * [[1.0], [9.0]]  # the same order at every radius
        clear = replace(clouded, worst=worst, error=np.array([[0.0, 0.1], [0.0, 0.4]]), test_examples=200)
        answer, detail = sharpness.words(clear, clear)
        a, b = clear.labels
        assert answer.startswith(f"{a} is ")
        assert f"times flatter than {b} at ρ = 0.1" in answer
        assert "in 2 of 2 seeds" in answer
        groups = detail.split("ordered right: ")[1].split(". ")[0].split("; ")
        (said,) = [group for group in groups if counted(group)]
        assert said.startswith("2 of 2 by ")

    def test_a_loss_that_cannot_rise_is_told_without_a_division(self) -> None:
        nothing = Split(torch.zeros(8, 5, dtype=torch.float64), torch.zeros(8, 1, dtype=torch.float64))
        problem = Problem(lambda: nn.Linear(5, 1, bias=False), nothing, nothing, SquaredError())
        points = start(problem, 0, "a"), start(problem, 1, "b")
        found = measured(problem, *points, options=ROUGH)
        assert not found.worst.any()
        told = " ".join([*sharpness.words(found), *sharpness.listing(found)])
        assert "nan" not in told
        assert "the test losses of a regression is not tested" in told

    def test_copies_stand_beside_the_originals_and_in_no_ranking(self, run: Command, pair: Pair) -> None:
        radii = ["--radii", "0.05", "--boxes", "0.001", "--relative", "0.002"]
        quick = [*radii, "--restarts", "0", "--steps", "3", "--pairs", "2"]
        done = run(
            "sharpness", pair.paths[0], "--rescale", "2", *quick, "--m", "0", "--examples", "100", "--force", "--quiet"
        )
        assert done.exit_code == 0, done.output
        (line,) = [line for line in done.stdout.splitlines() if "rescaled ×2" in line]
        assert "λ₁" in line
        assert "rises by" in done.stdout.splitlines()[0]
