"""A line against closed forms, dense autograd, finite differences and the training-mode forward of the whole set."""

from __future__ import annotations

import math
from dataclasses import replace

import curvature_nets as nets
import numpy as np
import pytest
import torch
from conftest import Pair
from scipy.interpolate import CubicSpline
from torch import Tensor, nn

from analyses import interpolate
from landscape import hermite
from landscape.checkpoint import Checkpoint
from landscape.errors import UsageError
from landscape.line import RULES, Line, check_memory
from landscape.places import grid
from landscape.pooling import Moments, Normalise, Pooled
from landscape.problem import Problem
from landscape.split import Split
from landscape.surface import Surface
from landscape.vector import layout_of


@pytest.fixture(scope="module")
def ends() -> tuple[Problem, Checkpoint, Checkpoint]:
    problem = nets.problem()
    return problem, nets.point(problem, 1), nets.point(problem, 2)


def line(ends: tuple[Problem, Checkpoint, Checkpoint], rule: str, block: int = 2000, batch: int = 17) -> Line:
    return Line(Surface(ends[0], batch_size=batch, dtype=torch.float64), *ends[1:], rule, block=block)


def whole_set(model: nn.Module, data: Split) -> Tensor:
    """Mean loss of one training-mode forward of all examples."""
    return nets.cross_entropy(model.train()(data.inputs), data.targets).mean()


def at(ends: tuple[Problem, Checkpoint, Checkpoint], alpha: float) -> nn.Module:
    """The network at a point, put together without `Line`."""
    _, a, b = ends
    model = nets.cnn().double()
    theta = (1 - alpha) * a.theta + alpha * b.theta
    model.load_state_dict(a.layout.views(theta) | dict(a.buffers))
    return model


@pytest.mark.parametrize("alpha", [-0.5, 0.0, 0.3, 1.0])
def test_exact_is_the_training_forward_of_the_whole_set_in_chunks_of_any_size(
    ends: tuple[Problem, Checkpoint, Checkpoint], alpha: float
) -> None:
    expected = float(whole_set(at(ends, alpha), ends[0].train).detach())
    for batch in (5, 17, 1000):
        assert line(ends, "exact", batch=batch).measure(alpha).mean[0, 0] == pytest.approx(expected, abs=1e-10)


def test_test_data_see_the_statistics_of_the_training_set(ends: tuple[Problem, Checkpoint, Checkpoint]) -> None:
    model = at(ends, 0.4)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    n = ends[0].train.inputs.numel()  # values per channel at full size: torch stores the unbiased variance
    whole_set(model, ends[0].train)
    for layer in (model[1], model[4]):
        layer.running_var *= (n - 1) / n  # type: ignore[operator, union-attr]
    test = ends[0].test
    with torch.no_grad():
        expected = float(nets.cross_entropy(model.eval()(test.inputs), test.targets).mean())
    assert line(ends, "exact").measure(0.4).mean[0, 1] == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("rule", RULES)
def test_slopes_are_the_derivative_of_what_is_plotted(ends: tuple[Problem, Checkpoint, Checkpoint], rule: str) -> None:
    h = 1e-6  # few ReLUs change sign within h; rounding is about 1e-16 / h
    for block in (2000, 20):
        made = line(ends, rule, block=block)
        for alpha in (0.0, 0.35, 1.2):
            ahead, behind = (made.measure(alpha + d).mean[0, 0] for d in (h, -h))
            slope = made.measure(alpha, slope=True).slope
            assert slope == pytest.approx((ahead - behind) / (2 * h), rel=1e-5, abs=1e-8), (rule, alpha)


def test_slopes_are_those_of_dense_autograd(ends: tuple[Problem, Checkpoint, Checkpoint]) -> None:
    problem, a, b = ends
    model = at(ends, 0.6)
    gradient = torch.autograd.grad(whole_set(model, problem.train), list(model.parameters()))
    expected = float(torch.cat([g.reshape(-1) for g in gradient]) @ (b.theta - a.theta))
    assert line(ends, "exact").measure(0.6, slope=True).slope == pytest.approx(expected, rel=1e-10)


