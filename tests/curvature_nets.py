"""Networks small enough that the dense Hessian judges them, and the data they are trained on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from landscape.curvature import Objective
from landscape.split import Split

NETS = ("tanh-init", "tanh-trained", "relu-trained", "cnn-init", "cnn-trained")


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets, reduction="none")


class Mean(nn.Module):
    """Average over the image, through an operation whose backward pass is deterministic on a GPU too."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


def mlp(activation: type[nn.Module] = nn.Tanh, width: int = 8) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, width), activation(), nn.Linear(width, width), activation(), nn.Linear(width, 3))


def cnn() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.ReLU()),
        *(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
        *(Mean(), nn.Linear(4, 3)),
    )


def points(n: int = 60, seed: int = 0, spread: float = 0.6) -> Split:
    """Three clouds in six dimensions that overlap, so that no loss goes to zero."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % 3
    centres = spread * torch.randn(3, 6, generator=generator, dtype=torch.float64)
    return Split(centres[targets] + torch.randn(n, 6, generator=generator, dtype=torch.float64), targets)


def images(n: int = 48, seed: int = 0) -> Split:
    """Three stripe patterns in noise, one channel of 6 x 6."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % 3
    grid = torch.arange(6, dtype=torch.float64)
    waves = torch.stack([grid[:, None] + 0 * grid, grid + 0 * grid[:, None], grid[:, None] + grid]).sin()
    noise = torch.randn(n, 1, 6, 6, generator=generator, dtype=torch.float64)
    return Split(waves[targets, None] + noise, targets)


def train(model: nn.Module, data: Split, steps: int, rate: float = 0.1) -> nn.Module:
    """Whole-batch gradient descent."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(model(data.inputs), data.targets).mean().backward()
        optimizer.step()
    model.zero_grad(set_to_none=True)
    return model


def objective(net: str, dtype: torch.dtype = torch.float64, chunk: int = 17, seed: int = 0) -> Objective:
    """One of `NETS` in a state, with a chunk that does not divide the number of examples."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind, state = net.split("-")
        model: nn.Module = {"tanh": mlp, "relu": lambda: mlp(nn.ReLU), "cnn": cnn}[kind]()
    data = images() if kind == "cnn" else points()
    model.double()
    if state == "trained":
        train(model, data, 40)
    elif kind == "cnn":
        model.train()
        model(data.inputs)  # running statistics that are not those of no data at all
    return Objective(model.to(dtype), cross_entropy, data.to("cpu", dtype), chunk)
