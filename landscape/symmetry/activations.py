"""Activation matching: units of two networks are paired by how alike they respond to the same examples.

For each group the score of a pair of units is the sum of their correlations, over examples and pixels, at every
nonlinearity that they pass; the best pairing of a group is a linear assignment that no other group has a say in.
Weights need not be near for units to do the same, so this may lower a barrier where weight matching does not. Units
that respond to nothing, such as dead ReLUs, are paired by their weights among what the others leave.

Source: Li et al. 2016, arXiv 1511.07543, section 3 (correlations); Ainsworth et al. 2022, arXiv 2209.04836, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from landscape.batchnorm import mode
from landscape.checkpoint import Checkpoint
from landscape.problem import Problem
from landscape.result import Array
from landscape.symmetry.matching import assign, settle
from landscape.symmetry.permutation import Permutation
from landscape.symmetry.trace import Probe, Traced, unfused
from landscape.types import Progress, quiet
from landscape.vector import FlatModel

EXAMPLES = 2000
_BATCH = 100
_SAME = 1e-12  # of the mean square: a smaller variance is rounding


def match_activations(
    problem: Problem, traced: Traced, a: Checkpoint, b: Checkpoint, progress: Progress = quiet
) -> Permutation:
    """Find the permutation of b's units that makes them respond most like a's.

    Args:
        problem: What both were trained on; the first training examples are shown to both, in eval mode, on the CPU.
        traced: Groups of units and where their activations are seen.
        a: The checkpoint that stays.
        b: The checkpoint whose units are permuted.
        progress: Told (examples shown, examples in all).

    Returns:
        One permutation for each group.
    """
    problem = problem.to("cpu")
    networks = [FlatModel(problem.build(0)) for _ in (a, b)]
    for network, checkpoint in zip(networks, (a, b), strict=True):
        network.load(checkpoint.theta, checkpoint.buffers)
    sums = [_Correlation(len(traced.groups[probe.group])) for probe in traced.probes]
    shown = problem.train.head(EXAMPLES)
    done = 0
    for inputs, _ in shown.batches(_BATCH):
        one, other = (_responses(network, inputs, traced.probes) for network in networks)
        for moments, x, y in zip(sums, one, other, strict=True):
            moments.add(x, y)
        done += len(inputs)
        progress(done, len(shown), "comparing activations")
    scores = [np.zeros((len(group), len(group))) for group in traced.groups]
    for probe, moments in zip(traced.probes, sums, strict=True):
        scores[probe.group] += moments.value()
    silent = [np.flatnonzero(~score.any(axis=1)) for score in scores]
    weights = [c.layout.views(c.theta.double()) for c in (a, b)]
    return settle(traced.groups, weights[0], weights[1], tuple(assign(score) for score in scores), silent)


@torch.no_grad()
def _responses(network: FlatModel, inputs: Tensor, probes: Sequence[Probe]) -> list[Tensor]:
    """Activations at each probe, shape (n, occurrences × examples × pixels)."""
    with mode(network.model, training=False), unfused(), _Record({probe.call for probe in probes}) as record:
        network.model(inputs)
    found = []
    for probe in probes:
        index = torch.from_numpy(probe.positions.reshape(-1))
        seen = record.results[probe.call].movedim(probe.axis, 0)
        found.append(seen.index_select(0, index).reshape(len(probe.positions), -1))
    return found


class _Record(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the results of some operations of a forward pass, by their place in it.

    Attributes:
        results: Results by place.
    """

    def __init__(self, wanted: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._wanted = wanted
        self._calls = 0
        self.results: dict[int, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self._calls in self._wanted:
            self.results[self._calls] = result.clone()  # it may be written over in place
        self._calls += 1
        return result


class _Correlation:
    """Pearson correlation of the rows of two matrices whose columns come in parts, in float64."""

    def __init__(self, n: int) -> None:
        self._count = 0
        self._across = torch.zeros(n, n, dtype=torch.float64)
        self._means = torch.zeros(2, n, dtype=torch.float64)
        self._squares = torch.zeros(2, n, dtype=torch.float64)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add columns, shape (n, columns) both."""
        pair = x.double(), y.double()
        self._count += x.shape[1]
        self._across += pair[0] @ pair[1].T
        self._means += torch.stack([z.sum(1) for z in pair])
        self._squares += torch.stack([z.square().sum(1) for z in pair])

    def value(self) -> Array:
        """Correlations, shape (n, n); 0 for a row that does not vary."""
        means = self._means / self._count
        squares = self._squares / self._count
        variance = squares - means.square()
        spread = torch.where(variance > _SAME * squares, variance, 0.0).sqrt()
        covariance = self._across / self._count - means[0][:, None] * means[1]
        product = spread[0][:, None] * spread[1]
        return torch.where(product > 0, covariance / product, torch.zeros_like(product)).numpy()