def test_taking_slopes_changes_no_value(ends: tuple[Problem, Checkpoint, Checkpoint], pair: Pair) -> None:
    for rule in RULES:
        for made in (line(ends, rule), Line(Surface(pair.problem), *pair.checkpoints, rule, block=200)):
            with_slope, without = made.measure(0.4, slope=True), made.measure(0.4)
            assert np.array_equal(with_slope.mean, without.mean), rule
            assert math.isnan(without.slope)
            assert np.array_equal(with_slope.spread, without.spread)


def test_frozen_weights_that_differ_count_in_the_slope(ends: tuple[Problem, Checkpoint, Checkpoint]) -> None:
    def model() -> nn.Module:
        network = nets.cnn()
        network[3].requires_grad_(False)
        return network

    problem = replace(ends[0], model=model)
    layout = layout_of(model())
    made = []
    for checkpoint in ends[1:]:
        named = checkpoint.layout.views(checkpoint.theta)
        buffers = dict(checkpoint.buffers) | {"3.weight": named.pop("3.weight")}
        theta = torch.cat([named[name].reshape(-1) for name in layout.names])
        made.append(replace(checkpoint, theta=theta, buffers=buffers, layout=layout))
    for rule in RULES:
        frozen = Line(Surface(problem, dtype=torch.float64, batch_size=17), *made, rule).measure(0.3, slope=True)
        free = line(ends, rule).measure(0.3, slope=True)
        assert frozen.slope == pytest.approx(free.slope, rel=1e-10), rule
        assert frozen.mean == pytest.approx(free.mean, abs=1e-12)


def test_blocks_are_within_a_thousandth_of_the_whole_set(pair: Pair) -> None:
    problem = replace(pair.problem, train=pair.problem.test)  # 1297 examples
    for alpha in (0.0, 0.5, 1.0):
        whole, parts = (
            Line(Surface(problem, batch_size=250), *pair.checkpoints, "recalibrate", block=block).measure(alpha)
            for block in (2000, 700)
        )
        assert abs(whole.mean[:, 0] - parts.mean[:, 0]).max() < 1e-3


def test_a_line_is_the_same_to_the_bit_every_time_and_leaves_everything_alone(pair: Pair) -> None:
    a, b = pair.checkpoints
    before = [(c.theta.clone(), {k: v.clone() for k, v in c.buffers.items()}) for c in (a, b)]
    surface = Surface(replace(pair.problem, train=pair.problem.train.head(300)), batch_size=130)
    model, random = surface.flat.model, torch.get_rng_state()
    modes, attributes = [m.training for m in model.modules()], [sorted(vars(m)) for m in model.modules()]
    required = [p.requires_grad for p in model.parameters()]
    for rule in RULES:
        first, second = (Line(surface, a, b, rule).measure(0.3, slope=True) for _ in range(2))
        assert first.slope == second.slope
        assert np.array_equal(first.mean, second.mean)
        assert np.array_equal(first.rise, second.rise)
    assert torch.equal(torch.get_rng_state(), random)
    assert [m.training for m in model.modules()] == modes
    assert [sorted(vars(m)) for m in model.modules()] == attributes
    assert [p.requires_grad for p in model.parameters()] == required
    assert torch.is_grad_enabled()
    for (theta, buffers), c in zip(before, (a, b), strict=True):
        assert torch.equal(theta, c.theta)
        assert all(torch.equal(v, c.buffers[k]) for k, v in buffers.items())


def test_an_end_is_the_checkpoint_that_evaluate_measures(pair: Pair) -> None:
    surface = Surface(pair.problem)
    for rule in ("recalibrate", "exact"):  # 500 training examples are one block: the same function, rounded otherwise
        for alpha, checkpoint in zip((0.0, 1.0), pair.checkpoints, strict=True):
            found = Line(surface, *pair.checkpoints, rule).measure(alpha)
            surface.at(checkpoint)
            for s, name in enumerate(("train", "test")):
                score = surface.score(name)
                assert found.mean[0, s] == pytest.approx(float(score.loss), rel=1e-5)
                assert found.mean[1, s] == pytest.approx(float(score.error), abs=1e-3)


