"""Aligns a checkpoint with another: the same function, its hidden units numbered like the other's.

Two independent runs differ by a permutation of units before they differ in anything that matters, so their distance
and the barrier between them mostly measure how units happen to be numbered. BatchNorm's running mean and variance
are permuted with its weight and bias, and so is the optimizer's state: what belongs to a weight goes with it.

Source: Ainsworth et al. 2022, arXiv 2209.04836; Jordan et al. 2023, arXiv 2211.08403 (statistics recomputed after it).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from landscape.checkpoint import Checkpoint
from landscape.problem import Problem
from landscape.result import Array
from landscape.symmetry import Group, Permutation, match, match_activations, permuted, product, traced
from landscape.types import Progress, quiet
from landscape.vector import Layout


@dataclass(frozen=True)
class Aligned:
    """An aligned checkpoint and what the search for it found.

    Attributes:
        checkpoint: The same function with its units in another order.
        groups: Groups of units that could change places.
        units: Units in them.
        moved: Units that changed places.
        reached: ‖θ_a − P θ_b‖₂ from each start, shape (starts,); of the one pairing where activations are matched.
    """

    checkpoint: Checkpoint
    groups: int
    units: int
    moved: int
    reached: Array


def align(
    problem: Problem,
    a: Checkpoint,
    b: Checkpoint,
    *,
    by: str = "weights",
    starts: int = 5,
    seed: int = 0,
    progress: Progress = quiet,
) -> Aligned:
    """Number the units of b like those of a.

    Args:
        problem: What both were trained on.
        a: The checkpoint that stays.
        b: The checkpoint whose units are permuted.
        by: "weights" seeks the smallest distance, "activations" pairs units that respond alike.
        starts: Starts of the search for the smallest distance, of which the best is kept.
        seed: Seed of that search.
        progress: Told (starts or examples done, in all).

    Returns:
        b in its new order, told to be aligned to a; its history stays, for it is the same run.

    Raises:
        InputError: If the units of the network cannot be followed.
    """
    found = traced(problem)
    groups = found.groups
    weights = [c.layout.views(c.theta.double()) for c in (a, b)]
    if by == "activations":
        permutation = match_activations(problem, found, a, b, progress)
        products = np.array([product(weights[0], permuted(groups, permutation, weights[1]))])
    else:
        matched = match(groups, *weights, starts=starts, seed=seed, progress=progress)
        permutation, products = matched.permutation, matched.products
    square = sum(product(each, each) for each in weights)
    best = reordered(b, groups, permutation)
    return Aligned(
        checkpoint=dataclasses.replace(best, exact=False, aligned=a.aligned or a.sha256, sha256=""),
        groups=len(groups),
        units=sum(map(len, groups)),
        moved=sum(int((order != np.arange(len(order))).sum()) for order in permutation),
        reached=(square - 2 * products).clip(0) ** 0.5,
    )


def reordered(checkpoint: Checkpoint, groups: Sequence[Group], permutation: Permutation) -> Checkpoint:
    """Permute the units of a checkpoint: parameters, buffers, and all that the optimizer keeps for each parameter.

    Args:
        checkpoint: The checkpoint.
        groups: Units that can change places.
        permutation: Where they go.

    Returns:
        A checkpoint of the same function; entries are moved, never computed with.
    """
    layout = checkpoint.layout
    state = permuted(groups, permutation, {**layout.views(checkpoint.theta), **checkpoint.buffers})

    def moved(vector: Tensor) -> Tensor:
        return flat(permuted(groups, permutation, layout.views(vector)), layout)

    def kept(value: Tensor) -> Tensor:
        """Vectors like theta, and stacks of them, move along; counts and other numbers stay."""
        if value.dim() == 0 or value.shape[-1] != layout.size or not value.numel():
            return value
        return moved(value) if value.dim() == 1 else torch.stack([moved(row) for row in value])

    return dataclasses.replace(
        checkpoint,
        theta=flat(state, layout),
        buffers={name: state[name] for name in checkpoint.buffers},
        optimizer={name: kept(value) for name, value in checkpoint.optimizer.items()},
    )


def flat(tensors: Mapping[str, Tensor], layout: Layout) -> Tensor:
    """The flat vector of named tensors, shape (D,)."""
    return torch.cat([tensors[name].reshape(-1) for name in layout.names])
