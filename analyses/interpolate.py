"""How do loss and error change on the straight line through two checkpoints?

θ(α) = (1 − α) a + α b, for α beyond [0, 1] on both sides; α = 0 is exactly a, α = 1 exactly b. The barrier is
max over α in [0, 1] of L(α) − (1 − α) L(0) − α L(1), 0 at least since both ends count.

Source: Goodfellow et al. 2015, arXiv 1412.6544 (lines); Frankle et al. 2020, arXiv 1912.05671 (barrier);
thesis, figures 5.1 and 5.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from landscape.errors import UsageError
from landscape.options import option
from landscape.result import Array, quantity
from landscape.training.methods import labels
from landscape.types import Progress, Work, quiet
from landscape.wording import percent, seeds, spread

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from landscape.checkpoint import Checkpoint
    from landscape.problem import Problem
    from landscape.report import Table
    from landscape.surface import Surface

NAME = "interpolate"
TITLE = "The line"
QUESTION = "Is there a barrier between them?"
TEXT = "train and test, loss and error, on the line through two checkpoints"
EXAMPLE = "landscape interpolate sgd.pt sgd-sam.pt"
TAKES = (2, 2)
OK, NEGATIVE_VARIANCE, NOT_FINITE = 0, 1, 2


@dataclass(frozen=True)
class Options:
    """Options of the line."""

    low: float | None = option(
        None, "smallest α; found where the training loss has risen by --rise", kind=float, high=0
    )
    high: float | None = option(None, "largest α; found likewise", kind=float, low=1)
    rise: float = option(0.1, "rise of the training loss above both ends that ends the line, in nats", low=0.0)
    points: int = option(41, "points, half of them in [0, 1], with 0, 1/2 and 1", low=5)
    batchnorm: str = option(
        "recalibrate",
        "BatchNorm statistics off a checkpoint: recomputed on training data, mixed, or the first checkpoint's",
        choices=("recalibrate", "interpolate", "keep"),
    )
    batch_size: int = option(500, "examples in a forward pass", low=2)


@dataclass(frozen=True)
class Interpolation:
    """The line through two checkpoints.

    Attributes:
        names: Labels of a and b.
        methods: Their training methods.
        batchnorm: The rule for BatchNorm statistics.
        distance: ‖b − a‖₂ in the units of theta.
        classifies: Whether errors are parts of one; otherwise error and loss are one thing.
        split: "train" and "test".
        alpha: Places on the line, ascending, shape (P,).
        loss: Mean loss, shape (2, P); NaN where it was not computed.
        error: Mean error, shape (2, P).
        status: 0 computed, 1 a mixed variance was negative, 2 not finite, shape (P,).
        examples: Examples in each split, shape (2,).
        barrier_loss: Barrier of the loss, shape (2,).
        barrier_error: Barrier of the error, shape (2,).
        stored_loss: Loss of a and b with the statistics stored in them, shape (2, 2): split, then a and b.
        stored_error: Error likewise.
    """

    labelled: ClassVar[Mapping[str, str]] = {"end": "names"}

    names: tuple[str, ...]
    methods: tuple[str, ...]
    batchnorm: str
    distance: float
    classifies: bool
    split: Array = quantity("1", "part of the data", "split")
    alpha: Array = quantity("1", "place on the line, 0 at the first checkpoint, 1 at the second", "alpha")
    loss: Array = quantity("nats", "mean loss", "split", "alpha")
    error: Array = quantity("1", "mean error", "split", "alpha")
    status: Array = quantity("1", "0 computed, 1 negative variance, 2 not finite", "alpha")
    examples: Array = quantity("1", "examples", "split")
    barrier_loss: Array = quantity("nats", "barrier of the loss over [0, 1]", "split")
    barrier_error: Array = quantity("1", "barrier of the error over [0, 1]", "split")
    stored_loss: Array = quantity("nats", "loss with stored BatchNorm statistics", "split", "end")
    stored_error: Array = quantity("1", "error with stored BatchNorm statistics", "split", "end")


Result = Interpolation
SPLITS = ("train", "test")


REACH = 16.0  # largest |α| beyond an end that is looked at unasked


def grid(low: float, high: float, points: int) -> Array:
    """Even points in [0, 1], as many as outside it, and even points on both sides.

    Args:
        low: Smallest α, at most 0.
        high: Largest α, at least 1.
        points: How many, about.

    Returns:
        Places with low, 0, 1/2, 1 and high among them, ascending, float64, shape (P,).
    """
    inside = np.linspace(0, 1, 2 * (points // 4) + 1)
    outside = points - len(inside)
    share = -low / max(-low + high - 1, 1e-12)
    below = np.linspace(low, 0, round(outside * share) + 1)
    above = np.linspace(1, high, outside - round(outside * share) + 1)
    return np.unique(np.concatenate([below[:-1] if low < 0 else [], inside, above[1:] if high > 1 else []]))


def compute(
    problem: Problem,
    *checkpoints: Checkpoint,
    options: Options = Options(),
    progress: Progress = quiet,
    device: str = "cpu",
    dtype: str = "float32",
) -> Interpolation:
    """Measure the line.

    Args:
        problem: What both were trained on.
        *checkpoints: a and b.
        options: Options of the line.
        progress: Told (points done, points in all).
        device: Where to compute.
        dtype: Floating point type of weights and computation.

    Returns:
        The line.

    Raises:
        UsageError: If there are not two checkpoints.
    """
    import torch

    from landscape.surface import Surface

    if len(checkpoints) != 2:
        raise UsageError(f"a line goes through 2 checkpoints, got {len(checkpoints)}", EXAMPLE)
    a, b = checkpoints
    surface = Surface(problem, batch_size=options.batch_size, device=device, dtype=getattr(torch, dtype))
    low = _reach(surface, a, b, options, -1) if options.low is None else options.low
    high = _reach(surface, a, b, options, 1) if options.high is None else options.high
    alpha = grid(low, high, options.points)
    values = np.full((2, 2, len(alpha)), np.nan)  # loss and error, split, alpha
    status = np.zeros(len(alpha), dtype=np.int8)
    for i, x in enumerate(alpha):
        status[i] = _place(surface, a, b, float(x), options.batchnorm)
        if status[i] == OK:
            values[:, :, i] = _scores(surface)
            if not np.isfinite(values[:, :, i]).all():
                status[i] = NOT_FINITE
        progress(i + 1, len(alpha), f"{a.name} | {b.name}")
    stored = np.empty((2, 2, 2))
    for end, checkpoint in enumerate((a, b)):
        surface.at(checkpoint, recalibrated=False)
        stored[:, :, end] = _scores(surface)
    return Interpolation(
        names=(a.name, b.name),
        methods=(a.method, b.method),
        batchnorm=options.batchnorm if surface.has_batchnorm else "none",
        distance=float(torch.linalg.vector_norm(b.theta.double() - a.theta.double())),
        classifies=surface.classifies,
        split=np.array(SPLITS),
        alpha=alpha,
        loss=values[0],
        error=values[1],
        status=status,
        examples=np.array([len(problem.train), len(problem.test)]),
        barrier_loss=barrier(alpha, values[0]),
        barrier_error=barrier(alpha, values[1]),
        stored_loss=stored[0],
        stored_error=stored[1],
    )


def barrier(alpha: Array, values: Array) -> Array:
    """Largest L(α) − (1 − α) L(0) − α L(1) on the grid.

    Args:
        alpha: Grid with 0 and 1 in it, shape (P,).
        values: Losses or errors, shape (2, P); points that are NaN are left out.

    Returns:
        One barrier for each split, shape (2,), not negative; NaN if an end is NaN.
    """
    inside = (alpha >= 0) & (alpha <= 1)
    chord = values[:, alpha == 0] * (1 - alpha) + values[:, alpha == 1] * alpha
    rise = np.where(np.isnan(values), -np.inf, values - chord)[:, inside].max(1)
    return np.where(np.isnan(chord[:, 0]), np.nan, np.maximum(rise, 0.0))


def _reach(surface: Surface, a: Checkpoint, b: Checkpoint, options: Options, side: int) -> float:
    """The α on one side, doubling its distance to the nearer end, where the training loss has risen enough."""
    ends = []
    for alpha in (0.0, 1.0):
        _place(surface, a, b, alpha, options.batchnorm)
        ends.append(float(surface.score("train").loss))
    reach = 1.0
    while reach < REACH:
        alpha = 1 + reach if side > 0 else -reach
        if _place(surface, a, b, alpha, options.batchnorm) != OK:
            break
        loss = float(surface.score("train").loss)
        if not loss < max(ends) + options.rise:
            break
        reach *= 2
    return 1 + reach if side > 0 else -reach


def _place(surface: Surface, a: Checkpoint, b: Checkpoint, alpha: float, rule: str) -> int:
    theta, buffers = surface.between(a, b, alpha, mix_statistics=rule == "interpolate")
    if any(bool((value < 0).any()) for key, value in buffers.items() if key.endswith("running_var")):
        return NEGATIVE_VARIANCE
    surface.place(theta, buffers, recalibrated=rule == "recalibrate")
    return OK


def _scores(surface: Surface) -> Array:
    scores = [surface.score(name) for name in SPLITS]
    return np.array([[float(s.loss) for s in scores], [float(s.error) for s in scores]])


def work(options: Options, checkpoints: int) -> Work:
    """Passes over the data: recalibration and evaluation at each point, and at the points that find the range."""
    looked = 2 * 6 * (options.low is None) + 2 * 6 * (options.high is None)
    return Work(f"{options.points} points on the line", train=2 * options.points + looked + 4, test=options.points + 2)


def label(result: Interpolation) -> str:
    """What the pair is called: two results of equal label are two seeds of one experiment."""
    return " | ".join(labels(result.names, result.methods))


def words(*results: Interpolation) -> tuple[str, str]:
    """The answer and its numbers, over the seeds of one pair.

    Two networks count as linearly connected if training error rises by less than 2 points anywhere between them
    (Frankle et al. 2020, section 3); regressions if the training loss nowhere exceeds that of the worse end.

    Args:
        *results: One line for each seed.

    Returns:
        The verdict, and barriers in nats and percent.
    """
    train, test = (np.array([r.barrier_loss[i] for r in results]) for i in (0, 1))
    errors, test_errors = (np.array([r.barrier_error[i] for r in results]) for i in (0, 1))
    connected = int((errors < CONNECTED).sum())
    if not results[0].classifies:
        higher = [max(float(r.loss[0, r.alpha == end].item()) for end in (0, 1)) for r in results]
        inside = [float(np.nanmax(r.loss[0, (r.alpha >= 0) & (r.alpha <= 1)])) for r in results]
        connected = sum(i <= h for i, h in zip(inside, higher, strict=True))
    answer = "No barrier: one valley" if connected == len(results) else "A barrier: two valleys"
    if 0 < connected < len(results):
        answer = f"A barrier in {len(results) - connected} of {len(results)} seeds"
    if not results[0].classifies:
        return answer, f"Largest rise above the chord in training{seeds(len(results))}: {spread(train)}"
    detail = f"Largest rise above the chord in training{seeds(len(results))}: {spread(train, 'nats')}"
    return answer, f"{detail}, {percent(errors)}; in test: {spread(test, 'nats')}, {percent(test_errors)}"


CONNECTED = 0.02
CAPTION = (
    "θ(α) = (1 − α)·first + α·second. Thin lines are runs of one seed, thick lines their mean; train is red and "
    "solid, test blue and dashed."
)


def figure(*results: Interpolation) -> Figure:
    """Error above, loss below on a log axis; train red, test blue, one thin line for each seed and their mean."""
    from plotly.subplots import make_subplots

    from landscape.style import NEUTRAL, layout, plain

    drawn = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for row, field in ((1, "error"), (2, "loss")):
        for s, name in enumerate(SPLITS):
            _draw_split(drawn, row, [(r.alpha, getattr(r, field)[s]) for r in results], name)
    for place, end in enumerate(label(results[0]).split(" | ")):
        drawn.add_vline(x=place, line={"color": NEUTRAL, "dash": "dot", "width": 1})
        drawn.add_annotation(
            x=place,
            y=1.0,
            yref="paper",
            yanchor="bottom",
            text=plain(end),
            showarrow=False,
            xanchor=("right", "left")[place],
        )
    layout(drawn, ("", "α"), ("error", "loss (nats)"), log=("y2",), height=560, hover="x unified")
    drawn.update_yaxes(tickformat=".0%", rangemode="tozero", row=1, col=1)
    return drawn


def _draw_split(drawn: Figure, row: int, curves: Sequence[tuple[Array, Array]], name: str) -> None:
    from landscape.style import TEST, TRAIN

    line = {"color": TRAIN if name == "train" else TEST, "dash": "solid" if name == "train" else "dash"}
    several = len(curves) > 1
    common = len({tuple(alpha) for alpha, _ in curves}) == 1
    for run, (alpha, values) in enumerate(curves):
        drawn.add_scatter(
            x=alpha, y=values, mode="lines", line={**line, "width": 1 if several else 2.5}, name=name, legendgroup=name,
            opacity=0.45 if several else 1, showlegend=row == 1 and run == 0 and not (several and common),
            hoverinfo="skip" if several else None, row=row, col=1,
        )  # fmt: skip
    if several and common:
        mean = np.mean([values for _, values in curves], axis=0)
        drawn.add_scatter(
            x=curves[0][0], y=mean, mode="lines", line={**line, "width": 3}, name=f"{name}, mean of {len(curves)}",
            legendgroup=name, showlegend=row == 1, row=row, col=1,
        )  # fmt: skip


def table(*results: Interpolation) -> Table:
    """The numbers behind the figure."""
    from landscape.report import Table

    rows = [
        (run, float(x), *(float(v) for v in (r.loss[0, i], r.loss[1, i], r.error[0, i], r.error[1, i])))
        for run, r in enumerate(results, 1)
        for i, x in enumerate(r.alpha)
    ]
    columns = ("run", "α", "train loss (nats)", "test loss (nats)", "train error", "test error")
    return Table("Points on the line", columns, tuple(rows))
