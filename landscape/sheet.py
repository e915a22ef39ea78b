"""A loss surface restricted to a plane: loss and error at (x, y), under a stated BatchNorm rule.

The rules are those of `landscape.surface`: `recalibrate` recomputes the statistics at each point, `interpolate` mixes
the stored ones with the coefficients that mix the weights, `keep` uses those of the checkpoint at (0, 0) everywhere.
Frozen weights and other buffers are mixed with the weights under every rule.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from landscape.axes import Axes
from landscape.checkpoint import Checkpoint
from landscape.errors import UsageError
from landscape.result import Array
from landscape.surface import Surface

OK, NEGATIVE_VARIANCE, NOT_FINITE, ABSENT = 0, 1, 2, 3
STATUS = ("computed", "a mixed variance was negative", "not finite", "not in the imported file")


class Sheet:
    """The plane of some axes on a surface; points are measured one at a time, memory does not grow with them.

    Attributes:
        surface: The network that moves.
        axes: The plane.
        rule: The rule for BatchNorm statistics.
    """

    def __init__(self, surface: Surface, axes: Axes, checkpoints: Sequence[Checkpoint], rule: str) -> None:
        """Bring the plane to the surface's device.

        Args:
            surface: Where losses are computed.
            axes: The plane.
            checkpoints: The M checkpoints that the axes were made from.
            rule: "recalibrate", "interpolate" or "keep".

        Raises:
            UsageError: If statistics are to be mixed where axes are not made of two or three checkpoints.
        """
        made_of = int(axes.mix.any(0).sum())
        if rule == "interpolate" and surface.has_batchnorm and not 2 <= made_of <= 3:
            raise UsageError(
                "BatchNorm statistics can be mixed on a plane through two or three checkpoints only",
                "use --batchnorm recalibrate or keep",
            )
        self.surface, self.axes, self.rule = surface, axes, rule
        device = surface.flat.theta.device
        start = checkpoints[axes.origin]
        self._start, self._u, self._v = (t.double().to(device) for t in (start.theta, axes.u, axes.v))
        self._mix = torch.from_numpy(axes.mix)
        self._still = {name: value.to(device) for name, value in start.buffers.items()}
        kept = surface.statistics() if rule != "interpolate" else set()
        self._moving = {
            name: torch.stack([c.buffers[name].double() for c in checkpoints]).to(device)
            for name, value in start.buffers.items()
            if value.is_floating_point()
            and name not in kept
            and axes.mix.any()
            and not all(torch.equal(c.buffers[name], value) for c in checkpoints)
        }

    def at(self, x: float, y: float) -> tuple[Tensor, dict[str, Tensor]]:
        """The point of parameter space at (x, y).

        Args:
            x: Along the first axis, in units of theta.
            y: Along the second axis.

        Returns:
            Theta, shape (D,), summed in float64 and rounded once, and buffers by name.
        """
        theta = torch.add(torch.add(self._start, self._u, alpha=x), self._v, alpha=y)
        weights = x * self._mix[0] + y * self._mix[1]
        weights[self.axes.origin] += 1
        mixed = {
            name: torch.tensordot(weights.to(values), values, 1).to(self._still[name])
            for name, values in self._moving.items()
        }
        return self.surface.vector(theta), self._still | mixed

    def measure(self, x: float, y: float) -> tuple[int, Array]:
        """Loss and error at (x, y).

        Args:
            x: Along the first axis, in units of theta.
            y: Along the second axis.

        Returns:
            Status, an index into `STATUS`, and loss and error of each split, shape (2, 2); NaN if it is not 0.
        """
        return self._score(*self.at(x, y))

    def own(self, checkpoint: Checkpoint) -> tuple[int, Array]:
        """Loss and error of a checkpoint with its own weights, on the plane or off it, see `measure`."""
        kept = self.surface.statistics() if self.rule == "keep" else set()
        return self._score(checkpoint.theta, {**checkpoint.buffers, **{name: self._still[name] for name in kept}})

    def train_loss(self, x: float, y: float) -> float:
        """Mean training loss at (x, y)."""
        self.surface.place(*self.at(x, y), recalibrated=self.rule == "recalibrate")
        return float(self.surface.score("train").loss)

    def _score(self, theta: Tensor, buffers: dict[str, Tensor]) -> tuple[int, Array]:
        nothing = np.full((2, 2), np.nan)
        variances = [v for name, v in buffers.items() if name in self._moving and name.endswith("running_var")]
        if any(bool((variance < 0).any()) for variance in variances):
            return NEGATIVE_VARIANCE, nothing
        self.surface.place(theta, buffers, recalibrated=self.rule == "recalibrate")
        values = self.surface.scores()
        return (OK, values) if np.isfinite(values).all() else (NOT_FINITE, nothing)
