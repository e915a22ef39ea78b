"""The line through two checkpoints: loss, error and slope at any α on it, under a stated BatchNorm rule.

θ(α) = (1 − α) a + α b, exactly a at α = 0 and exactly b at α = 1. The rules for BatchNorm statistics:

`recalibrate`  training data are read in blocks of equal size and every block is normalised by its own statistics; what
               is pooled over the blocks serves the test data. Statistics and training loss come from one pass. Where a
               layer is used more than once, one statistic serves all its uses: then training data are read again.
`exact`        the same with one block of all training data: the training-mode forward of the whole set.
`interpolate`  the stored statistics are mixed as the weights are; where a variance becomes negative there is no loss.
`keep`         the statistics of the first checkpoint everywhere.

Slopes are the derivatives of the very function that is evaluated: through the statistics of a block, and along the
mixed statistics too. Weights are mixed in their own type, whatever the precision of the forward pass.

Source: Goodfellow et al. 2015, arXiv 1412.6544 (lines); Izmailov et al. 2018, arXiv 1803.05407 (statistics).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.batchnorm import layers, mode
from landscape.checkpoint import Checkpoint
from landscape.curvature.memory import default_budget, saved_bytes
from landscape.errors import UsageError
from landscape.interpolation import NEGATIVE_VARIANCE, NOT_FINITE, OK
from landscape.pooling import BLOCK, Normalise, Pooled, blocks, even
from landscape.result import Array
from landscape.split import Split
from landscape.surface import Surface

RULES = ("recalibrate", "exact", "interpolate", "keep")


@dataclass(frozen=True)
class Point:
    """What was measured at one α. The first axis is loss and error, the second training and test data.

    Attributes:
        alpha: α.
        status: Index into `landscape.interpolation.STATUS`; with another than 0 the numbers are NaN.
        mean: Mean loss and error, shape (2, 2).
        rise: Mean height above the chord of the same examples at both ends, over even and over odd examples,
            shape (2, 2, 2): the last axis is the half.
        spread: Standard error of the height over all examples, as a sample of more, shape (2, 2).
        slope: d/dα of the mean training loss; NaN where it was not asked for.
    """

    alpha: float
    status: int
    mean: Array
    rise: Array
    spread: Array
    slope: float


class Line:
    """Evaluates a line; what it was made from is never changed, and equal calls give equal bits.

    Attributes:
        surface: The network that moves.
        rule: The rule for BatchNorm statistics.
        block: Examples that are normalised together; 0 where statistics are given.
        shared: Whether a BatchNorm layer whose statistics are recomputed is used more than once.
        mixed: Names of the buffers that are no BatchNorm statistics and differ between a and b: they are mixed with the
            weights under every rule, and nothing recomputes them.
    """

    def __init__(
        self, surface: Surface, a: Checkpoint, b: Checkpoint, rule: str, *, block: int = BLOCK, precision: str = "fp32"
    ) -> None:
        """Lay the line.

        Args:
            surface: The network that moves, and the data.
            a: Where α is 0.
            b: Where α is 1.
            rule: One of `RULES`.
            block: Most examples that `recalibrate` normalises together.
            precision: "fp32", or "bf16" for the forward pass and its gradient in bfloat16.
        """
        n, pooled = len(surface.problem.train), surface.has_batchnorm and rule in RULES[:2]
        self.surface, self.a, self.b, self.rule = surface, a, b, rule
        self.block = 0 if not pooled else n if rule == "exact" else even(n, block)
        self.precision = precision
        self._direction = surface.vector(b.theta).double() - surface.vector(a.theta).double()
        frozen = {name for name, p in surface.flat.model.named_parameters() if not p.requires_grad}
        plain = {name for name, value in a.buffers.items() if value.is_floating_point()} - frozen
        differing = (name for name in plain - surface.statistics() if not torch.equal(a.buffers[name], b.buffers[name]))
        self.mixed = tuple(sorted(differing))
        self.shared = pooled and self._shares()

    @property
    def differentiable(self) -> bool:
        """Whether slopes can be had: not if a buffer moves that is no BatchNorm statistic, nor if a layer is shared."""
        return not self.mixed and not self.shared

    def _shares(self) -> bool:
        pooled = Pooled(self.surface.flat.model)
        with torch.no_grad():
            pooled.block([partial(self._values, self.surface.problem.train, 0, 2)])
        return pooled.shared

    def measure(self, alpha: float, slope: bool = False) -> Point:
        """Evaluate one point.

        Args:
            alpha: α.
            slope: Whether to take the slope too, where it can be had: about two forward passes more.

        Returns:
            The point.
        """
        slope = slope and self.differentiable
        found = self._evaluate(alpha, slope)
        if found is None:
            return _blank(alpha, NEGATIVE_VARIANCE)
        values, means, derivative = found
        if not (np.isfinite(means).all() and (math.isfinite(derivative) or not slope)):
            return _blank(alpha, NOT_FINITE)
        rise, spread = zip(*(self._above_chord(alpha, s, v) for s, v in enumerate(values)), strict=True)
        return Point(alpha, OK, means, np.stack(rise, 1), np.stack(spread, 1), derivative)

    @cached_property
    def _ends(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Loss and error of every example at both ends, shape (2, N) for each end and split."""
        found = [self._evaluate(end, slope=False) for end in (0.0, 1.0)]
        return tuple((torch.full((2, 1), math.nan),) * 2 if end is None else end[0] for end in found)

    def _above_chord(self, alpha: float, split: int, values: Tensor) -> tuple[Array, Array]:
        """Mean height of both halves of the examples, shape (2, 2), and its standard error, shape (2,), NaN of one."""
        first, last = (end[split].double() for end in self._ends)
        height = values.double() - ((1 - alpha) * first + alpha * last)  # (2, N)
        halves = torch.stack([height[:, ::2].mean(1), height[:, 1::2].mean(1)], 1)
        n = height.shape[1]
        error = height.std(1) / math.sqrt(n) if n > 1 else torch.full((2,), math.nan, dtype=torch.float64)
        return halves.cpu().numpy(), error.cpu().numpy()

    def _evaluate(self, alpha: float, slope: bool) -> tuple[tuple[Tensor, Tensor], Array, float] | None:
        """Values of all training and all test examples, their means, and the slope; None for a negative variance."""
        theta, buffers = self.surface.between(self.a, self.b, alpha, mix_statistics=self.rule == "interpolate")
        if any(bool((value < 0).any()) for name, value in buffers.items() if name.endswith("running_var")):
            return None
        self.surface.place(theta, buffers, recalibrated=False)
        self.surface.flat.gradient.zero_()
        with self._leaves(slope) as leaves:
            train, first = self._pooled(slope) if self.block else self._as_it_stands("train", slope)
            derivative = self._along(leaves) if slope else math.nan
        test, second = self._as_it_stands("test", slope=False)
        return (train, test), torch.stack([first, second], 1).cpu().numpy(), derivative

    def _values(self, split: Split, start: int, stop: int) -> Tensor:
        """Loss and error of some examples, shape (2, B)."""
        flat, task = self.surface.flat, self.surface.problem.task
        inputs, targets = split.batch(start, stop, flat.theta.dtype)
        with torch.autocast(flat.theta.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            output = flat.model(inputs)
        output = output.to(flat.theta.dtype)
        return torch.stack([task.losses(output, targets), task.errors(output, targets)])

    def _as_it_stands(self, name: str, slope: bool) -> tuple[Tensor, Tensor]:
        """Values of all examples of a split with the statistics the network has, and their means, shape (2,)."""
        split, total, parts = self.surface.split(name), torch.zeros(2, dtype=torch.float64), []
        total = total.to(split.inputs.device)
        with mode(self.surface.flat.model, training=False), torch.set_grad_enabled(slope):
            for start, stop in split.places(self.surface.batch_size):
                values = self._values(split, start, stop)
                if slope:
                    (values[0].sum() / len(split)).backward()  # type: ignore[no-untyped-call]
                parts.append(values.detach())
                total += torch.stack([row.sum(dtype=torch.float64) for row in parts[-1]])
        return torch.cat(parts, 1), total / len(split)

    def _pooled(self, slope: bool) -> tuple[Tensor, Tensor]:
        """The same for the training data with the statistics of each block, which are left in the network."""
        split, pooled, parts = self.surface.problem.train, Pooled(self.surface.flat.model), []
        for inside in blocks(split, self.block, self.surface.batch_size):
            with torch.set_grad_enabled(slope):
                found = pooled.block([partial(self._values, split, start, stop) for start, stop in inside])
            if slope:
                (sum(values[0].sum() for values in found) / len(split)).backward()  # type: ignore[union-attr]
            parts += [values.detach() for values in found]
        pooled.write()
        if self.shared:
            return self._as_it_stands("train", slope=False)
        values = torch.cat(parts, 1)
        return values, values.sum(1, dtype=torch.float64) / len(split)

    @contextlib.contextmanager
    def _leaves(self, slope: bool) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """What moves along the line beside theta, each with its derivative by α, set up to collect a gradient."""
        found: list[tuple[Tensor, Tensor]] = []
        frozen = {n: p for n, p in self.surface.flat.model.named_parameters() if not p.requires_grad} if slope else {}
        for name, parameter in frozen.items():
            if not torch.equal(self.a.buffers[name], self.b.buffers[name]):
                found.append((parameter.requires_grad_(True), self._change(name)))
        mixed = layers(self.surface.flat.model) if slope and self.rule == "interpolate" else []
        names = {module: name for name, module in self.surface.flat.model.named_modules()}
        try:
            for layer in mixed:
                found += self._differentiable(layer, names[layer])
            yield found
        finally:
            for layer in mixed:
                del layer.forward
            for parameter in frozen.values():
                parameter.requires_grad_(False).grad = None

    def _change(self, name: str) -> Tensor:
        return self.surface.vector(self.b.buffers[name]) - self.surface.vector(self.a.buffers[name])

    def _differentiable(self, layer: _BatchNorm, name: str) -> list[tuple[Tensor, Tensor]]:
        """Let a layer normalise with mean and variance that collect gradients; its values stay what they are."""
        assert layer.running_mean is not None
        assert layer.running_var is not None
        mean, var = (value.clone().requires_grad_(True) for value in (layer.running_mean, layer.running_var))
        layer.forward = lambda x: Normalise.apply(x, mean, var, layer.weight, layer.bias, layer.eps)  # type: ignore[method-assign, assignment, no-untyped-call]
        return [(mean, self._change(f"{name}.running_mean")), (var, self._change(f"{name}.running_var"))]

    def _along(self, leaves: list[tuple[Tensor, Tensor]]) -> float:
        slope = self.surface.flat.gradient.double() @ self._direction
        for leaf, change in leaves:
            if leaf.grad is not None:
                slope = slope + (leaf.grad.double() * change.double()).sum()
        return float(slope)


def _blank(alpha: float, status: int) -> Point:
    blank = np.full((2, 2), math.nan)
    return Point(alpha, status, blank, np.full((2, 2, 2), math.nan), blank, math.nan)


def check_memory(line: Line, slope: bool) -> None:
    """Refuse a block that will not fit.

    Args:
        line: The line.
        slope: Whether gradients are taken, so that the whole graph of a block is kept.

    Raises:
        UsageError: If a block needs more memory than there is.
    """
    surface, few = line.surface, min(8, line.block)
    if not few:
        return
    pooled, split = Pooled(surface.flat.model), surface.problem.train
    shared = [*surface.flat.model.parameters(), surface.flat.theta]
    bytes_each = saved_bytes(lambda: pooled.block([lambda: line._values(split, 0, few)]), shared) / few
    layers = max(1, len(pooled.layers))
    needed = line.block * bytes_each * (1 if slope else 4 / layers)  # without gradients, about four tensors at a layer
    free = 2 * default_budget(surface.flat.theta.device)
    if needed > free:
        raise UsageError(
            f"normalising {line.block} examples together needs {needed / 1e9:.3g} GB, the limit is {free / 1e9:.3g} GB",
            "use --batchnorm recalibrate with a smaller --block, or --no-slopes",
        )
