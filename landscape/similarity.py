"""How alike two networks are: in weights, in probabilities, in the features that their last layer reads.

Sources: Li et al. 2018, arXiv 1712.09913, section 4 (filters as units of length); Kornblith et al. 2019, arXiv
1905.00414, section 3 (linear CKA).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape.batchnorm import frozen_statistics, mode
from landscape.result import Array
from landscape.split import Split
from landscape.surface import Surface
from landscape.vector import Layout

_CHUNK = 4096  # examples whose products are taken at once in float64


@dataclass(frozen=True)
class Seen:
    """What is kept of a network to compare it with others, on the CPU.

    Attributes:
        logits: Class scores of training and test data, shapes (N, C); None where outputs are none.
        wrong: Errors of training and test data, 0 or 1, shapes (N,); None for regressions, or where there are logits.
        features: What the last linear layer reads of the test data, shape (N, P); None where there is none.
    """

    logits: tuple[Tensor, Tensor] | None
    wrong: tuple[Tensor, Tensor] | None
    features: Tensor | None


def look(surface: Surface) -> Seen:
    """Run a network where it is now over both splits."""
    train = surface.outputs("train")
    test, features = outputs_and_features(surface.flat.model, surface.problem.test, surface.batch_size)
    logits = (train.cpu(), test.cpu()) if surface.classifies and train.dim() == 2 and train.shape[1] > 1 else None
    wrong = None if logits or not surface.classifies else _wrong(surface, train, test)
    return Seen(logits, wrong, None if features is None else features.cpu())


def _wrong(surface: Surface, train: Tensor, test: Tensor) -> tuple[Tensor, Tensor] | None:
    """Which examples the task counts as errors, on the CPU; None if its errors are not 0 or 1."""
    problem = surface.problem
    pairs = ((train, problem.train.targets), (test, problem.test.targets))
    one, other = (problem.task.errors(output, targets).cpu() for output, targets in pairs)
    plain = all(bool(((errors == 0) | (errors == 1)).all()) for errors in (one, other))
    return (one, other) if plain else None


def alike(one: Seen, other: Seen) -> dict[str, Array]:
    """How alike two networks are as functions.

    Without a score for each class two networks are known to decide otherwise where one is right and the other wrong:
    exactly what they do with two classes, and no more than they do with several.

    Args:
        one: A network's outputs and features.
        other: Another's, of the same examples.

    Returns:
        `disagreement` and `variation`, shape (2,): train, test; `cka`, shape (). NaN where outputs are no classes, or
        there are no features.
    """
    scores = list(zip(one.logits or (), other.logits or (), strict=True))
    chosen = [(x.argmax(1), y.argmax(1)) for x, y in scores] or list(
        zip(one.wrong or (), other.wrong or (), strict=True)
    )
    x, y = one.features, other.features
    cka = np.nan if x is None or y is None else linear_cka(x, y)
    return {
        "disagreement": np.array([float((p != q).double().mean()) for p, q in chosen] or [np.nan] * 2),
        "variation": np.array([total_variation(p, q) for p, q in scores] or [np.nan] * 2),
        "cka": np.array(cka),
    }


def apart(x: Tensor, y: Tensor, layout: Layout) -> dict[str, Array]:
    """Distances between two flat vectors as a whole and tensor by tensor.

    Args:
        x: Where from, float64, shape (D,).
        y: Where to, float64, shape (D,).
        layout: Where the L tensors lie.

    Returns:
        `l2`, `relative` to ‖x‖, `cosine` at the origin; `layer_l2` and `layer_relative`, shape (L,), the latter NaN
        for a tensor that is 0 in x.
    """
    length = torch.linalg.vector_norm
    moved = torch.stack([length(x[place] - y[place]) for _, _, place in layout.slices()]).numpy()
    norms = torch.stack([length(x[place]) for _, _, place in layout.slices()]).numpy()
    return {
        "l2": length(x - y).numpy(),
        "relative": (length(x - y) / length(x)).numpy(),
        "cosine": (x @ y / (length(x) * length(y))).clamp(-1, 1).numpy(),
        "layer_l2": moved,
        "layer_relative": np.divide(moved, norms, out=np.full_like(moved, np.nan), where=norms > 0),
    }


def filter_distance(x: Tensor, y: Tensor, layout: Layout) -> tuple[float, int]:
    """√ Σ ‖f_y − f_x‖² / ‖f_x‖² over filters: distance in which each filter is as long as one.

    A tensor of one axis (biases, BatchNorm's scales and shifts) is one filter as a whole, for its entries may be 0 one
    by one. Filters that are 0 in x have no length of their own and are left out.

    Args:
        x: The flat vector whose filters set the lengths, shape (D,).
        y: The other, shape (D,).
        layout: Where the tensors lie.

    Returns:
        The distance, float64, and how many filters were left out.
    """
    total, skipped = 0.0, 0
    for before, after in zip(layout.filters(x), layout.filters(y), strict=True):
        length, moved = before.double().square().sum(1), (after.double() - before.double()).square().sum(1)
        usable = length > 0
        total += float((moved[usable] / length[usable]).sum())
        skipped += int((~usable).sum())
    return total**0.5, skipped


def total_variation(x: Tensor, y: Tensor) -> float:
    """Mean over examples of ½ Σ_c |softmax(x)_c − softmax(y)_c|, in [0, 1].

    Args:
        x: Logits, shape (N, C).
        y: Logits, shape (N, C).

    Returns:
        The mean, from float64 probabilities.
    """
    pairs = zip(torch.split(x, _CHUNK), torch.split(y, _CHUNK), strict=True)
    sums = [(p.double().softmax(1) - q.double().softmax(1)).abs().sum() for p, q in pairs]
    return float(torch.stack(sums).sum()) / (2 * len(x))


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Linear CKA ‖Y'X‖² / (‖X'X‖ ‖Y'Y‖) of centred features, Frobenius norms; 1 for equal up to rotation and scale.

    It is tr(KHLH) / √(tr(KHKH) tr(LHLH)) with K = XX', L = YY' and H = I − 11'/N, without the N × N matrices.

    Args:
        x: Features, shape (N, P).
        y: Features of the same examples, shape (N, Q).

    Returns:
        A number in [0, 1], from float64 products; NaN if the features of either do not vary.
    """
    across, one, other = _moment(x, y), _moment(x, x), _moment(y, y)
    norms = torch.linalg.matrix_norm(one) * torch.linalg.matrix_norm(other)
    return float((across.square().sum() / norms).clamp(0, 1)) if norms > 0 else float("nan")


def _moment(x: Tensor, y: Tensor) -> Tensor:
    """Centred X'Y, shape (P, Q)."""
    means = x.double().mean(0), y.double().mean(0)
    pairs = zip(torch.split(x, _CHUNK), torch.split(y, _CHUNK), strict=True)
    total = x.new_zeros(x.shape[1], y.shape[1], dtype=torch.float64)
    for p, q in pairs:
        total += (p.double() - means[0]).T @ (q.double() - means[1])
    return total


@torch.no_grad()
def outputs_and_features(model: nn.Module, split: Split, batch_size: int) -> tuple[Tensor, Tensor | None]:
    """Outputs of every example, and what the last linear layer reads.

    Args:
        model: The network; evaluated in eval mode, its modes are brought back.
        split: Examples on the network's device.
        batch_size: Examples in a forward pass.

    Returns:
        Outputs, shape (N, ...), on the device, and penultimate features, shape (N, P); None where no linear layer
        runs, the last one does not read one vector or more for each example, or nothing that is trained comes before
        it: then it reads the data, which tell nothing of the network.
    """
    dtype = next(model.parameters()).dtype
    outputs, features = [], []
    trained = _is_trained(model, split.batch(0, 2, dtype)[0])
    with mode(model, training=False), _last_linear(model) as read:
        for inputs, _ in split.batches(batch_size, dtype):
            read.clear()
            outputs.append(model(inputs))
            features += [x.flatten(1) for x in read if x.dim() > 1 and len(x) == len(inputs)]
    whole = trained and sum(map(len, features)) == len(split)
    return torch.cat(outputs), torch.cat(features) if whole else None


def _is_trained(model: nn.Module, inputs: Tensor) -> bool:
    """Whether what the last linear layer reads depends on a trainable parameter."""
    with torch.enable_grad(), mode(model, training=False), frozen_statistics(model), _last_linear(model) as read:
        model(inputs)
    return bool(read) and read[0].requires_grad


@contextlib.contextmanager
def _last_linear(model: nn.Module) -> Iterator[list[Tensor]]:
    """Note the input of the linear layer that ran last.

    Args:
        model: The network.

    Yields:
        A list of that one input, empty before any ran.
    """
    read: list[Tensor] = []

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        read[:] = [inputs[0]]

    hooks = [m.register_forward_pre_hook(note) for m in model.modules() if isinstance(m, nn.Linear)]
    try:
        yield read
    finally:
        for hook in hooks:
            hook.remove()
