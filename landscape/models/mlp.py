"""Fully connected ReLU network; with hidden layers of 500 and 300 on 28×28 images it has 545,810 parameters."""

from __future__ import annotations

import math
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers with a ReLU after each but the last; examples are flattened first."""

    def __init__(self, shape: tuple[int, ...], classes: int, *hidden: int) -> None:
        super().__init__()
        widths = (math.prod(shape), *hidden, classes)
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of examples (B, ...)."""
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        logits: Tensor = self.layers[-1](x)
        return logits
