"""The operator is the Hessian of the mean loss, whatever the batches, and leaves no trace."""

from __future__ import annotations

import copy
import gc
import itertools
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from curvature_nets import (
    NETS,
    Tied,
    Unused,
    block,
    cross_entropy,
    disordered_model,
    fingerprint,
    gap,
    images,
    matrix,
    mlp,
    objective,
    points,
    train,
)
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from landscape.curvature import HessianOperator, Objective, chunked, dense_hessian, eigenpairs
from landscape.curvature.bilinear import by_phases
from landscape.curvature.rounding import skewness
from landscape.errors import InputError, LandscapeError, UsageError
from landscape.split import Split


@pytest.fixture(autouse=True)
def _small_chunks_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "_PASS", 0)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("budget", [0, None], ids=["recomputed", "kept"])
def test_products_are_those_of_the_dense_hessian(net: str, budget: int | None) -> None:
    problem = objective(net)
    assert gap(*block(HessianOperator(problem, memory_budget=budget), dense_hessian(problem))) < 1e-12


def test_dense_hessian_of_softmax_regression_is_the_closed_form() -> None:
    # H = 1/N sum_i (diag p_i - p_i p_i^T) (x) x_i x_i^T for logits W x
    data = points(20)
    model = nn.Linear(6, 3, bias=False).double()
    p = torch.softmax(data.inputs @ model.weight.detach().T, dim=1)
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    closed = torch.einsum("nij,nk,nl->ikjl", inner, data.inputs, data.inputs).reshape(18, 18) / 20
    assert gap(dense_hessian(Objective(model, cross_entropy, data, 7)), closed) < 1e-13


def test_dense_hessian_is_that_of_autograd_functional() -> None:
    problem = objective("tanh-trained")
    names, shapes = problem.names, [p.shape for p in problem.model.parameters()]
    sizes = [shape.numel() for shape in shapes]

    def loss(theta: Tensor) -> Tensor:
        pieces = [piece.view(shape) for piece, shape in zip(theta.split(sizes), shapes, strict=True)]
        weights = dict(zip(names, pieces, strict=True))
        outputs = torch.func.functional_call(problem.model, weights, (problem.data.inputs,))
        return cross_entropy(outputs, problem.data.targets).mean()

    theta = torch.cat([p.detach().reshape(-1) for p in problem.model.parameters()])
    assert gap(dense_hessian(problem), torch.autograd.functional.hessian(loss, theta)) < 1e-12


@pytest.mark.parametrize("net", ["relu-trained", "cnn-trained"])
def test_chunk_size_changes_nothing_in_eval_mode(net: str) -> None:
    # a mean over batches of unequal size, taken as if they were equal, is wrong by percents
    whole = HessianOperator(objective(net, chunk=1000))
    vector = torch.randn(whole.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected, slope = whole.product(vector), whole.gradient()
    for chunk in (1, 7, 17, 48):
        operator = HessianOperator(objective(net, chunk=chunk))
        assert gap(operator.product(vector), expected) < 1e-10
        assert gap(operator.gradient(), slope) < 1e-10


def test_gradient_is_that_of_backward() -> None:
    problem = objective("cnn-trained")
    model = copy.deepcopy(problem.model).eval()
    cross_entropy(model(problem.data.inputs), problem.data.targets).mean().backward()
    expected = torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])
    assert gap(HessianOperator(problem).gradient(), expected) < 1e-12


def test_kept_recomputed_and_partly_kept_graphs_agree_bitwise() -> None:
    problem = objective("cnn-trained", torch.float32)
    vector = torch.randn(HessianOperator(problem).size, generator=torch.Generator().manual_seed(0))
    operators = [HessianOperator(problem, memory_budget=budget) for budget in (0, 100_000, None)]
    products = [operator.product(vector) for operator in operators]
    kept = [sum(map(bool, (operator._kept or {}).values())) for operator in operators]
    assert kept[0] == 0 < kept[1] < kept[2] == 3
    assert torch.equal(products[0], products[1])
    assert torch.equal(products[0], products[2])
    assert [operator.products for operator in operators] == [1, 1, 1]


