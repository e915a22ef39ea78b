"""Networks: published parameter counts, weights from a seed alone, and the second derivatives that curvature needs."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.errors import UsageError
from landscape.models import build, known_names, parse, skeleton
from landscape.models.initialise import initialise
from landscape.models.names import FAMILIES

RGB = (3, 32, 32)
SMALL = ("mlp-12-9", "resnet8", "resnet18-w16", "preactresnet-11", "wrn-10-1", "pyramidnet-8-9")


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("name", "tensors", "ten", "hundred"),
    [
        ("resnet18", 62, 11_173_962, 11_220_132),
        ("preactresnet-164", 494, 1_703_258, 1_726_388),
        ("wrn-28-10", 80, 36_479_194, 36_536_884),
        ("pyramidnet-110-270", 439, 28_485_477, 28_511_307),
        ("pyramidnet-110-48", 439, 1_772_706, 1_778_556),  # α not divisible by N: the rounding counts
        ("pyramidnet-110-84", 439, 3_904_446, 3_913_536),
        ("pyramidnet-110-200", 439, 16_566_290, 16_585_820),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, tensors: int, ten: int, hundred: int) -> None:
    net = skeleton(name, RGB, 10)
    assert len(list(net.parameters())) == tensors
    assert parameters(net) == ten
    assert parameters(skeleton(name, RGB, 100)) == hundred


def test_small_networks_have_the_counts_that_their_layers_add_up_to() -> None:
    assert parameters(skeleton("mlp", (1, 28, 28), 10)) == 785 * 500 + 501 * 300 + 301 * 10
    assert parameters(skeleton("mlp-64-32", (1, 8, 8), 10)) == 65 * 64 + 65 * 32 + 33 * 10
    stem = 9 * 3 * 8 + 16
    stages = [9 * 8 * 8 * 2 + 32, 9 * 8 * 16 + 9 * 16 * 16 + 64, 9 * 16 * 32 + 9 * 32 * 32 + 128]
    assert parameters(skeleton("resnet8", RGB, 10)) == stem + sum(stages) + 33 * 10
    assert parameters(skeleton("resnet20-w16", RGB, 10)) == 269_722  # "0.27M", He et al. 2016, table 6


def test_short_names_stand_for_their_defaults() -> None:
    assert parse("mlp") == parse("mlp-500-300") == ("mlp", (500, 300))
    assert parse("resnet8") == parse("resnet8-w8")
    assert parse("resnet18") == parse("resnet18-w64")
    assert parse("resnet20") == parse("resnet20-w16")


@pytest.mark.parametrize("name", known_names())
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 8, 8), (4, 9, 13)])
def test_every_known_network_takes_every_image_size(name: str, shape: tuple[int, ...]) -> None:
    net = skeleton(name, shape, 7)
    assert net(torch.empty(2, *shape, device="meta")).shape == (2, 7)


@pytest.mark.parametrize("name", SMALL)
def test_forward_is_finite_and_learns_from_every_parameter(name: str) -> None:
    net = build(name, (1, 8, 8), 10, seed=0)
    loss = F.cross_entropy(net(inputs()), torch.arange(6))
    assert loss.isfinite()
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    assert all(g.isfinite().all() and g.any() for g in gradients)


@pytest.mark.parametrize("name", SMALL)
def test_seed_decides_the_weights_and_the_global_state_is_left_alone(name: str) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = build(name, (1, 8, 8), 10, seed=3).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = (build(name, (1, 8, 8), 10, seed=seed).state_dict() for seed in (3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_first_weights_have_the_spread_of_their_rule() -> None:
    net = build("resnet8-w64", RGB, 10, seed=0)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            n = layer.weight.numel()
            variance = 2 / (9 * layer.out_channels)
            # The mean square of n normals has relative standard deviation √(2/n); 5 of them.
            assert layer.weight.square().mean().item() == pytest.approx(variance, rel=5 * (2 / n) ** 0.5)
        elif isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
            assert 0.98 * bound < layer.weight.abs().max().item() <= bound
        elif isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all()
            assert (layer.bias == 0).all()
            assert not layer.get_buffer("running_mean").any()
            assert (layer.get_buffer("running_var") == 1).all()
            assert layer.get_buffer("num_batches_tracked") == 0


def test_a_layer_without_a_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="LayerNorm"):
        initialise(nn.LayerNorm(3), torch.Generator())


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", SMALL)
def test_double_backward_is_the_derivative_of_the_gradient(name: str, training: bool) -> None:
    net = build(name, (1, 8, 8), 10, seed=0).double().train(training)
    point = {key: p.detach() for key, p in net.named_parameters()}
    generator = torch.Generator().manual_seed(5)
    scale = sum(p.numel() for p in point.values()) ** -0.5  # a direction of length 1, nearly
    direction = {
        key: scale * torch.randn(p.shape, generator=generator, dtype=torch.float64) for key, p in point.items()
    }

    def gradient(step: float) -> tuple[list[Tensor], list[Tensor]]:
        moved = {key: (p + step * direction[key]).requires_grad_() for key, p in point.items()}
        loss = F.cross_entropy(torch.func.functional_call(net, moved, inputs().double()), torch.arange(6))
        return list(moved.values()), list(torch.autograd.grad(loss, list(moved.values()), create_graph=True))

    variables, first = gradient(0.0)
    slope = sum((g * d).sum() for g, d in zip(first, direction.values(), strict=True))
    assert isinstance(slope, Tensor)
    product = torch.cat([h.flatten() for h in torch.autograd.grad(slope, variables)])
    h = 1e-6  # central differences: error h² |third derivative|, rounding 1e-16 / h; no kink is so near
    ahead, behind = (torch.cat([g.flatten() for g in gradient(s)[1]]) for s in (h, -h))
    assert (product - (ahead - behind) / (2 * h)).norm() < 1e-6 * product.norm()


def test_wide_blocks_shortcut_the_activated_input_and_pyramids_start_without_relu() -> None:
    x = torch.randn(4, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    wide = build("wrn-10-2", RGB, 10, seed=0).get_submodule("blocks.0").eval()
    nn.init.zeros_(wide.get_parameter("conv2.weight"))
    assert torch.equal(wide(x), F.conv2d(F.relu(x / (1 + 1e-5) ** 0.5), wide.get_parameter("shortcut.weight")))
    pyramid = build("pyramidnet-8-9", RGB, 10, seed=0).get_submodule("blocks.1").eval()
    nn.init.zeros_(pyramid.get_parameter("norm3.weight"))
    before = pyramid.get_parameter("conv1.weight").shape[1]
    x = torch.randn(4, before, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(pyramid(x)[:, :before], F.avg_pool2d(x, 2))
    assert (pyramid(x)[:, before:] == 0).all()


def test_networks_hold_no_dropout_and_no_in_place_activation() -> None:
    for name in known_names():
        for module in skeleton(name, RGB, 10).modules():
            assert "Dropout" not in type(module).__name__
            assert not getattr(module, "inplace", False)


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("resnte18", "no network is called 'resnte18'"),
        ("", "no network"),
        ("mlp-", "no network"),
        ("mlp-0", "no network"),
        ("mlp-64-x", "no network"),
        ("mlp-1000000", "no network"),
        ("MLP", "no network"),
        ("resnet", "no network"),
        ("resnet8\n", "no network"),
        ("resnet８", "no network"),
        ("resnet8-w0", "no network"),
        ("resnet-8", "no network"),
        ("wrn-28", "no network"),
        ("wrn-28-10-1", "no network"),
        ("resnet19", "6n+2 (8, 14, 20, …) or 18, got 19"),
        ("resnet2", "got 2"),
        ("preactresnet-18", "9n+2 (11, 20, 29, …), got 18"),
        ("wrn-27-10", "6n+4 (10, 16, 22, …), got 27"),
        ("wrn-4-1", "got 4"),
        ("pyramidnet-18-48", "got 18"),
    ],
)
def test_a_malformed_name_is_refused_with_the_known_ones(name: str, cause: str) -> None:
    with pytest.raises(UsageError) as caught:
        skeleton(name, RGB, 10)
    assert cause in caught.value.cause
    assert "resnet18" in caught.value.remedy
    assert "\n" not in caught.value.cause + caught.value.remedy


def test_the_nearest_name_is_offered() -> None:
    with pytest.raises(UsageError, match="did you mean 'wrn-28-10'"):
        parse("wrn28-10")


@pytest.mark.parametrize("shape", [(3, 7, 32), (64,), (28, 28)])
def test_convolutions_refuse_what_is_no_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="8×8"):
        skeleton("resnet8", shape, 10)


def test_every_family_has_a_known_member() -> None:
    assert {parse(name)[0] for name in known_names()} == {family.name for family in FAMILIES}
    assert all(line and "\n" not in line for line in known_names().values())


def test_names_come_without_torch() -> None:
    code = "import sys, landscape.models.names, landscape.models; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[1]).returncode == 0


def inputs() -> Tensor:
    return torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(7))
