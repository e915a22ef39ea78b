"""How sharp is the loss at each checkpoint?

The largest eigenvalues of the Hessian of the mean training loss, or of another curvature matrix, each in an interval:
an eigenvalue λ lies within the explicitly recomputed residual ‖Hv − λv‖, plus rounding, of each value,
whatever the method that found it.

Source: Golub and Van Loan 2013, section 10.1 (Lanczos); Parlett 1998, theorem 4.5.1 (residual bound).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from landscape.matrix import Matrix, reproducible
from landscape.options import option
from landscape.rise import EQUAL
from landscape.sharpness import Sharpness
from landscape.training.methods import labels
from landscape.types import Progress, Work, quiet
from landscape.wording import bounded, curvature, plural, seeds, spread

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from landscape.checkpoint import Checkpoint
    from landscape.curvature import Engine, Rest
    from landscape.problem import Problem
    from landscape.report import Table

NAME = "hessian"
TITLE = "Sharpness"
QUESTION = "Which is flatter?"
TEXT = "top eigenvalues of the Hessian or a related matrix of the training loss, each in an interval"
EXAMPLE = "landscape hessian sgd.pt sgd-sam.pt --top 5"
TAKES = (1, 100)
VECTORS_UP_TO = 1_000_000  # parameters; beyond, eigenvectors are stored on request only


@dataclass(frozen=True)
class Options(Matrix):
    """Options of the eigenvalue search."""

    top: int = option(5, "how many eigenvalues, K", low=1)
    engine: str = option(
        "lanczos",
        "method: Lanczos, power iteration with deflation, PyHessian's, or the dense matrix (up to 3000 parameters)",
        choices=("lanczos", "power", "pyhessian", "dense"),
    )
    tol: float = option(1e-3, "largest residual relative to its eigenvalue", low=0.0)
    vectors: str = option(
        "auto", "store eigenvectors: yes, no, or auto (up to a million parameters)", choices=("auto", "yes", "no")
    )
    cuda_graphs: bool = option(
        False, "GPU only, unmeasured: replay products from CUDA graphs, compared with plain ones before use"
    )


Result = Sharpness


@reproducible
def compute(
    problem: Problem,
    *checkpoints: Checkpoint,
    options: Options = Options(),
    progress: Progress = quiet,
    device: str = "cpu",
    dtype: str = "float32",
    rest: Rest | None = None,
) -> Sharpness:
    """Find the largest eigenvalues at each checkpoint.

    Args:
        problem: What the checkpoints were trained on.
        *checkpoints: One or more.
        options: Options of the search.
        progress: Told (checkpoints done, checkpoints in all, products and residual).
        device: Where to compute.
        dtype: Floating point type of the computation.
        rest: Where the search rests when it is stopped, and goes on from; for engine Lanczos.

    Returns:
        Eigenvalues in their intervals.
    """
    import torch

    from landscape.curvature import Rest, eigenpairs
    from landscape.curvature.graphs import check_device
    from landscape.sharpness import Found, inspect, stack
    from landscape.surface import Surface

    if options.cuda_graphs:
        check_device(torch.device(device))
    rest = rest or Rest()
    surface = Surface(problem, batch_size=options.batch_size, device=device, dtype=dtype)
    found = [Found.restored(arrays) for arrays in rest.found]
    for i, checkpoint in list(enumerate(checkpoints))[len(found) :]:

        def tell(products: int, residual: float, i: int = i, name: str = checkpoint.name) -> None:
            progress(i, len(checkpoints), f"{name}: {products} products, residual {residual:.1e}")

        options.at(surface, checkpoint)
        objective = options.objective(surface)
        pairs = eigenpairs(
            objective, options.top, cast("Engine", options.engine), options.tol, options.seed, options.mode,
            options.budget, progress=tell, kind=options.kind, state=rest.search,
            save=rest.step if resumable(options) else None, cuda_graphs=options.cuda_graphs,
        )  # fmt: skip
        ends = [options.part(objective, c) for c in checkpoints] if len(checkpoints) == 2 else []
        found.append(inspect(options, surface, objective, pairs, ends[1] - ends[0] if ends else None))
        rest.add(found[-1])
        progress(i + 1, len(checkpoints), checkpoint.name)
    keep = options.vectors == "yes" or (options.vectors == "auto" and found[0].pairs.vectors.shape[1] <= VECTORS_UP_TO)
    return stack(found, checkpoints, options, surface, keep)


def resumable(options: Options) -> str:
    """What is kept of a search that is stopped: Lanczos' state, "" with other engines."""
    return "search" if options.engine == "lanczos" else ""


