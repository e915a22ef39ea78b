"""Distances against their definitions, in float64; stems against runs whose common steps are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command, Pair
from torch import Tensor, nn

from analyses import distance, interpolate
from landscape import barrier, stem
from landscape import checkpoint as checkpoints
from landscape.alignment import align
from landscape.checkpoint import Checkpoint
from landscape.errors import InputError
from landscape.problem import Problem
from landscape.similarity import filter_distance, linear_cka, outputs_and_features, total_variation
from landscape.split import Split
from landscape.surface import Surface
from landscape.training.run import train
from landscape.training.settings import resolve
from landscape.vector import Layout, layout_of


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cka_by_gram_matrices(x: Tensor, y: Tensor) -> float:
    """The definition: HSIC of centred N × N Gram matrices over the root of each with itself."""
    n = len(x)
    centre = torch.eye(n, dtype=torch.float64) - 1 / n
    k, m = (centre @ z @ z.T @ centre for z in (x, y))
    return float((k * m).sum() / torch.sqrt((k * k).sum() * (m * m).sum()))


def test_linear_cka_is_that_of_centred_gram_matrices() -> None:
    x, y = normal(40, 7) + 3, normal(40, 5, seed=1) - 1
    mixed = y + x[:, :5]
    for other in (y, mixed, x):
        assert linear_cka(x, other) == pytest.approx(cka_by_gram_matrices(x, other), rel=1e-12)
    assert linear_cka(x, x) == pytest.approx(1, rel=1e-12)


def test_linear_cka_knows_no_rotation_scale_or_shift() -> None:
    x, y = normal(50, 6), normal(50, 6, seed=1)
    rotation = torch.linalg.qr(normal(6, 6, seed=2)).Q
    assert linear_cka(x @ rotation * 3 + 5, y) == pytest.approx(linear_cka(x, y), rel=1e-12)
    assert linear_cka(x @ rotation, x) == pytest.approx(1, rel=1e-12)
    assert np.isnan(linear_cka(torch.ones(9, 2), x[:9]))  # features that do not vary


def test_total_variation_is_half_the_mean_distance_of_probabilities() -> None:
    p, q = torch.tensor([[0.7, 0.2, 0.1], [1 / 3] * 3]), torch.tensor([[0.1, 0.2, 0.7], [1 / 3] * 3])
    assert total_variation(p.double().log(), q.double().log() + 5) == pytest.approx(0.3, rel=1e-6)  # (0.6 + 0) / 2
    far = torch.tensor([[100.0, 0.0]])
    assert total_variation(far, -far) == pytest.approx(1)


def test_a_filter_is_a_slice_of_a_tensor_and_a_bias_is_one_filter_or_as_many_as_it_has_entries() -> None:
    layout = Layout(("kernel", "bias", "scalar"), ((2, 1, 3), (2,), ()))
    vector = torch.arange(9.0)
    assert [rows.tolist() for rows in layout.filters(vector)] == [[[0, 1, 2], [3, 4, 5]], [[6, 7]], [[8]]]
    assert [rows.tolist() for rows in layout.filters(vector, singly=True)][1:] == [[[6], [7]], [[8]]]


def test_filter_normalised_distance_counts_filters_and_knows_no_scale_of_a_layer() -> None:
    layout = Layout(("conv", "bias", "dead"), ((2, 3, 1, 1), (2,), (2, 1)))
    x = torch.tensor([3, 0, 4, 0, 5, 0, 1, 0, 0, 2], dtype=torch.float64)
    y = torch.tensor([3, 0, 1, 0, 5, 12, 1, 2, 7, 3], dtype=torch.float64)
    value, skipped = filter_distance(x, y, layout)
    assert value**2 == pytest.approx(9 / 25 + 144 / 25 + 4 / 1 + 1 / 4)  # bias is one filter; the dead row is left out
    assert skipped == 1
    scale = torch.tensor([10] * 6 + [0.1] * 2 + [1] * 2, dtype=torch.float64)
    assert filter_distance(scale * x, scale * y, layout)[0] == pytest.approx(value, rel=1e-12)


def test_relu_rescaling_moves_l2_and_leaves_the_filter_normalised_distance() -> None:
    """Scaling one layer by 2 and the next by 1/2 is the same function where a ReLU stands between them."""
    problem = Problem(
        model=lambda: nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False)),
        train=Split(normal(20, 4).float(), torch.arange(20) % 3),
        test=Split(normal(20, 4, seed=1).float(), torch.arange(20) % 3),
    )
    layout = layout_of(problem.build(0))
    scale = torch.cat([torch.full((24,), 2.0), torch.full((18,), 0.5)]).double()
    a, b = (Checkpoint(normal(42, seed=s), {}, layout, name=str(s), sha256=str(s)) for s in (0, 1))
    plain = distance.compute(problem, a, b)
    scaled = distance.compute(problem, *(replace(c, theta=c.theta * scale) for c in (a, b)))
    assert scaled.filtered == pytest.approx(plain.filtered, rel=1e-12)
    assert scaled.variation == pytest.approx(plain.variation, abs=1e-6)  # the functions are those of before
    assert abs(scaled.l2[0, 1] / plain.l2[0, 1] - 1) > 0.2


def test_features_are_what_the_last_linear_layer_reads_and_none_without_one() -> None:
    x = normal(30, 4)
    split = Split(x, torch.arange(30) % 2)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2), nn.LogSoftmax(1)).double()
    outputs, features = outputs_and_features(model, split, 7)
    assert features is not None
    assert torch.equal(outputs, model(x).detach())
    assert torch.allclose(features, model[1](model[0](x)).detach(), atol=1e-15)
    images = Split(normal(30, 1, 4, 4), torch.arange(30) % 2)
    assert outputs_and_features(nn.Sequential(nn.Conv2d(1, 2, 4), nn.Flatten()).double(), images, 7)[1] is None


def test_data_are_no_features_of_a_network() -> None:
    split = Split(normal(30, 1, 2, 2), torch.arange(30) % 2)
    one_layer = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).double()
    assert outputs_and_features(one_layer, split, 7)[1] is None
    frozen = nn.Sequential(nn.Flatten(), nn.Linear(4, 6).requires_grad_(False), nn.Tanh(), nn.Linear(6, 2)).double()
    assert outputs_and_features(frozen, split, 7)[1] is None
    frozen[1].bias.requires_grad_(True)
    assert outputs_and_features(frozen, split, 7)[1] is not None


def test_the_matrix_holds_each_measure_of_each_pair(pair: Pair) -> None:
    found = distance.compute(pair.problem, *pair.checkpoints, options=distance.Options(barrier=3))
    a, b = pair.checkpoints
    logits, features = [], []
    for checkpoint in (a, b):
        surface = Surface(pair.problem)
        surface.at(checkpoint)
        model = surface.flat.model
        reads: list[Tensor] = []
        handle = model.get_submodule("head").register_forward_pre_hook(lambda m, x, r=reads: r.append(x[0].detach()))
        logits.append(surface.outputs("test").double())
        handle.remove()
        features.append(torch.cat(reads).double())
    p, q = (x.softmax(1) for x in logits)
    assert found.variation[0, 1, 1] == pytest.approx(float((p - q).abs().sum(1).mean() / 2), rel=1e-9)
    assert found.cka[0, 1] == pytest.approx(cka_by_gram_matrices(*features), rel=1e-9)
    assert np.diag(found.cka) == pytest.approx(1, rel=1e-12)
    assert found.filtered[0, 1] == filter_distance(a.theta, b.theta, a.layout)[0]
    options = interpolate.Options(low=0.0, high=1.0, points=8, slopes=False)
    line = interpolate.compute(pair.problem, a, b, options=options)
    quarters = np.isin(line.alpha, [0, 0.25, 0.5, 0.75, 1])
    assert quarters.sum() == 5
    heights = [barrier.height(line.alpha[quarters], values[:, quarters]) for values in (line.loss, line.error)]
    assert found.barrier_loss[0, 1] == pytest.approx(heights[0], rel=1e-5, abs=1e-6)  # float32, batches of other sizes
    assert found.barrier_error[1, 0] == pytest.approx(heights[1], rel=1e-5, abs=1e-6)
    assert np.isnan(distance.compute(pair.problem, a, b, options=distance.Options(barrier=0)).barrier_loss).all()


def test_a_barrier_is_the_largest_rise_above_the_chord() -> None:
    alpha = np.array([0, 0.25, 0.5, 1])
    values = np.array([[1.0, 5.0, 4.0, 3.0], [0.0, 0.0, -1.0, 0.0], [0.0, np.nan, 0.0, 0.0]])
    assert barrier.height(alpha, values) == pytest.approx([3.5, 0, np.nan], nan_ok=True)


Runs = dict[str, Checkpoint]


@pytest.fixture(scope="module")
def runs(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Runs of 40 steps: one, its fork at 20, the same with another seed after 20, a stranger, and SAM throughout."""
    directory = tmp_path_factory.mktemp("runs")

    def make(name: str, start: Checkpoint | None = None, **settings: object) -> Checkpoint:
        values = resolve(pair.problem.defaults, {"method": "sgd", "epochs": 4, "switch": 0.5, **settings})  # type: ignore[dict-item]
        keep: Callable[[Checkpoint], None] = lambda c: kept.append(checkpoints.save(c, directory / f"{name}@20.pt"))  # noqa: E731
        kept: list[Checkpoint] = []
        whole = train(pair.problem, values, start=start, save_at={20} if name == "sgd" else (), keep=keep)
        found.update({f"{name}@20": c for c in kept})
        return checkpoints.save(whole, directory / f"{name}.pt")

    found: Runs = {}
    found["sgd"] = make("sgd")
    found["fork"] = make("fork", found["sgd@20"], method="sgd-sam")
    found["unforked"] = make("unforked", method="sgd-sam")
    found["reseeded"] = make("reseeded", found["sgd@20"], seed=7)
    found["sam"] = make("sam", method="sam")
    found["stranger"] = make("stranger", seed=1)
    return found


