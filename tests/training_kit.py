"""A small problem with BatchNorm and dropout, and the pieces of training put together by hand in float64."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from landscape.checkpoint import Checkpoint
from landscape.problem import Problem
from landscape.split import Split
from landscape.task import CrossEntropy
from landscape.training.batches import Batches
from landscape.training.order import derive
from landscape.training.passes import Passes
from landscape.training.settings import Settings, resolve
from landscape.training.sharpness import Told
from landscape.training.step import Stepper
from landscape.vector import FlatModel

N, B = 48, 8


def network(seed: int = 0) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(64, 3)
    )


def make_problem(model: Callable[..., nn.Module] = network, crop: int = 1, n: int = N) -> Problem:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(n, 1, 4, 4, generator=generator)
    targets = torch.randint(0, 3, (n,), generator=generator)
    return Problem(model=model, train=Split(inputs, targets), test=Split(inputs[:10], targets[:10]), crop=crop)


def settings(**values: object) -> Settings:
    """Six epochs of six steps: T = 36, E = 24, n = 4."""
    base = {"epochs": 6, "batch_size": B, "rho": 0.1, "period": 4, "switch": 2 / 3, "evaluations": 2,
            "label_smoothing": 0.0}  # fmt: skip
    return resolve({**base, **values})  # type: ignore[dict-item]


def plain_loop(
    problem: Problem,
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    chosen: Settings,
    steps: int,
    second: Callable[[nn.Module, Callable[[], None]], None] | None = None,
    dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """The loop a reader would write: torch.optim over the parameters, no flat buffers, no parts."""
    model = problem.build(chosen.seed, dtype=dtype)
    made = optimizer(list(model.parameters()))
    batches = Batches(problem.to("cpu", dtype), chosen)
    for t in range(steps):
        x, y = batches(t)
        made.param_groups[0]["lr"] = chosen.lr / 2 * (1 + math.cos(math.pi * t / chosen.steps(len(problem.train))))

        def backward(x: Tensor = x, y: Tensor = y, t: int = t) -> None:
            made.zero_grad()
            torch.manual_seed(derive(chosen.seed, "noise", t))
            nn.functional.cross_entropy(model(x), y, reduction="none").mean().backward()

        backward()
        if second is not None:
            second(model, backward)
        made.step()
    return model


def sam_by_hand(model: nn.Module, backward: Callable[[], None], rho: float = 0.1) -> None:
    """Foret et al., Algorithm 1, as a reader would write it; running statistics are those of the first pass."""
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    length = torch.sqrt(torch.stack([g.square().sum() for g in gradients]).sum())
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        for p, g in zip(model.parameters(), gradients, strict=True):
            p += rho * g / length
        statistics = {name: value.clone() for name, value in model.named_buffers()}
    backward()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(before[name])
        for name, value in model.named_buffers():
            value.copy_(statistics[name])


def theta_of(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def gradient_of(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])


def same(a: Checkpoint, b: Checkpoint) -> bool:
    groups = ("buffers", "optimizer", "history")
    tensors = [(getattr(a, g)[k], getattr(b, g)[k]) for g in groups for k in getattr(a, g)]
    keys = all(getattr(a, g).keys() == getattr(b, g).keys() for g in groups)
    pairs = [(a.theta, b.theta), *tensors]
    equal = all(torch.equal(x.double().nan_to_num(-1.0), y.double().nan_to_num(-1.0)) for x, y in pairs)
    return keys and equal and (a.step, a.forward, a.backward) == (b.step, b.forward, b.backward)


@dataclass
class Kit:
    """The pieces of a run, to make single steps with."""

    flat: FlatModel
    passes: Passes
    batches: Batches
    stepper: Stepper
    lr: float

    def step(self, t: int) -> Told:
        return self.stepper.step(t, self.lr)


def kit(problem: Problem, chosen: Settings, lr: float = 0.0, dtype: torch.dtype = torch.float64) -> Kit:
    """Pieces, in float64 unless asked; with lr = 0 the gradient of a step can be read where it was taken."""
    flat = FlatModel(problem.build(chosen.seed, dtype=dtype))
    batches = Batches(problem.to("cpu", dtype), chosen)
    passes = Passes(flat, CrossEntropy(), batches.size, chosen.precision)
    return Kit(flat, passes, batches, Stepper(chosen, len(problem.train), passes, batches), lr)