@pytest.mark.parametrize("budget", [0, None], ids=["recomputed", "kept"])
def test_small_chunks_are_put_together_unless_they_define_the_result(
    monkeypatch: pytest.MonkeyPatch, budget: int | None
) -> None:
    problem = objective("cnn-trained")
    vector = torch.randn(HessianOperator(problem).size, dtype=torch.float64)
    expected = HessianOperator(problem).product(vector)
    per_example = HessianOperator(problem).graph_bytes() // len(problem.data)
    for size, passes in ((10**9, 1), (30 * per_example, 2), (per_example, 3)):
        monkeypatch.setattr(chunked, "_PASS", size)
        operator = HessianOperator(problem, memory_budget=budget)
        assert gap(operator.product(vector), expected) < 1e-13
        assert len(operator._kept or {}) == passes
    monkeypatch.setattr(chunked, "_PASS", 10**9)
    by_batch = HessianOperator(problem, "train", budget)
    by_batch.product(vector)
    assert len(by_batch._kept or {}) == 3


class Folds(nn.Module):
    """BatchNorm before a convolution, behind one that is used twice, and without scale behind one with groups."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.behind = nn.BatchNorm2d(1), nn.BatchNorm2d(4)
        self.first, self.second = nn.Conv2d(1, 4, 3, 2), nn.Conv2d(4, 4, 1, groups=2)
        self.bare, self.head = nn.BatchNorm2d(4, affine=False), nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        first = self.first(self.before(inputs))
        second = self.second(torch.tanh(first + self.behind(first)))
        return self.head((self.bare(second) ** 2).mean((2, 3)))


def test_batchnorm_is_folded_into_the_convolution_before_it_and_into_no_other() -> None:
    data = images()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = train(Folds().double(), data, 20)
    problem = Objective(model, cross_entropy, data, 17)
    for budget in (0, None):
        assert gap(*block(HessianOperator(problem, memory_budget=budget), dense_hessian(problem))) < 1e-12


def test_slopes_by_phases_are_those_of_the_convolution() -> None:
    sizes = itertools.product((1, 2, 3, 5), (1, 3, 4), (2, 3), (0, 1, 2), (7, 8), (9, 12))
    generator = torch.Generator().manual_seed(0)
    for high, wide, stride, padding, height, width in sizes:
        x, w = (torch.randn(2, 3, *shape, generator=generator) for shape in ((height, width), (high, wide)))
        taken = (None, (stride, stride), (padding, 1), (1, 1), False, (0, 0), 1)
        g = torch.randn(torch.convolution(x, w, *taken).shape, generator=generator)
        expected = torch.ops.aten.convolution_backward(g, x, w, *taken, (True, False, False))[0]
        assert torch.allclose(by_phases(g, w, (height, width), stride, (padding, 1)), expected, atol=1e-5)


class Flattens(nn.Module):
    """A network that flattens by `view`, which takes one order in memory only, and has a narrow layer with a stride."""

    def __init__(self, by_view: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 3, 3, 2, 1)
        self.norm, self.head, self.by_view = nn.BatchNorm2d(3), nn.Linear(27, 3), by_view

    def forward(self, inputs: Tensor) -> Tensor:
        found = torch.tanh(self.norm(self.second(torch.relu(self.first(inputs)))))
        return self.head(found.view(len(found), -1) if self.by_view else found.flatten(1))


def test_the_order_of_images_in_memory_changes_rounding_alone() -> None:
    data = images()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trained = train(Flattens(by_view=False).double(), data, 20).state_dict()
    dense, orders = None, []
    for by_view in (False, True):
        model = Flattens(by_view).double()
        model.load_state_dict(trained)
        dense = dense_hessian(Objective(model, cross_entropy, data, 17)) if dense is None else dense
        operator = HessianOperator(Objective(model.float(), cross_entropy, data.to("cpu", torch.float32), 17))
        products, expected = block(operator, dense)
        assert gap(products, expected) < 1e-5
        orders.append(operator._channels_last)
    assert orders == [True, False]


class Changed(nn.Module):
    """A convolution whose output is changed in place before BatchNorm sees it."""

    def __init__(self, change: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.first, self.norm, self.head = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 3)
        self.change = change

    def forward(self, inputs: Tensor) -> Tensor:
        found = self.first(inputs)
        self.change(found)
        return self.head(torch.tanh(self.norm(found)).mean((2, 3)))


CHANGES: dict[str, Callable[[Tensor], object]] = {
    "whole": lambda found: found.tanh_(),
    "scaled": lambda found: found.mul_(0.5),
    "part": lambda found: found[:, 0].mul_(0.5),
    "moved": lambda found: found.add_(0.5),
}


@pytest.mark.parametrize("change", CHANGES)
def test_batchnorm_is_not_folded_into_a_convolution_that_was_changed_since(change: str) -> None:
    data = images()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = train(Changed(CHANGES[change]).double(), data, 20)
    problem = Objective(model, cross_entropy, data, 17)
    assert gap(*block(HessianOperator(problem), dense_hessian(problem))) < 1e-12


def test_weights_of_given_length_have_the_second_derivative_of_finite_differences() -> None:
    data, step = points(), 1e-5
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(weight_norm(nn.Linear(6, 4)), nn.Tanh(), nn.Linear(4, 3)).double()
    problem = Objective(model, cross_entropy, data, 25)
    dense, rows = dense_hessian(problem), []
    for parameter in model.parameters():
        for place in range(parameter.numel()):
            slopes = []
            for side in (step, -step):
                moved = copy.deepcopy(model)
                dict(moved.named_parameters())[name_of(model, parameter)].data.view(-1)[place] += side
                slopes.append(HessianOperator(replace(problem, model=moved)).gradient())
            rows.append((slopes[0] - slopes[1]) / (2 * step))
    assert gap(dense, torch.stack(rows)) < 1e-8
    assert gap(*block(HessianOperator(problem), dense)) < 1e-12


def name_of(model: nn.Module, parameter: nn.Parameter) -> str:
    return next(name for name, each in model.named_parameters() if each is parameter)


class Skewed(torch.autograd.Function):
    """x², whose first derivative is right and whose second one is not."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * slope * x.roll(1, -1).detach().roll(-1, -1) + 0 * slope * x + slope * (x - x.detach()).roll(1, -1)


