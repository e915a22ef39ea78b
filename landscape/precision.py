"""The rounding of a rise: the same step again in the other one of float32 and float64.

In float64 θ + ε is exact to sixteen digits; in float32 it is rounded to seven, and so is the loss, of which a small
rise is a difference. What float32 then finds in a small ball is rounding, and may lie above the largest rise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from landscape.nearby import Nearby
from landscape.result import Array
from landscape.surface import Surface

if TYPE_CHECKING:
    from landscape.ball import Peak
    from landscape.problem import Problem
    from landscape.search import Rules


class SecondPrecision:
    """The loss around a point in the other precision, over the same examples and with the same rule for statistics."""

    def __init__(self, surface: Surface, rules: Rules) -> None:
        """Take the point where a surface in the other precision is.

        Args:
            surface: At the same checkpoint.
            rules: Which examples, and whose BatchNorm statistics.
        """
        self._nearby = Nearby(surface.flat, rules.objective(surface), rules.mode)
        self._theta = surface.flat.theta

    def rounding(self, peaks: Sequence[Peak], step: Callable[[Tensor], Tensor]) -> Array:
        """How far the heights of some points are wrong by rounding, in nats: one forward pass each.

        What is measured in float32 is wrong by its difference from float64; what is measured in float64 by about
        that difference times the quotient of the two units in the last place.

        Args:
            peaks: Points and their heights.
            step: Makes the step in theta of a point, both of shape (D,).

        Returns:
            Shape (R,); NaN where the other precision's loss is not finite.
        """
        narrow = self._theta.dtype == torch.float32
        scale = torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps if narrow else 1.0
        again = [float(self._nearby.rises(step(peak.point).to(self._theta)).mean()) for peak in peaks]
        apart = np.abs(np.array([peak.height for peak in peaks]) - np.array(again))
        return np.where(np.isfinite(apart), scale * apart, np.nan)


def second_surface(problem: Problem, surface: Surface) -> Surface:
    """A surface of the same problem in the other one of float32 and float64; on the CPU where a device has no float64.

    Args:
        problem: The problem, its data as they were before the first surface rounded them.
        surface: The first.

    Returns:
        The second, at no checkpoint yet.
    """
    theta = surface.flat.theta
    wide = theta.dtype == torch.float32
    device = torch.device("cpu") if wide and theta.device.type == "mps" else theta.device
    dtype = torch.float64 if wide else torch.float32
    return Surface(problem, batch_size=surface.batch_size, device=device, dtype=dtype)
