"""Plane: loss and error on a grid of two orthonormal axes, with the checkpoints projected onto it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from landscape.errors import UsageError
from landscape.result import Array, quantity
from landscape.training.methods import labels

if TYPE_CHECKING:
    from landscape.checkpoint import Checkpoint


@dataclass(frozen=True)
class Plane:
    """Loss and error at θ(x, y) = origin + x·u + y·v, u and v orthonormal; M checkpoints beside it.

    Attributes:
        names: Labels of the checkpoints.
        methods: Their training methods.
        axes: How the axes were chosen: checkpoints, random, eigenvectors, trajectory, or imported.
        titles: What each axis is.
        origin: Index of the checkpoint at (0, 0); −1 if none is known.
        after: For each checkpoint the index of the one before it in its run or the one it was forked from, −1 if none.
        batchnorm: The rule for BatchNorm statistics.
        biases: The rule for tensors of one dimension in random directions; empty for other axes.
        classifies: Whether errors are parts of one; otherwise error and loss are one thing.
        converged: Whether the search for eigenvectors converged, where there was one.
        source: File the values were imported from; empty where they were computed.
        split: "train" and "test".
        x: Places along the first axis, ascending, shape (X,).
        y: Places along the second axis, ascending, shape (Y,).
        loss: Mean loss, shape (2, Y, X); NaN where it is missing.
        error: Mean error, shape (2, Y, X).
        status: 0 computed, 1 a mixed variance was negative, 2 not finite, 3 not in an imported file, shape (Y, X).
        examples: Examples in each split, shape (2,); 0 where not known.
        place: (x, y) of each checkpoint, shape (M, 2).
        off_plane: Distance of each checkpoint from the plane, shape (M,).
        own_loss: Loss of each checkpoint with its own weights, shape (2, M).
        own_error: Error likewise, shape (2, M).
        length: Norm of each axis's direction before it became a unit vector, shape (2,): the distance between the
            checkpoints, the norm of a filter-normalised direction.
        share: Share of the trajectory's variance along each axis, shape (2,); NaN for other axes.
        eigenvalue: Eigenvalue of the Hessian of each axis, shape (2,); NaN for other axes.
    """

    labelled: ClassVar[Mapping[str, str]] = {"checkpoint": "names", "axis": "titles"}

    names: tuple[str, ...]
    methods: tuple[str, ...]
    axes: str
    titles: tuple[str, str]
    origin: int
    after: tuple[int, ...]
    batchnorm: str
    biases: str
    classifies: bool
    converged: bool
    source: str
    split: Array = quantity("1", "part of the data", "split")
    x: Array = quantity("theta", "distance along the first axis", "x")
    y: Array = quantity("theta", "distance along the second axis", "y")
    loss: Array = quantity("nats", "mean loss", "split", "y", "x")
    error: Array = quantity("1", "mean error", "split", "y", "x")
    status: Array = quantity("1", "0 computed, 1 negative variance, 2 not finite, 3 not imported", "y", "x")
    examples: Array = quantity("1", "examples", "split")
    place: Array = quantity("theta", "coordinates of the checkpoint", "checkpoint", "axis")
    off_plane: Array = quantity("theta", "distance of the checkpoint from the plane", "checkpoint")
    own_loss: Array = quantity("nats", "loss of the checkpoint itself", "split", "checkpoint")
    own_error: Array = quantity("1", "error of the checkpoint itself", "split", "checkpoint")
    length: Array = quantity("theta", "norm of the direction before it became a unit vector", "axis")
    share: Array = quantity("1", "share of the trajectory's variance", "axis")
    eigenvalue: Array = quantity("nats / theta^2", "eigenvalue of the Hessian", "axis")

    @property
    def called(self) -> tuple[str, ...]:
        """What figures call the checkpoints."""
        return labels(self.names, self.methods)

    @property
    def missing(self) -> int:
        """How many points of the grid have no value."""
        return int((self.status != 0).sum())


def before(checkpoints: Sequence[Checkpoint]) -> tuple[int, ...]:
    """For each checkpoint the one that it came from.

    Args:
        checkpoints: Checkpoints, in the order given.

    Returns:
        Indices: the latest earlier step of the same run, else the stem it was forked from, else −1. Weights that do
        not say how they were made follow each other as given.
    """
    found = []
    for i, c in enumerate(checkpoints):
        same = [j for j, o in enumerate(checkpoints) if c.settings and o.settings == c.settings and o.step < c.step]
        stem = [j for j, o in enumerate(checkpoints) if c.parent and o.sha256 == c.parent]
        given = [i - 1] if i and not c.settings and not checkpoints[i - 1].settings else []
        last = sorted(same, key=lambda j: checkpoints[j].step)[-1:]
        found.append((last or stem or given or [-1])[0])
    return tuple(found)


def span(name: str, text: str) -> tuple[float, float]:
    """Read a range.

    Args:
        name: Which axis.
        text: "LOW:HIGH".

    Returns:
        Low and high.

    Raises:
        UsageError: If it is not understood or not ascending.
    """
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        low, high = 0.0, 0.0
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(f"--{name} {text} is no range", f"write --{name} LOW:HIGH, as --{name} -1:2")
    return low, high
