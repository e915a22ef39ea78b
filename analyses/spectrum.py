"""How is the curvature spread over all directions?

The trace, the sum of all eigenvalues, with a standard error; and the density of the eigenvalues, smoothed, with a
band. Both are estimates from random vectors: the top eigenvalues are those of `hessian`.

Source: Meyer et al. 2021, arXiv 2010.09649 (trace); Ghorbani, Krishnan, Xiao 2019, arXiv 1901.10159 (density).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from landscape.matrix import Matrix, Measured, reproducible, weight_decay
from landscape.options import option
from landscape.result import Array, quantity
from landscape.training.methods import labels
from landscape.types import Progress, Work, quiet
from landscape.wording import curvature, number, plural, seeds, spread

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
    from torch import Tensor

    from landscape.checkpoint import Checkpoint
    from landscape.curvature import CurvatureOperator, Density, Trace
    from landscape.curvature.certificate import Product
    from landscape.problem import Problem
    from landscape.report import Table

NAME = "spectrum"
TITLE = "All eigenvalues"
QUESTION = "How is the curvature spread over all directions?"
TEXT = "trace with standard error and density of all eigenvalues with a band"
EXAMPLE = "landscape spectrum sgd.pt sgd-sam.pt"
TAKES = (1, 100)
POINTS = 400  # of a density
BAND = 2.0  # standard errors on each side


@dataclass(frozen=True)
class Options(Matrix):
    """Options of the estimates."""

    sketch: int = option(10, "trace: columns of the sketch, two products each; 0 is Hutchinson's estimator", low=0)
    samples: int = option(20, "trace: random vectors outside the sketch, one product each", low=2)
    starts: int = option(4, "density: start vectors, each a Lanczos run", low=2)
    steps: int = option(30, "density: Lanczos steps from each start vector", low=1)
    sigma: float | None = option(
        None, "density: width of the Gaussian in nats/θ²; 1 % of the widest spectrum", kind=float, low=1e-12
    )


@dataclass(frozen=True)
class Spectrum(Measured):
    """Traces and densities at M checkpoints, without weight decay.

    Attributes:
        size: D, the number of eigenvalues.
        sigma: Standard deviation of the Gaussian that smooths the densities, in nats/θ².
        trace: Sum of all eigenvalues, shape (M,).
        trace_error: Its standard error, shape (M,).
        weight_decay: What weight decay adds to each eigenvalue, shape (M,); to the trace D times that; NaN if unknown.
        place: Where the density is told, shape (M, G).
        density: Density there; it integrates to 1, shape (M, G).
        density_error: Its standard error over start vectors, shape (M, G).
        node: Nodes of the quadrature, shape (M, V, N).
        weight: Their weights, the part of all eigenvalues round each node, shape (M, V, N).
        products: Products with the matrix that were used, shape (M,).
    """

    labelled: ClassVar[Mapping[str, str]] = {"checkpoint": "names"}

    size: int
    sigma: float
    trace: Array = quantity("nats / theta^2", "sum of all eigenvalues", "checkpoint")
    trace_error: Array = quantity("nats / theta^2", "standard error of the trace", "checkpoint")
    weight_decay: Array = quantity("nats / theta^2", "added to each eigenvalue by weight decay", "checkpoint")
    place: Array = quantity("nats / theta^2", "eigenvalue", "checkpoint", "point")
    density: Array = quantity("theta^2 / nats", "density of eigenvalues", "checkpoint", "point")
    density_error: Array = quantity("theta^2 / nats", "standard error of the density", "checkpoint", "point")
    node: Array = quantity("nats / theta^2", "node of the quadrature", "checkpoint", "start", "step")
    weight: Array = quantity("1", "weight of the node", "checkpoint", "start", "step")
    products: Array = quantity("1", "products with the matrix", "checkpoint")


Result = Spectrum


@reproducible
def compute(
    problem: Problem,
    *checkpoints: Checkpoint,
    options: Options = Options(),
    progress: Progress = quiet,
    device: str = "cpu",
    dtype: str = "float32",
) -> Spectrum:
    """Estimate trace and density at each checkpoint.

    Args:
        problem: What the checkpoints were trained on.
        *checkpoints: One or more.
        options: Options of the estimates.
        progress: Told (products done, products in all, checkpoint).
        device: Where to compute.
        dtype: Floating point type of the computation.

    Returns:
        Traces and densities; all densities are smoothed by the same Gaussian.
    """
    from landscape.surface import Surface

    surface = Surface(problem, batch_size=options.batch_size, device=device, dtype=dtype)
    total, done, found = len(checkpoints) * _products(options), 0, []
    for checkpoint in checkpoints:
        options.at(surface, checkpoint)
        operator = options.product_with(surface)

        def told(
            multiply: Product, name: str = checkpoint.name, of: CurvatureOperator = operator, done: int = done
        ) -> Product:
            def multiplied(v: Tensor) -> Tensor:
                image = multiply(v)
                progress(min(done + of.products, total), total, name)
                return image

            return multiplied

        found.append(_estimated(told(operator.product), told(operator.block), operator, options))
        done += operator.products
    about = options.about(surface, checkpoints)
    return _stacked(about, operator.size, found, options, [weight_decay(c) for c in checkpoints])


def _products(options: Options) -> int:
    return 2 * options.sketch + options.samples + options.starts * options.steps


def _estimated(product: Product, block: Product, of: CurvatureOperator, options: Options) -> tuple[Trace, Density]:
    """Trace and density of one matrix."""
    from landscape.curvature import estimate_trace, rounding_told, spectral_density

    trace = estimate_trace(
        product, of.size, sketch=options.sketch, samples=options.samples,
        seed=options.seed, device=of.device, dtype=of.dtype, block=block,
    )  # fmt: skip
    with rounding_told(of.objective, options.kind, of.batchnorm):
        density = spectral_density(
            product, of.size, steps=options.steps, vectors=options.starts, points=POINTS,
            seed=options.seed, device=of.device, dtype=of.dtype,
        )  # fmt: skip
    return trace, density


def _stacked(
    about: dict[str, Any], size: int, found: list[tuple[Trace, Density]], options: Options, decay: list[float]
) -> Spectrum:
    """One result, all densities smoothed by one Gaussian."""
    from landscape.curvature import smooth

    sigma = max(density.sigma for _, density in found) if options.sigma is None else options.sigma
    densities = [smooth(d.nodes, d.weights, sigma, POINTS, d.products) for _, d in found]
    return Spectrum(
        **about,
        size=size,
        sigma=sigma,
        trace=np.array([trace.value for trace, _ in found]),
        trace_error=np.array([trace.standard_error for trace, _ in found]),
        weight_decay=np.array(decay),
        place=np.stack([d.grid for d in densities]),
        density=np.stack([d.density for d in densities]),
        density_error=np.stack([d.standard_error for d in densities]),
        node=np.stack([d.nodes for d in densities]),
        weight=np.stack([d.weights for d in densities]),
        products=np.array([trace.products + d.products for trace, d in found]),
    )


def work(options: Options, checkpoints: int) -> Work:
    """Passes over the data: each product is worth about five forward passes."""
    products = _products(options)
    text = f"{checkpoints} checkpoints × {products} products with the matrix"
    vectors = max(options.steps + 1, 2 * options.sketch) + 5
    return Work(text, train=checkpoints * (5 * products + 2), vectors=vectors, graphs=options.budget)


def parts(result: Spectrum) -> Array:
    """How the eigenvalues divide: below −σ, within σ of zero, above σ.

    Args:
        result: Spectra of M checkpoints.

    Returns:
        Parts of one, means over start vectors, shape (M, 3).
    """
    found: Array = _parts_by_start(result).mean(1)
    return found


def _parts_by_start(result: Spectrum) -> Array:
    """The same by each start vector, shape (M, V, 3)."""
    below, above = result.node < -result.sigma, result.node > result.sigma
    kinds = np.stack([below, ~(below | above), above], axis=-1)  # (M, V, N, 3)
    found: Array = (kinds * result.weight[..., None]).sum(2)
    return found


def flat_error(*results: Spectrum) -> float:
    """Standard error, over start vectors, of the part within σ of zero, averaged over checkpoints and results.

    Args:
        *results: Spectra of M checkpoints each.

    Returns:
        A part of one; NaN with a single start vector.
    """
    found = np.concatenate([_parts_by_start(r)[..., 1] for r in results])  # (S M, V)
    if found.shape[1] < 2:
        return float("nan")
    return float(np.sqrt((found.var(1, ddof=1) / found.shape[1]).sum()) / len(found))


def label(result: Spectrum) -> str:
    """What the set of checkpoints is called, and the matrix."""
    return result.label


def words(*results: Spectrum) -> tuple[str, str]:
    """Whose trace is smallest, and how much of the spectrum is bulk, over seeds.

    Args:
        *results: One result for each seed.

    Returns:
        The answer, and the traces with standard errors or spreads.
    """
    first = results[0]
    names = labels(first.names, first.methods)
    traces = np.array([r.trace for r in results])  # (S, M)
    order = np.argsort(traces.mean(0), kind="stable")
    told = [f"{names[i]} {spread(traces[:, i])}" for i in order]
    if len(results) == 1:
        told = [f"{names[i]} {number(float(first.trace[i]))} ± {number(float(first.trace_error[i]))}" for i in order]
    flat = np.mean([parts(r)[:, 1] for r in results])
    error = flat_error(*results)
    sure = "" if np.isnan(error) else f" ± {100 * error:.1f}"
    sigma = f"{number(first.sigma)} {curvature(first)}"
    answer = f"{100 * flat:.1f}{sure} % of the {first.size} directions are flat to within {sigma}"
    if len(names) > 1:
        factor = number(float(traces.mean(0)[order[-1]] / traces.mean(0)[order[0]]))
        answer = f"{names[order[0]]}'s trace is the smallest, {factor} times below {names[order[-1]]}'s; {answer}"
    detail = f"Trace in {curvature(first)}{seeds(len(results))}: {'; '.join(told)}"
    if len(results) == 1:
        decay = first.size * float(np.nanmax(first.weight_decay, initial=0))
        detail += " (± one standard error)" + (f"; weight decay would add {number(decay)}" if decay else "")
    return answer, detail


CAPTION = (
    "Density of the eigenvalues of the curvature matrix of the mean training loss, on a log axis, smoothed by one "
    "Gaussian for all; it integrates to 1, and bands are two standard errors on each side. A single eigenvalue is a "
    "small bell at the right. Without weight decay, which would shift all to the right by its coefficient."
)


def figure(*results: Spectrum) -> Figure:
    """Densities on a log axis, one colour for each checkpoint; a band where there is one run."""
    from plotly import graph_objects as go

    from landscape.style import layout, mark, plain

    first = results[0]
    names = labels(first.names, first.methods)
    drawn = go.Figure()
    floor = min(_single(r) for r in results) / 10
    for i, name in enumerate(names):
        style = mark(first.looks[i])
        for run, r in enumerate(results):
            if len(results) == 1:
                _draw_band(drawn, r, i, style.color, floor)
            drawn.add_scatter(
                x=r.place[i], y=np.where(r.density[i] < floor, np.nan, r.density[i]), mode="lines", name=plain(name),
                legendgroup=name, showlegend=run == 0, line=style.line(2 if len(results) == 1 else 1.2),
            )  # fmt: skip
    density = "density (θ²/nats)" if first.classifies else "density (θ²)"
    layout(drawn, f"eigenvalue ({curvature(first)})", density, log="y")
    drawn.update_yaxes(range=[np.log10(floor), np.log10(2 * max(float(r.density.max()) for r in results))])
    return drawn


def _single(r: Spectrum) -> float:
    """Height of the bell of a single eigenvalue."""
    return float(1 / (r.size * r.sigma * np.sqrt(2 * np.pi)))


def _draw_band(drawn: Figure, r: Spectrum, i: int, color: str, floor: float) -> None:
    low, high = (np.maximum(r.density[i] + side * BAND * r.density_error[i], floor / 10) for side in (-1, 1))
    drawn.add_scatter(
        x=np.concatenate([r.place[i], r.place[i][::-1]]), y=np.concatenate([high, low[::-1]]), mode="lines",
        fill="toself", fillcolor=color, opacity=0.25, line={"width": 0}, hoverinfo="skip", showlegend=False,
        legendgroup=labels(r.names, r.methods)[i],
    )  # fmt: skip


def table(*results: Spectrum) -> Table:
    """One row for each checkpoint and run."""
    from landscape.report import Table

    columns = (
        "run", "checkpoint", f"trace ({curvature(results[0])})", "± s.e.", "trace + wd", "mean eigenvalue",
        "below −σ", "within σ of 0", "above σ", "products",
    )  # fmt: skip
    rows = []
    for run, r in enumerate(results, 1):
        for i, (name, divided) in enumerate(zip(r.names, parts(r), strict=True)):
            value, wd = float(r.trace[i]), float(r.weight_decay[i])
            shifted = None if np.isnan(wd) else value + r.size * wd
            cells = (value, float(r.trace_error[i]), shifted, value / r.size)
            rows.append((run, name, *cells, *(float(part) for part in divided), int(r.products[i])))
    first = results[0]
    note = f"D = {first.size}, σ = {first.sigma:.3g} {curvature(first)}, {plural(first.examples, 'example')}"
    return Table("Trace and parts of the spectrum", columns, tuple(rows), f"{note}; parts of all eigenvalues")