class Wrong(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return Skewed.apply(self.layer(inputs))  # type: ignore[no-untyped-call, no-any-return]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_second_derivatives_that_are_not_symmetric_are_refused(dtype: torch.dtype) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        problem = Objective(Wrong().to(dtype), cross_entropy, points(), 25)
    for engine in ("dense", "lanczos"):
        with pytest.raises(InputError, match="not symmetric"):
            eigenpairs(problem, 2, engine)


def fitted(margin: float, dtype: torch.dtype) -> Objective:
    """One example whose logits, all weights of the last layer's bias apart, are `margin` ahead of the others."""
    model = mlp(nn.Tanh).to(dtype)
    data = Split(points().inputs[:1].to(dtype), points().targets[:1])
    with torch.no_grad():
        model[-1].bias += margin * nn.functional.one_hot(data.targets[0], 3)  # type: ignore[index, operator]
    return Objective(model, cross_entropy, data)


def test_an_example_fitted_to_the_last_digit_is_rounding_and_no_fault_of_the_network() -> None:
    exact = fitted(16.0, torch.float64)
    value = float(torch.linalg.eigvalsh(dense_hessian(exact))[-1])
    assert eigenpairs(exact, 1).values[0] == pytest.approx(value, rel=1e-6)
    with pytest.raises(UsageError, match="symmetric in float64") as error:
        eigenpairs(fitted(16.0, torch.float32), 1)
    assert error.value.remedy == "use --dtype float64"


def test_a_wrong_second_derivative_is_told_from_rounding_by_one_random_vector() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        wrong = Objective(Wrong().double(), cross_entropy, points(), 25)
    assert skewness(HessianOperator(wrong)) > 1e-2
    assert skewness(HessianOperator(fitted(16.0, torch.float64))) < 1e-6


class Strides(nn.Module):
    """A network whose outputs hang on the order of images in memory."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.first, self.head, self.kind = nn.Conv2d(1, 2, 3), nn.Linear(32, 3), kind

    def forward(self, inputs: Tensor) -> Tensor:
        found = self.first(inputs)
        if self.kind == "strided":
            return self.head(torch.as_strided(torch.tanh(found), (len(found), 32), (32, 1)))
        if self.kind == "backward":
            return self.head(Viewed.apply(found).flatten(1))  # type: ignore[no-untyped-call, no-any-return]
        found.reshape(len(found), -1)[:, ::2].mul_(2)  # a view in one order, a copy in the other
        return self.head(torch.tanh(found).flatten(1))


class Viewed(torch.autograd.Function):
    """tanh with a backward pass that views."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return (slope.view(-1) * (1 - x.view(-1).tanh() ** 2)).view_as(x)


@pytest.mark.parametrize("kind", ["strided", "in place", "backward"])
def test_a_network_that_uses_strides_is_given_the_order_it_is_written_for(kind: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Strides(kind).double()
    data = images()
    dense = dense_hessian(Objective(model, cross_entropy, data, 17))
    operator = HessianOperator(Objective(model.float(), cross_entropy, data.to("cpu", torch.float32), 17))
    assert gap(*block(operator, dense)) < 1e-5


def test_several_vectors_go_through_narrow_layers_with_a_stride_together() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, 2, 1), nn.Tanh(), nn.Conv2d(4, 2, 3, 2, 1), nn.Flatten(), nn.Linear(8, 3)
        )
    operator = HessianOperator(Objective(model, cross_entropy, images().to("cpu", torch.float32), 17))
    vectors = torch.randn(4, operator.size, generator=torch.Generator().manual_seed(0))
    assert gap(operator._together(vectors), torch.stack([operator.product(v) for v in vectors])) < 1e-5


