"""Units found by tracing, and alignment: a network and its permuted copy are one and the same again."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Command
from torch import Tensor, nn

from landscape import checkpoint as checkpoints
from landscape import problem as problems
from landscape.alignment import align, reordered
from landscape.checkpoint import Checkpoint
from landscape.errors import InputError
from landscape.evaluate import predict
from landscape.problem import Problem
from landscape.split import Split
from landscape.surface import Surface
from landscape.symmetry import Group, match, match_activations, permuted, shuffled, traced
from landscape.training.run import train
from landscape.training.settings import resolve
from landscape.vector import layout_of


def groups_of(problem: Problem) -> tuple[Group, ...]:
    return traced(problem).groups


ZOO = ("mlp-32-16", "resnet8", "resnet18-w8", "preactresnet-11", "wrn-10-1", "pyramidnet-20-24")


def point(problem: Problem, seed: int) -> Checkpoint:
    """A network in general position: first weights, all of them and BatchNorm's statistics moved off their defaults."""
    model = problem.build(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())):
            tensor.add_(0.1 * torch.rand(tensor.shape, generator=generator))
    theta = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    return Checkpoint(theta, dict(model.named_buffers()), layout_of(model), name=str(seed), sha256=f"{seed:064}")


def outputs(problem: Problem, checkpoint: Checkpoint) -> Tensor:
    surface = Surface(problem)
    surface.at(checkpoint, recalibrated=False)
    return predict(surface.flat.model, problem.test.head(50), 50)