def work(options: Options, checkpoints: int) -> Work:
    """Passes over the data: about 3 K + 15 products for each checkpoint, each worth about five forward passes."""
    products = checkpoints * (3 * options.top + 15)
    text = f"{checkpoints} checkpoints × about {products // checkpoints} products with the matrix"
    return Work(text, train=5 * products + 4 * checkpoints, vectors=3 * options.top + 55, graphs=options.budget)


def label(result: Sharpness) -> str:
    """What the set of checkpoints is called, and the matrix."""
    return result.label


def words(*results: Sharpness) -> tuple[str, str]:
    """Which checkpoint is flattest and by what factor, over seeds.

    Args:
        *results: One result for each seed.

    Returns:
        The answer, and the largest eigenvalues: with intervals for one result, with their range for several.
    """
    names = labels(results[0].names, results[0].methods)
    top = np.array([r.eigenvalue[:, 0] for r in results])  # (S, M)
    mean = top.mean(0)
    detail = f"λ₁ in {curvature(results[0])}: " + "; ".join(
        f"{names[i]} {spread(top[:, i])}" for i in np.argsort(mean, kind="stable")
    )
    if len(results) == 1:
        order = np.argsort(mean, kind="stable")
        detail = f"λ₁ in {curvature(results[0])}: " + "; ".join(
            f"{names[i]} {_interval(results[0], i, 0)}" for i in order
        )
    if not all(bool(r.converged.all()) for r in results):
        detail += ". Some searches did not converge: see the table"
    if len(names) == 1:
        return f"Largest eigenvalue {spread(top[:, 0], curvature(results[0]))}{seeds(len(results))}", detail
    flat, sharp = int(np.argmin(mean)), int(np.argmax(mean))
    factor = top[:, sharp] / top[:, flat]
    always = int((factor > 1).sum())
    sure = "" if len(factor) == 1 else f" in {always} of {len(factor)} seeds"
    if not any(r.interval_high[flat, 0] < r.interval_low[sharp, 0] for r in results):
        return f"{' and '.join(names)} are not told apart: the intervals of λ₁ overlap", detail
    if mean[flat] <= 0:
        return f"{names[flat]} has the smaller λ₁: the loss there rises in no direction by curvature", detail
    if factor.mean() < EQUAL:
        return f"{' and '.join(names)} are about equally flat in λ₁: a factor of {spread(factor)}", detail
    return f"{names[flat]} is {spread(factor)} times flatter than {names[sharp]}{sure}", detail


def _interval(r: Sharpness, i: int, k: int) -> str:
    return bounded(float(r.eigenvalue[i, k]), float(r.residual[i, k] + r.rounding[i]))


def listing(result: Sharpness) -> list[str]:
    """Every eigenvalue with its interval and what stands beside it, one line each."""
    r, told = result, []
    for i, name in enumerate(labels(r.names, r.methods)):
        for k in range(r.eigenvalue.shape[1]):
            beside = [f"gap estimate ± {r.gap_bound[i, k] + r.rounding[i]:.0e}"]
            if r.sampling_error[i, k] > 0:
                beside.append(f"sampling error {r.sampling_error[i, k]:.1g}")
            beside.append(f"|cos| to gradient {r.gradient_alignment[i, k]:.3f}")
            if np.isfinite(r.direction_alignment[i, k]):
                beside.append(f"to the other {r.direction_alignment[i, k]:.3f}")
            told.append(f"{name} λ{k + 1} {_interval(r, i, k)}  ({', '.join(beside)})")
        if not np.isnan(r.smallest[i]):
            reach = float(r.smallest_residual[i] + r.rounding[i])
            told.append(f"{name} smallest {bounded(float(r.smallest[i]), reach)}")
        if not r.converged[i]:
            told.append(f"{name} did not converge: {r.advice[i]}")
        if r.weight_decay[i] > 0:
            told.append(f"{name} + wd: weight decay adds {r.weight_decay[i]:g} to each")
    return told


