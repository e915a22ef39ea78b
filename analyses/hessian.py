"""How sharp is the loss at each checkpoint?

The largest eigenvalues of the Hessian of the mean training loss, each with its explicitly recomputed residual
‖Hv − λv‖: an eigenvalue lies within that distance, whatever the method that found it.

Source: Golub and Van Loan 2013, section 10.1 (Lanczos); Parlett 1998, theorem 4.5.1 (residual bound).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from landscape.options import option
from landscape.result import Array, quantity
from landscape.training.methods import labels
from landscape.types import Progress, Work, quiet
from landscape.wording import number, seeds, spread

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from landscape.checkpoint import Checkpoint
    from landscape.curvature import Engine
    from landscape.problem import Problem
    from landscape.report import Table

NAME = "hessian"
TITLE = "Sharpness"
QUESTION = "Which is flatter?"
TEXT = "top eigenvalues of the Hessian of the training loss, each with its residual"
EXAMPLE = "landscape hessian sgd.pt sgd-sam.pt --top 5"
TAKES = (1, 100)
VECTORS_UP_TO = 1_000_000  # parameters; beyond, eigenvectors are stored on request only


@dataclass(frozen=True)
class Options:
    """Options of the eigenvalue search."""

    top: int = option(5, "how many eigenvalues, K", low=1)
    engine: str = option(
        "lanczos",
        "method: Lanczos, power iteration with deflation, PyHessian's, or the dense matrix (up to 3000 parameters)",
        choices=("lanczos", "power", "pyhessian", "dense"),
    )
    tol: float = option(1e-3, "largest residual relative to its eigenvalue", low=0.0)
    seed: int = option(0, "seed of the start vectors", low=0)
    recalibrate: bool = option(True, "recompute BatchNorm statistics on training data first; they are then held fixed")
    vectors: str = option(
        "auto", "store eigenvectors: yes, no, or auto (up to a million parameters)", choices=("auto", "yes", "no")
    )
    batch_size: int = option(500, "examples in a forward pass; changes results by rounding only", low=1)


@dataclass(frozen=True)
class Sharpness:
    """Eigenvalues at M checkpoints.

    Attributes:
        names: Labels of the checkpoints.
        methods: Their training methods.
        engine: The method of search.
        advice: For each checkpoint what to do where the search did not converge; empty texts otherwise.
        eigenvalue: Largest eigenvalues, descending, shape (M, K).
        residual: ‖Hv − λv‖ recomputed for each, shape (M, K).
        smallest: Smallest eigenvalue found, shape (M,); NaN where the engine does not look.
        smallest_residual: Its residual, shape (M,).
        eigenvector: Unit eigenvectors, shape (M, K, D), or (M, K, 0) where not stored.
        products: Products with the Hessian that were used, shape (M,).
        converged: Whether all K residuals are below tol, shape (M,).
    """

    names: tuple[str, ...]
    methods: tuple[str, ...]
    engine: str
    advice: tuple[str, ...]
    eigenvalue: Array = quantity("nats / theta^2", "eigenvalue of the Hessian", "checkpoint", "index")
    residual: Array = quantity("nats / theta^2", "recomputed residual |Hv - λv|", "checkpoint", "index")
    smallest: Array = quantity("nats / theta^2", "smallest eigenvalue found", "checkpoint")
    smallest_residual: Array = quantity("nats / theta^2", "its recomputed residual", "checkpoint")
    eigenvector: Array = quantity("1", "unit eigenvector", "checkpoint", "index", "parameter")
    products: Array = quantity("1", "products with the Hessian", "checkpoint")
    converged: Array = quantity("1", "whether all residuals are below tol", "checkpoint")


Result = Sharpness


def compute(
    problem: Problem,
    *checkpoints: Checkpoint,
    options: Options = Options(),
    progress: Progress = quiet,
    device: str = "cpu",
    dtype: str = "float32",
) -> Sharpness:
    """Find the largest eigenvalues at each checkpoint.

    Args:
        problem: What the checkpoints were trained on.
        *checkpoints: One or more.
        options: Options of the search.
        progress: Told (checkpoints done, checkpoints in all, products and residual).
        device: Where to compute.
        dtype: Floating point type of the computation.

    Returns:
        Eigenvalues with residuals.
    """
    import torch

    from landscape.curvature import eigenpairs
    from landscape.surface import Surface

    surface = Surface(problem, batch_size=options.batch_size, device=device, dtype=getattr(torch, dtype))
    found = []
    for i, checkpoint in enumerate(checkpoints):

        def tell(products: int, residual: float, i: int = i, name: str = checkpoint.name) -> None:
            progress(i, len(checkpoints), f"{name}: {products} products, residual {residual:.1e}")

        surface.at(checkpoint, recalibrated=options.recalibrate)
        found.append(
            eigenpairs(
                surface.objective(),
                options.top,
                cast("Engine", options.engine),
                tol=options.tol,
                seed=options.seed,
                progress=tell,
            )
        )
        progress(i + 1, len(checkpoints), checkpoint.name)
    keep = options.vectors == "yes" or (options.vectors == "auto" and checkpoints[0].layout.size <= VECTORS_UP_TO)
    return Sharpness(
        names=tuple(c.name for c in checkpoints),
        methods=tuple(c.method for c in checkpoints),
        engine=options.engine,
        advice=tuple(pairs.advice for pairs in found),
        eigenvalue=np.stack([pairs.values for pairs in found]),
        residual=np.stack([pairs.residuals for pairs in found]),
        smallest=np.array([pairs.smallest for pairs in found]),
        smallest_residual=np.array([pairs.smallest_residual for pairs in found]),
        eigenvector=np.stack([pairs.vectors.cpu().numpy()[:, : None if keep else 0] for pairs in found]),
        products=np.array([pairs.products for pairs in found]),
        converged=np.array([pairs.converged for pairs in found]),
    )


def work(options: Options, checkpoints: int) -> Work:
    """Passes over the data: about 3 K + 15 products for each checkpoint, each worth about five forward passes."""
    products = checkpoints * (3 * options.top + 15)
    text = f"{checkpoints} checkpoints × about {products // checkpoints} products with the Hessian"
    return Work(text, train=5 * products + checkpoints, vectors=3 * options.top + 20)


def label(result: Sharpness) -> str:
    """What the set of checkpoints is called."""
    return " | ".join(labels(result.names, result.methods))


def words(*results: Sharpness) -> tuple[str, str]:
    """Which checkpoint is flattest and by what factor, over seeds.

    Args:
        *results: One result for each seed.

    Returns:
        The answer, and the largest eigenvalues.
    """
    names = labels(results[0].names, results[0].methods)
    top = np.array([r.eigenvalue[:, 0] for r in results])  # (S, M)
    mean = top.mean(0)
    detail = "λ₁ in nats/θ²: " + "; ".join(f"{names[i]} {spread(top[:, i])}" for i in np.argsort(mean, kind="stable"))
    if len(results) == 1:
        detail = "; ".join(_listed(names[i], results[0], i) for i in range(len(names)))
    if not all(bool(r.converged.all()) for r in results):
        detail += ". Some searches did not converge: see the table"
    if len(names) == 1:
        return f"Largest eigenvalue {spread(top[:, 0], 'nats/θ²')}{seeds(len(results))}", detail
    flat, sharp = int(np.argmin(mean)), int(np.argmax(mean))
    factor = top[:, sharp] / top[:, flat]
    always = int((factor > 1).sum())
    sure = "" if len(factor) == 1 else f" in {always} of {len(factor)} seeds"
    return f"{names[flat]}, {spread(factor)} times flatter than {names[sharp]}{sure}", detail


def _listed(name: str, result: Sharpness, i: int) -> str:
    """All eigenvalues of one checkpoint with the largest residual."""
    values = ", ".join(number(float(v)) for v in result.eigenvalue[i])
    low = "" if np.isnan(result.smallest[i]) else f", smallest {number(float(result.smallest[i]))}"
    return f"{name}: {values}{low}, each ± {number(float(result.residual[i].max()))} or less"


CAPTION = (
    "Largest eigenvalues of the Hessian of the mean training loss, BatchNorm statistics held fixed. Bars are "
    "recomputed residuals ‖Hv − λv‖: an eigenvalue lies within each bar. Every seed has its own mark."
)


def figure(*results: Sharpness) -> Figure:
    """Eigenvalues by index, one mark for each checkpoint and seed, residuals as bars."""
    from plotly import graph_objects as go

    from landscape.style import layout, mark, plain

    first = results[0]
    names = labels(first.names, first.methods)
    distinct = len(set(first.methods)) == len(first.methods)
    drawn = go.Figure()
    for i, name in enumerate(names):
        style = mark(first.methods[i] if distinct else i)
        shift = 0.5 * ((i + 0.5) / len(names) - 0.5)
        for run, r in enumerate(results):
            k = r.eigenvalue.shape[1]
            drawn.add_scatter(
                x=np.arange(1, k + 1) + shift, y=r.eigenvalue[i], mode="markers", name=plain(name), legendgroup=name,
                showlegend=run == 0, marker=style.marker(8), error_y={"array": r.residual[i], "width": 6},
                hovertemplate="λ%{customdata}: %{y:.5g} ± %{error_y.array:.1g}", customdata=np.arange(1, k + 1),
            )  # fmt: skip
    positive = all(float(r.eigenvalue.min()) > 0 for r in results)
    layout(drawn, "index", "eigenvalue (nats/θ²)", log="y" if positive else "")
    drawn.update_xaxes(dtick=1)
    return drawn


def table(*results: Sharpness) -> Table:
    """One row for each eigenvalue."""
    from landscape.report import Table

    columns = ("run", "checkpoint", "index", "eigenvalue (nats/θ²)", "residual (nats/θ²)", "products", "converged")
    rows: list[tuple[str | float | int, ...]] = []
    for run, r in enumerate(results, 1):
        for i, name in enumerate(r.names):
            about = (int(r.products[i]), "yes" if r.converged[i] else f"no: {r.advice[i]}")
            for k, (value, residual) in enumerate(zip(r.eigenvalue[i], r.residual[i], strict=True), 1):
                rows.append((run, name, k, float(value), float(residual), *about))
            if not np.isnan(r.smallest[i]):
                rows.append((run, name, "smallest", float(r.smallest[i]), float(r.smallest_residual[i]), *about))
    return Table("Eigenvalues", columns, tuple(rows), f"found with the engine '{results[0].engine}'")
