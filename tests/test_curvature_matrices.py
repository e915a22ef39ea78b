"""Gauss-Newton, Fisher, trace, density, subsets: each against the dense matrix or a closed form."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from curvature_nets import Mean, Tied, Unused, block, cnn, cross_entropy, gap, images, matrix, mlp, objective, points
from torch import Tensor, nn
from torch.nn import functional

from landscape.curvature import (
    CurvatureOperator,
    FisherOperator,
    GaussNewtonOperator,
    HessianOperator,
    Kind,
    Objective,
    check_determinism,
    chunked,
    dense_hessian,
    dense_matrix,
    eigenpairs,
    estimate_trace,
    make_operator,
    sampling_error,
    spectral_density,
    subset,
    top_eigenpairs,
)
from landscape.errors import ResourceError, UsageError
from landscape.task import CrossEntropy


@pytest.fixture(autouse=True)
def _small_chunks_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "_PASS", 0)


def jacobian(problem: Objective, function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Derivative of function(outputs, targets), of shape (M,), one row at a time, in eval mode."""
    model = problem.model.eval()
    values = function(model(problem.data.inputs), problem.data.targets)
    theta = list(model.parameters())
    rows = [torch.autograd.grad(v, theta, retain_graph=True, materialize_grads=True) for v in values]
    return torch.stack([torch.cat([g.reshape(-1) for g in row]) for row in rows])


@pytest.mark.parametrize("net", ["tanh-trained", "cnn-trained"])
def test_gauss_newton_is_the_outer_product_of_jacobians(net: str) -> None:
    problem = objective(net)
    n = len(problem.data)
    j = jacobian(problem, lambda outputs, _: outputs.reshape(-1)).reshape(n, 3, -1)
    p = torch.softmax(problem.model.eval()(problem.data.inputs), dim=1).detach()
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    dense = torch.einsum("ncd,nce,nef->df", j, inner, j) / n
    for budget in (0, None):
        assert gap(*block(GaussNewtonOperator(problem, memory_budget=budget), dense)) < 1e-12


def test_gauss_newton_is_the_hessian_of_a_network_that_is_linear_in_its_weights() -> None:
    problem = Objective(nn.Linear(6, 3).double(), cross_entropy, points(), 25)
    assert gap(matrix(GaussNewtonOperator(problem)), dense_hessian(problem)) < 1e-12


