"""How many steps does it take to leave this minimum, with SGD and with SAM at several radii?

From a checkpoint, at a constant learning rate, the steps are counted until training accuracy is below the threshold.
Walks still there when the budget is spent are cut off (censored), and quantiles past the budget are said to be so.

Source: thesis, section 5.2 and Table 5.1; theory: Theorem 2.2.5 there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from landscape.errors import UsageError
from landscape.options import option
from landscape.result import Array, quantity
from landscape.survival import median_ratio, quantile, survival
from landscape.types import Progress, Setting, Work, quiet
from landscape.wording import number

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from landscape.checkpoint import Checkpoint
    from landscape.problem import Problem
    from landscape.report import Table
    from landscape.unfinished import Unfinished

NAME = "escape"
TITLE = "Escape"
QUESTION = "How many steps does it take to leave this minimum?"
TEXT = "steps until SGD, and SAM at several radii, leave a minimum at a constant learning rate"
EXAMPLE = "landscape escape sgd.pt --rho 0,0.05,0.1,0.2 --walks 20 --lr 0.25"
TAKES = (1, 1)


@dataclass(frozen=True)
class Options:
    """Options of the walks."""

    rho: str = option("0,0.05,0.1,0.2,0.3,0.5,0.7", "radii ρ, with commas between them; 0 is SGD")
    walks: int = option(20, "walks at each radius, each with its own seed", low=1, high=100_000)
    lr: float | None = option(None, "constant learning rate; default that of the checkpoint's run", kind=float, low=0.0)
    train_batch: int | None = option(None, "examples in a step; default as in the checkpoint's run", kind=int, low=1)
    momentum: float | None = option(
        None, "momentum, from zero; default as in the checkpoint's run", kind=float, low=0.0, high=1.0
    )
    budget: int = option(400, "steps after which a walk is cut off", low=1)
    threshold: float = option(0.9, "training accuracy below which the minimum is left", low=0.01, high=1.0)
    check: str = option(
        "sequential", "how accuracy is checked after each step: on growing parts of the training data until it is "
        "settled, or on all of them", choices=("sequential", "exhaustive"),
    )  # fmt: skip
    seed: int = option(0, "seed of the first walk", low=0)
    batch_size: int = option(500, "examples in a forward pass where all are looked at", low=2)


@dataclass(frozen=True)
class Escapes:
    """Walks out of one minimum: R radii, S walks each, K definitions of accuracy.

    Attributes:
        names: Label of the checkpoint.
        methods: Its training method.
        definitions: "running" and "recalibrated" BatchNorm statistics, or "plain" without BatchNorm.
        threshold: Training accuracy below which the minimum is left.
        budget: Steps after which a walk is cut off.
        lr: Constant learning rate.
        batch: Examples in a step.
        momentum: Momentum.
        rho: Radii, shape (R,); 0 is SGD.
        steps: Steps until the accuracy was below the threshold, shape (R, S, K); inf where cut off.
        examples: Examples looked at by each walk, shape (R, S, K).
        share: Examples looked at over those of looking at all after every step, shape (K,).
    """

    labelled: ClassVar[Mapping[str, str]] = {"definition": "definitions"}

    names: tuple[str, ...]
    methods: tuple[str, ...]
    definitions: tuple[str, ...]
    threshold: float
    budget: int
    lr: float
    batch: int
    momentum: float
    rho: Array = quantity("theta", "radius of the perturbation, 0 for SGD", "rho")
    steps: Array = quantity("steps", "steps until the minimum was left", "rho", "walk", "definition")
    examples: Array = quantity("1", "examples looked at", "rho", "walk", "definition")
    share: Array = quantity("1", "examples looked at over those of exhaustive checks", "definition")


Result = Escapes


def radii(text: str) -> list[float]:
    """Numbers from "0,0.05,0.1".

    Args:
        text: Radii with commas between them.

    Returns:
        The radii, ascending, each once.

    Raises:
        UsageError: If one is no number, or negative.
    """
    try:
        found = sorted({float(word) for word in text.split(",") if word.strip()})
    except ValueError:
        found = []
    if not found or not all(0 <= rho < math.inf for rho in found):
        raise UsageError(f"rho='{text}' is not understood", "give radii of at least 0, as 0,0.05,0.1")
    return found


def compute(
    problem: Problem,
    *checkpoints: Checkpoint,
    options: Options = Options(),
    progress: Progress = quiet,
    device: str = "cpu",
    dtype: str = "float32",
    rest: Unfinished | None = None,
) -> Escapes:
    """Walk.

    Args:
        problem: What the checkpoint was trained on.
        *checkpoints: The minimum.
        options: Radii, walks and how they are made.
        progress: Told (walks done, walks in all).
        device: Where to walk.
        dtype: "float32", in which training is done.
        rest: Where finished walks are kept, if anywhere.

    Returns:
        The steps of every walk.

    Raises:
        UsageError: If the targets are no classes, another dtype is asked for, the accuracy is below the threshold from
            the start, or an option is wrong.
        InterruptedRun: If a signal asked to stop; the finished walks are in `rest`.
    """
    from landscape.screening import RISK
    from landscape.training.escape import Escape, Walker, walk_settings

    rho, start = radii(options.rho), checkpoints[0]
    if dtype != "float32":
        raise UsageError(f"escape trains in float32, not in {dtype}", "leave out --dtype")
    if not problem.classifies:
        raise UsageError("escape is measured by accuracy, and this problem has no classes", "ask landscape hessian")
    walker = Walker(problem, start, device, options.threshold, options.batch_size)
    own: dict[str, Setting | None] = {
        "lr": options.lr, "batch_size": options.train_batch, "momentum": options.momentum
    }  # fmt: skip
    base = {**problem.defaults, **start.settings}
    n, walks = len(problem.train), options.walks
    walker.check(start.name)
    total, found = len(rho) * walks, list[Escape]()
    risk = RISK if options.check == "sequential" else 0.0
    check = partial(rest.check, total) if rest else None
    if rest and not rest.frame:
        rest.begin({})
    for r in rho:
        for s in range(walks):
            settings = walk_settings(base, n, r, options.budget, seed=options.seed + s, **own)
            if rest and len(found) in rest.points:
                found.append(Escape.unpacked(rest.points[len(found)]))
            else:
                found.append(walker.walk(settings, options.budget, risk, check))
                if rest:
                    rest.keep(len(found) - 1, found[-1].packed())
            progress(len(found), total, f"ρ = {r:g}: {_steps(found[-1].steps[0])}")
    shape = (len(rho), walks, len(walker.definitions))
    examples = np.array([f.examples for f in found], dtype=np.int64).reshape(shape)
    asked = np.array([f.asked for f in found], dtype=np.int64).reshape(shape)
    return Escapes(
        names=(start.name,),
        methods=(start.method,),
        definitions=walker.definitions,
        threshold=options.threshold,
        budget=options.budget,
        lr=settings.lr,
        batch=min(settings.batch_size, n),
        momentum=settings.momentum,
        rho=np.array(rho),
        steps=np.array([f.steps for f in found]).reshape(shape),
        examples=examples,
        share=examples.sum((0, 1)) / (n * asked.sum((0, 1))),
    )


def resumable(options: Options) -> str:
    """What is kept of walks that are stopped: the finished ones, with any options."""
    del options
    return "points"


def work(options: Options, checkpoints: int) -> Work:
    """Passes over the data at most: a forward and a backward pass in each step count three passes over a batch."""
    rhos = radii(options.rho)
    text = f"{len(rhos)} radii × {options.walks} walks of at most {options.budget} steps"
    gradients = options.walks * options.budget * sum(2 if rho else 1 for rho in rhos)
    return Work(text, train=checkpoints, gradients=gradients, batch=options.train_batch)


def label(result: Escapes) -> str:
    """What the checkpoint is called."""
    return result.names[0]


def _pooled(results: tuple[Escapes, ...]) -> Array:
    """Steps of all runs' walks together, shape (R, S, K)."""
    return np.concatenate([r.steps for r in results], axis=1)


