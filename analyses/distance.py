"""How far apart are the checkpoints, where do they differ, do they decide alike, and what lies between them?

Distances of weights mean something for networks that share a stem; between independent runs they mostly measure how
the units happen to be numbered. Distances of functions (disagreement, total variation, CKA) mean something always.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analyses.pairs import CAPTION, figure, listing, table, words
from landscape.errors import UsageError
from landscape.options import option
from landscape.result import SPLITS, Array, quantity
from landscape.training.methods import labels
from landscape.types import Progress, Work, quiet

if TYPE_CHECKING:
    from landscape.checkpoint import Checkpoint
    from landscape.problem import Problem
    from landscape.surface import Surface

NAME = "distance"
TITLE = "Distance"
QUESTION = "How far apart are they?"
TEXT = "distances in weights, angle from the common stem, disagreement, CKA and barrier, of all pairs"
EXAMPLE = "landscape distance sgd.pt sgd-sam.pt"
TAKES = (2, 100)


@dataclass(frozen=True)
class Options:
    """Options of the distances."""

    stem: str | None = option(
        None, "checkpoint where the runs part, for the angle; else NAME@STEP.pt beside them is looked for", kind=str
    )
    barrier: int = option(5, "points between two checkpoints for the barrier; 0 for none", low=0)
    batch_size: int = option(500, "examples in a forward pass", low=2)


@dataclass(frozen=True)
class Distance:
    """Distances between all pairs of checkpoints; M checkpoints, L parameter tensors.

    Attributes:
        names: Labels of the checkpoints.
        methods: Their training methods.
        layers: Names of the parameter tensors.
        points: Points between two checkpoints on which barriers were measured.
        split: "train" and "test".
        l2: ‖θ_i − θ_j‖₂, shape (M, M).
        relative: ‖θ_i − θ_j‖₂ / ‖θ_i‖₂, shape (M, M): not symmetric.
        filtered: √ Σ ‖f_j − f_i‖² / ‖f_i‖² over filters, shape (M, M): not symmetric. A tensor of one axis (biases,
            scales and shifts) is one filter as a whole.
        skipped: Filters of i left out of it because they are 0, shape (M,).
        cosine: ⟨θ_i, θ_j⟩ / (‖θ_i‖₂ ‖θ_j‖₂), shape (M, M).
        stem: Step of the common stem, shape (M, M); NaN where none is known.
        travel: Cosine of the angle between θ_i and θ_j as seen from the stem, shape (M, M); NaN where the stem's
            weights are not at hand, or one has not moved from it.
        aligned: Whether the units of i and j were numbered alike by `landscape align`, shape (M, M).
        layer_l2: L2 distance within each parameter tensor, shape (M, M, L); squares add up to those of `l2`.
        layer_relative: The same divided by the tensor's norm in i, shape (M, M, L); NaN where that is 0.
        disagreement: Part of the examples that i and j classify differently, shape (M, M, 2): train, test. Where a
            classifier has no score for each class, the part that one of them gets right and the other wrong: the same
            for two classes, a lower bound for more. NaN for regressions.
        variation: Mean total variation of the class probabilities, shape (M, M, 2); NaN without a score for each class.
        cka: Linear CKA of the features that the last linear layer reads, test data, shape (M, M); NaN where the
            network has no such layer, nothing that is trained comes before it, or its features do not vary.
        barrier_loss: Largest rise of the loss above the chord, shape (M, M, 2); NaN where it was not measured.
        barrier_error: Largest rise of the error likewise.
        named: Name of the stem that the user gave, "" if none: from it `travel` is seen of all pairs that may have
            passed it.
    """

    labelled: ClassVar[Mapping[str, str]] = {"checkpoint": "names", "other": "names", "layer": "layers"}

    names: tuple[str, ...]
    methods: tuple[str, ...]
    layers: tuple[str, ...]
    points: int
    split: Array = quantity("1", "part of the data", "split")
    l2: Array = quantity("theta", "L2 distance", "checkpoint", "other")
    relative: Array = quantity("1", "L2 distance over the norm of the first", "checkpoint", "other")
    filtered: Array = quantity("1", "distance with filters of length one", "checkpoint", "other")
    skipped: Array = quantity("1", "filters of norm 0, left out", "checkpoint")
    cosine: Array = quantity("1", "cosine of the angle at the origin", "checkpoint", "other")
    stem: Array = quantity("steps", "last step that both runs share", "checkpoint", "other")
    travel: Array = quantity("1", "cosine of the angle at the common stem", "checkpoint", "other")
    aligned: Array = quantity("1", "whether units were numbered alike", "checkpoint", "other")
    layer_l2: Array = quantity("theta", "L2 distance within a parameter tensor", "checkpoint", "other", "layer")
    layer_relative: Array = quantity("1", "the same over the tensor's norm", "checkpoint", "other", "layer")
    disagreement: Array = quantity("1", "examples classified differently", "checkpoint", "other", "split")
    variation: Array = quantity("1", "mean total variation of probabilities", "checkpoint", "other", "split")
    cka: Array = quantity("1", "linear CKA of penultimate features", "checkpoint", "other")
    barrier_loss: Array = quantity("nats", "barrier of the loss", "checkpoint", "other", "split")
    barrier_error: Array = quantity("1", "barrier of the error", "checkpoint", "other", "split")
    named: str = ""


Result = Distance


def compute(
    problem: Problem,
    *checkpoints: Checkpoint,
    options: Options = Options(),
    progress: Progress = quiet,
    device: str = "cpu",
    dtype: str = "float32",
) -> Distance:
    """Measure distances between all pairs.

    Args:
        problem: What the checkpoints were trained on.
        *checkpoints: Two or more.
        options: Options of the distances.
        progress: Told (checkpoints and pairs done, of each in all).
        device: Where predictions are computed.
        dtype: Floating point type of the predictions; distances are always float64.

    Returns:
        The distances.

    Raises:
        UsageError: If there are fewer than two checkpoints.
    """
    from landscape import similarity, stem
    from landscape.surface import Surface

    if len(checkpoints) < 2:
        raise UsageError(f"a distance is between 2 checkpoints or more, got {len(checkpoints)}", EXAMPLE)
    stems = stem.stems(problem, checkpoints, options.stem)  # a file that cannot be read is said before the work
    surface = Surface(problem, batch_size=options.batch_size, device=device, dtype=dtype)
    m = len(checkpoints)
    pairs = list(combinations(range(m), 2))
    seen, ends = [], []
    for i, checkpoint in enumerate(checkpoints):
        surface.at(checkpoint)
        seen.append(similarity.look(surface))
        ends.append(surface.scores())
        progress(i + 1, m + len(pairs), checkpoint.name)
    between: dict[str, Array] = {key: np.full((m, m, *shape), np.nan) for key, shape in _PAIRED.items()}
    for i in range(m):
        for key, value in similarity.alike(seen[i], seen[i]).items():
            between[key][i, i] = value
    for done, (i, j) in enumerate(pairs):
        a, b = checkpoints[i], checkpoints[j]
        found = similarity.alike(seen[i], seen[j])
        found |= _barriers(surface, a, b, (ends[i], ends[j]), options.barrier)
        for key, value in found.items():
            between[key][i, j] = between[key][j, i] = value
        progress(m + done + 1, m + len(pairs), f"{a.name} | {b.name}")
    return Distance(
        names=tuple(c.name for c in checkpoints),
        methods=tuple(c.method for c in checkpoints),
        layers=checkpoints[0].layout.names,
        points=options.barrier,
        named=stems.given.name if stems.given else "",
        split=np.array(SPLITS),
        **_weights(checkpoints),
        **stem.origins(checkpoints, stems),
        **between,
    )


_PAIRED = {"disagreement": (2,), "variation": (2,), "cka": (), "barrier_loss": (2,), "barrier_error": (2,)}


def _barriers(surface: Surface, a: Checkpoint, b: Checkpoint, ends: Sequence[Array], points: int) -> dict[str, Array]:
    """Barriers on the straight line, whose ends are known already."""
    from landscape import barrier

    if not points:
        return {}
    alpha = np.linspace(0, 1, points + 2)
    inside = barrier.line(surface, a, b, alpha[1:-1])
    loss, error = barrier.height(alpha, np.dstack([ends[0], inside, ends[1]]), surface.rounding)
    return {"barrier_loss": loss, "barrier_error": error}


def _weights(checkpoints: Sequence[Checkpoint]) -> dict[str, Array]:
    """Distances of weights between all pairs."""
    from landscape.similarity import apart, filter_distance

    like = checkpoints[0].layout
    points = [c.theta.double() for c in checkpoints]
    pairs = [[apart(x, y, like) for y in points] for x in points]
    filters = np.array([[filter_distance(x, y, like) for y in points] for x in points])  # (M, M, 2)
    found = {key: np.array([[pair[key] for pair in row] for row in pairs]) for key in pairs[0][0]}
    return found | {"filtered": filters[..., 0], "skipped": filters[:, 0, 1].astype(np.int64)}


def work(options: Options, checkpoints: int) -> Work:
    """Passes over the data: recalibration, loss and predictions at each checkpoint, the first two at each point."""
    pairs = checkpoints * (checkpoints - 1) // 2
    points = pairs * options.barrier
    text = f"{checkpoints} checkpoints" + (f", {points} points between them" if points else "")
    return Work(text, train=3 * checkpoints + 2 * points, test=2 * checkpoints + points)


def label(result: Distance) -> str:
    """What the set of checkpoints is called."""
    return " | ".join(labels(result.names, result.methods))


__all__ = ["CAPTION", "figure", "listing", "table", "words"]