@pytest.mark.parametrize(
    ("one", "other", "step"),
    [
        ("sgd", "fork", 20), ("sgd", "unforked", 20), ("fork", "unforked", 40), ("sgd", "reseeded", 20),
        ("fork", "reseeded", 20), ("sgd", "sgd@20", 20), ("sgd", "sam", 0), ("sgd", "stranger", None),
        ("reseeded", "stranger", None),
    ],
)  # fmt: skip
def test_the_common_stem_is_known_from_the_histories(runs: Runs, one: str, other: str, step: int | None) -> None:
    assert stem.shared_steps(runs[one], runs[other]) == stem.shared_steps(runs[other], runs[one]) == step


def test_the_angle_is_that_of_displacements_from_the_stem(runs: Runs, pair: Pair) -> None:
    three = [runs["sgd"], runs["fork"], runs["sam"]]
    found = distance.compute(pair.problem, *three, options=distance.Options(barrier=0))
    origin = runs["sgd@20"].theta.double()  # found beside the checkpoints, by its name and history
    u, v = (c.theta.double() - origin for c in three[:2])
    assert found.stem[0].tolist() == [40, 20, 0]
    assert found.travel[0, 1] == pytest.approx(float(u @ v / u.norm() / v.norm()), rel=1e-12)
    first = torch.cat([p.detach().reshape(-1) for p in pair.problem.build(0).parameters()]).double()
    u, v = (c.theta.double() - first for c in (three[0], three[2]))
    assert found.travel[0, 2] == pytest.approx(float(u @ v / u.norm() / v.norm()), rel=1e-12)
    named = distance.Options(barrier=0, stem=str(runs["sgd@20"].path))
    elsewhere = [replace(c, path=None) for c in three[:2]]
    assert np.isnan(distance.compute(pair.problem, *elsewhere, options=distance.Options(barrier=0)).travel).all()
    assert distance.compute(pair.problem, *elsewhere, options=named).travel[0, 1] == found.travel[0, 1]


