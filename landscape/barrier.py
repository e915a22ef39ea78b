"""Barriers: how far loss and error rise between two checkpoints above the chord that joins their values.

B = max over α in [0, 1] of L(α) − (1 − α) L(0) − α L(1), 0 at least since both ends count. On a few points it is a
lower bound of the barrier of the whole line.

Source: Frankle et al. 2020, arXiv 1912.05671; Entezari et al. 2022, arXiv 2110.06296, definition 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from landscape.result import Array

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.checkpoint import Checkpoint
    from landscape.surface import Surface

SPLITS = ("train", "test")


def height(alpha: Array, values: Array) -> Array:
    """Largest rise above the chord on points that have been measured.

    Args:
        alpha: Places, ascending from 0 to 1, both in it, shape (P,).
        values: Losses or errors there, shape (..., P).

    Returns:
        Barriers, shape (...), not negative; NaN where a value is NaN.
    """
    chord = values[..., :1] * (1 - alpha) + values[..., -1:] * alpha
    rise: Array = np.maximum((values - chord).max(-1), 0.0)
    return rise


def scores(surface: Surface) -> Array:
    """Loss and error of both splits where the surface's network is now, shape (2, 2): quantity, then split."""
    found = [surface.score(name) for name in SPLITS]
    return np.array([[float(s.loss) for s in found], [float(s.error) for s in found]])


Path = Callable[[float], tuple["Tensor", dict[str, "Tensor"]]]
"""Place in [0, 1] -> theta, shape (D,), and buffers by name."""


def along(surface: Surface, path: Path, places: Array, progress: Callable[[int], None] = lambda done: None) -> Array:
    """Loss and error along a path, BatchNorm statistics recomputed at each point.

    Args:
        surface: What is measured.
        path: Where the network goes.
        places: Places, shape (P,).
        progress: Told how many points are done.

    Returns:
        Loss and error, train and test, shape (2, 2, P).
    """
    values = np.empty((2, 2, len(places)))
    for i, x in enumerate(places):
        surface.place(*path(float(x)), recalibrated=True)
        values[:, :, i] = scores(surface)
        progress(i + 1)
    return values


def line(
    surface: Surface, a: Checkpoint, b: Checkpoint, alpha: Array, progress: Callable[[int], None] = lambda done: None
) -> Array:
    """Loss and error on the straight line from a, at 0, to b, at 1; see `along`."""
    return along(surface, lambda x: surface.between(a, b, x), alpha, progress)
