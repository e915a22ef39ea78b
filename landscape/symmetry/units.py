"""Units: which entries of which axes are one and the same hidden unit, and which units can change places.

Every axis of every tensor holds one number for each of its entries. A rule that finds two entries to be of one unit
ties their numbers, so that a unit becomes the set of all places where it appears in the weights. Number 0 is what
cannot be moved: inputs, outputs, pixels, examples; whatever is tied to it stays where it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Label = list[Ids]
"""Numbers of the entries of each axis of a tensor."""


class Units:
    """Numbers that can be tied: a union-find with path halving."""

    def __init__(self) -> None:
        self._above = [0]
        self._sliced: list[Ids] = []

    def fresh(self, n: int) -> Ids:
        """Numbers of n entries that nothing is known of."""
        first = len(self._above)
        self._above.extend(range(first, first + n))
        return np.arange(first, first + n)

    def root(self, i: int) -> int:
        """The number that stands for all that i is tied to; 0 if it cannot be moved."""
        above = self._above
        while above[i] != i:
            above[i] = above[above[i]]
            i = above[i]
        return i

    def tie(self, one: Ids, other: Ids) -> None:
        """Make entries of two axes the same units, in order.

        Args:
            one: Numbers, shape (n,).
            other: Numbers, shape (n,).

        Raises:
            ValueError: If the axes differ in length.
        """
        for i, j in zip(one.tolist(), other.tolist(), strict=True):
            a, b = sorted((self.root(i), self.root(j)))
            self._above[b] = a

    def pin(self, ids: Ids) -> None:
        """Let entries stay where they are."""
        self.tie(ids, np.zeros_like(ids))

    def movable(self, label: Iterable[Ids]) -> bool:
        """Whether any entry of any axis can be moved, as far as is known."""
        return any(self.root(i) for ids in label for i in ids.tolist())

    def slice(self, ids: Ids, kept: slice) -> Ids:
        """Take a part of an axis; what is inside and what is outside can no longer change places."""
        part = ids[kept]
        if len(part) < len(ids):
            self._sliced.append(part)
        return part

    def groups(self, tensors: Mapping[str, Label]) -> tuple[Group, ...]:
        """Units that can change places: those that appear equally often in the same axes, at least two of them.

        Args:
            tensors: Numbers of the axes of all weights and buffers by name, in the order of the forward pass.

        Returns:
            Groups in the order in which they are first used.
        """
        axes = [(name, axis, ids) for name, label in tensors.items() for axis, ids in enumerate(label)]
        axes += [("", i, ids) for i, ids in enumerate(self._sliced)]
        where: dict[int, list[tuple[int, int]]] = defaultdict(list)  # unit -> (axis, position)
        for place, (_, _, ids) in enumerate(axes):
            for position, i in enumerate(ids.tolist()):
                where[self.root(i)].append((place, position))
        where.pop(0, None)
        alike: dict[tuple[int, ...], list[list[int]]] = defaultdict(list)
        for found in where.values():
            alike[tuple(place for place, _ in found)].append([position for _, position in found])
        return tuple(
            _group(np.array(positions), signature, axes)
            for signature, positions in alike.items()
            if len(positions) > 1 and any(axes[place][0] for place in signature)
        )


@dataclass(frozen=True)
class Place:
    """Where the units of a group lie in one axis of one tensor.

    Attributes:
        name: The tensor.
        axis: The axis.
        positions: Entries of each unit, shape (n, occurrences): several where an image was flattened.
    """

    name: str
    axis: int
    positions: Ids


@dataclass(frozen=True)
class Group:
    """Units that can change places among each other without changing the network's function.

    Attributes:
        places: All that has to be permuted along.
    """

    places: tuple[Place, ...]

    def __len__(self) -> int:
        return len(self.places[0].positions)


def _group(positions: Ids, signature: Sequence[int], axes: Sequence[tuple[str, int, Ids]]) -> Group:
    found = []
    for place in dict.fromkeys(signature):
        name, axis, _ = axes[place]
        if name:
            found.append(Place(name, axis, positions[:, [at == place for at in signature]]))
    return Group(tuple(found))