def test_a_pair_without_a_stem_is_warned_of_until_it_is_aligned(runs: Runs, pair: Pair, run: Command) -> None:
    a, b = runs["sgd"], runs["stranger"]
    quick = distance.Options(barrier=0)
    apart = distance.compute(pair.problem, a, b, options=quick)
    assert "share no known stem" in distance.words(apart)[1]
    assert "landscape align" in distance.words(apart)[1]
    near = distance.compute(pair.problem, a, align(pair.problem, a, b, starts=1).checkpoint, options=quick)
    assert near.aligned.all()
    assert "stem" not in distance.words(near)[1]
    assert near.l2[0, 1] < apart.l2[0, 1]
    forked = distance.compute(pair.problem, a, runs["fork"], options=quick)
    assert "share no known stem" not in distance.words(forked)[1]
    told = run("distance", a.path, runs["fork"].path, "--barrier", "0", "--out", Path(str(a.path)).with_name("d.h5"))
    assert "stem at step 20" in told.stdout


def test_no_angle_is_seen_from_a_stem_that_a_run_did_not_pass(runs: Runs, pair: Pair) -> None:
    kept = runs["sgd@20"]
    for name, expected in {"sgd": True, "fork": True, "reseeded": True, "sgd@20": True, "stranger": False}.items():
        assert stem.passed(kept, runs[name]) is expected, name
    assert stem.passed(runs["sgd"], kept) is False  # it ended before
    options = distance.Options(barrier=0, stem=str(kept.path))
    found = distance.compute(pair.problem, runs["sgd"], runs["stranger"], runs["fork"], options=options)
    assert np.isnan(found.travel[0, 1])
    assert np.isfinite(found.travel[0, 2])
    told = distance.listing(found)
    assert "no known stem, no cosine: one did not pass sgd@20" in told[0]
    assert "stem at step 20, cosine from the stem" in told[1]
    own = [replace(runs[name], history={}) for name in ("sgd", "stranger")]
    assert stem.passed(kept, own[0]) is None
    found = distance.compute(pair.problem, *own, options=options)
    assert "seen from sgd@20, the stem given, cosine from the stem" in distance.listing(found)[0]
    assert "no known stem" not in distance.words(found)[1]


