"""A line through a point of the loss surface: loss, exact slope, and how sure they are.

The BatchNorm rules of a line: "recalibrate" takes the statistics of the training data at each point, and the slope
is differentiated through them; "keep" holds those recomputed at the checkpoint. They are different functions of ℓ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from landscape.batchnorm import batch_statistics, frozen_statistics, mode
from landscape.checkpoint import Checkpoint
from landscape.evaluate import predict
from landscape.result import Array
from landscape.surface import Surface

RULES = ("recalibrate", "keep")


@dataclass(frozen=True, eq=False)
class Stand:
    """Where lines start: a surface, a point on it, and the BatchNorm rule.

    Attributes:
        surface: The loss.
        theta: The point, float64 on the CPU, shape (D,).
        buffers: Buffers recomputed there.
        rule: "recalibrate" or "keep".
    """

    surface: Surface
    theta: Tensor
    buffers: Mapping[str, Tensor]
    rule: str

    @property
    def by_batch(self) -> bool:
        """Whether statistics are those of the training data at each point."""
        return self.rule == "recalibrate" and self.surface.has_batchnorm

    def load(self, theta: Tensor) -> Tensor:
        """Move the network to a point, and the buffers with it; returns the point in the surface's type."""
        there = self.surface.vector(theta)
        self.surface.flat.load(there, self.buffers)
        return there

    def loss(self, theta: Tensor) -> float:
        """Training loss, one forward pass; equal to that of `slopes` up to rounding."""
        self.load(theta)
        surface = self.surface
        train, model = surface.problem.train, surface.flat.model
        statistics = batch_statistics(model) if self.by_batch else mode(model, training=False)
        total = torch.zeros((), dtype=torch.float64, device=surface.flat.theta.device)
        with torch.no_grad(), statistics, frozen_statistics(model):
            for inputs, targets in train.batches(surface.batch_size, surface.flat.theta.dtype):
                total += surface.problem.task.losses(model(inputs), targets).sum(dtype=torch.float64)
        return float(total) / len(train)

    def slopes(self, theta: Tensor, directions: Tensor) -> tuple[float, Tensor]:
        """Training loss and its derivatives along directions, shape (K, D), all from one backward pass."""
        there = self.load(theta)
        return self.surface.loss_and_slopes(there, directions.to(there.device), self.by_batch)

    def losses(self, theta: Tensor, split: str) -> Tensor:
        """Loss of each example of a split in eval mode, statistics by the rule, float64, shape (N,)."""
        there = self.surface.vector(theta)
        self.surface.place(there, self.buffers, recalibrated=self.by_batch)
        outputs = predict(self.surface.flat.model, self.surface.split(split), self.surface.batch_size)
        return self.surface.problem.task.losses(outputs, self.surface.split(split).targets).double()

    def slope_of_each(self, theta: Tensor, direction: Tensor) -> Tensor:
        """Derivative along a direction of each training example's loss, float64, shape (N,).

        The loss Σ vᵢ ℓᵢ has the slope Σ vᵢ gᵢ, so differentiating the slope by v gives all gᵢ from two backward passes.
        Where statistics are a batch's, gᵢ is what example i's own loss does while all examples move the statistics.

        Args:
            theta: The point, shape (D,).
            direction: u, shape (D,).

        Returns:
            Slopes in the order of the examples; their mean is the slope of the loss.
        """
        self.load(theta)
        surface, found = self.surface, []
        model, along = surface.flat.model, surface.flat.layout.views(surface.vector(direction))
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        statistics = batch_statistics(model) if self.by_batch else mode(model, training=False)
        with statistics, frozen_statistics(model):
            for inputs, targets in surface.problem.train.batches(surface.batch_size, surface.flat.theta.dtype):
                losses = surface.problem.task.losses(model(inputs), targets)
                weights = torch.ones_like(losses).requires_grad_()
                pieces = torch.autograd.grad(
                    losses, list(parameters.values()), weights, create_graph=True, allow_unused=True
                )
                slope = sum(
                    (piece * along[name]).sum()
                    for name, piece in zip(parameters, pieces, strict=True)
                    if piece is not None
                )
                found.append(torch.autograd.grad(slope, weights)[0].double())  # type: ignore[arg-type]
        return torch.cat(found)


def stand(surface: Surface, checkpoint: Checkpoint, rule: str) -> Stand:
    """Stand at a checkpoint with the statistics of the training data there."""
    surface.at(checkpoint)
    buffers = {name: value.clone() for name, value in surface.flat.buffers().items()}
    return Stand(surface, checkpoint.theta.double().cpu(), buffers, rule)


class Ray:
    """The line w + ℓu, each loss and slope computed once; a `landscape.valley.Line`."""

    def __init__(self, start: Stand, direction: Tensor, origin: Tensor | None = None) -> None:
        """Look along a direction.

        Args:
            start: Surface and rule.
            direction: u, in the units of theta, float64, shape (D,).
            origin: w; by default where one stands.
        """
        self.start, self.direction = start, direction
        self.origin = start.theta if origin is None else origin
        self._losses: dict[float, float] = {}
        self._slopes: dict[float, float] = {}

    def point(self, offset: float) -> Tensor:
        """The point w + ℓu, float64, shape (D,)."""
        return self.origin + offset * self.direction

    def loss(self, offset: float) -> float:
        """L(ℓ) on the training data, nats."""
        if offset not in self._losses:
            self._losses[offset] = self.start.loss(self.point(offset))
        return self._losses[offset]

    def slope(self, offset: float) -> float:
        """g(ℓ), nats per unit of ℓ."""
        if offset not in self._slopes:
            self._losses[offset], found = self.start.slopes(self.point(offset), self.direction[None])
            self._slopes[offset] = float(found[0])
        return self._slopes[offset]

    def know(self, offset: float, loss: float, slope: float) -> None:
        """Take a loss and a slope that were computed elsewhere."""
        self._losses[offset], self._slopes[offset] = loss, slope

    def held_out(self, offsets: Sequence[float]) -> Array:
        """Losses of the test examples along the line, shape (P, N)."""
        return np.stack([self.start.losses(self.point(x), "test").cpu().numpy() for x in offsets])


class Decayed:
    """A line with ½λ‖w + ℓu‖² added to its loss; a `landscape.valley.Line`."""

    def __init__(self, line: Ray, decay: float) -> None:
        """Add weight decay.

        Args:
            line: The data's loss.
            decay: λ.
        """
        self._line, self._decay = line, decay
        self._square = float(line.origin @ line.origin)
        self._cross = float(line.origin @ line.direction)
        self._own = float(line.direction @ line.direction)

    def loss(self, offset: float) -> float:
        """L(ℓ) + ½λ‖w + ℓu‖²."""
        square = self._square + 2 * offset * self._cross + offset**2 * self._own
        return self._line.loss(offset) + self._decay * square / 2

    def slope(self, offset: float) -> float:
        """g(ℓ) + λ⟨w + ℓu, u⟩."""
        return self._line.slope(offset) + self._decay * (self._cross + offset * self._own)
