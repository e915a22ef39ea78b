"""Is there a curved path of low loss between two checkpoints where the straight line has a barrier?

A control point is trained so that the loss is low all along a Bézier curve or a chain of two segments; then loss and
error are measured along the curve and along the straight line, BatchNorm statistics recomputed at each point.

Source: Garipov et al. 2018, arXiv 1802.10026.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from landscape.errors import UsageError
from landscape.options import option
from landscape.result import SPLITS, Array, quantity
from landscape.training.methods import labels
from landscape.types import Progress, Work, quiet
from landscape.wording import nats, percent, seeds, spread

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from landscape.checkpoint import Checkpoint
    from landscape.problem import Problem
    from landscape.report import Table

NAME = "connect"
TITLE = "The curve"
QUESTION = "Is there a curved path of low loss between them?"
TEXT = "a curve of low loss between two checkpoints, beside the straight line"
EXAMPLE = "landscape connect a.pt b.pt"
TAKES = (2, 2)


@dataclass(frozen=True)
class Options:
    """Options of the curve."""

    shape: str = option(
        "bezier", "a Bézier curve with one control point, or a chain of two segments", choices=("bezier", "chain")
    )
    epochs: int = option(40, "passes over the training data that train the control point", low=1)
    lr: float | None = option(None, "first learning rate; the first checkpoint's, else 0.05", low=0.0, kind=float)
    sgd_batch: int | None = option(
        None, "examples in a training step; as many as the first checkpoint's, else 128", low=2, kind=int
    )
    seed: int = option(0, "seed of order and places", low=0)
    save_at: float | None = option(
        None,
        "also write the curve's point at this t as a checkpoint beside the result; none",
        low=0.0,
        high=1.0,
        kind=float,
    )
    points: int = option(21, "points measured on the curve and on the line, with both ends and the middle", low=3)
    batch_size: int = option(500, "examples in a forward pass", low=2)


@dataclass(frozen=True)
class Connection:
    """A curve and the straight line between a and b at P places.

    Attributes:
        names: Labels of a and b.
        methods: Their training methods.
        shape: "bezier" or "chain".
        batchnorm: The rule for BatchNorm statistics.
        distance: ‖b − a‖₂ in the units of theta.
        length: Length of the curve in the units of theta.
        classifies: Whether errors are parts of one; otherwise error and loss are one thing.
        split: "train" and "test".
        t: Places from 0 at a to 1 at b, shape (P,).
        curve_loss: Mean loss on the curve, shape (2, P).
        curve_error: Mean error on the curve, shape (2, P).
        line_loss: Mean loss on the straight line, shape (2, P).
        line_error: Mean error on the straight line, shape (2, P).
        curve_barrier: Largest rise on the curve above the chord, loss then error, shape (2, 2): quantity, split.
        line_barrier: Largest rise on the straight line likewise.
        epoch_loss: Mean training loss of each epoch over the places drawn, shape (E,).
    """

    labelled: ClassVar[Mapping[str, str]] = {}

    names: tuple[str, ...]
    methods: tuple[str, ...]
    shape: str
    batchnorm: str
    distance: float
    length: float
    classifies: bool
    split: Array = quantity("1", "part of the data", "split")
    t: Array = quantity("1", "place, 0 at the first checkpoint, 1 at the second", "t")
    curve_loss: Array = quantity("nats", "mean loss on the curve", "split", "t")
    curve_error: Array = quantity("1", "mean error on the curve", "split", "t")
    line_loss: Array = quantity("nats", "mean loss on the straight line", "split", "t")
    line_error: Array = quantity("1", "mean error on the straight line", "split", "t")
    curve_barrier: Array = quantity("nats; 1", "barrier on the curve, of loss and error", "quantity", "split")
    line_barrier: Array = quantity("nats; 1", "barrier on the straight line, of loss and error", "quantity", "split")
    epoch_loss: Array = quantity("nats", "mean training loss over the places drawn", "epoch")


Result = Connection


def compute(
    problem: Problem,
    *checkpoints: Checkpoint,
    options: Options = Options(),
    progress: Progress = quiet,
    device: str = "cpu",
    dtype: str = "float32",
    keep: Callable[[Checkpoint], None] = lambda point: None,
) -> Connection:
    """Train the curve and measure it beside the straight line.

    Args:
        problem: What both were trained on.
        *checkpoints: a and b.
        options: Options of the curve.
        progress: Told (epochs and points done, of both in all).
        device: Where to compute.
        dtype: Floating point type of weights and computation.
        keep: Given the curve's point at `save_at`, if one is asked for.

    Returns:
        Loss and error on both.

    Raises:
        UsageError: If there are not two checkpoints, or they have equal weights.
        DivergedError: If the curve's training diverges.
    """
    import torch

    from landscape import barrier
    from landscape.checkpoint import check_apart
    from landscape.curve import bend, point
    from landscape.surface import Surface

    if len(checkpoints) != 2:
        raise UsageError(f"a curve connects 2 checkpoints, got {len(checkpoints)}", EXAMPLE)
    a, b = checkpoints
    check_apart(a, b)
    surface = Surface(problem, batch_size=options.batch_size, device=device, dtype=dtype)
    t = np.union1d(np.linspace(0, 1, options.points), [0.5])
    total = options.epochs + 2 * len(t)
    curve, losses = bend(
        surface, a, b, shape=options.shape, epochs=options.epochs, seed=options.seed,
        lr=float(a.settings.get("lr") or 0.05) if options.lr is None else options.lr,
        batch=min(options.sgd_batch or int(a.settings.get("batch_size") or 128), len(problem.train)),
        progress=lambda done, _, text: progress(done, total, text),
    )  # fmt: skip
    done = options.epochs
    on_curve = barrier.along(
        surface, lambda x: curve.at(surface, x), t, lambda i: progress(done + i, total, "on the curve")
    )
    on_line = barrier.line(surface, a, b, t, lambda i: progress(done + len(t) + i, total, "on the line"))
    if options.save_at is not None:
        keep(point(surface, curve, options.save_at))
    return Connection(
        names=(a.name, b.name),
        methods=(a.method, b.method),
        shape=options.shape,
        batchnorm="recalibrate" if surface.has_batchnorm else "none",
        distance=float(torch.dist(b.theta.double(), a.theta.double())),
        length=curve.length(),
        classifies=surface.classifies,
        split=np.array(SPLITS),
        t=t,
        curve_loss=on_curve[0],
        curve_error=on_curve[1],
        line_loss=on_line[0],
        line_error=on_line[1],
        curve_barrier=barrier.height(t, on_curve, surface.rounding),
        line_barrier=barrier.height(t, on_line, surface.rounding),
        epoch_loss=losses.numpy(),
    )


def beside(options: Options) -> str:
    """How the name of the checkpoint ends that goes beside the result."""
    return "" if options.save_at is None else f"@{options.save_at:g}"


def work(options: Options, checkpoints: int) -> Work:
    """Passes over the data: forward and backward in each epoch, recalibration and evaluation at each point."""
    del checkpoints
    text = f"{options.epochs} epochs that bend the line, {2 * options.points} points"
    return Work(text, train=3 * options.epochs + 4 * options.points, test=2 * options.points, vectors=8)


def label(result: Connection) -> str:
    """What the pair is called."""
    return " | ".join(labels(result.names, result.methods))


def words(*results: Connection) -> tuple[str, str]:
    """Barriers on the curve and on the line, over the seeds of one pair.

    Args:
        *results: One curve for each seed.

    Returns:
        The verdict, and what the curve costs in length.
    """
    curve, line = (np.array([getattr(r, f"{on}_barrier") for r in results]) for on in ("curve", "line"))  # (S, 2, 2)
    ratio = [r.length / r.distance for r in results]
    detail = f"The curve is {spread(ratio)} times as long as the line{seeds(len(results))}"
    if results[0].classifies:
        errors = f"{percent(curve[:, 1, 1])} on the curve, {percent(line[:, 1, 1])} on the line"
        detail += f". Largest rise of the test error: {errors}"
    if not line[:, 0, 0].any():
        return "No barrier on the straight line: no curve is needed", detail
    unit = nats(results[0])
    told = f"{spread(curve[:, 0, 0], unit)} on the curve, {spread(line[:, 0, 0])} on the straight line"
    return f"{_compared(curve, line, results[0].classifies)}: {told}{_holes(results)}", detail


LOWER, HARDLY = 0.9, 0.999
"""Below which part of the line's barrier the curve's is lower, and hardly lower: it is found on a few places, from one
seed, and where both are nearly one path a few per cent say nothing."""


def _compared(curve: Array, line: Array, classifies: bool) -> str:
    """Whether the curve's barrier is lower.

    Args:
        curve: Its barriers over seeds, shape (S, 2, 2): quantity, split.
        line: Those of the straight line likewise.
        classifies: Whether errors are told apart from losses.

    Returns:
        The verdict; if the loss is lower, with the test error where that is no better.
    """
    ends = curve[:, 0, 0], line[:, 0, 0]
    if not np.isfinite(ends).all():
        return "Not compared: the loss was not computed everywhere"
    lower = int((ends[0] < LOWER * ends[1]).sum())
    if not lower:
        hardly = (ends[0] < HARDLY * ends[1]).any()
        return f"{'The curve lowers the barrier hardly' if hardly else 'No lower barrier on the curve'} in training"
    where = "in training" if lower == len(curve) else f"in {lower} of {len(curve)} seeds"
    errors = float(curve[:, 1, 1].mean()), float(line[:, 1, 1].mean())
    worse = ", not that of the test error" if classifies and errors[0] >= errors[1] and errors[0] else ""
    return f"A curve lowers the barrier {where}{worse}"


def _holes(results: Sequence[Connection]) -> str:
    """How many places of the curve and of the line have no finite loss."""
    told = []
    for on, name in (("curve", "the curve"), ("line", "the straight line")):
        missing = sum(int((~np.isfinite(getattr(r, f"{on}_loss")[0])).sum()) for r in results)
        if missing:
            told.append(f"{missing} of {sum(len(r.t) for r in results)} points on {name}")
    return f"; missing {' and '.join(told)}" if told else ""


CAPTION = (
    "Loss and error on a trained curve (solid) and on the straight line (dashed) from the first checkpoint at t = 0 to "
    "the second at t = 1; train is red, test blue. Thin lines are runs of one seed, thick lines their mean."
)


def figure(*results: Connection) -> Figure:
    """Error above, loss below on a log axis, of regressions the loss alone; curve solid, line dashed."""
    from plotly.subplots import make_subplots

    from landscape.style import layout, plain

    panels = ("error", "loss") if results[0].classifies else ("loss",)
    drawn = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for row, what in enumerate(panels, 1):
        for on in ("curve", "line"):
            for s, split in enumerate(SPLITS):
                curves = [(r.t, getattr(r, f"{on}_{what}")[s]) for r in results]
                _draw(drawn, row, curves, on, split)
    for place, end in enumerate(label(results[0]).split(" | ")):
        drawn.add_annotation(
            x=place, y=1.0, yref="paper", yanchor="bottom", text=plain(end), showarrow=False,
            xanchor=("left", "right")[place],
        )  # fmt: skip
    if not results[0].classifies:
        return layout(drawn, "t", "loss", log="y", height=420, hover="x unified")
    layout(drawn, ("", "t"), ("error", "loss (nats)"), log=("y2",), height=560, hover="x unified")
    drawn.update_yaxes(tickformat=".0%", rangemode="tozero", row=1, col=1)
    return drawn


def _draw(drawn: Figure, row: int, curves: Sequence[tuple[Array, Array]], on: str, split: str) -> None:
    """One thin line for each run, and their mean where all have the same places."""
    from landscape.style import TEST, TRAIN

    line = {"color": TRAIN if split == "train" else TEST, "dash": "solid" if on == "curve" else "dash"}
    name, several = f"{split}, {on}", len(curves) > 1
    common = several and len({tuple(t) for t, _ in curves}) == 1
    for run, (t, values) in enumerate(curves):
        drawn.add_scatter(
            x=t, y=values, mode="lines", line={**line, "width": 1 if several else 2.5}, name=name, legendgroup=name,
            opacity=0.45 if several else 1, showlegend=row == 1 and run == 0 and not common,
            hoverinfo="skip" if several else None, row=row, col=1,
        )  # fmt: skip
    if common:
        drawn.add_scatter(
            x=curves[0][0], y=np.mean([values for _, values in curves], axis=0), mode="lines", name=name,
            line={**line, "width": 3}, legendgroup=name, showlegend=row == 1, row=row, col=1,
        )  # fmt: skip


def table(*results: Connection) -> Table:
    """The numbers behind the figure."""
    from landscape.report import Table

    keys = [(on, what, s) for on in ("curve", "line") for what in ("loss", "error") for s in (0, 1)]
    columns = ("run", "t", *(f"{SPLITS[s]} {what}, {on}" for on, what, s in keys))
    rows = [
        (run, float(t), *(float(getattr(r, f"{on}_{what}")[s, i]) for on, what, s in keys))
        for run, r in enumerate(results, 1)
        for i, t in enumerate(r.t)
    ]
    return Table("Points on the curve and on the line", columns, tuple(rows))