CAPTION = (
    "Largest eigenvalues of the curvature matrix of the mean training loss: the Hessian, unless the title says "
    "otherwise, without weight decay, which adds its coefficient to each. Bars are intervals: an eigenvalue lies "
    "within the recomputed residual ‖Hv − λv‖ and rounding. Every seed has its own mark."
)


def figure(*results: Sharpness) -> Figure:
    """Eigenvalues by index, one mark for each checkpoint and seed, with their intervals."""
    from plotly import graph_objects as go

    from landscape.style import layout, mark, plain

    first = results[0]
    names = labels(first.names, first.methods)
    drawn = go.Figure()
    for i, name in enumerate(names):
        style = mark(first.looks[i])
        shift = 0.5 * ((i + 0.5) / len(names) - 0.5)
        for run, r in enumerate(results):
            k = r.eigenvalue.shape[1]
            drawn.add_scatter(
                x=np.arange(1, k + 1) + shift, y=r.eigenvalue[i], mode="markers", name=plain(name), legendgroup=name,
                showlegend=run == 0, marker=style.marker(8),
                error_y={"array": r.interval_high[i] - r.eigenvalue[i], "width": 6},
                hovertemplate="λ%{customdata}: %{y:.5g} ± %{error_y.array:.1g}", customdata=np.arange(1, k + 1),
            )  # fmt: skip
    positive = all(float(r.eigenvalue.min()) > 0 for r in results)
    layout(drawn, "index", f"eigenvalue ({curvature(results[0])})", log="y" if positive else "")
    drawn.update_xaxes(dtick=1)
    return drawn


def table(*results: Sharpness) -> Table:
    """One row for each eigenvalue: the interval, the estimates beside it, and how its eigenvector lies."""
    from landscape.report import Table

    columns = (
        "run", "checkpoint", "index", f"eigenvalue ({curvature(results[0])})", "from", "to", "± by the gap, estimate",
        "± sampling, s.e.", "+ wd", "|cos| gradient", "|cos| other", "products", "converged",
    )  # fmt: skip
    rows: list[tuple[str | float | int | None, ...]] = []
    for run, r in enumerate(results, 1):
        for i, name in enumerate(r.names):
            about = (int(r.products[i]), "yes" if r.converged[i] else f"no: {r.advice[i]}")
            wd, r_i = float(r.weight_decay[i]), float(r.rounding[i])
            for k, value in enumerate(r.eigenvalue[i]):
                fields = (r.interval_low, r.interval_high, r.gap_bound, r.sampling_error)
                ends = (float(field[i, k]) for field in fields)
                turned = (_cell(r.gradient_alignment[i, k]), _cell(r.direction_alignment[i, k]))
                rows.append((run, name, k + 1, float(value), *ends, _cell(value + wd), *turned, *about))
            if not np.isnan(r.smallest[i]):
                low, reach = float(r.smallest[i]), float(r.smallest_residual[i]) + r_i
                ends_ = (low - reach, low + reach, None, None, _cell(low + wd), None, None)
                rows.append((run, name, "smallest", low, *ends_, *about))
    first = results[0]
    note = f"{first.engine}, tol {first.tol:g}, {plural(first.examples, 'example')}; an eigenvalue lies from … to …"
    return Table("Eigenvalues", columns, tuple(rows), note)


def _cell(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
