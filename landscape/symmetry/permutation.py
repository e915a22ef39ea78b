"""Permutations of a network's units, applied to weights, buffers, or whatever else is shaped like them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from landscape.symmetry.units import Group, Ids

Permutation = tuple[Ids, ...]
"""For each group: which unit comes to each place, shape (n,)."""


def identity(groups: Sequence[Group]) -> Permutation:
    """The permutation that moves nothing."""
    return tuple(np.arange(len(group)) for group in groups)


def shuffled(groups: Sequence[Group], seed: int) -> Permutation:
    """A permutation drawn evenly from all.

    Args:
        groups: Units that can change places.
        seed: Seed of the draw.

    Returns:
        One permutation for each group.
    """
    generator = np.random.default_rng(seed)
    return tuple(generator.permutation(len(group)) for group in groups)


def indices(
    groups: Sequence[Group], permutation: Permutation, shapes: Mapping[str, Sequence[int]]
) -> dict[tuple[str, int], Ids]:
    """Which old entry comes to each new one, for every axis that a group lies in.

    Args:
        groups: Units that can change places.
        permutation: One permutation for each group.
        shapes: Shapes of the tensors by name.

    Returns:
        Indices by name and axis, shape (length of the axis,).
    """
    found: dict[tuple[str, int], Ids] = {}
    for group, order in zip(groups, permutation, strict=True):
        for place in group.places:
            if place.name in shapes:
                key = (place.name, place.axis)
                index = found.setdefault(key, np.arange(shapes[place.name][place.axis]))
                index[place.positions] = place.positions[order]
    return found


def permuted(groups: Sequence[Group], permutation: Permutation, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Move units to their new places.

    Args:
        groups: Units that can change places.
        permutation: One permutation for each group.
        tensors: Weights and buffers by name, or what is shaped like them.

    Returns:
        New tensors by name; entries are moved, never computed with.
    """
    moves = indices(groups, permutation, {name: value.shape for name, value in tensors.items()})
    made = {name: value.clone() for name, value in tensors.items()}
    for (name, axis), index in moves.items():
        made[name] = made[name].index_select(axis, torch.from_numpy(index).to(made[name].device))
    return made
