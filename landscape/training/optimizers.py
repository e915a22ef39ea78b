"""The base optimizer: any of torch.optim that works entry by entry, over the one flat parameter."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from landscape.training.settings import Settings
from landscape.vector import FlatModel


def make_optimizer(flat: FlatModel, settings: Settings) -> torch.optim.Optimizer:
    """Make the optimizer that the settings name.

    Learning rate, momentum, Nesterov's form and weight decay are passed where the optimizer takes them, all else is
    torch's default.

    Args:
        flat: The network, whose theta becomes the parameter and whose gradient its gradient.
        settings: Name and values.

    Returns:
        The optimizer.
    """
    classes: dict[str, Any] = {name.lower(): found for name, found in vars(torch.optim).items()}
    maker = classes[settings.part("optimizer")]
    wanted = {
        "lr": settings.lr,
        "momentum": settings.momentum,
        "nesterov": settings.nesterov and settings.momentum > 0,
        "weight_decay": settings.weight_decay,
    }
    taken = inspect.signature(maker).parameters
    parameter = torch.nn.Parameter(flat.theta)
    parameter.grad = flat.gradient
    made: torch.optim.Optimizer = maker([parameter], **{key: value for key, value in wanted.items() if key in taken})
    return made