@pytest.mark.parametrize("name", ZOO)
def test_a_permuted_copy_comes_back_exactly_and_computes_the_same(name: str) -> None:
    problem = problems.load(f"digits/{name}")
    a, groups = point(problem, 0), groups_of(problem)
    b = reordered(a, groups, shuffled(groups, seed=1))
    expected = outputs(problem, a)
    assert torch.dist(a.theta, b.theta) > 1
    assert float((outputs(problem, b) - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
    found = align(problem, a, b, starts=1)
    assert torch.equal(found.checkpoint.theta, a.theta)  # L2 = 0, and not one bit more
    assert all(torch.equal(value, a.buffers[key]) for key, value in found.checkpoint.buffers.items())
    assert found.reached[0] <= 1e-5  # the square root of a difference of squares, which rounds at 1e-16


def test_residual_streams_share_their_units_and_zero_channels_split_them() -> None:
    groups = groups_of(problems.load("digits/resnet8"))
    assert [len(group) for group in groups] == [8, 8, 16, 8, 32, 16]  # 8 of the stem go on through all three stages
    stem = {place.name: place.positions for place in groups[0].places}
    assert stem["stem.weight"].ravel().tolist() == stem["blocks.2.norm2.running_var"].ravel().tolist() == list(range(8))
    new = {place.name: place.positions for place in groups[5].places}
    assert new["head.weight"].ravel().tolist() == list(range(16, 32))
    for group in groups:  # BatchNorm's four go together
        names = {place.name for place in group.places}
        norms = {name.rpartition(".")[0] for name in names if "norm" in name}
        assert {f"{n}.{k}" for n in norms for k in ("weight", "bias", "running_mean", "running_var")} <= names


def test_every_hidden_unit_of_an_mlp_is_found_and_nothing_else() -> None:
    groups = groups_of(problems.load("digits/mlp-32-16"))
    places = [sorted((p.name, p.axis) for p in group.places) for group in groups]
    assert [len(group) for group in groups] == [32, 16]
    assert places[0] == [("layers.0.bias", 0), ("layers.0.weight", 0), ("layers.1.weight", 1)]


class Mixed(nn.Module):
    """Concatenation, depthwise and flattened convolutions, gates, attention: what the built-in networks lack."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 6, 3, padding=1)
        self.two = nn.Conv2d(9, 8, 3, padding=1)
        self.norm = nn.GroupNorm(1, 17)
        self.each = nn.Conv2d(17, 17, 3, padding=1, groups=17)
        self.squeeze = nn.Linear(17, 4)
        self.excite = nn.Linear(4, 17)
        self.flat = nn.Linear(17 * 16, 12)
        self.block = nn.TransformerEncoderLayer(12, 2, 10, dropout=0.0, batch_first=True)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x, F.relu(self.one(x))], 1)
        x = self.norm(torch.cat([x, F.gelu(self.two(x))], 1))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3))))))
        x = F.max_pool2d(self.each(x) * gate[:, :, None, None], 2)
        x = self.block(self.flat(x.flatten(1))[:, None])[:, 0]
        value, opened = x.chunk(2, 1)
        logits: Tensor = self.head(value * torch.tanh(opened))
        return logits


def problem_of(model: type[nn.Module]) -> Problem:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(60, 3, 8, 8, generator=generator), torch.randint(0, 5, (60,), generator=generator)
    return Problem(model=model, train=Split(x, y), test=Split(x, y))


def test_any_module_is_traced_without_knowing_it() -> None:
    problem = problem_of(Mixed)
    groups = groups_of(problem)
    assert sorted(map(len, groups)) == [4, 6, 6, 8, 10]  # the pairs that gates make of 12 are 6
    a = point(problem, 0)
    b = reordered(a, groups, shuffled(groups, 3))
    assert torch.equal(align(problem, a, b, starts=2).checkpoint.theta, a.theta)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 6)
        self.memory = nn.LSTM(6, 4, batch_first=True)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.memory(self.inner(x[:, 0]))[0][:, -1])
        return logits


class Hidden(nn.Module):
    """Hides from the tracer that it weighs units by their place."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(192, 6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x.flatten(1))
        weighted = torch.tensor((y.detach().numpy() * np.arange(6)).tolist(), dtype=y.dtype)
        logits: Tensor = self.head(torch.relu(y)) + weighted.sum(1, keepdim=True)
        return logits


def test_a_network_that_cannot_be_traced_is_refused_in_one_line_that_names_the_module() -> None:
    with pytest.raises(InputError, match=r"through \w+ in memory \(LSTM\)"):
        groups_of(problem_of(Recurrent))


def test_what_the_tracer_cannot_see_is_found_by_trying() -> None:
    with pytest.raises(InputError, match="permuting them changed outputs"):
        groups_of(problem_of(Hidden))


def test_weight_matching_of_one_layer_is_the_best_of_all_permutations() -> None:
    problem = problem_of(lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.ReLU(), nn.Linear(5, 5)))
    groups = groups_of(problem)
    a, b = (c.layout.views(c.theta.double()) for c in (point(problem, 0), point(problem, 1)))
    found = match(groups, a, b, starts=2)
    every = [permuted(groups, (np.array(order),), b) for order in permutations(range(5))]
    best = max(sum(float((a[k] * c[k]).sum()) for k in a) for c in every)
    assert found.products == pytest.approx(best, rel=1e-12)


class Skip(nn.Module):
    """The hidden units read themselves: one tensor with the same units in both axes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(192, 12)
        self.inner = nn.Linear(12, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x.flatten(1)))
        logits: Tensor = self.head(x + F.relu(self.inner(x)))
        return logits


@pytest.mark.parametrize("model", [Skip, Mixed])
def test_matching_never_ends_below_where_it_began(model: type[nn.Module]) -> None:
    problem = problem_of(model)
    groups = groups_of(problem)
    a, b = (c.layout.views(c.theta.double()) for c in (point(problem, 0), point(problem, 1)))
    found = match(groups, a, b, starts=4, seed=1)
    begun = sum(float((a[k] * b[k]).sum()) for k in a)
    assert found.products[1] >= begun  # the second start is b as it is
    moved = permuted(groups, found.permutation, b)
    assert found.products.max() == pytest.approx(sum(float((a[k] * moved[k]).sum()) for k in a), rel=1e-12)
    again = match(groups, a, b, starts=4, seed=1)
    assert all(np.array_equal(x, y) for x, y in zip(found.permutation, again.permutation, strict=True))


@pytest.mark.parametrize("spec", ["digits/mlp-32-16", "digits/resnet8", "digits/pyramidnet-20-24"])
def test_activations_tell_the_units_of_a_permuted_copy_apart(spec: str) -> None:
    problem = problems.load(spec)
    a, found = point(problem, 0), traced(problem)
    assert {probe.group for probe in found.probes} == set(range(len(found.groups)))
    b = reordered(a, found.groups, shuffled(found.groups, seed=2))
    back = align(problem, a, b, by="activations").checkpoint
    expected = outputs(problem, a)
    assert float((outputs(problem, back) - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
    assert torch.equal(back.theta, a.theta)


def test_dead_units_of_a_permuted_copy_are_told_apart_by_their_weights() -> None:
    problem = problems.load("digits/mlp-32-16")
    alive, found = point(problem, 0), traced(problem)
    theta = alive.theta.clone()
    views = alive.layout.views(theta)
    biases = [name for name in alive.layout.names if name.endswith("bias")][:2]
    for name, dead in zip(biases, (range(3, 9), (0, 5, 15)), strict=True):
        views[name][list(dead)] = -1e3  # below zero before ReLU whatever the image
    constant = alive.theta.clone()
    views = alive.layout.views(constant)
    views[biases[0]][[2, 7, 11]] = torch.tensor([0.3, 1.7, 4.1]).to(constant)
    views[biases[0].replace("bias", "weight")][[2, 7, 11]] = 0.0  # above zero whatever the image
    for point_ in (theta, constant):
        for seed in range(3):
            a = replace(alive, theta=point_)
            b = reordered(a, found.groups, shuffled(found.groups, seed=seed))
            assert torch.equal(align(problem, a, b, by="activations").checkpoint.theta, point_)


def test_activations_are_matched_by_their_correlation_over_examples_and_pixels() -> None:
    """Against NumPy's correlation of activations that hooks collect, on a network whose only group has one ReLU."""
    problem = problem_of(lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 5)))
    a, b = point(problem, 0), point(problem, 1)
    seen = []
    for checkpoint in (a, b):
        surface = Surface(problem)
        surface.at(checkpoint, recalibrated=False)
        with torch.no_grad():
            active = surface.flat.model[:2](problem.train.inputs)  # type: ignore[index]
        seen.append(active.movedim(1, 0).flatten(1).double().numpy())
    score = np.corrcoef(*seen)[:6, 6:]
    best = max(permutations(range(6)), key=lambda order: score[np.arange(6), order].sum())
    found = traced(problem)
    assert match_activations(problem, found, a, b)[0].tolist() == list(best)


