"""The asymmetry detector on whole problems whose loss is a known function: rotated, shifted, noisy, held out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import valley_kit as kit
from conftest import Pair
from torch import Tensor, nn

from analyses import asymmetry
from landscape.asymmetry import Asymmetry
from landscape.errors import UsageError
from landscape.metric import METRICS, metric, same_sign, shares, sign_matched
from landscape.null import rise_ratios
from landscape.ray import Ray, stand
from landscape.split import Split
from landscape.surface import Surface
from landscape.vector import FlatModel, Layout, layout_of

OFF = 0.3  # the checkpoint stands beside the minimum, along the axis and across it
ACROSS = 0.2 * kit.ROTATION[:, 1]


def detect(
    profile: kit.Profile, *, train: Tensor | None = None, test: Tensor | None = None, **options: object
) -> Asymmetry:
    """Look along the valley's own axis from beside its minimum, in float64."""
    here = kit.MINIMUM - OFF * kit.AXIS + ACROSS
    asked = asymmetry.Options(**({"eigenvectors": 0, "gaussian": 0, "sign_matched": 0} | options))  # type: ignore[arg-type]
    pair = (kit.at(here, "a"), kit.at(here + kit.AXIS, "b"))
    return asymmetry.compute(kit.problem(profile, train, test), *pair, options=asked, dtype="float64")


def test_a_rotated_and_shifted_quadratic_valley_is_found_whole() -> None:
    found = detect(kit.quadratic(10.0, 1.0), zeta=0.7, neighbours=5, neighbourhood=0.1, decay=0.0)
    assert found.status[0] == 0
    assert found.centre[0] == pytest.approx(OFF, abs=1e-5)
    assert found.radius[0] == pytest.approx(math.sqrt(4 * 0.5 / 11), rel=0.02)  # (a + b) r² / 4 = 0.5
    assert found.log_ratio[0] == pytest.approx(math.log(0.1), abs=1e-3)
    for k, part in enumerate(found.reach):
        assert found.c[0, k] == pytest.approx(10 * found.zeta, rel=0.01), part
        assert found.c_back[0, k] == pytest.approx(0.1 * found.zeta, rel=0.01)
    assert found.certified.all()
    assert found.curvature[0] == pytest.approx([10.0, 1.0], rel=1e-2)
    assert found.decayed_log_ratio[0] == pytest.approx(found.log_ratio[0], abs=1e-2)
    assert found.held_out_ratio[0] == pytest.approx(found.log_ratio[0], rel=1e-6)  # test loss is training loss here
    # moving across the axis changes nothing of the slopes along it
    assert found.near_part[0] == 1.0
    assert found.near_c[0] == pytest.approx(7.0, rel=0.01)
    assert found.near_common[0] == pytest.approx(7.0, rel=0.01)
    assert "asymmetric by definition" in asymmetry.words(found)[1]


@pytest.mark.parametrize("zeta", [0.01, 0.33, 0.9])
def test_linear_and_exponential_valleys_are_found(zeta: float) -> None:
    straight = detect(kit.linear(6.0, 2.0), zeta=zeta)
    assert straight.c[0] == pytest.approx(np.full((3, 4), 3.0), rel=0.01)
    assert straight.symmetric_low[0] == pytest.approx(2.0)
    assert straight.symmetric_high[0] == pytest.approx(6.0)
    curved = detect(kit.exponential, zeta=zeta, radius=2.0)
    for k, part in enumerate(curved.reach):
        r = 2.0 * part
        expected = (np.exp(curved.zeta * r) - 1) / (1 - math.exp(-r))
        assert curved.c[0, k] == pytest.approx(expected, rel=0.01)


