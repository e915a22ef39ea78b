"""Curvature of a random part of the data, and how far it may be from that of the whole."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from landscape.curvature.certificate import Floats
from landscape.curvature.kinds import Kind, make_operator
from landscape.curvature.objective import Objective
from landscape.errors import UsageError
from landscape.wording import plural


def subset(objective: Objective, examples: int, seed: int = 0) -> Objective:
    """The same objective on a random part of its data, drawn without replacement.

    Args:
        objective: Mean loss over N examples.
        examples: n, from 1 to N.
        seed: Seed of the draw.

    Returns:
        Mean loss over n of them, in random order.

    Raises:
        UsageError: If n is out of range.
    """
    total = len(objective.data)
    if not 1 <= examples <= total:
        raise UsageError(f"expected 1 to {plural(total, 'example')}, got {examples}", "ask for no more than there are")
    chosen = torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:examples].to(objective.device)
    data = objective.data
    return replace(objective, data=replace(data, inputs=data.inputs[chosen], targets=data.targets[chosen]))


def sampling_error(
    part: Objective, vectors: Tensor, population: int | None = None, groups: int = 20, kind: Kind = "hessian"
) -> Floats:
    """Standard error of eigenvalues as estimates of those of the population that the data were drawn from.

    The Hessian is a mean over examples, H = mean_i H_i. Another draw changes it by E, and an eigenvalue by v^T E v to
    first order; so its standard error is that of the mean of v^T H_i v. It is taken from the spread over groups
    of examples, which are random as the data are in random order. It does not contain the bias of the largest
    eigenvalue, which a small sample overestimates because the maximum is taken over the same data.

    Args:
        part: Mean loss over n examples in random order, see `subset`.
        vectors: Unit eigenvectors as rows, shape (K, D).
        population: N, if the part was drawn without replacement from that many; then all of them have no error.
        groups: Groups of examples, at least 2 and at most n.
        kind: Which matrix, see `make_operator`; each is a mean over examples.

    Returns:
        Standard errors, shape (K,), in nats per unit of theta squared.

    Raises:
        UsageError: If the data do not make two groups.
    """
    total = len(part.data)
    size = math.ceil(total / groups)
    operator = make_operator(kind, replace(part, chunk=size), memory_budget=0)
    counts = np.array([stop - start for start, stop in operator.objective.chunks()])
    if len(counts) < 2:
        raise UsageError(f"{plural(total, 'example')} cannot be divided into two groups", "take more examples")
    errors = []
    for vector in vectors:
        means = np.array(operator.quotients(vector)) * total / counts  # v^T H_group v, (groups,)
        mean = (means * counts).sum() / total
        spread = (counts * (means - mean) ** 2).sum() / total / (len(counts) - 1)
        errors.append(math.sqrt(spread))
    left_out = 1.0 if population is None else 1 - total / population
    return np.array(errors) * math.sqrt(left_out)