def test_every_probe_sees_all_units_of_its_group_at_places_of_their_own() -> None:
    found = traced(problem_of(Mixed))
    for probe in found.probes:
        assert probe.positions.shape[0] == len(found.groups[probe.group])
        assert len(np.unique(probe.positions)) == probe.positions.size


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Problem, Path, Path]:
    """Two independent runs of a wide MLP."""
    directory, problem = tmp_path_factory.mktemp("strangers"), problems.load("digits/mlp-128")
    for seed in (0, 1):
        settings = resolve(problem.defaults, {"method": "sgd", "epochs": 15, "seed": seed})
        checkpoints.save(train(problem, settings), directory / f"{seed}.pt")
    return problem, directory / "0.pt", directory / "1.pt"


def test_align_brings_independent_runs_nearer_and_lowers_their_barrier(
    strangers: tuple[Problem, Path, Path], run: Command, tmp_path: Path
) -> None:
    import json

    _, a, b = strangers
    out = tmp_path / "b-aligned.pt"
    done = run("align", a, b, "--out", out, "--json", "--quiet")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["l2"][1] < 0.9 * told["l2"][0]
    assert told["cosine"][1] > told["cosine"][0] + 0.2
    assert told["train_barrier_loss"][1] < 0.25 * told["train_barrier_loss"][0]
    assert min(told["reached"]) == pytest.approx(told["l2"][1], rel=1e-6)
    active = run("align", a, b, "--out", tmp_path / "active.pt", "--by", "activations", "--json", "--quiet")
    assert json.loads(active.stdout)["train_barrier_loss"][1] < 0.25 * told["train_barrier_loss"][0]
    shown = run("align", a, b, "--out", tmp_path / "again.pt").stdout
    assert "units moved to be numbered like 0" in shown
    assert "barrier in train" in shown
    one, other = checkpoints.load(out), checkpoints.load(tmp_path / "again.pt")
    assert torch.equal(one.theta, other.theta)  # equal arguments, equal permutation
    assert "aligned" in run("inspect", out).stdout
    assert run("align", a, b, "--out", out).exit_code == 2  # never overwritten unasked
    assert run("align", a, b, "--out", b, "--force").exit_code == 2  # nor its own input


def test_an_aligned_checkpoint_is_one_like_any_other(strangers: tuple[Problem, Path, Path]) -> None:
    problem, *paths = strangers
    a, b = map(checkpoints.load, paths)
    made = align(problem, a, b, starts=1).checkpoint
    kept = ("problem", "data", "settings", "step", "steps", "forward", "backward")
    assert all(getattr(made, key) == getattr(b, key) for key in kept)
    assert all(torch.equal(made.history[key].nan_to_num(), b.history[key].nan_to_num()) for key in b.history)
    assert made.aligned == a.sha256
    assert not made.exact
    assert float((outputs(problem, made) - outputs(problem, b)).abs().max()) < 1e-4  # of logits about 10, float32


def test_momentum_goes_with_its_weights_so_that_training_goes_on_as_before(
    strangers: tuple[Problem, Path, Path],
) -> None:
    """One more step commutes with the permutation: train then permute equals permute then train, up to rounding."""
    problem, path, _ = strangers
    whole = checkpoints.load(path)
    settings = resolve(whole.settings)
    half = train(problem, settings, stop_at=100)
    groups = groups_of(problem)
    order = shuffled(groups, 5)
    later = train(problem, settings, start=reordered(half, groups, order), stop_at=104)
    expected = reordered(train(problem, settings, start=half, stop_at=104), groups, order)
    apart = float(torch.dist(later.theta, expected.theta))
    assert apart <= 1e-5 * float(expected.theta.norm())  # sums over units in another order: 4 steps of float32
    lost = train(
        problem, settings, start=replace(reordered(half, groups, order), optimizer=half.optimizer), stop_at=104
    )
    assert float(torch.dist(lost.theta, expected.theta)) > 100 * apart


def test_a_barrier_that_was_not_computed_has_no_unit() -> None:
    from cli.align import _barrier

    known = {"test_barrier_loss": [0.5, 0.0], "test_barrier_error": [0.25, 0.0]}
    assert _barrier("test", known) == "  barrier in test 0.500 → 0 nats, error 25.00 % → 0.00 %"
    lost = {name: [float("nan")] * 2 for name in known}
    told = "not computed → not computed: the loss is not finite everywhere between them"
    assert _barrier("test", lost) == f"  barrier in test {told}"