def test_batchnorm_train_mode_is_the_hessian_with_batch_statistics() -> None:
    problem = objective("cnn-trained", chunk=16)
    train = HessianOperator(problem, "train")
    dense = dense_hessian(problem, "train")
    assert gap(*block(train, dense)) < 1e-12
    assert gap(dense, dense_hessian(problem)) > 0.1


def test_a_tied_weight_is_one_block() -> None:
    problem = Objective(Tied().double(), cross_entropy, points(), 25)
    assert problem.names == ("encode.weight", "decode.bias", "head.weight", "head.bias")
    assert gap(matrix(HessianOperator(problem)), dense_hessian(problem)) < 1e-12


def test_an_unused_parameter_is_a_zero_block() -> None:
    problem = Objective(Unused().double(), cross_entropy, points(), 25)
    found = matrix(HessianOperator(problem))
    assert gap(found, dense_hessian(problem)) < 1e-12
    assert found[:21, :21].abs().max() > 0
    assert found[21:].abs().max() == 0 == found[:, 21:].abs().max()


def test_a_frozen_layer_is_a_constant() -> None:
    model = mlp().double()
    model[0].requires_grad_(False)
    problem = Objective(model, cross_entropy, points(), 25)
    assert problem.size == 8 * 8 + 8 + 8 * 3 + 3
    assert gap(matrix(HessianOperator(problem)), dense_hessian(problem)) < 1e-12


def test_a_pattern_selects_a_diagonal_block() -> None:
    whole = objective("tanh-trained")
    part = replace(whole, parameters="2.*")
    chosen = slice(56, 56 + 72)
    assert gap(matrix(HessianOperator(part)), dense_hessian(whole)[chosen, chosen]) < 1e-12


def test_a_loss_that_is_linear_in_the_weights_has_hessian_zero() -> None:
    model = nn.Linear(6, 1, bias=False).double()
    problem = Objective(model, lambda outputs, targets: outputs[:, 0] * targets, points(), 25)
    operator = HessianOperator(problem)
    assert operator.product(torch.ones(6, dtype=torch.float64)).abs().max() == 0
    assert operator.gradient().abs().max() > 0


