"""Weight matching: the permutation of one network's units that brings its weights nearest to another's.

Minimising ‖θ_a − P θ_b‖₂ over permutations P is maximising Σ ⟨a, P b⟩ over tensors. For one group of units with all
others held still that is a linear assignment, solved exactly; groups take turns until none improves. The sum rises at
every turn, so this ends, in a local maximum that depends on start and order: several are tried and the best is kept.

The first start settles groups in the order of the forward pass, each by those weights alone whose other axes are
settled already. A permuted copy is undone by it exactly, since what a unit reads then tells which unit it is.

Source: Ainsworth et al. 2022, arXiv 2209.04836, algorithm 1; the first start and the choice among starts are added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from landscape.result import Array
from landscape.symmetry.permutation import Permutation, identity, permuted, shuffled
from landscape.symmetry.units import Group, Place
from landscape.types import Progress, quiet

_SWEEPS = 200
_GAIN = 1e-12  # of ‖a‖ ‖b‖: less is rounding

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Matching:
    """What was found.

    Attributes:
        permutation: The best one.
        products: Σ ⟨a, P b⟩ from each start, shape (starts,).
    """

    permutation: Permutation
    products: Array


def match(
    groups: Sequence[Group], a: Weights, b: Weights, *, starts: int = 5, seed: int = 0, progress: Progress = quiet
) -> Matching:
    """Find the permutation of b's units that brings its weights nearest to a's.

    Args:
        groups: Units that can change places.
        a: Weights by name, float64.
        b: Weights of the same names and shapes.
        starts: How many starts: the order of the forward pass, b as it is, then random ones.
        seed: Seed of the order of turns and of the random starts.
        progress: Told (starts done, starts in all).

    Returns:
        The best permutation found; equal arguments give an equal one.
    """
    within = [Group(tuple(place for place in group.places if place.name in a)) for group in groups]
    search = _Search([group if group.places else None for group in within], groups, a, b)
    found = []
    for start in range(starts):
        generator = np.random.default_rng((seed, start))
        found.append(search.climb(search.start(start, seed), generator))
        progress(start + 1, starts, f"matching {len(groups)} groups of units")
    best = max(found, key=lambda pair: pair[1])
    return Matching(best[0], np.array([reached for _, reached in found]))


def settle(
    groups: Sequence[Group], a: Weights, b: Weights, permutation: Permutation, free: Sequence[Array]
) -> Permutation:
    """Let weights decide among units that something else left undecided.

    Args:
        groups: Units that can change places.
        a: Weights by name, float64.
        b: Weights of the same names and shapes.
        permutation: The permutation of b's units so far.
        free: For each group the units of a whose partners may be exchanged among each other.

    Returns:
        The permutation with those partners exchanged, groups in the order of the forward pass.
    """
    within = [Group(tuple(place for place in group.places if place.name in a)) for group in groups]
    search = _Search([group if group.places else None for group in within], groups, a, b)
    return search.settle(permutation, free)


def product(a: Weights, b: Weights) -> float:
    """Σ ⟨a, b⟩ over tensors of equal names."""
    return sum(float((value * b[name]).sum()) for name, value in a.items())


class _Search:
    """The assignment of each group, given the others."""

    def __init__(self, within: Sequence[Group | None], groups: Sequence[Group], a: Weights, b: Weights) -> None:
        self._within, self._groups, self._a, self._b = within, groups, a, b
        self._members: dict[str, list[tuple[int, Place]]] = {}
        for g, group in enumerate(groups):
            for place in group.places:
                self._members.setdefault(place.name, []).append((g, place))
        lengths = [sum(float(t.square().sum()) for t in weights.values()) ** 0.5 for weights in (a, b)]
        self._least = _GAIN * lengths[0] * lengths[1]

    def start(self, number: int, seed: int) -> Permutation:
        """The permutation that a start begins with."""
        if number == 0:
            return self._forward()
        return identity(self._groups) if number == 1 else shuffled(self._groups, seed + number)

    def climb(self, permutation: Permutation, generator: np.random.Generator) -> tuple[Permutation, float]:
        """Let groups take turns until none improves.

        Args:
            permutation: Where to begin.
            generator: Source of the order of turns.

        Returns:
            The permutation and its Σ ⟨a, P b⟩.
        """
        orders = list(permutation)
        for _ in range(_SWEEPS):
            better = [self._turn(g, orders) for g in generator.permutation(len(orders))]
            if not any(better):
                break
        return tuple(orders), product(self._a, permuted(self._groups, tuple(orders), self._b))

    def _turn(self, g: int, orders: list[Array]) -> bool:
        """Assign one group anew, if that is better."""
        group = self._within[g]
        if group is None:
            return False
        score = self._score(g, group.places, orders)
        order = assign(score)
        rows = np.arange(len(order))
        gain = float((score[rows, order] - score[rows, orders[g]]).sum())
        if self._twice(group):  # two axes of one tensor: not linear, so what was gained has to be computed
            tried = [*orders[:g], order, *orders[g + 1 :]]
            gain = self._product(group, tried) - self._product(group, orders)
        if gain <= self._least:
            return False
        orders[g] = order
        return True

    def _forward(self) -> Permutation:
        """Settle groups one after another by the weights whose other axes are settled."""
        return self.settle(identity(self._groups), [np.arange(len(group)) for group in self._groups])

    def settle(self, permutation: Permutation, free: Sequence[Array]) -> Permutation:
        """Exchange the partners of some units by the weights whose other axes are settled, group after group."""
        orders, settled = [order.copy() for order in permutation], set[int]()
        for g, (group, rows) in enumerate(zip(self._within, free, strict=True)):
            if group is not None and len(rows) > 1:
                known = [place for place in group.places if all(other in settled for other, _ in self._others(place))]
                partners = orders[g][rows]
                score = self._score(g, known or group.places, orders)[np.ix_(rows, partners)]
                orders[g][rows] = partners[assign(score)]
            settled.add(g)
        return tuple(orders)

    def _others(self, place: Place) -> list[tuple[int, Place]]:
        """Groups in the other axes of a tensor, and where they lie."""
        return [(g, other) for g, other in self._members[place.name] if other.axis != place.axis]

    def _score(self, g: int, places: Sequence[Place], orders: Sequence[Array]) -> Array:
        """Σ ⟨slice of a at unit i, slice of b at unit j⟩, other axes of b permuted, shape (n, n)."""
        total: Array = np.zeros((len(self._groups[g]),) * 2)
        for place in places:
            others = self._others(place)
            b = permuted(
                [Group((other,)) for _, other in others],
                tuple(orders[i] for i, _ in others),
                {place.name: self._b[place.name]},
            )
            total += (_rows(self._a[place.name], place) @ _rows(b[place.name], place).T).numpy()
        return total

    def _twice(self, group: Group) -> bool:
        names = [place.name for place in group.places]
        return len(set(names)) < len(names)

    def _product(self, group: Group, orders: Sequence[Array]) -> float:
        names = {place.name for place in group.places}
        moved = permuted(self._groups, tuple(orders), {name: self._b[name] for name in names})
        return product(moved, self._a)


def _rows(tensor: Tensor, place: Place) -> Tensor:
    """All entries that belong to each unit in one axis, shape (n, occurrences × rest)."""
    n, _ = place.positions.shape
    index = torch.from_numpy(place.positions.reshape(-1))
    return tensor.movedim(place.axis, 0).index_select(0, index).reshape(n, -1)


def assign(score: Array) -> Array:
    """The order in which Σ_i score[i, order[i]] is largest, shape (n,)."""
    from scipy.optimize import linear_sum_assignment

    order: Array = linear_sum_assignment(score, maximize=True)[1]
    return order