def _steps(steps: float) -> str:
    """The length of a walk in words."""
    return "cut off" if math.isinf(steps) else f"{steps:g} steps"


def _told(value: float, budget: int) -> str:
    return number(value) if math.isfinite(value) else f"> {budget}"


def words(*results: Escapes) -> tuple[str, str]:
    """Median steps at each radius, and how many times faster than SGD.

    Args:
        *results: One result for each checkpoint of a seed.

    Returns:
        The answer, and ratios with intervals, walks cut off and the cost of looking.
    """
    first, steps = results[0], _pooled(results)[..., 0]
    medians = [_told(quantile(times, 0.5), first.budget) for times in steps]
    answer = "Median steps " + ", ".join(f"{m} ({kind})" for m, kind in zip(medians, _kinds(first), strict=True))
    rule = "" if first.definitions[0] == "plain" else f", accuracy by {first.definitions[0]} BatchNorm statistics"
    detail = [f"{steps.shape[1]} walks each at learning rate {first.lr:g}{rule}"]
    if len(first.rho) > 1 and first.rho[0] == 0:
        ratios = ", ".join(f"{_factor(steps[0], times, first.budget)} (ρ = {rho:g})"
                           for times, rho in zip(steps[1:], first.rho[1:], strict=True))  # fmt: skip
        detail.append(f"SGD's median over SAM's with 95 % bootstrap interval: {ratios}")
    detail.append(f"{int(np.isinf(steps).sum())} of {steps.size} walks cut off at {first.budget} steps")
    shares = zip(first.share, first.definitions, strict=True)
    seen = ", ".join(f"{100 * share:.3g} %" + (f" ({kind})" if rule else "") for share, kind in shares)
    detail.append(f"Looked at {seen} of the examples that looking at all after every step takes")
    return answer, ". ".join(detail)


