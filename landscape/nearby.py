"""The loss around a point: how much it rises for a step, over chosen examples, in a chosen metric.

A step is told by z and moves the weights by T z, where T is a diagonal of `landscape.scaling`; with T = 1 it is the
step itself. BatchNorm statistics stay those of the point, or are those of each batch: one function of z either way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from landscape.batchnorm import batch_statistics, frozen_statistics, mode
from landscape.curvature import BatchNormMode, Losses, Objective
from landscape.training.order import generator
from landscape.vector import FlatModel


class Nearby:
    """L(θ + T z) − L(θ) and its gradient in z; after each call the network is back at θ, bit for bit.

    Attributes:
        objective: The mean loss over n examples.
        size: D.
        evaluations: Evaluations of rise and gradient so far.
    """

    def __init__(
        self, flat: FlatModel, objective: Objective, batchnorm: BatchNormMode = "eval", scale: Tensor | None = None
    ) -> None:
        """Take the network where it is as θ.

        Args:
            flat: The network, the one that `objective` calls.
            objective: What is evaluated.
            batchnorm: "eval" for the statistics that the network has, "train" for those of each batch.
            scale: T, shape (D,); None for 1.
        """
        self.objective = objective
        self.size, self.evaluations = flat.theta.numel(), 0
        self._flat, self._by_batch, self._scale = flat, batchnorm == "train", scale
        self._centre = flat.theta.clone()
        self._base = self.each(None, objective.per_example)

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The rise at z, 0-dimensional float64, and its gradient, shape (D,)."""
        flat, objective, n = self._flat, self.objective, len(self.objective.data)
        self.evaluations += 1
        with self._moved(z):
            flat.gradient.zero_()
            total = torch.zeros((), dtype=torch.float64, device=flat.theta.device)
            for inputs, targets in objective.data.batches(objective.chunk, flat.theta.dtype):
                losses = objective.per_example(flat.model(inputs), targets)
                (losses.sum() / n).backward()  # type: ignore[no-untyped-call]
                total += losses.detach().sum(dtype=torch.float64)
        return total / n - self._base.mean(), self.scaled(flat.gradient.clone())

    def scaled(self, vector: Tensor) -> Tensor:
        """T times a vector, shape (D,): a step in theta from z, and a gradient in z from one in theta."""
        return vector if self._scale is None else self._scale * vector

    def rises(self, z: Tensor) -> Tensor:
        """The rise of each example's loss at z, float64, shape (n,)."""
        return self.each(z, self.objective.per_example) - self._base

    @torch.no_grad()
    def each(self, z: Tensor | None, measure: Losses) -> Tensor:
        """Measure each example at z.

        Args:
            z: Where, shape (D,); None for θ itself.
            measure: (outputs, targets) -> one number for each example.

        Returns:
            The numbers, float64, shape (n,).
        """
        batches = self.objective.data.batches(self.objective.chunk, self._centre.dtype)
        with self._moved(z):
            return torch.cat([measure(self._flat.model(inputs), targets).double() for inputs, targets in batches])

    @contextmanager
    def _moved(self, z: Tensor | None) -> Iterator[None]:
        model = self._flat.model
        if z is not None:
            self._flat.load(self._centre + self.scaled(z))
        statistics = batch_statistics(model) if self._by_batch else mode(model, training=False)
        try:
            with statistics, frozen_statistics(model):
                yield
        finally:
            self._flat.load(self._centre)


def normal(size: int, seed: int, number: int) -> Tensor:
    """A standard normal vector, the same for the same seed and number.

    Args:
        size: D.
        seed: Seed.
        number: Which one.

    Returns:
        z ~ N(0, I), shape (D,), float64, on the CPU.
    """
    return torch.randn(size, generator=generator(seed, "sphere", number), dtype=torch.float64)


def direction(size: int, seed: int, number: int, like: Tensor) -> Tensor:
    """A random point of the unit sphere, the same for the same seed and number.

    Args:
        size: D.
        seed: Seed.
        number: Which one.
        like: A tensor of the device and dtype that are wanted.

    Returns:
        u, shape (D,), ‖u‖₂ = 1.
    """
    z = normal(size, seed, number)
    unit: Tensor = z / torch.linalg.vector_norm(z)
    return unit.to(like)


Draw = Callable[[int], Tensor]
"""Number of a draw -> a random step, shape (D,), as likely as its negative."""


def average_rise(nearby: Nearby, rho: float, pairs: int, draw: Draw) -> tuple[float, float]:
    """The mean rise at ρ times a random step, with its standard error.

    Each step is taken both ways, which leaves the mean alone and removes the slope and all that is odd from its error.
    On a quadratic the mean is ½ρ² tr(T H T) for steps from N(0, I), and ½ρ² tr(T H T) / D on the unit sphere. The
    steps are the same at each ρ and each checkpoint, and no two are held at once.

    Args:
        nearby: The loss around a point.
        rho: ρ.
        pairs: Steps, at least 2.
        draw: Makes them.

    Returns:
        Mean and standard error.
    """
    found = []
    for number in range(pairs):
        z = rho * draw(number)
        found.append((nearby.rises(z).mean() + nearby.rises(-z).mean()) / 2)
    rises = torch.stack(found)
    return float(rises.mean()), float(rises.std() / math.sqrt(pairs))