def test_the_minimum_with_weight_decay_is_its_own() -> None:
    found = detect(kit.quadratic(3.0, 3.0), decay=0.5)
    here = kit.MINIMUM - OFF * kit.AXIS + ACROSS
    # 3 (ℓ − 0.3) + λ (⟨w, u⟩ + ℓ) = 0
    expected = (3 * OFF - 0.5 * float(here @ kit.AXIS)) / 3.5
    assert found.decayed_centre[0] == pytest.approx(expected, abs=1e-5)
    assert found.centre[0] == pytest.approx(OFF, abs=1e-5)
    assert found.decayed_log_ratio[0] == pytest.approx(0.0, abs=1e-3)


def test_symmetric_bowls_show_no_side_on_any_seed() -> None:
    for seed in range(5):
        found = detect(kit.quadratic(2.0, 2.0), gaussian=20, eigenvectors=1, seed=seed)
        assert asymmetry.words(found)[0].startswith("No clear side")
        assert not (np.fmax(found.c_low, found.c_back_low) >= 1).any()
        assert np.abs(found.null_ratio).max() < 0.05


def test_a_line_over_a_barrier_into_another_valley_has_no_flat_side() -> None:
    found = detect(lambda z: torch.where(z < 1, z.square(), 0.2 + (z - 1.9).square()), radius=2.0)  # barrier at 1
    assert abs(found.log_ratio[0]) > 1
    assert np.isnan(found.c[0, -1]).all()
    assert "No single valley" in asymmetry.words(found)[0]


def toward(profile: kit.Profile, place: float, **options: object) -> Asymmetry:
    """Look from the minimum along the axis to another checkpoint."""
    asked = asymmetry.Options(**({"eigenvectors": 0, "gaussian": 20, "sign_matched": 0} | options))  # type: ignore[arg-type]
    pair = (kit.at(kit.MINIMUM, "a"), kit.at(kit.MINIMUM + place * kit.AXIS, "b"))
    return asymmetry.compute(kit.problem(profile), *pair, options=asked, dtype="float64")


def test_a_checkpoint_beyond_the_wall_is_in_another_valley() -> None:
    found = toward(lambda z: torch.where(z < 1, z.square(), (z - 2).square()), 2.0, radius=0.7)
    assert found.height == pytest.approx([0.0, 0.0], abs=1e-9)
    assert "beyond the wall of 0.490 at r = 0.700" in asymmetry.words(found)[0]
    higher = toward(kit.quadratic(2.0, 2.0), 2.0, radius=0.7)
    assert higher.height[1] == pytest.approx(4.0)
    assert "beyond r = 0.700 (a larger" in asymmetry.words(higher)[0]


def test_a_dip_beyond_both_names_no_side_and_no_other_valley() -> None:
    found = toward(lambda z: torch.where(z < 1, z.square(), 2 - z), 0.5, radius=1.5)
    assert "though not between the two" in asymmetry.words(found)[0]


def test_heights_of_the_checkpoints_are_those_of_the_loss() -> None:
    assert detect(kit.quadratic(10.0, 1.0)).height == pytest.approx([10 * OFF**2 / 2, (1 - OFF) ** 2 / 2], rel=1e-4)


def test_the_flat_side_is_the_one_that_is_asked_nearby() -> None:
    found = detect(kit.linear(1.0, 5.0), neighbours=4, neighbourhood=0.1)  # u points to the steep side
    assert found.near_part[0] == 1.0
    assert found.near_c[0] == pytest.approx(5.0, rel=0.01)
    flat = detect(lambda z: 0 * z + 1e-30 * z.square(), neighbours=2)
    assert flat.status[0] != 0  # and no division by a slope of zero


def test_a_side_that_only_rounding_raises_is_no_minimum() -> None:
    here = kit.MINIMUM.clone()
    asked = asymmetry.Options(eigenvectors=0, gaussian=0, sign_matched=0)
    pair = (kit.at(here, "a"), kit.at(here + kit.AXIS, "b"))
    found = asymmetry.compute(kit.problem(lambda z: torch.exp(-z)), *pair, options=asked, dtype="float32")
    assert found.status[0] != 0
    assert asymmetry.words(found)[0].startswith("Not measured")


