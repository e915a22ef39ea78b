"""What was measured on the line through two checkpoints, with all that says how sure it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from landscape.barrier import measure
from landscape.binomial import wilson
from landscape.hermite import Curve, through
from landscape.result import SPLITS, Array, quantity

if TYPE_CHECKING:
    from landscape.line import Line, Point

OK, NEGATIVE_VARIANCE, NOT_FINITE = 0, 1, 2
STATUS = ("computed", "a mixed variance is negative", "the loss is not finite")


@dataclass(frozen=True)
class Interpolation:
    """The line through two checkpoints.

    Attributes:
        names: Labels of a and b.
        methods: Their training methods.
        batchnorm: The rule for BatchNorm statistics.
        precision: Type of the forward pass: "fp32" for that of the weights, or "bf16".
        precision_gap: Largest change of a training loss by bf16 as a part of the range; NaN if it was not asked for.
        distance: ‖b − a‖₂ in the units of theta.
        classifies: Whether errors are parts of one; otherwise error and loss are one thing.
        adaptive: Whether points were placed by estimated error.
        split: "train" and "test".
        alpha: Places on the line, ascending, shape (P,).
        loss: Mean loss, shape (2, P); NaN where it was not computed.
        error: Mean error, shape (2, P).
        error_low: Lower end of the 95 % interval of the error as a proportion, shape (2, P); NaN for a regression.
        error_high: Its upper end.
        slope: d/dα of the training loss as it is plotted, shape (P,); NaN where it was not computed.
        status: 0 computed, 1 a mixed variance was negative, 2 not finite, shape (P,).
        examples: Examples in each split, shape (2,).
        between: Estimated largest error of the loss between the points, of the whole line, shape (2,).
        barrier_loss: Barrier of the loss, shape (2,).
        barrier_loss_between: How much higher it may be between the points, an estimate, shape (2,).
        barrier_loss_sampling: Its standard error, the examples taken as a sample, shape (2,).
        barrier_loss_halves: Its height with α chosen on the other half of the examples, shape (2,).
        barrier_error: Barrier of the error, shape (2,).
        barrier_error_between: As for the loss.
        barrier_error_sampling: As for the loss.
        barrier_error_halves: As for the loss.
        stored_loss: Loss of a and b with the statistics stored in them, shape (2, 2): split, then a and b.
        stored_error: Error likewise.
        mixed: Names of the buffers that are mixed with the weights and recomputed under no rule, as they differ and are
            no BatchNorm statistics; where there are some, there are no slopes.
        shared: Whether a BatchNorm layer whose statistics are recomputed is used more than once; then, too.
    """

    labelled: ClassVar[Mapping[str, str]] = {"end": "names"}

    names: tuple[str, ...]
    methods: tuple[str, ...]
    batchnorm: str
    precision: str
    precision_gap: float
    distance: float
    classifies: bool
    adaptive: bool
    split: Array = quantity("1", "part of the data", "split")
    alpha: Array = quantity("1", "place on the line, 0 at the first checkpoint, 1 at the second", "alpha")
    loss: Array = quantity("nats", "mean loss", "split", "alpha")
    error: Array = quantity("1", "mean error", "split", "alpha")
    error_low: Array = quantity("1", "lower end of the 95 % interval of the error", "split", "alpha")
    error_high: Array = quantity("1", "upper end of the 95 % interval of the error", "split", "alpha")
    slope: Array = quantity("nats", "derivative of the training loss by alpha", "alpha")
    status: Array = quantity("1", "0 computed, 1 negative variance, 2 not finite", "alpha")
    examples: Array = quantity("1", "examples", "split")
    between: Array = quantity("nats", "estimated largest error of the loss between the points", "split")
    barrier_loss: Array = quantity("nats", "barrier of the loss over [0, 1]", "split")
    barrier_loss_between: Array = quantity("nats", "how much higher it may be between the points", "split")
    barrier_loss_sampling: Array = quantity("nats", "its standard error over examples", "split")
    barrier_loss_halves: Array = quantity("nats", "barrier with alpha chosen on the other half", "split")
    barrier_error: Array = quantity("1", "barrier of the error over [0, 1]", "split")
    barrier_error_between: Array = quantity("1", "how much higher it may be between the points", "split")
    barrier_error_sampling: Array = quantity("1", "its standard error over examples", "split")
    barrier_error_halves: Array = quantity("1", "barrier with alpha chosen on the other half", "split")
    stored_loss: Array = quantity("nats", "loss with stored BatchNorm statistics", "split", "end")
    stored_error: Array = quantity("1", "error with stored BatchNorm statistics", "split", "end")
    mixed: tuple[str, ...] = ()
    shared: bool = False


def curve_of(alpha: Array, values: Array, slope: Array | None = None) -> Curve | None:
    """The curve through the points that were computed.

    Args:
        alpha: Places, shape (P,).
        values: Losses or errors, NaN where not computed, shape (P,).
        slope: Measured slopes, or None; used if there is one at each point.

    Returns:
        The curve; None if fewer than three points were computed.
    """
    slopes = np.full(len(alpha), np.nan) if slope is None else slope
    return through({float(x): (float(y), float(g)) for x, y, g in zip(alpha, values, slopes, strict=True)})


def collect(line: Line, points: Sequence[Point], gap: float, adaptive: bool) -> Interpolation:
    """Put the points of a line into one result.

    Args:
        line: The line.
        points: What was measured, α ascending, with 0 and 1.
        gap: Change of the loss by a lower precision; NaN if none was asked for.
        adaptive: Whether points were placed by estimated error.

    Returns:
        The result.
    """
    import torch

    surface = line.surface
    alpha = np.array([p.alpha for p in points])
    mean = np.stack([p.mean for p in points], 2)  # (loss and error, split, P)
    slope = np.array([p.slope for p in points])
    rise, spread_ = np.stack([p.rise for p in points], 2), np.stack([p.spread for p in points], 2)
    n = np.array([len(surface.split(name)) for name in SPLITS])
    ends = np.empty((2, 2, 2))
    for i, checkpoint in enumerate((line.a, line.b)):
        surface.at(checkpoint, recalibrated=False)
        ends[:, :, i] = surface.scores()
    curves = [[curve_of(alpha, mean[q, s], slope if (q, s) == (0, 0) else None) for s in (0, 1)] for q in (0, 1)]
    told = [_barriers(alpha, mean[q], curves[q], rise[q], spread_[q], smooth=q == 0) for q in (0, 1)]
    low, high = wilson(mean[1], n[:, None]) if surface.classifies else (np.full_like(mean[1], np.nan),) * 2
    return Interpolation(
        names=(line.a.name, line.b.name),
        methods=(line.a.method, line.b.method),
        batchnorm=line.rule if surface.has_batchnorm else "none",
        precision=line.precision,
        precision_gap=gap,
        distance=float(torch.linalg.vector_norm(line.b.theta.double() - line.a.theta.double())),
        classifies=surface.classifies,
        adaptive=adaptive,
        mixed=line.mixed,
        shared=line.shared,
        split=np.array(SPLITS),
        alpha=alpha,
        loss=mean[0],
        error=mean[1],
        error_low=low,
        error_high=high,
        slope=slope,
        status=np.array([p.status for p in points], dtype=np.int8),
        examples=n,
        between=np.array([np.nan if curve is None else curve.worst() for curve in curves[0]]),
        stored_loss=ends[0],
        stored_error=ends[1],
        **{
            f"barrier_{name}{key}": values
            for name, each in zip(("loss", "error"), told, strict=True)
            for key, values in each.items()
        },
    )


def _barriers(
    alpha: Array, values: Array, curves: Sequence[Curve | None], rise: Array, spread: Array, smooth: bool
) -> dict[str, Array]:
    """Fields of both splits' barriers by the ends of their names; over a hole only measured points count."""
    found = []
    for s, curve in enumerate(curves):
        known = np.isfinite(values[s])  # which a spread is not where the split is one example
        whole = bool(known[(alpha >= 0) & (alpha <= 1)].all())
        barrier = measure(curve, rise[s, known], spread[s, known], smooth and whole)
        found.append(barrier if whole else replace(barrier, between=math.nan))  # nothing is known of a hole
    keys = {"": "height", "_between": "between", "_sampling": "sampling", "_halves": "halves"}
    return {key: np.array([getattr(barrier, name) for barrier in found]) for key, name in keys.items()}