def test_equal_weights_and_a_stem_itself_get_no_advice(runs: Runs, pair: Pair) -> None:
    same = replace(runs["sgd"], path=None)
    options = distance.Options(barrier=0)
    for other, reason in ((same, "equal weights"), (runs["sgd@20"], "no cosine: one is the stem itself")):
        (told,) = distance.listing(distance.compute(pair.problem, runs["sgd"], other, options=options))
        assert reason in told
        assert "--stem" not in told


def test_a_distance_of_many_norms_is_told_as_a_multiple(pair: Pair) -> None:
    found = distance.compute(pair.problem, *pair.checkpoints, options=distance.Options(barrier=0))
    for value, text in ((1e30, "1.0·10³⁰ times"), (10.5, "10.5 times"), (0.5, "50.00 %")):
        far = replace(found, relative=np.full((2, 2), value))
        assert f"as part of its norm: SGD→SAM {text}." in distance.words(far)[1]


class Margin:
    """Two classes told apart by the sign of one output."""

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        return nn.functional.softplus(-output.flatten() * (2 * target - 1))

    def errors(self, output: Tensor, target: Tensor) -> Tensor:
        return ((output.flatten() > 0) != (target == 1)).to(output.dtype)


@pytest.mark.parametrize("flat", [True, False])
def test_a_classifier_of_one_output_decides_by_its_errors(flat: bool) -> None:
    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 1), nn.Flatten(0) if flat else nn.Identity())

    x, y = normal(60, 4).float(), (normal(60, seed=1) > 0).long()
    problem = Problem(model=model, train=Split(x[:40], y[:40]), test=Split(x[40:], y[40:]), task=Margin())
    layout = layout_of(model())
    ends = [Checkpoint(normal(5, seed=i).float(), {}, layout, name=f"net{i}", sha256=str(i)) for i in (2, 3)]
    found = distance.compute(problem, *ends, options=distance.Options(barrier=3))
    signs = [(x @ c.theta[:4] + c.theta[4]) > 0 for c in ends]
    otherwise = (signs[0] != signs[1]).double()
    assert found.disagreement[0, 1] == pytest.approx([float(otherwise[:40].mean()), float(otherwise[40:].mean())])
    assert np.isnan(found.variation).all()
    assert "nats in training" in distance.listing(found)[0]


def test_of_regressions_nothing_is_told_in_nats(pair: Pair) -> None:
    found = distance.compute(pair.problem, *pair.checkpoints, options=distance.Options(barrier=1))
    plain = replace(found, disagreement=np.full((2, 2, 2), np.nan), variation=np.full((2, 2, 2), np.nan))
    buttons = [button.label for button in distance.figure(plain).layout.updatemenus[0].buttons]
    assert "train barrier" in buttons
    told = " ".join([*buttons, *distance.listing(plain), *distance.table(plain).columns, *distance.words(plain)])
    assert "nats" not in told
    assert not any("of the error" in name for name in buttons)


def test_few_tensors_are_called_by_their_names(pair: Pair) -> None:
    found = distance.compute(pair.problem, *pair.checkpoints, options=distance.Options(barrier=0))
    axis = distance.figure(found).layout.xaxis2
    assert len(axis.ticktext) == len(found.layers)
    for name, text in zip(found.layers, axis.ticktext, strict=True):
        assert name.endswith(text.lstrip("…"))
        assert len(text) <= 16
    many = replace(found, layers=("w",) * 40, layer_relative=np.ones((2, 2, 40)))
    assert distance.figure(many).layout.xaxis2.ticktext is None


def test_a_stem_that_does_not_fit_is_refused(runs: Runs, pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        distance.compute(pair.problem, *pair.checkpoints, options=distance.Options(stem=str(tmp_path / "none.pt")))
    other = replace(runs["sgd"], layout=Layout(("w",), ((19074,),)))
    checkpoints.save(other, tmp_path / "other.pt")
    with pytest.raises(InputError, match="another network"):
        distance.compute(pair.problem, *pair.checkpoints, options=distance.Options(stem=str(tmp_path / "other.pt")))


def test_the_menu_of_the_figure_offers_every_measure_that_was_computed(pair: Pair) -> None:
    found = distance.compute(pair.problem, *pair.checkpoints, options=distance.Options(barrier=1))
    drawn = distance.figure(found, found)
    buttons = {button.label: button.args[0]["z"][0] for button in drawn.layout.updatemenus[0].buttons}
    assert buttons["L2 distance"][0][1] == pytest.approx(found.l2[0, 1])
    assert buttons["test CKA of features"][1][0] == pytest.approx(found.cka[1, 0])
    assert buttons["train barrier (nats)"][0][0] is None  # a network and itself: nothing lies between
    without = distance.compute(pair.problem, *pair.checkpoints, options=distance.Options(barrier=0))
    assert not any("barrier" in b.label for b in distance.figure(without).layout.updatemenus[0].buttons)