def test_a_softmax_regression_is_its_closed_form_at_the_stored_places() -> None:
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(40, 3, generator=generator), torch.randint(0, 4, (40,), generator=generator)
    problem = Problem(model=lambda: nn.Linear(3, 4), train=Split(x[:25], y[:25]), test=Split(x[25:], y[25:]))
    layout = layout_of(problem.build(0))
    a, b = (
        Checkpoint(torch.randn(16, generator=generator, dtype=torch.float64), {}, layout, name=n, sha256=n)
        for n in "ab"
    )
    found = interpolate.compute(problem, a, b, dtype="float64")
    for i, alpha in enumerate(found.alpha):
        theta = ((1 - alpha) * a.theta + alpha * b.theta).numpy()
        w, bias = theta[:12].reshape(4, 3), theta[12:]
        for s, rows in enumerate((slice(25), slice(25, None))):
            z = x[rows].numpy().astype(float) @ w.T + bias
            p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
            truth = y[rows].numpy()
            assert found.loss[s, i] == pytest.approx(-np.log(p[np.arange(len(z)), truth]).mean(), abs=1e-6)
            assert found.error[s, i] == (z.argmax(1) != truth).mean()
            if s == 0:
                change = (b.theta - a.theta).numpy()
                dz = x[rows].numpy().astype(float) @ change[:12].reshape(4, 3).T + change[12:]
                slope = (p * dz).sum(1) - dz[np.arange(len(z)), truth]
                assert found.slope[i] == pytest.approx(slope.mean(), abs=1e-6)


class Twice(nn.Module):
    """One BatchNorm layer, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.relu(self.norm(self.first(x)))
        found: Tensor = self.last(torch.relu(self.norm(self.second(seen))))
        return found


def as_initialised(problem: Problem, seed: int) -> Checkpoint:
    model = problem.build(seed, "cpu", torch.float64)
    theta = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    return Checkpoint(theta, {k: v.clone() for k, v in model.named_buffers()}, layout_of(model))


def test_a_batchnorm_layer_that_is_used_twice_has_one_statistic_for_training_and_test_data() -> None:
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    split = Split(x, torch.arange(60) % 3)
    problem = Problem(model=Twice, train=split, test=split)
    a, b = (as_initialised(problem, seed) for seed in (1, 2))
    for rule in ("recalibrate", "exact"):
        made = Line(Surface(problem, batch_size=17, dtype=torch.float64), a, b, rule)
        assert made.shared
        point = made.measure(0.4, slope=True)
        assert point.mean[0, 0] == pytest.approx(point.mean[0, 1], rel=1e-12)  # the test data are the training data
        assert math.isnan(point.slope)
        told = interpolate.listing(
            interpolate.compute(problem, a, b, options=interpolate.Options(low=0, high=1, points=5, batchnorm=rule))
        )
        assert any(line.startswith("no slopes: a BatchNorm layer is used more than once") for line in told)
        surface = Surface(problem, dtype=torch.float64)
        surface.place(*surface.between(a, b, 0.4), recalibrated=True)
        assert point.mean[0, 0] == pytest.approx(float(surface.scores()[0, 0]), rel=1e-12)


def test_moments_and_normalise_are_differentiable() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((5, 3), (4, 3, 2, 2), (4, 3, 6)):
        x = torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)
        mean, var, w, b = (
            torch.rand(3, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(4)
        )
        assert torch.autograd.gradcheck(Moments.apply, (x,))
        assert torch.autograd.gradcheck(lambda *v: Normalise.apply(*v, 1e-3), (x, mean, var, w, b))
        assert torch.autograd.gradcheck(lambda *v: Normalise.apply(*v, None, None, 1e-3), (x, mean, var))


def test_sums_are_the_same_in_every_order_of_memory() -> None:
    x = torch.randn(6, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = x.sum((0, 2, 3)), x.square().sum((0, 2, 3))
    for order in (torch.contiguous_format, torch.channels_last):
        for found, truth in zip(Moments.apply(x.to(memory_format=order)), expected, strict=True):
            assert torch.allclose(found, truth, rtol=1e-14)


class Uneven(nn.Module):
    """Uses another layer for a batch that begins with a positive number."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.BatchNorm1d(2), nn.BatchNorm1d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) if x[0, 0] > 0 else self.other(x)