@pytest.mark.parametrize("net", ["tanh-trained", "cnn-trained"])
def test_fisher_of_the_data_is_the_second_moment_of_gradients(net: str) -> None:
    problem = objective(net)
    g = jacobian(problem, cross_entropy)  # (N, D)
    assert gap(*block(FisherOperator(problem, "data"), g.T @ g / len(g))) < 1e-12


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_fisher_of_the_model_is_gauss_newton_for_a_cross_entropy(smoothing: float) -> None:
    problem = replace(objective("cnn-trained"), losses=CrossEntropy(smoothing).losses)
    vector = torch.randn(problem.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert gap(FisherOperator(problem).product(vector), GaussNewtonOperator(problem).product(vector)) < 1e-12


def test_fisher_of_the_model_needs_a_classification() -> None:
    data = replace(points(), targets=torch.zeros(60, 1, dtype=torch.float64))
    model = nn.Linear(6, 1).double()
    regression = Objective(model, lambda outputs, targets: ((outputs - targets) ** 2).sum(1), data, 25)
    with pytest.raises(UsageError, match="logits"):
        FisherOperator(regression).product(torch.zeros(7))
    assert gap(matrix(GaussNewtonOperator(regression)), dense_hessian(regression)) < 1e-12


@pytest.mark.parametrize("operator", [GaussNewtonOperator, FisherOperator])
def test_other_matrices_handle_tied_and_unused_weights_and_patterns(operator: type[CurvatureOperator]) -> None:
    for model in (Tied(), Unused()):
        problem = Objective(model.double(), cross_entropy, points(), 25)
        whole = matrix(operator(problem))
        assert (whole - whole.T).abs().max() < 1e-14
        assert torch.linalg.eigvalsh(whole)[0] > -1e-14  # positive semi-definite
    problem = objective("tanh-trained")
    part = matrix(operator(replace(problem, parameters="2.*")))
    assert gap(part, matrix(operator(problem))[56:128, 56:128]) < 1e-12


@pytest.mark.parametrize("operator", [HessianOperator, GaussNewtonOperator, FisherOperator])
def test_kept_graphs_die_with_their_operator(operator: type[CurvatureOperator]) -> None:
    gc.collect()
    gc.disable()
    try:
        held = operator(objective("cnn-trained"))
        held.product(torch.ones(held.size, dtype=torch.float64))
        grave = weakref.ref(held.weights["0.weight"])
        del held
        assert grave() is None
    finally:
        gc.enable()


class Strange(nn.Module):
    """Convolutions of every geometry, in one, two and three dimensions, with and without bias and BatchNorm weights."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)
        self.bare = nn.BatchNorm2d(4, affine=False)
        self.same = nn.Conv2d(4, 2, 3, padding="same")
        self.circular = nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")
        self.line = nn.Conv1d(2, 3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.solid = nn.Conv3d(3, 3, 1)
        self.up = nn.ConvTranspose1d(3, 2, 2, stride=2)
        self.moving = nn.BatchNorm1d(2, track_running_stats=False)  # statistics of the batch in every mode

    def forward(self, inputs: Tensor) -> Tensor:
        x = self.bare(self.grouped(inputs.repeat(1, 2, 1, 1))).tanh()
        x = self.circular(self.same(x)).tanh().flatten(2)
        x = self.norm(self.line(x)).tanh()
        x = self.solid(x[..., None, None])[..., 0, 0].tanh()
        return torch.cat([self.up(x).tanh().mean(2), self.moving(x[:, :2]).square().mean(2)[:, :1]], dim=1)


@pytest.mark.parametrize("operator", [HessianOperator, GaussNewtonOperator])
def test_layers_that_are_rewritten_stay_the_same_function(operator: type[CurvatureOperator]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Strange().double()
    model(images().inputs)
    problem = Objective(model, cross_entropy, images(12), 12)
    found = matrix(operator(problem))
    if operator is HessianOperator:
        assert gap(found, dense_hessian(problem)) < 1e-12
    else:
        j = jacobian(problem, lambda outputs, _: outputs.reshape(-1)).reshape(12, 3, -1)
        p = torch.softmax(model.eval()(problem.data.inputs), dim=1).detach()
        inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
        assert gap(found, torch.einsum("ncd,nce,nef->df", j, inner, j) / 12) < 1e-12


def test_the_trace_is_right_within_its_error() -> None:
    problem = objective("tanh-init")  # indefinite
    operator = HessianOperator(problem)
    truth = float(dense_hessian(problem).trace())
    spread = []
    for seed in range(20):
        found = estimate_trace(operator.product, operator.size, seed=seed, dtype=torch.float64)
        assert found.products == 40
        spread.append((found.value - truth) / found.standard_error)
    # Student's t with 19 degrees of freedom: 20 draws beyond 4 have probability 20 * 8e-4
    assert np.abs(spread).max() < 4
    assert 0.4 < np.std(spread) < 2


def test_a_sketch_shrinks_the_error_of_the_trace() -> None:
    problem = objective("relu-trained")
    operator = HessianOperator(problem)
    options = {"dtype": torch.float64}
    plain = [estimate_trace(operator.product, operator.size, sketch=0, samples=40, seed=s, **options) for s in range(5)]
    sketched = [estimate_trace(operator.product, operator.size, seed=s, **options) for s in range(5)]
    assert plain[0].products == sketched[0].products
    assert np.mean([t.standard_error for t in sketched]) < 0.5 * np.mean([t.standard_error for t in plain])


def test_a_trace_that_is_negative_or_within_the_sketch_is_found() -> None:
    d = -torch.arange(1.0, 301.0, dtype=torch.float64)
    found = estimate_trace(lambda v: d * v, 300, dtype=torch.float64)
    assert found.samples == 20  # a negative running mean must not end the sampling early
    assert found.value == pytest.approx(float(d.sum()), abs=4 * found.standard_error + 1e-9)
    low = torch.zeros(300, dtype=torch.float64)
    low[:5] = torch.arange(1.0, 6.0, dtype=torch.float64)
    exact = estimate_trace(lambda v: low * v, 300, dtype=torch.float64)
    assert exact.value == pytest.approx(15, abs=1e-10)
    assert exact.standard_error < 1e-10
    tiny = estimate_trace(lambda v: low[:5] * v, 5, dtype=torch.float64)
    assert (tiny.value, tiny.standard_error) == pytest.approx((15, 0))
    with pytest.raises(UsageError, match="2 samples"):
        estimate_trace(lambda v: v, 5, samples=1)


def test_the_density_is_the_histogram_of_the_eigenvalues() -> None:
    problem = objective("tanh-init")
    operator = HessianOperator(problem)
    truth = torch.linalg.eigvalsh(dense_hessian(problem)).numpy()
    found = spectral_density(operator.product, operator.size, vectors=16, steps=40, sigma=0.1, dtype=torch.float64)
    assert found.products == operator.products == 16 * 40
    assert found.weights.sum(axis=1) == pytest.approx(1)
    assert np.trapezoid(found.density, found.grid) == pytest.approx(1, abs=1e-3)
    bells = np.exp(-((found.grid[:, None] - truth) ** 2) / (2 * 0.1**2)) / (0.1 * np.sqrt(2 * np.pi))
    error = np.abs(found.density - bells.mean(axis=1))
    assert (error < 5 * found.standard_error + 1e-3).all()
    assert error.max() < 0.1 * found.density.max()


def test_lanczos_quadrature_has_the_moments_of_its_start_vector() -> None:
    # M nodes integrate polynomials up to degree 2 M - 1 exactly
    d = torch.linspace(-1, 2, 100, dtype=torch.float64)
    seen: list[Tensor] = []

    def product(v: Tensor) -> Tensor:
        seen.append(v.clone())
        return d * v

    found = spectral_density(product, 100, steps=6, vectors=2, dtype=torch.float64)
    for power in range(12):
        moment = float(seen[0] ** 2 @ d**power)
        assert found.weights[0] @ found.nodes[0] ** power == pytest.approx(moment, rel=1e-10, abs=1e-12)


def test_the_density_of_a_tiny_operator_is_exact_and_repeats_by_seed() -> None:
    d = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    found = spectral_density(lambda v: d * v, 3, dtype=torch.float64)
    assert found.nodes == pytest.approx(np.tile([4.0, 2.0, 1.0], (4, 1)))
    again = spectral_density(lambda v: d * v, 3, dtype=torch.float64)
    assert found.density.tobytes() == again.density.tobytes()
    zero = spectral_density(lambda v: 0 * v, 3, dtype=torch.float64)
    assert np.isfinite(zero.density).all()
    with pytest.raises(UsageError, match="2 vectors"):
        spectral_density(lambda v: v, 3, vectors=1)


def test_the_sampling_error_is_the_spread_over_draws() -> None:
    whole = replace(objective("relu-trained"), data=points(1500, seed=3), chunk=500)
    found = eigenpairs(whole, 2)
    values, errors = [], []
    for seed in range(30):
        part = subset(whole, 300, seed)
        operator = HessianOperator(part)
        values.append([sum(operator.quotients(v)) for v in found.vectors])
        errors.append(sampling_error(part, found.vectors, population=1500))
    spread, told = np.std(values, axis=0, ddof=1), np.mean(errors, axis=0)
    assert spread / told == pytest.approx(1, abs=0.4)  # a standard deviation of 30 draws has an error of 13 %
    np.testing.assert_allclose(np.mean(values, axis=0), found.values, atol=4 * told.max() / np.sqrt(30))
    assert sampling_error(whole, found.vectors, population=1500) == pytest.approx([0, 0])


def test_a_subset_is_a_random_part_without_repeats() -> None:
    whole = objective("tanh-trained")
    part = subset(whole, 20, seed=1)
    rows = {tuple(row) for row in part.data.inputs.tolist()}
    assert len(rows) == 20
    assert rows < {tuple(row) for row in whole.data.inputs.tolist()}
    assert not torch.equal(part.data.inputs, subset(whole, 20, seed=2).data.inputs)
    with pytest.raises(UsageError, match="1 to 60"):
        subset(whole, 61)
    with pytest.raises(UsageError, match="two groups"):
        sampling_error(subset(whole, 1), torch.zeros(1, whole.size, dtype=torch.float64))


class RandomInEval(nn.Module):
    """Dropout that does not know about eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.noise, self.head = nn.Linear(6, 8), AlwaysDropout(), nn.Linear(8, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.noise(torch.tanh(self.first(inputs))))


class AlwaysDropout(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return functional.dropout(inputs, 0.5)


def test_a_random_network_is_refused_and_the_module_named() -> None:
    problem = Objective(RandomInEval().double(), cross_entropy, points(), 25)
    with pytest.raises(UsageError, match=r"random: module 'noise' \(AlwaysDropout\)"):
        eigenpairs(problem, 1)
    hooks = [len(module._forward_hooks) for module in problem.model.modules()]
    assert sum(hooks) == 0
    noisy = Objective(mlp().double(), lambda o, t: cross_entropy(o + torch.randn_like(o), t), points(), 25)
    with pytest.raises(UsageError, match="random: the loss function"):
        eigenpairs(noisy, 1)


def test_dropout_in_train_mode_is_switched_off() -> None:
    model = nn.Sequential(mlp(), nn.Dropout(0.5), nn.BatchNorm1d(3)).double().train()
    for mode in ("eval", "train"):
        check_determinism(HessianOperator(Objective(model, cross_entropy, points(), 30), mode))
    assert all(module.training for module in model.modules())


def test_memory_that_runs_out_halves_the_chunk(caplog: pytest.LogCaptureFixture) -> None:
    def hungry(outputs: Tensor, targets: Tensor) -> Tensor:
        if len(targets) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return cross_entropy(outputs, targets)

    problem = replace(objective("cnn-trained"), losses=hungry, chunk=48)
    easy = HessianOperator(objective("cnn-trained"))
    vector = torch.ones(easy.size, dtype=torch.float64)
    operator = HessianOperator(problem)
    with caplog.at_level(logging.WARNING):
        assert gap(operator.product(vector), easy.product(vector)) < 1e-12
    assert operator.objective.chunk == 6
    assert "the chunk is now 6 examples" in caplog.text
    assert gap(HessianOperator(problem).gradient(), easy.gradient()) < 1e-12
    with pytest.raises(ResourceError, match="batch statistics"):
        HessianOperator(problem, "train").product(vector)
    with pytest.raises(ResourceError, match="chunk of 1 examples"):
        HessianOperator(replace(problem, losses=lambda o, t: hungry(o, t.repeat(9)))).product(vector)


def test_memory_that_runs_out_while_graphs_are_kept_keeps_fewer() -> None:
    problem = objective("cnn-trained")
    easy = HessianOperator(problem)
    vector = torch.ones(easy.size, dtype=torch.float64)
    expected = easy.product(vector)
    held = [0]

    class Crowded(HessianOperator):
        def linearise(self, start: int, stop: int, keep: bool) -> Callable[..., object]:  # type: ignore[override]
            held[0] = held[0] + 1 if keep and start else int(keep)
            if held[0] > 2:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return super().linearise(start, stop, keep)

    operator = Crowded(problem, memory_budget=400_000)
    assert torch.equal(operator.product(vector), expected)
    assert operator.objective.chunk == problem.chunk
    with pytest.raises(RuntimeError, match="another"):
        HessianOperator(replace(problem, losses=fails)).gradient()


def fails(outputs: Tensor, targets: Tensor) -> Tensor:
    raise RuntimeError("another failure")


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("net", ["tanh-trained", "cnn-trained"])
def test_the_dense_engine_judges_every_matrix(net: str, kind: Kind) -> None:
    for problem in (objective(net), replace(objective(net), parameters="*weight")):
        dense = dense_matrix(problem, kind)
        assert gap(matrix(make_operator(kind, problem)), dense) < 1e-12
        truth, fast = (eigenpairs(problem, 3, engine, kind=kind) for engine in ("dense", "lanczos"))
        assert truth.converged
        np.testing.assert_allclose(truth.values, torch.linalg.eigvalsh(dense).flip(0)[:3].numpy(), rtol=1e-12)
        assert (np.abs(fast.values - truth.values) <= fast.residuals + fast.rounding).all()
        assert abs(truth.smallest - fast.smallest) <= fast.smallest_residual + 3e-3 * truth.values[0]


def test_the_dense_engine_refuses_what_the_operators_refuse() -> None:
    problem = objective("tanh-trained")
    floats = replace(problem, data=replace(problem.data, targets=problem.data.targets.double()))
    with pytest.raises(UsageError, match="logits"):
        eigenpairs(floats, 1, "dense", kind="fisher")
    with pytest.raises(UsageError, match="engine 'pyhessian' knows no matrix but the Hessian, got 'ggn'"):
        eigenpairs(problem, 1, "pyhessian", kind="ggn")


def test_eigenpairs_of_any_operator() -> None:
    problem = objective("tanh-trained")
    operator = FisherOperator(problem, "data")
    found = top_eigenpairs(operator.product, operator.size, 3, dtype=torch.float64)
    np.testing.assert_allclose(found.values, torch.linalg.eigvalsh(matrix(operator)).flip(0)[:3].numpy(), rtol=1e-3)
    assert -1e-3 * found.values[0] < found.smallest


def test_a_network_without_batchnorm_does_not_depend_on_its_mode() -> None:
    problem = objective("tanh-trained")
    vector = torch.ones(problem.size, dtype=torch.float64)
    assert torch.equal(HessianOperator(problem, "train").product(vector), HessianOperator(problem).product(vector))


def test_images_in_bytes_are_scaled_on_the_way() -> None:
    generator = torch.Generator().manual_seed(0)
    raw = torch.randint(256, (12, 1, 6, 6), generator=generator, dtype=torch.uint8)
    data = replace(images(12), inputs=raw, mean=(0.5,), std=(0.25,))
    problem = Objective(cnn().double(), cross_entropy, data, 5)
    scaled = replace(problem, data=replace(images(12), inputs=(raw.double() / 255 - 0.5) / 0.25))
    vector = torch.ones(problem.size, dtype=torch.float64)
    assert gap(HessianOperator(problem).product(vector), HessianOperator(scaled).product(vector)) < 1e-12
    assert isinstance(problem.model[-2], Mean)  # type: ignore[index]
