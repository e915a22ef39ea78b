"""How do loss and error change on the straight line through two checkpoints?

θ(α) = (1 − α) a + α b, for α beyond [0, 1] on both sides; α = 0 is exactly a, α = 1 exactly b. Points are placed where
the curve is least certain, until its estimated error is a small part of the range. The barrier is
max over α in [0, 1] of L(α) − (1 − α) L(0) − α L(1), 0 at least since both ends count.

Source: Goodfellow et al. 2015, arXiv 1412.6544 (lines); Frankle et al. 2020, arXiv 1912.05671 (barrier);
thesis, figures 5.1 and 5.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analyses.connected import listing, words
from landscape.errors import UsageError
from landscape.interpolation import STATUS, Interpolation, collect
from landscape.options import option
from landscape.places import START, Places
from landscape.training.methods import labels
from landscape.types import Progress, Work, quiet

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from landscape.checkpoint import Checkpoint
    from landscape.line import Line
    from landscape.problem import Problem
    from landscape.report import Table
    from landscape.unfinished import Unfinished

NAME = "interpolate"
TITLE = "The line"
QUESTION = "Is there a barrier between them?"
TEXT = "train and test, loss and error, on the line through two checkpoints"
EXAMPLE = "landscape interpolate sgd.pt sgd-sam.pt"
TAKES = (2, 2)


@dataclass(frozen=True)
class Options(Places):
    """Options of the line."""

    batchnorm: str = option(
        "recalibrate",
        "BatchNorm statistics off a checkpoint: recomputed on the training data in blocks, or on all of them at once, "
        "mixed, or the first checkpoint's",
        choices=("recalibrate", "exact", "interpolate", "keep"),
    )
    block: int = option(2000, "training examples that are normalised together by 'recalibrate'", low=2)
    precision: str = option(
        "fp32", "bf16 runs the network in bfloat16, if that moves no loss by more than --tolerance",
        choices=("fp32", "bf16"),
    )  # fmt: skip
    batch_size: int = option(500, "examples in a forward pass", low=2)


Result = Interpolation


def compute(
    problem: Problem,
    *checkpoints: Checkpoint,
    options: Options = Options(),
    progress: Progress = quiet,
    device: str = "cpu",
    dtype: str = "float32",
    rest: Unfinished | None = None,
) -> Interpolation:
    """Measure the line.

    Args:
        problem: What both were trained on.
        *checkpoints: a and b.
        options: Options of the line.
        progress: Told (points done, most points).
        device: Where to compute.
        dtype: Floating point type of weights and computation.
        rest: Where finished points are kept, if anywhere.

    Returns:
        The line.

    Raises:
        UsageError: If there are not two checkpoints, or a block of data does not fit into memory.
        InterruptedRun: If a signal asked to stop; the finished points are in `rest`.
    """
    from landscape.line import Line, check_memory
    from landscape.surface import Surface
    from landscape.walk import walk

    if len(checkpoints) != 2:
        raise UsageError(f"a line goes through 2 checkpoints, got {len(checkpoints)}", EXAMPLE)
    a, b = checkpoints
    surface = Surface(problem, batch_size=options.batch_size, device=device, dtype=dtype)
    line = Line(surface, a, b, options.batchnorm, block=options.block)
    check_memory(line, options.slopes)
    gap = float("nan")
    if options.precision == "bf16":
        fast = Line(surface, a, b, options.batchnorm, block=options.block, precision="bf16")
        gap = float(rest.frame["gap"]) if rest and rest.frame else _precision_gap(line, fast, options)
        line = fast if gap <= options.tolerance else line
    if rest and not rest.frame:
        rest.check(options.count)
        rest.begin({"gap": np.array(gap)})
    points = walk(line, options, progress, rest)
    return collect(line, points, gap, adaptive=not options.points)


def _precision_gap(line: Line, fast: Line, options: Options) -> float:
    """Largest change of the training loss by a lower precision, at five places, as a part of their range."""
    low, high = (end if given is None else given for given, end in ((options.low, -1.0), (options.high, 2.0)))
    places = sorted({low, 0.0, 0.5, 1.0, high})
    exact, rough = (np.array([each.measure(x).mean[0, 0] for x in places]) for each in (line, fast))
    known = np.isfinite(exact) & np.isfinite(rough)
    width = np.ptp(exact[known]) if known.any() else 0.0
    return float(np.abs(exact - rough)[known].max() / width) if width else float("inf")


def resumable(options: Options) -> str:
    """What is kept of a line that is stopped: its finished points, with any options."""
    del options
    return "points"


def work(options: Options, checkpoints: int) -> Work:
    """Passes over the data: one at each point, with its slope four; an adaptive line takes about 25 points."""
    del checkpoints
    fixed, looked = options.points, 4 * ((options.low is None) + (options.high is None))
    points = fixed or min(options.most, START + looked)
    again = 1 if options.batchnorm in ("interpolate", "keep") else 1.3
    each = 4 if options.slopes else again
    text = f"{points} points on the line" if fixed else f"about {points} points on the line"
    return Work(text, train=round(each * points) + 4, test=points + 4)


def label(result: Interpolation) -> str:
    """What the pair is called: two results of equal label are two seeds of one experiment."""
    return " | ".join(labels(result.names, result.methods))


CAPTION = (
    "θ(α) = (1 − α)·first + α·second. Dots are measured, the lines of the loss are cubics through them. Train is red "
    "and solid, test blue and dashed; thin lines are runs of one seed, thick lines their mean. Bands of a classifier's "
    "error: 95 % binomial interval for this number of examples. Crosses: not computed, and no curve leads across."
)


def figure(*results: Interpolation) -> Figure:
    """Error above, loss below on a log axis; train red, test blue, one thin line for each seed and their mean."""
    from analyses.profiles import draw

    return draw(results, label(results[0]).split(" | "))


def table(*results: Interpolation) -> Table:
    """The numbers behind the figure."""
    from landscape.report import Table

    def interval(r: Interpolation, i: int) -> str:
        low, high = 100 * r.error_low[1, i], 100 * r.error_high[1, i]
        return f"{low:.2f} to {high:.2f}" if np.isfinite(low) else ""

    errors, unit = ((0, 1), " (nats)") if results[0].classifies else ((), "")
    rows: list[tuple[str | float | int | None, ...]] = [
        (run, float(x), *(float(v) for v in (r.loss[0, i], r.slope[i], r.loss[1, i], *(r.error[s, i] for s in errors))),
         *((interval(r, i),) if errors else ()), STATUS[int(r.status[i])])
        for run, r in enumerate(results, 1)
        for i, x in enumerate(r.alpha)
    ]  # fmt: skip
    columns: tuple[str, ...] = ("run", "α", f"train loss{unit}", "its slope", f"test loss{unit}")
    if not errors:
        return Table("Points on the line", (*columns, "status"), tuple(rows))
    columns += ("train error", "test error", "test error, 95 % (%)")
    note = "The interval holds the test error with 95 % if the test examples are a sample (Wilson)."
    return Table("Points on the line", (*columns, "status"), tuple(rows), note)


__all__ = ["listing", "words"]