def test_noise_in_the_slopes_is_no_second_valley_and_the_ratio_has_its_sampling_error() -> None:
    n, chosen = 400, 50
    tilt = torch.randn(n, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    train = torch.cat([torch.zeros(n, 3, dtype=torch.float64), 4 * (tilt - tilt.mean(0))], 1)
    found = detect(kit.linear(2.0, 2.0), train=train, examples=chosen, radius=1.5, gaussian=20)
    assert np.isnan(found.c[0]).any()
    assert asymmetry.words(found)[0].startswith("No clear side")
    s = (Split(train, torch.zeros(n)).sample(chosen, 0).inputs[:, 3:] @ kit.AXIS).numpy()
    apart = (2 + s) / (2 + s).mean() - (2 - s) / (2 - s).mean()
    expected = apart.std(ddof=1) / math.sqrt(chosen) * math.sqrt(1 - chosen / n)  # the kink holds the minimum
    assert found.log_ratio_error[0] == pytest.approx(expected, rel=0.25)  # of 200 draws, and to first order
    assert detect(kit.linear(2.0, 2.0)).log_ratio_error[0] == 0.0


def test_the_sampling_error_of_a_ratio_holds_where_the_minimum_moves_with_the_sample() -> None:
    n, chosen = 4000, 100
    tilt = torch.randn(n, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    train = torch.cat([torch.zeros(n, 3, dtype=torch.float64), tilt - tilt.mean(0)], 1)
    found = [
        detect(lambda z: z**4 + 0.02 * z.square(), train=train, examples=chosen, seed=seed, points=4)
        for seed in range(24)
    ]
    ratios, errors = (np.array([getattr(r, key)[0] for r in found]) for key in ("log_ratio", "log_ratio_error"))
    told = np.isfinite(errors) & (np.abs(ratios) > 1.96 * errors)  # symmetric in truth
    assert told.sum() <= 3
    assert ratios.std() > 0.5  # though the samples themselves lie far apart
    assert np.isfinite(errors).sum() >= 20


def test_random_directions_are_measured_at_the_r_that_was_asked_for() -> None:
    r = 2.0
    found = toward(kit.exponential, 1.0, radius=r)
    measured = metric("euclidean", kit.MINIMUM, Layout(("w",), ((3,),)))
    generator = torch.Generator().manual_seed(0)
    for ratio in found.null_ratio:
        s = float(measured.gaussian(generator) @ kit.AXIS)
        ahead, back = (
            math.exp(-s * sign * r) + s * sign * r - 1 + kit.ACROSS * (1 - s**2) * r**2 / 2 for sign in (1, -1)
        )
        assert ratio == pytest.approx(math.log(ahead / back), abs=0.01)


def test_the_sampling_error_is_that_of_the_examples_own_slopes() -> None:
    n, chosen = 400, 100
    tilt = torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    train = torch.cat([torch.zeros(n, 3, dtype=torch.float64), tilt - tilt.mean(0)], 1)
    found = detect(kit.linear(6.0, 6.0), train=train, examples=chosen)
    assert found.examples == chosen
    drawn = Split(train, torch.zeros(n)).sample(chosen, 0).inputs[:, 3:] @ kit.AXIS
    expected = float(drawn.std()) / math.sqrt(chosen) * math.sqrt(1 - chosen / n)
    assert found.sampling[0] == pytest.approx(expected, rel=1e-9)
    s = float(drawn.mean())
    low = (6 - s - 1.959964 * expected) / (6 + s + 1.959964 * expected)
    assert found.c_low[0, -1, 0] == pytest.approx(low, rel=0.01)
    whole = detect(kit.linear(6.0, 6.0), train=train)
    assert whole.sampling[0] == 0.0
    assert 0 <= whole.rounding[0] < 1e-12  # float64
    with pytest.raises(UsageError, match="1 to 400"):
        detect(kit.linear(6.0, 6.0), train=train, examples=401)


def test_control_of_noise_alone_is_none_on_95_per_cent_of_seeds() -> None:
    n, claims = 200, 0
    for seed in range(60):
        tilt = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        train = torch.cat([torch.zeros(n, 3, dtype=torch.float64), 2 * (tilt - tilt.mean(0))], 1)
        found = detect(kit.linear(2.0, 2.0), train=train, examples=40, seed=seed, radius=0.5, points=4)
        claims += bool((found.c_low >= 1).any())
    assert claims <= 3


def test_held_out_rises_are_those_of_the_test_data() -> None:
    shift = 0.1
    test = torch.cat([(shift * kit.AXIS).repeat(4, 1), torch.zeros(4, 3, dtype=torch.float64)], 1)
    found = detect(kit.quadratic(2.0, 2.0), test=test, radius=1.0)
    rises = ((1 + shift) ** 2 - shift**2, (1 - shift) ** 2 - shift**2)
    assert found.held_out_ratio[0] == pytest.approx(math.log(rises[1] / rises[0]), abs=1e-4)
    assert found.log_ratio[0] == pytest.approx(0.0, abs=1e-4)


def test_random_directions_have_the_ratio_of_the_closed_form() -> None:
    steep, flat = 10.0, 1.0
    surface = Surface(kit.problem(kit.quadratic(steep, flat)), dtype=torch.float64)
    start = stand(surface, kit.at(kit.MINIMUM), "none")
    found = rise_ratios(start, metric("euclidean", kit.MINIMUM, Layout(("w",), ((3,),))), (20, 5), 0.5, 1e-3, 3)
    assert [family for family, _ in found] == [0] * 20 + [1] * 5
    measured = metric("euclidean", kit.MINIMUM, Layout(("w",), ((3,),)))
    for family, count in ((0, 20), (1, 5)):
        generator = torch.Generator().manual_seed(3)
        for k in range(count):
            u = measured.gaussian(generator)
            u = measured.unit(sign_matched(u, kit.MINIMUM)) if family else u
            s = float(u @ kit.AXIS)
            ahead, back = ((steep if s * sign < 0 else flat) * s**2 + kit.ACROSS * (1 - s**2) for sign in (1, -1))
            assert found[20 * family + k][1] == pytest.approx(math.log(ahead / back), abs=0.01)


def test_slopes_of_examples_add_up_to_the_slope_of_the_loss(pair: Pair) -> None:
    surface = Surface(pair.problem, dtype=torch.float64)
    for rule in ("recalibrate", "keep"):
        start = stand(surface, pair.checkpoints[0], rule)
        u = metric("euclidean", start.theta, pair.checkpoints[0].layout).unit(pair.checkpoints[1].theta - start.theta)
        line = Ray(start, u)
        each = start.slope_of_each(line.point(0.5), u)
        assert float(each.mean()) == pytest.approx(line.slope(0.5), rel=1e-9)
        assert line.start.loss(line.point(0.5)) == pytest.approx(line.loss(0.5), rel=1e-12)
        assert line.held_out([0.5]).shape == (1, len(pair.problem.test))


def test_both_rules_are_two_lines_of_one_direction(pair: Pair) -> None:
    options = asymmetry.Options(
        eigenvectors=0, gaussian=2, sign_matched=0, points=4, batchnorm="both", examples=60, radius=1.0
    )
    both = asymmetry.compute(pair.problem, *pair.checkpoints, options=options)
    assert both.rules == ("recalibrate", "keep")
    assert both.null_rule == ("recalibrate",) * 2 + ("keep",) * 2
    one = asymmetry.compute(pair.problem, *pair.checkpoints, options=replace(options, batchnorm="keep"))
    assert one.log_ratio[0] == both.log_ratio[1]
    assert one.null_ratio.tolist() == both.null_ratio[2:].tolist()
    assert both.share.sum(1) == pytest.approx([1.0, 1.0])


def test_gram_schmidt_twice_keeps_nearly_parallel_vectors_orthonormal() -> None:
    size, count = 400, 12
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(size, generator=generator, dtype=torch.float64)
    near = [first + 2e-3 * torch.randn(size, generator=generator, dtype=torch.float64) for _ in range(count)]
    layout = Layout(("a", "b", "c"), ((10, 20), (50,), (3, 50)))
    for name in METRICS:
        measured = metric(name, first, layout)
        z = torch.stack(measured.orthonormal(near)) / measured.scale
        assert float((z @ z.T - torch.eye(count, dtype=torch.float64)).abs().max()) < 1e-12
        assert float((z[0] * first / measured.scale).sum()) > 0  # the first keeps its direction
        with pytest.raises(UsageError, match="direction 3 lies in the span"):
            measured.orthonormal([*near[:2], near[0] - near[1]])


def test_filter_and_layer_lengths_are_those_of_the_definition_and_survive_rescaling() -> None:
    generator = torch.Generator().manual_seed(0)
    layout = Layout(("a.weight", "a.bias", "b.weight"), ((4, 5), (4,), (2, 4)))
    w, v = torch.randn(2, 32, generator=generator, dtype=torch.float64)
    scaled = torch.cat([torch.full((24,), 10.0), torch.full((8,), 0.1)])  # a ReLU layer times ten, the next by ten
    for name in ("filter", "layer"):
        pieces = [(w[:20], v[:20], 4), (w[20:24], v[20:24], 1), (w[24:], v[24:], 2)]
        expected = 0.0
        for weight, vector, filters in pieces:
            count = filters if name == "filter" else 1
            for a, b in zip(weight.chunk(count), vector.chunk(count), strict=True):
                expected += float(b.norm() ** 2 / a.norm() ** 2)
        assert metric(name, w, layout).norm(v) == pytest.approx(math.sqrt(expected), rel=1e-12)
        assert metric(name, w * scaled, layout).norm(v * scaled) == pytest.approx(math.sqrt(expected), rel=1e-12)
        assert metric(name, w, layout).norm(metric(name, w, layout).gaussian(generator)) == pytest.approx(1.0)
    assert metric("euclidean", w, layout).norm(v) == pytest.approx(float(v.norm()))
    with pytest.raises(UsageError, match="all weights are zero"):
        metric("filter", torch.zeros(32), layout)


def test_points_of_the_ball_lie_in_it_and_off_the_direction() -> None:
    layout = Layout(("w",), ((6,),))
    generator = torch.Generator().manual_seed(0)
    measured = metric("euclidean", torch.ones(6), layout)
    u = measured.gaussian(generator)
    drawn = [measured.in_ball(2.0, generator) for _ in range(500)]
    lengths = np.array([float(v.norm()) for v in drawn])
    assert lengths.max() <= 2.0
    assert np.mean(lengths <= 2 * 0.5 ** (1 / 6)) == pytest.approx(0.5, abs=0.07)  # half of the volume; 3 σ
    assert max(abs(float(measured.without(v, u) @ u)) for v in drawn) < 1e-12


def test_signs_and_shares_of_a_direction() -> None:
    w = torch.tensor([1.0, -2.0, 0.0, 3.0])
    v = torch.tensor([1.0, 1.0, 1.0, -1.0])
    assert same_sign(v, w) == pytest.approx(1 / 3)
    assert same_sign(sign_matched(v, w), w) == 1.0
    assert math.isnan(same_sign(v, torch.zeros(4)))
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    assert layout_of(network).size == FlatModel(network).theta.numel()
    direction = torch.cat([torch.full((6,), 1.0), torch.full((3,), 2.0), torch.full((6,), 3.0)])
    assert shares(direction, network).tolist() == pytest.approx([6 / 72, 12 / 72, 54 / 72])
