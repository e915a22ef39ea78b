"""Recalibrated statistics are those of the data at the weights; modes, buffers and random state come back."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from landscape.batchnorm import mode
from landscape.evaluate import evaluate, predict
from landscape.pooling import recalibrate
from landscape.problem import Problem
from landscape.split import Split
from landscape.surface import Surface
from landscape.task import CrossEntropy


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 2), nn.BatchNorm2d(2, momentum=None),
        nn.Flatten(), nn.Linear(2 * 9, 4), nn.BatchNorm1d(4),
    ).double()  # fmt: skip


@pytest.fixture
def split() -> Split:
    generator = torch.Generator().manual_seed(1)
    inputs = 3 + 2 * torch.randn(50, 1, 6, 6, generator=generator, dtype=torch.float64)
    return Split(inputs, torch.randint(0, 4, (50,), generator=generator))


@pytest.mark.parametrize("batch_size", [50, 16, 7, 1])
def test_with_one_block_eval_mode_becomes_the_training_forward_of_the_whole_set(split: Split, batch_size: int) -> None:
    model = network()
    recalibrate(model, split, batch_size)
    with torch.no_grad():
        expected = network().train()(split.inputs)
    assert torch.allclose(predict(model, split, 7), expected, rtol=0, atol=1e-12)


def test_first_layer_statistics_are_pooled_over_blocks_of_unequal_size(split: Split) -> None:
    model = network()
    recalibrate(model, split, 7, block=21)  # blocks of 17, 17 and 16
    with torch.no_grad():
        seen = model[0](split.inputs)
    assert torch.allclose(model[1].running_mean, seen.mean((0, 2, 3)), rtol=1e-12)  # type: ignore[arg-type]
    assert torch.allclose(model[1].running_var, seen.var((0, 2, 3), correction=0), rtol=1e-12)  # type: ignore[arg-type]


def test_recalibration_is_deterministic_and_changes_statistics_only(split: Split) -> None:
    model = network().train()
    model[1].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    flags, momenta = [m.training for m in model.modules()], [model[i].momentum for i in (1, 4, 7)]
    torch.manual_seed(9)
    state = torch.get_rng_state()
    recalibrate(model, split, 16)
    first = {k: v.clone() for k, v in model.state_dict().items()}
    recalibrate(model, split, 16)
    assert all(torch.equal(first[k], v) for k, v in model.state_dict().items())
    assert all(torch.equal(before[k], v) for k, v in first.items() if "running" not in k)  # also num_batches_tracked
    assert any(not torch.equal(before[k], v) for k, v in first.items())
    assert [m.training for m in model.modules()] == flags
    assert [model[i].momentum for i in (1, 4, 7)] == momenta
    assert not any(m._forward_pre_hooks for m in model.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_layer_used_twice_pools_both_uses_and_an_unused_one_keeps_its_statistics(split: Split) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.BatchNorm2d(1), nn.BatchNorm2d(1)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.used(x) + self.used(3 * x)
            return out.flatten(1)[:, :4]

    model = Odd().double()
    recalibrate(model, split, 25)
    assert float(model.idle.running_var) == 1.0  # type: ignore[arg-type]
    assert float(model.used.running_mean) == pytest.approx(2 * float(split.inputs.mean()))  # type: ignore[arg-type]


def test_batch_size_changes_an_evaluation_by_rounding_only(split: Split) -> None:
    model = network()
    scores = [evaluate(model, split, CrossEntropy(), size) for size in (1, 7, 50, 1000)]
    assert max(float(s.loss) for s in scores) - min(float(s.loss) for s in scores) < 1e-12
    assert len({float(s.error) for s in scores}) == 1
    with torch.no_grad():
        expected = nn.functional.cross_entropy(model.eval()(split.inputs), split.targets)
    assert float(scores[0].loss) == pytest.approx(float(expected), abs=1e-12)


def test_modes_come_back_after_an_error(split: Split) -> None:
    model = network()
    model[4].eval()
    flags = [m.training for m in model.modules()]
    with pytest.raises(KeyError), mode(model, training=False):
        raise KeyError
    assert [m.training for m in model.modules()] == flags


def test_dropout_is_off_while_statistics_are_recomputed_and_slopes_taken(split: Split) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(36, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).double()
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        recalibrate(model, split, 25)
        results.append(model[3].running_var.clone())  # type: ignore[union-attr, operator]
    assert torch.equal(*results)
    surface = Surface(Problem(model=lambda: model, train=split, test=split), batch_size=25, dtype=torch.float64)
    direction = torch.nn.functional.normalize(torch.ones_like(surface.flat.theta), dim=0)[None]
    theta = surface.flat.theta.clone()
    values = {
        surface.loss_and_slopes(theta, direction, by_batch=by_batch)[0] for by_batch in (True, True, False, False)
    }
    assert len(values) == 2
    assert all(m.training for m in surface.flat.model.modules())


def test_an_output_that_is_no_number_is_no_error_and_no_hit() -> None:
    outputs = torch.tensor([[1.0, 2.0], [math.nan, 0.0], [3.0, math.nan]])
    found = CrossEntropy().errors(outputs, torch.tensor([1, 0, 0]))
    assert found[0] == 0
    assert found[1:].isnan().all()