def test_attention_is_differentiated_twice() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attend, self.head = nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            tokens = inputs[:, None, :] * torch.linspace(0.5, 1.5, 4, dtype=inputs.dtype)[:, None]
            return self.head(self.attend(tokens, tokens, tokens, need_weights=False)[0].mean(1))

    problem = Objective(Attention().double(), cross_entropy, points(12), 5)
    operator = HessianOperator(problem)
    vector = torch.randn(operator.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    h = 1e-5
    shifted = []
    for sign in (1, -1):
        moved = copy.deepcopy(problem.model)
        offset = 0
        for p in moved.parameters():
            p.data += sign * h * vector[offset : offset + p.numel()].view_as(p)
            offset += p.numel()
        shifted.append(HessianOperator(replace(problem, model=moved)).gradient())
    assert gap(operator.product(vector), (shifted[0] - shifted[1]) / (2 * h)) < 1e-7  # error of order h^2


USES: dict[str, Callable[[Objective], object]] = {
    "eval product": lambda problem: HessianOperator(problem).product(torch.ones(problem.size)),
    "train product": lambda problem: HessianOperator(problem, "train").product(torch.ones(problem.size)),
    "recomputed product": lambda problem: HessianOperator(problem, memory_budget=0).product(torch.ones(problem.size)),
    "gradient": lambda problem: HessianOperator(problem).gradient(),
    "dense": dense_hessian,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_no_trace_is_left(use: str, precision: str) -> None:
    model = disordered_model()
    problem = Objective(model, cross_entropy, images().to("cpu", torch.float32), 16)
    try:
        torch.set_float32_matmul_precision(precision)
        before = fingerprint(model)
        USES[use](problem)
        assert fingerprint(model) == before
    finally:
        torch.set_float32_matmul_precision("highest")


def test_no_trace_is_left_when_an_exception_passes_through() -> None:
    def fail(outputs: Tensor, targets: Tensor) -> Tensor:
        torch.rand(3)
        assert not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "highest"
        raise KeyboardInterrupt

    model = disordered_model()
    problem = Objective(model, fail, images().to("cpu", torch.float32), 16)
    torch.set_float32_matmul_precision("high")
    try:
        before = fingerprint(model)
        with pytest.raises(KeyboardInterrupt):
            HessianOperator(problem).product(torch.ones(problem.size))
        assert fingerprint(model) == before
    finally:
        torch.set_float32_matmul_precision("highest")


def test_the_newer_precision_flags_are_set_and_set_back() -> None:
    seen = []

    def note(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.append(torch.backends.cuda.matmul.fp32_precision)
        return cross_entropy(outputs, targets)

    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "tf32"  # now the older interface refuses to be read
        HessianOperator(Objective(mlp(), note, points().to("cpu", torch.float32), 16)).gradient()
        assert seen[0] == "ieee"
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = before


def test_no_grad_autocast_and_inference_mode_outside_change_nothing() -> None:
    problem = objective("tanh-trained", torch.float32)
    vector = torch.ones(problem.size)
    expected = HessianOperator(problem).product(vector)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(HessianOperator(problem).product(vector), expected)
    with torch.inference_mode():
        assert torch.equal(HessianOperator(problem).product(vector), expected)


def test_training_afterwards_does_not_change_the_operator() -> None:
    problem = objective("tanh-trained")
    operator = HessianOperator(problem, memory_budget=0)
    vector = torch.ones(operator.size, dtype=torch.float64)
    before = operator.product(vector)
    for parameter in problem.model.parameters():
        parameter.data.add_(1)
    assert torch.equal(operator.product(vector), before)


def test_the_graph_dies_with_the_operator() -> None:
    gc.collect()
    gc.disable()
    try:
        operator = HessianOperator(objective("tanh-trained"))
        operator.product(torch.ones(operator.size, dtype=torch.float64))
        grave = weakref.ref(operator.weights["0.weight"])
        del operator
        assert grave() is None
    finally:
        gc.enable()


def test_a_second_operator_on_the_same_model_gives_the_same_values() -> None:
    # gradients that add up in `.grad` double the second result elsewhere
    problem = objective("tanh-trained")
    vector = torch.ones(problem.size, dtype=torch.float64)
    first, second = (HessianOperator(problem).product(vector) for _ in range(2))
    assert torch.equal(first, second)


def test_requests_that_make_no_sense_are_refused() -> None:
    data = points()
    with pytest.raises(UsageError, match="no trainable parameter matches 'head"):
        Objective(mlp().double(), cross_entropy, data, 8, parameters="head.*")
    with pytest.raises(UsageError, match="float32 or float64"):
        Objective(mlp().bfloat16(), cross_entropy, data, 8)
    mixed = mlp()
    mixed[0].double()
    with pytest.raises(InputError, match="2 types"):
        Objective(mixed, cross_entropy, data, 8)
    with pytest.raises(InputError, match="data on meta"):
        Objective(mlp().double(), cross_entropy, Split(data.inputs.to("meta"), data.targets), 8)
    with pytest.raises(ValueError, match="one for each example"):
        HessianOperator(Objective(mlp().double(), lambda o, t: cross_entropy(o, t).mean(), data, 8)).gradient()
    with pytest.raises(ValueError, match="shape"):
        HessianOperator(Objective(mlp().double(), cross_entropy, data, 8)).product(torch.ones(3))
    with pytest.raises(ValueError, match="chunk"):
        Objective(mlp().double(), cross_entropy, data, 0)
    with pytest.raises(LandscapeError, match="3000 is the most"):
        dense_hessian(Objective(mlp(width=60).double(), cross_entropy, data, 8))
