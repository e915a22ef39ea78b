"""The loss surface of a problem: loss, error, slope and gradient at any theta, under a stated BatchNorm rule.

Weights between checkpoints have no running statistics of their own. The rules:
`recalibrate` (default) gives each point the statistics of the training data at that point, un-augmented and in fixed
order; `interpolate` mixes the stored statistics with the weights' own coefficients; `keep` uses the first checkpoint's
everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from landscape.batchnorm import batch_statistics, frozen_statistics, layers, mode
from landscape.checkpoint import Checkpoint
from landscape.curvature import Objective
from landscape.evaluate import BATCH, Score, evaluate, predict
from landscape.pooling import recalibrate
from landscape.problem import Problem
from landscape.result import SPLITS, Array
from landscape.split import Split
from landscape.vector import FlatModel, lerp


class Surface:
    """A network that moves over the surface; the checkpoints it was made from are never changed.

    Attributes:
        problem: The problem, its data on the device.
        flat: The network.
        batch_size: Examples in a forward pass.
        has_batchnorm: Whether there are BatchNorm statistics to speak of.
        classifies: Whether errors are parts of one.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        batch_size: int = BATCH,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | str = torch.float32,
    ) -> None:
        """Build the network and bring the data to the device.

        Args:
            problem: What is measured.
            batch_size: Examples in a forward pass.
            device: Where to measure.
            dtype: Floating point type of weights, statistics and computation, or its name.
        """
        dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        self.problem = problem.to(device, dtype)
        self.flat = FlatModel(problem.build(0, device, dtype))
        self.batch_size = batch_size
        self.has_batchnorm = bool(layers(self.flat.model))
        self.classifies = problem.classifies

    @property
    def rounding(self) -> float:
        """The smallest number that the arithmetic of the network tells from 1."""
        return torch.finfo(self.flat.theta.dtype).eps

    def statistics(self) -> set[str]:
        """Names of the buffers that are BatchNorm statistics; other buffers and frozen weights belong to the point."""
        kept = {id(buffer) for layer in layers(self.flat.model) for buffer in layer.buffers(recurse=False)}
        return {name for name, buffer in self.flat.model.named_buffers() if id(buffer) in kept}

    def between(
        self, a: Checkpoint, b: Checkpoint, alpha: float, mix_statistics: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The point (1 − α) a + α b: exactly a at α = 0 and exactly b at α = 1, frozen weights and all.

        Args:
            a: Where α is 0.
            b: Where α is 1.
            alpha: Place on the line.
            mix_statistics: Whether BatchNorm statistics are mixed likewise, or a's.

        Returns:
            Theta, shape (D,), and buffers by name; integers are the nearer end's.
        """
        kept = set() if mix_statistics else self.statistics()

        def mixed(name: str, value: Tensor) -> Tensor:
            if name in kept:
                return value
            other = b.buffers[name]
            return lerp(value, other, alpha) if value.is_floating_point() else (value if alpha < 0.5 else other)

        buffers = {name: mixed(name, value) for name, value in a.buffers.items()}
        return lerp(self.vector(a.theta), self.vector(b.theta), alpha), buffers

    def vector(self, theta: Tensor) -> Tensor:
        """A flat vector, shape (D,), on the surface's device and in its dtype."""
        return theta.to(self.flat.theta)

    def place(self, theta: Tensor, buffers: Mapping[str, Tensor], recalibrated: bool) -> None:
        """Move the network to a point.

        Args:
            theta: Parameters, shape (D,).
            buffers: Buffers to go with them.
            recalibrated: Whether the BatchNorm statistics are then recomputed on the training data.
        """
        self.flat.load(theta, buffers)
        if recalibrated:
            recalibrate(self.flat.model, self.problem.train, self.batch_size)

    def at(self, checkpoint: Checkpoint, recalibrated: bool = True) -> None:
        """Move the network to a checkpoint, see `place`."""
        self.place(checkpoint.theta, checkpoint.buffers, recalibrated)

    def split(self, name: str) -> Split:
        """The training or the test data, by name."""
        return self.problem.train if name == "train" else self.problem.test

    def score(self, name: str) -> Score:
        """Loss and error on the split "train" or "test" where the network is now, in eval mode."""
        return evaluate(self.flat.model, self.split(name), self.problem.task, self.batch_size)

    def scores(self) -> Array:
        """Loss and error of both splits where the network is now, shape (2, 2): quantity, then split."""
        found = [self.score(name) for name in SPLITS]
        values = torch.stack([*(s.loss for s in found), *(s.error for s in found)])
        return values.cpu().numpy().reshape(2, 2)  # the only sync

    def outputs(self, name: str) -> Tensor:
        """Outputs for every example of a split where the network is now, in eval mode, shape (N, ...)."""
        return predict(self.flat.model, self.split(name), self.batch_size)

    def loss_and_slopes(self, theta: Tensor, directions: Tensor, by_batch: bool) -> tuple[float, Tensor]:
        """Training loss at a point and its exact derivatives along directions, from one backward pass.

        With batch statistics the loss is that of fixed batches in fixed order, dropout off: with one batch
        it is the loss after recalibration, and it is differentiated through the statistics.

        Args:
            theta: Parameters, shape (D,).
            directions: Unit vectors, shape (K, D).
            by_batch: Whether BatchNorm uses the statistics of each batch, or those it has.

        Returns:
            Mean loss, and the derivatives, float64, shape (K,).
        """
        flat, train = self.flat, self.problem.train
        flat.load(theta)
        flat.gradient.zero_()
        total = torch.zeros((), dtype=torch.float64, device=flat.theta.device)
        statistics = batch_statistics(flat.model) if by_batch else mode(flat.model, training=False)
        with statistics, frozen_statistics(flat.model):
            for inputs, targets in train.batches(self.batch_size, flat.theta.dtype):
                loss = self.problem.task.losses(flat.model(inputs), targets).sum()
                (loss / len(train)).backward()  # type: ignore[no-untyped-call]
                total += loss.detach().double()
        return float(total) / len(train), directions.double() @ flat.gradient.double()

    def objective(self) -> Objective:
        """The mean training loss at the network as it stands now, for curvature."""
        return Objective(self.flat.model, self.problem.task.losses, self.problem.train, self.batch_size)