def _kinds(result: Escapes) -> list[str]:
    return ["SGD" if rho == 0 else f"ρ = {rho:g}" for rho in result.rho]


def _factor(times: Array, others: Array, budget: int) -> str:
    """Ratio of medians; where one is past the budget only a bound, and nothing where both are."""
    censored = [math.isinf(quantile(each, 0.5)) for each in (times, others)]
    if all(censored):
        return "not known, both are past the budget"
    capped = np.minimum(times, budget), np.minimum(others, budget)
    ratio, low, high = median_ratio(*capped)[0], median_ratio(capped[0], others)[1], median_ratio(times, capped[1])[2]
    bound = "> " if censored[0] else "< " if censored[1] else ""
    return f"{bound}{number(ratio)} [{number(low)}, {number(high) if math.isfinite(high) else '∞'}]"


CAPTION = (
    "Above: part of the walks that have not left after so many steps. Below: steps of every walk (points) with median "
    "and quartiles (box); walks that were cut off lie on the dotted line of the budget."
)


def figure(*results: Escapes) -> Figure:
    """Survival curves, and steps against radius on a log axis."""
    from plotly.subplots import make_subplots

    from landscape.style import NEUTRAL, layout, mark

    first, steps = results[0], _pooled(results)
    drawn = make_subplots(rows=2, cols=1, vertical_spacing=0.16)
    for i, rho in enumerate(first.rho):
        times, style = steps[i, :, 0], mark(i)
        x, y = survival(times, first.budget)
        kind, short = ("SGD", "SGD") if rho == 0 else (f"ρ = {rho:g}", f"{rho:g}")
        drawn.add_scatter(
            x=np.maximum(x, 0.8), y=y, mode="lines", name=kind, legendgroup=kind, row=1, col=1,
            line={**style.line(2), "shape": "hv"},
        )  # fmt: skip
        drawn.add_box(
            y=np.minimum(times, first.budget), name=short, legendgroup=kind, showlegend=False, row=2, col=1,
            boxpoints="all", jitter=0.5, pointpos=0, marker={**style.marker(3), "opacity": 0.5},
            line={"color": style.color, "width": 1.5}, fillcolor="rgba(0,0,0,0)",
        )  # fmt: skip
    drawn.add_hline(y=first.budget, line={"color": NEUTRAL, "dash": "dot", "width": 1}, row=2, col=1)
    layout(drawn, ("steps", "ρ"), ("part still there", "steps until left"), log=("x", "y2"), height=640)
    drawn.update_xaxes(type="category", dtick=1, row=2, col=1)
    return drawn


def table(*results: Escapes) -> Table:
    """One row for each radius and definition of accuracy, walks of all runs together."""
    from landscape.report import Table

    first, steps = results[0], _pooled(results)
    rows = [
        ("SGD" if rho == 0 else "SAM", float(rho), definition, steps.shape[1],
         *(_told(quantile(steps[i, :, k], q), first.budget) for q in (0.25, 0.5, 0.75)),
         _told(float(steps[i, :, k].mean()), first.budget), int(np.isinf(steps[i, :, k]).sum()))
        for i, rho in enumerate(first.rho)
        for k, definition in enumerate(first.definitions)
    ]  # fmt: skip
    columns = ("method", "ρ (θ)", "BatchNorm statistics", "walks", "lower quartile", "median", "upper quartile", "mean")
    note = f"Steps until training accuracy is below {first.threshold:.0%}; learning rate {first.lr:g}, batches of "
    note += f"{first.batch}, momentum {first.momentum:g} from zero."
    return Table("Escape times", (*columns, "cut off"), tuple(rows), note)