def test_a_network_that_treats_chunks_differently_is_refused_and_left_whole() -> None:
    model = Uneven()
    x = torch.tensor([[1.0, 2.0], [-1.0, 0.0]])
    with pytest.raises(RuntimeError, match="different BatchNorm layers"):
        Pooled(model).block([lambda: model(x[:1]), lambda: model(x[1:])])
    assert "forward" not in vars(model.one)
    with pytest.raises(ZeroDivisionError):
        Pooled(model).block([lambda: model(x[:1]), lambda: model(x[:1]) / (1 // 0)])


def test_a_block_that_does_not_fit_is_refused(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landscape.line.default_budget", lambda device: 1000)
    with pytest.raises(UsageError, match="500 examples together"):
        check_memory(Line(Surface(pair.problem), *pair.checkpoints, "exact"), slope=True)
    check_memory(Line(Surface(pair.problem), *pair.checkpoints, "keep"), slope=True)


def test_bfloat16_is_refused_where_it_would_show(pair: Pair) -> None:
    problem = replace(pair.problem, train=pair.problem.train.head(100), test=pair.problem.test.head(50))
    options = interpolate.Options(low=-1.0, high=2.0, precision="bf16", tolerance=1e-6, points=5, slopes=False)
    refused = interpolate.compute(problem, *pair.checkpoints, options=options)
    plain = interpolate.compute(problem, *pair.checkpoints, options=replace(options, precision="fp32"))
    assert refused.precision == "fp32"
    assert refused.precision_gap > 1e-6
    assert np.array_equal(refused.loss, plain.loss)
    assert any("bf16 refused" in told for told in interpolate.listing(refused))
    used = interpolate.compute(problem, *pair.checkpoints, options=replace(options, tolerance=10.0))
    assert used.precision == "bf16"
    assert 0 < abs(used.loss[0] - plain.loss[0]).max() <= 10 * np.ptp(plain.loss[0])


# ---------------------------------------------------------------- the curve


def bumps(seed: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A random sum of bumps and kinks, and its slope."""
    random = np.random.default_rng(seed)
    y, g = 0.1 + x**2 * random.uniform(0, 1), 2 * x * 0.0
    g = 2 * x * ((y - 0.1) / np.maximum(x**2, 1e-300))
    for _ in range(6):
        c, w, h = random.uniform(0, 1), random.uniform(0.1, 0.4), random.uniform(0.1, 1)
        bump = h * np.exp(-(((x - c) / w) ** 2))
        y, g = y + bump, g - 2 * (x - c) / w**2 * bump
    for _ in range(40):
        c, h = random.uniform(0, 1), random.uniform(-0.02, 0.02)
        y, g = y + h * np.maximum(x - c, 0), g + h * (x > c)
    return y, g


@pytest.mark.parametrize("slopes", [True, False])
def test_the_estimated_error_holds_on_at_least_19_of_20_random_curves(slopes: bool) -> None:
    fine = np.linspace(0, 1, 2001)[1:]
    honest, points = [], []
    for seed in range(40 if slopes else 20):

        def measure(x: float, seed: int = seed) -> tuple[float, float]:
            y, g = bumps(seed, np.array([x]))
            return float(y[0]), float(g[0]) if slopes else math.nan

        found = hermite.refine(measure, fine[::125], 0.01, 65)
        made = hermite.through(found)
        assert made is not None
        inside = (fine >= made.x[0]) & (fine <= made.x[-1])
        truth = bumps(seed, fine)[0][inside]
        honest.append(float(abs(made(fine[inside]) - truth).max()) <= made.worst())
        points.append(len(found))
        assert made.worst() <= 0.01 * np.ptp(made.y)
    assert np.mean(honest) >= 0.95
    assert max(points) < 40


def test_a_cubic_is_reproduced_and_its_error_known_to_be_nothing() -> None:
    x = np.array([-1.0, -0.2, 0.0, 0.5, 1.0, 3.0])
    y, g = x**3 - 2 * x - 5, 3 * x**2 - 2
    for slopes in (g, None):
        made = hermite.fit(x, y, slopes)
        at = np.linspace(-1, 3, 41)
        assert made(at) == pytest.approx(at**3 - 2 * at - 5, abs=1e-12)
        assert made.worst() < 1e-12
        assert made(x) == pytest.approx(y, abs=1e-13)
    assert np.isnan(made(np.array([-1.01, 3.01]))).all()


def test_an_exponential_is_laid_through_its_logarithm() -> None:
    x = np.linspace(0, 10, 6)
    made = hermite.fit(x, np.exp(-x), -np.exp(-x))
    assert made.log
    assert made(np.array([0.7, 9.1])) == pytest.approx(np.exp([-0.7, -9.1]), rel=1e-12)


def test_a_drawn_curve_through_positive_values_stays_positive_and_through_them() -> None:
    x, y = np.array([-2.0, -1.0, -0.5, 0.0, 1.0, 2.0]), np.array([9.0, 2.0, 0.1, 1e-3, 1e-3, 1e-3])
    made = replace(hermite.fit(x, y), slopes=np.zeros(6) - 4, log=False)
    at = np.linspace(-2, 2, 401)
    assert made(at).min() < 0 < made.positive()(at).min()
    assert made.positive()(x) == pytest.approx(y, rel=1e-12)
    flat = hermite.fit(x, y + 100)
    assert flat.positive() is flat


def test_without_slopes_the_estimate_is_at_least_twice_what_the_scales_are_apart() -> None:
    x = np.linspace(-3, 3, 13)
    y = 0.1 + np.exp(-(x**2)) + 0.02 * np.cos(7 * x)
    scales = [CubicSpline(x, scaled)(x, 1) for scaled in (y, np.log(y))]
    at = np.linspace(-3, 3, 12 * 8 + 1)
    straight, log = hermite.hermite(x, y, scales[0], at), np.exp(hermite.hermite(x, np.log(y), scales[1], at))
    made = hermite.fit(x, y)
    apart = abs(straight - log)[:-1].reshape(12, 8).max(1)
    assert (made.error >= 2 * apart * (1 - 1e-12)).all()
    assert made.worst() >= float(abs(made(at) - 0.1 - np.exp(-(at**2)) - 0.02 * np.cos(7 * at)).max())


def test_refinement_goes_where_the_function_bends_and_around_what_cannot_be_had() -> None:
    def measure(x: float) -> tuple[float, float]:
        return (math.nan, math.nan) if x > 2.9 else (math.tanh(40 * (x - 1.1)), math.nan)

    found = hermite.refine(measure, np.linspace(0, 3, 13), 0.01, 60)
    placed = np.array(sorted(found))
    assert np.diff(placed).min() < 0.05
    assert np.sum(abs(placed - 1.1) < 0.3) > np.sum(abs(placed - 2.5) < 0.3)
    assert len(found) < 60
    assert hermite.through(dict.fromkeys((0.0, 1.0, 2.0), (math.nan, math.nan))) is None


def test_a_grid_holds_both_ends_and_the_marks() -> None:
    for low, high in ((0.0, 1.0), (-1.0, 2.0), (-0.05, 16.0), (-6.0, 10.0), (-2.0, 1.0)):
        for points in (5, 7, 17, 41):
            made = grid(low, high, points)
            assert {low, 0.0, 0.5, 1.0, high} <= set(made.tolist())
            assert (np.diff(made) > 0).all()
            assert abs(len(made) - points) <= 2
            assert np.diff(made)[made[1:] <= 1].min() > 0
            if points == 17:
                outside = np.diff(made)[(made[1:] <= 0) | (made[:-1] >= 1)]
                assert outside.max(initial=0.0) <= (high - low) / 7


def test_an_adaptive_line_begins_with_17_points_and_reaches_its_tolerance(pair: Pair) -> None:
    found = interpolate.compute(pair.problem, *pair.checkpoints, options=interpolate.Options(low=-4.0, high=6.0))
    assert found.adaptive
    assert 17 <= len(found.alpha) < 40
    assert {-4.0, 0.0, 0.5, 1.0, 6.0} <= set(found.alpha.tolist())
    assert found.between[0] <= 0.01 * np.ptp(found.loss[0])
    assert np.isfinite(found.slope).all()
    assert (found.error_low <= found.error).all()
    assert (found.error <= found.error_high).all()
