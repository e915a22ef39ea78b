"""Mean loss and error of a network on a split: eval mode, fixed order, sums in float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from landscape.batchnorm import mode
from landscape.split import Split
from landscape.task import Task

BATCH = 500
"""Examples in a forward pass where nothing else is asked for."""


@dataclass(frozen=True)
class Score:
    """Loss and error over a split, as 0-dimensional float64 tensors on the device: reading them is the only sync.

    Attributes:
        loss: Mean loss, in the task's unit (nats for cross-entropy).
        error: Mean error, in [0, 1] for classification.
    """

    loss: Tensor
    error: Tensor


@torch.no_grad()
def evaluate(model: nn.Module, split: Split, task: Task, batch_size: int) -> Score:
    """Evaluate a network as it stands: parameters, buffers and random state are left alone.

    Args:
        model: The network; evaluated in eval mode, its modes are brought back.
        split: Examples on the network's device.
        task: Loss and error.
        batch_size: Examples in a forward pass; changes results by rounding only.

    Returns:
        The means over all examples.
    """
    dtype = next(model.parameters()).dtype
    loss = torch.zeros((), dtype=torch.float64, device=split.inputs.device)
    error = torch.zeros_like(loss)
    with mode(model, training=False):
        for inputs, targets in split.batches(batch_size, dtype):
            output = model(inputs)
            loss += task.losses(output, targets).sum(dtype=torch.float64)
            error += task.errors(output, targets).sum(dtype=torch.float64)
    return Score(loss / len(split), error / len(split))


@torch.no_grad()
def predict(model: nn.Module, split: Split, batch_size: int) -> Tensor:
    """Outputs of a network in eval mode for every example, shape (N, ...), in the order of the split."""
    dtype = next(model.parameters()).dtype
    with mode(model, training=False):
        return torch.cat([model(inputs) for inputs, _ in split.batches(batch_size, dtype)])
