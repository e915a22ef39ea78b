"""How does the sharpness change on the way from one checkpoint to the other?

The largest eigenvalues at points of the line θ(α) = (1 − α) a + α b, with BatchNorm statistics recomputed at
each point, beside the training loss there. At α = 0 and 1 they are those of the checkpoints.

Source: thesis, section 5.3 (sharpness between two solutions); Goodfellow et al. 2015, arXiv 1412.6544 (lines).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from landscape.errors import UsageError
from landscape.matrix import Matrix, Measured, reproducible
from landscape.options import option
from landscape.result import Array, quantity
from landscape.training.methods import labels
from landscape.types import Progress, Work, quiet
from landscape.wording import bounded, curvature, nats, number, spread

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from landscape.checkpoint import Checkpoint
    from landscape.curvature import Rest
    from landscape.problem import Problem
    from landscape.report import Table
    from landscape.surface import Surface

NAME = "along"
TITLE = "Sharpness along the line"
QUESTION = "How does the sharpness change between them?"
TEXT = "top eigenvalues of the Hessian along the line through two checkpoints"
EXAMPLE = "landscape along sgd.pt sgd-sam.pt"
TAKES = (2, 2)


@dataclass(frozen=True)
class Options(Matrix):
    """Options of the line."""

    top: int = option(2, "how many eigenvalues at each point, K", low=1)
    points: int = option(9, "points on the line", low=2)
    low: float = option(0.0, "smallest α; 0 is the first checkpoint", high=0.0)
    high: float = option(1.0, "largest α; 1 is the second checkpoint", low=1.0)
    tol: float = option(1e-3, "largest residual relative to its eigenvalue", low=0.0)


@dataclass(frozen=True)
class Ridge(Measured):
    """Eigenvalues at P points of the line through a and b.

    Attributes:
        distance: ‖b − a‖₂ in the units of theta.
        alpha: Places on the line, ascending, with 0 and 1, shape (P,).
        eigenvalue: Largest eigenvalues, descending, shape (P, K).
        interval_low: Lower end of the interval that holds an eigenvalue: residual and rounding below, shape (P, K).
        interval_high: Its upper end, shape (P, K).
        smallest: Smallest eigenvalue found, shape (P,).
        loss: Mean training loss, all examples, shape (P,); NaN with batch statistics.
        products: Products with the matrix that were used, shape (P,).
        converged: Whether all K residuals are below tol, shape (P,).
    """

    distance: float
    alpha: Array = quantity("1", "place on the line, 0 at the first checkpoint, 1 at the second", "alpha")
    eigenvalue: Array = quantity("nats / theta^2", "eigenvalue of the matrix", "alpha", "index")
    interval_low: Array = quantity("nats / theta^2", "lower end of the interval", "alpha", "index")
    interval_high: Array = quantity("nats / theta^2", "upper end of the interval", "alpha", "index")
    smallest: Array = quantity("nats / theta^2", "smallest eigenvalue found", "alpha")
    loss: Array = quantity("nats", "mean training loss", "alpha")
    products: Array = quantity("1", "products with the matrix", "alpha")
    converged: Array = quantity("1", "whether all residuals are below tol", "alpha")


Result = Ridge


@reproducible
def compute(
    problem: Problem,
    *checkpoints: Checkpoint,
    options: Options = Options(),
    progress: Progress = quiet,
    device: str = "cpu",
    dtype: str = "float32",
    rest: Rest | None = None,
) -> Ridge:
    """Find the largest eigenvalues at each point.

    Args:
        problem: What both were trained on.
        *checkpoints: a and b.
        options: Options of the line.
        progress: Told (points done, points in all).
        device: Where to compute.
        dtype: Floating point type of the computation.
        rest: Where the searches rest when they are stopped, and go on from.

    Returns:
        Eigenvalues in their intervals.

    Raises:
        UsageError: If there are not two checkpoints, or stored statistics are asked for between them.
    """
    import torch

    from landscape.curvature import Rest, unpacked
    from landscape.surface import Surface

    rest = rest or Rest()
    if len(checkpoints) != 2:
        raise UsageError(f"a line goes through 2 checkpoints, got {len(checkpoints)}", EXAMPLE)
    surface = Surface(problem, batch_size=options.batch_size, device=device, dtype=dtype)
    if options.batchnorm == "stored" and surface.has_batchnorm:
        raise UsageError("weights between two checkpoints have no stored statistics", "use --batchnorm recalibrated")
    a, b = checkpoints
    alpha = places(options.low, options.high, options.points)
    found: list[_Point] = [unpacked(_Point, arrays) for arrays in rest.found]
    for i, x in list(enumerate(alpha))[len(found) :]:
        progress(i, len(alpha), f"α = {x:.3g}")
        theta, buffers = surface.between(a, b, float(x))
        surface.place(theta, buffers, recalibrated=options.batchnorm == "recalibrated")
        found.append(_measured(surface, options, rest))
        rest.add(found[-1])
    progress(len(alpha), len(alpha), "done")
    return Ridge(
        **options.about(surface, checkpoints),
        distance=float(torch.dist(b.theta.double(), a.theta.double())),
        alpha=alpha,
        eigenvalue=np.stack([point.eigenvalue for point in found]),
        interval_low=np.stack([point.interval[:, 0] for point in found]),
        interval_high=np.stack([point.interval[:, 1] for point in found]),
        smallest=np.array([point.smallest for point in found]),
        loss=np.array([point.loss for point in found]),
        products=np.array([point.products for point in found]),
        converged=np.array([point.converged for point in found]),
    )


@dataclass(frozen=True)
class _Point:
    """What was found at one point: a row of `Ridge`, `interval` of shape (K, 2)."""

    eigenvalue: Array
    interval: Array
    smallest: float
    loss: float
    products: int
    converged: bool


def _measured(surface: Surface, options: Options, rest: Rest) -> _Point:
    """The eigenvalues and the loss where the surface is now."""
    from landscape.curvature import eigenpairs

    pairs = eigenpairs(
        options.objective(surface), options.top, tol=options.tol, seed=options.seed, batchnorm=options.mode,
        memory_budget=options.budget, kind=options.kind, state=rest.search, save=rest.step,
    )  # fmt: skip
    loss = float(surface.score("train").loss) if options.mode == "eval" else np.nan
    return _Point(pairs.values, pairs.intervals, pairs.smallest, loss, pairs.products, pairs.converged)


def resumable(options: Options) -> str:
    """What is kept of searches that are stopped, with any options."""
    del options
    return "search"


def places(low: float, high: float, points: int) -> Array:
    """About even places from low to high with 0 and 1 among them.

    Args:
        low: Smallest, at most 0.
        high: Largest, at least 1.
        points: How many, at least 2.

    Returns:
        Ascending, float64; one or two more than asked for where 0 and 1 are not on the even grid.
    """
    even = np.linspace(low, high, points)
    step = (high - low) / (points - 1)
    apart = even[(np.abs(even) > step / 2) & (np.abs(even - 1) > step / 2)]
    return np.unique(np.concatenate([apart, [low, 0.0, 1.0, high]]))


def work(options: Options, checkpoints: int) -> Work:
    """Passes over the data: at each point a recalibration, a loss and about 3 K + 15 products of five passes."""
    del checkpoints
    products = 3 * options.top + 15
    text = f"{options.points} points × about {products} products with the matrix"
    train = options.points * (5 * products + 2)
    return Work(text, train=train, vectors=3 * options.top + 55, graphs=options.budget)


def label(result: Ridge) -> str:
    """What the pair is called, and the matrix."""
    return result.label


def words(*results: Ridge) -> tuple[str, str]:
    """Whether λ₁ has a ridge or falls from one end to the other, over seeds.

    Args:
        *results: One line for each seed.

    Returns:
        The answer, and λ₁ at both ends and where it is largest.
    """
    names = labels(results[0].names, results[0].methods)
    ends = np.array([[r.eigenvalue[r.alpha == x, 0].item() for x in (0, 1)] for r in results])  # (S, 2)
    inside = [(r.alpha >= 0) & (r.alpha <= 1) for r in results]
    top = np.array([r.eigenvalue[where, 0].max() for r, where in zip(results, inside, strict=True)])
    place = [float(r.alpha[where][r.eigenvalue[where, 0].argmax()]) for r, where in zip(results, inside, strict=True)]
    over = top / ends.max(1)
    ridge = np.array([_ridge(r) for r in results])
    if ridge.all():
        answer = f"Sharper between them than at either: {spread(over)} times the sharper end, at α = {spread(place)}"
    elif not ridge.any():
        sharp = int(np.argmax(ends.mean(0)))
        answer = f"Sharpest at {names[sharp]}: no ridge between them"
    else:
        answer = f"A ridge between them in {int(ridge.sum())} of {len(over)} seeds"
    told = f"{names[0]} {spread(ends[:, 0])}, {names[1]} {spread(ends[:, 1])}, largest {spread(top)}"
    detail = f"λ₁ in {curvature(results[0])}: {told}"
    return answer, detail if all(r.converged.all() for r in results) else f"{detail}. Some searches did not converge"


def _ridge(r: Ridge) -> bool:
    """Whether λ₁ is larger somewhere between both ends than at either, by more than its intervals."""
    ends = (r.alpha == 0) | (r.alpha == 1)
    between = (r.alpha > 0) & (r.alpha < 1)
    return bool(r.interval_low[between, 0].max(initial=-np.inf) > r.interval_high[ends, 0].max())


def listing(result: Ridge) -> list[str]:
    """The largest eigenvalue at each point with its interval, one line each."""
    values, high = result.eigenvalue[:, 0], result.interval_high[:, 0]
    return [
        f"α = {x:.3f}  λ1 {bounded(float(v), float(h - v))}, training loss {number(float(loss))}"
        for x, v, h, loss in zip(result.alpha, values, high, result.loss, strict=True)
    ]


CAPTION = (
    "Largest eigenvalues of the curvature matrix of the mean training loss at θ(α) = (1 − α)·first + α·second, each "
    "with the interval that holds an eigenvalue, and the training loss there. One line for each run."
)


def figure(*results: Ridge) -> Figure:
    """Eigenvalues against α above, the training loss there below."""
    from plotly.subplots import make_subplots

    from landscape.style import NEUTRAL, TRAIN, layout, mark, plain

    drawn = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.65, 0.35])
    for run, r in enumerate(results):
        for k in range(r.eigenvalue.shape[1]):
            style = mark(k)
            drawn.add_scatter(
                x=r.alpha, y=r.eigenvalue[:, k], mode="lines+markers", name=f"λ{k + 1}", legendgroup=str(k),
                showlegend=run == 0, line=style.line(2), marker=style.marker(6), row=1, col=1,
                error_y={"array": r.interval_high[:, k] - r.eigenvalue[:, k], "width": 3},
            )  # fmt: skip
        drawn.add_scatter(
            x=r.alpha, y=r.loss, mode="lines", name="training loss", legendgroup="loss", showlegend=run == 0,
            line={"color": TRAIN, "width": 2}, row=2, col=1,
        )  # fmt: skip
    for place, end in enumerate(labels(results[0].names, results[0].methods)):
        drawn.add_vline(x=place, line={"color": NEUTRAL, "dash": "dot", "width": 1})
        side = ("left", "right")[place]
        drawn.add_annotation(
            x=place, y=1.0, yref="paper", yanchor="bottom", text=plain(end), showarrow=False, xanchor=side
        )
    positive = all(float(r.eigenvalue.min()) > 0 for r in results)
    titles = (f"eigenvalue ({curvature(results[0])})", f"loss{nats(results[0], ' ({})')}")
    layout(drawn, ("", "α"), titles, log="y" if positive else "", height=520, hover="x unified")
    drawn.update_yaxes(type="linear", nticks=5, row=2, col=1)
    return drawn


def table(*results: Ridge) -> Table:
    """The numbers behind the figure."""
    from landscape.report import Table

    rows = [
        (run, float(x), k + 1, float(r.eigenvalue[i, k]), float(r.interval_low[i, k]), float(r.interval_high[i, k]),
         float(r.smallest[i]), float(r.loss[i]), int(r.products[i]), "yes" if r.converged[i] else "no")
        for run, r in enumerate(results, 1)
        for i, x in enumerate(r.alpha)
        for k in range(r.eigenvalue.shape[1])
    ]  # fmt: skip
    columns = (
        "run", "α", "index", f"eigenvalue ({curvature(results[0])})", "from", "to",
        f"smallest ({curvature(results[0])})", f"train loss{nats(results[0], ' ({})')}", "products", "converged",
    )  # fmt: skip
    return Table("Eigenvalues along the line", columns, tuple(rows))
