"""What a network is asked to do: a loss and an error for every example."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from landscape.errors import UsageError


class Task(Protocol):
    """Loss and error, one number for each example; means over a data set are taken elsewhere, by count.

    A task whose errors are no parts of one says so with an attribute `classifies = False`.
    """

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of each example, shape (B,), differentiable twice; nats for a log-likelihood."""
        ...

    def errors(self, output: Tensor, target: Tensor) -> Tensor:
        """Error of each example, shape (B,); 0 or 1 for classification."""
        ...


@dataclass(frozen=True)
class CrossEntropy:
    """Classification: outputs are logits (B, C), targets class indices (B,).

    Attributes:
        smoothing: Part of each target that is spread evenly over all C classes; changes the loss, not the error.
    """

    smoothing: float = 0.0

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        """-log softmax(output)[target] in nats, for smoothed targets their cross-entropy, shape (B,)."""
        return F.cross_entropy(output, target, reduction="none", label_smoothing=self.smoothing)

    def errors(self, output: Tensor, target: Tensor) -> Tensor:
        """1 where the largest logit is not the target's, NaN where a logit is NaN, shape (B,)."""
        wrong = (output.argmax(1) != target).to(output.dtype)
        return torch.where(output.isnan().any(1), torch.nan, wrong)


def smoothing_of(task: Task) -> float:
    """Label smoothing of a task's loss; 0 for other losses than cross-entropy."""
    return task.smoothing if isinstance(task, CrossEntropy) else 0.0


def smoothed(task: Task, smoothing: float) -> Task:
    """Spread part of each target over all classes.

    Args:
        task: Cross-entropy; any other with a smoothing of 0.
        smoothing: The part, in [0, 1].

    Returns:
        The task with that smoothing, whatever its own was.

    Raises:
        UsageError: If the task is not cross-entropy.
    """
    if smoothing_of(task) == smoothing:
        return task
    if not isinstance(task, CrossEntropy):
        raise UsageError("label smoothing needs the toolkit's cross-entropy", "leave label smoothing out")
    return replace(task, smoothing=smoothing)


@dataclass(frozen=True)
class SquaredError:
    """Regression: outputs and targets of equal shape (B, ...); loss and error are the mean squared difference."""

    classifies = False

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        """Squared difference averaged over an example's entries, shape (B,)."""
        square = (output - target).square()
        return square.flatten(1).mean(1) if square.dim() > 1 else square

    def errors(self, output: Tensor, target: Tensor) -> Tensor:
        """The same as the loss, shape (B,)."""
        return self.losses(output, target)
