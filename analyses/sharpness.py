"""How far does the loss rise around each checkpoint?

Worst case in balls and boxes of several radii beside what slope and curvature at the point predict; average over the
sphere and over Gaussian steps, m-sharpness, and the forms that no rescaling of the network changes; the generalization
gap, and SAM's PAC-Bayes bound.

Source: Foret et al. 2021, arXiv 2010.01412; Kwon et al. 2021, arXiv 2102.11600; Dinh et al. 2017, arXiv 1703.04933;
Andriushchenko et al. 2023, arXiv 2302.07011.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analyses.flatness import listing as listing
from analyses.flatness import words as words
from landscape.options import option
from landscape.result import Array
from landscape.rise import Rise
from landscape.search import Rules
from landscape.types import Progress, Work, quiet
from landscape.wording import nats, number, plural

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from landscape.checkpoint import Checkpoint
    from landscape.problem import Problem
    from landscape.report import Table

NAME = "sharpness"
TITLE = "Rise in a ball"
QUESTION = "How far does the loss rise nearby?"
TEXT = "largest and mean rise of the loss around checkpoints, in theta and scale-free, and a PAC-Bayes bound"
EXAMPLE = "landscape sharpness sgd.pt sgd-sam.pt --radii 0.05,0.15"
TAKES = (1, 100)
Result = Rise
STAGES = 7  # of what is measured at each checkpoint
CLIMB = 7  # evaluations that a climb takes, as measured on small ResNets with tol 1e-3


@dataclass(frozen=True)
class Options(Rules):
    """Options of the rises."""

    rescale: float = option(1.0, "also measure copies with layers scaled by α and 1/α; 1 makes none", low=1e-6)


def compute(
    problem: Problem,
    *checkpoints: Checkpoint,
    options: Options = Options(),
    progress: Progress = quiet,
    device: str = "cpu",
    dtype: str = "float32",
) -> Rise:
    """Measure around each checkpoint, and around its rescaled copy where one is asked for.

    Args:
        problem: What the checkpoints were trained on.
        *checkpoints: One or more.
        options: What is searched.
        progress: Told (stages done, stages in all, checkpoint).
        device: Where to compute.
        dtype: Floating point type of the computation.

    Returns:
        The rises.

    Raises:
        UsageError: If radii cannot be read, or the network cannot be rescaled.
    """
    from landscape.curvature.isolation import exact_arithmetic
    from landscape.precision import second_surface
    from landscape.rescaling import rescaled
    from landscape.scaling import ADAPTIVE
    from landscape.surface import Surface
    from landscape.surroundings import measure

    radii, boxes, parts = options.radius, options.half_widths, options.parts
    copies = [rescaled(problem, c, options.rescale) for c in checkpoints] if options.rescale != 1 else []
    everyone = (*checkpoints, *copies)
    surface = Surface(problem, batch_size=options.batch_size, device=device, dtype=dtype)
    second, measured = second_surface(problem, surface), []
    for i, checkpoint in enumerate(everyone):
        found: dict[str, Array] = {}
        with exact_arithmetic(surface.flat.theta.device):
            for each in (surface, second):
                each.at(checkpoint, recalibrated=options.batchnorm != "stored")
            for stage, fields in enumerate(measure(surface, second, options), 1):
                found |= fields
                progress(STAGES * i + stage, STAGES * len(everyone), checkpoint.name)
        measured.append(found)
    return Rise(
        names=tuple(c.name for c in everyone),
        methods=tuple(c.method for c in everyone),
        rescale=options.rescale,
        batchnorm=options.batchnorm if surface.has_batchnorm else "none",
        examples=options.examples or len(problem.train),
        m=options.m,
        delta=options.delta,
        classifies=surface.classifies,
        test_examples=len(problem.test),
        starts=options.starts,
        metrics=ADAPTIVE,
        radius=radii,
        box=boxes,
        relative=parts,
        split=np.array(["train", "test"]),
        **{key: np.stack([fields[key] for fields in measured]) for key in measured[0]},
    )


def work(options: Options, checkpoints: int) -> Work:
    """Passes over the data: an evaluation of loss and gradient is three, a product with the Hessian five."""
    points = checkpoints * (1 if options.rescale == 1 else 2)
    balls = len(options.radius) + len(options.half_widths) + 3 * len(options.parts)
    per_climb = min(CLIMB, options.steps)
    evaluations = per_climb * (balls * len(options.starts) + (2 * len(options.radius) if options.m else 0)) + 4
    each = 3 * evaluations + 3 * 5 * 18 + 2 * options.pairs * balls + len(options.radius) + 2
    each += balls + 2  # in the other precision: at each highest point, and at the checkpoint loss and statistics
    of = f" of {plural(options.examples, 'example')} (the estimate is for all)" if options.examples else ""
    text = f"{points} points × about {evaluations} evaluations of loss and gradient{of}, 54 products with the Hessian"
    vectors = 66 + len(options.starts) + 2 * balls
    return Work(text, train=points * each, test=points, vectors=vectors, graphs=None)


def label(result: Rise) -> str:
    """What the set of checkpoints is called, and the BatchNorm rule where it is not the usual one."""
    return result.label


CAPTION = (
    "Above: the largest rise of the training loss found in balls of radius ρ, a lower bound of κ, and dashed the most "
    "that slope and largest eigenvalue at the checkpoint predict, ρ‖∇L‖ + ½ρ²λ₁. Below: all forms at the middle "
    "radius; in a box every weight moves by up to ρ, Gaussian steps have this standard deviation in every weight; "
    "elementwise and filter-wise forms measure a step relative to the weights, which no rescaling of the network "
    "changes. Thin lines and single marks are runs of one seed. The PAC-Bayes bound is in the table."
)


def figure(*results: Rise) -> Figure:
    """Rises against radius with what slope and curvature predict, and all forms at the middle radius."""
    from plotly.subplots import make_subplots

    from landscape.style import layout

    drawn = make_subplots(rows=2, cols=1, row_heights=[0.47, 0.53], vertical_spacing=0.13)
    for i in range(len(results[0].names)):
        _draw_radii(drawn, results, i)
        _draw_forms(drawn, results, i)
    unit = nats(results[0], " ({})")
    titles = ("radius ρ in theta", f"rise at the middle radius{unit}")
    layout(drawn, titles, (f"largest rise found{unit}", ""), log="xy", height=800)
    radius, forms = results[0].radius, list(results[0].forms)
    drawn.update_xaxes(tickvals=radius, ticktext=[f"{rho:g}" for rho in radius], minor=None, row=1, col=1)
    drawn.update_yaxes(
        type="linear", tickformat=None, minor=None, nticks=None, tickvals=list(range(len(forms))), ticktext=forms,
        range=[len(forms) - 0.5, -0.5], row=2, col=1,
    )  # fmt: skip
    return drawn


def _draw_radii(drawn: Figure, results: Sequence[Rise], i: int) -> None:
    from landscape.style import mark, plain

    first = results[0]
    style, name = mark(first.looks[i]), plain(first.labels[i])
    worst = np.array([r.worst[i] for r in results])
    local = np.mean([r.linear[i] + r.quadratic[i] for r in results], axis=0)
    about = {"x": first.radius, "row": 1, "col": 1}
    solid = {"color": style.color, "width": 2.5}
    for run in worst if len(results) > 1 else []:
        drawn.add_scatter(
            y=run, mode="lines", opacity=0.45, line=solid | {"width": 1}, legendgroup=name, showlegend=False,
            hoverinfo="skip", **about,
        )  # fmt: skip
    drawn.add_scatter(
        y=worst.mean(0), mode="lines+markers", line=solid, marker=style.marker(8), name=name, legendgroup=name, **about
    )
    drawn.add_scatter(
        y=local, mode="lines", line=solid | {"width": 1.5, "dash": "dash"}, name="slope and λ₁ at the point",
        legendgroup="local", legendrank=2000, showlegend=i == 0,
        hovertemplate=f"%{{y:.4g}}<extra>{name}, slope and λ₁</extra>", **about,
    )  # fmt: skip


def _draw_forms(drawn: Figure, results: Sequence[Rise], i: int) -> None:
    from landscape.style import mark, plain

    first = results[0]
    style, name, forms = mark(first.looks[i]), plain(first.labels[i]), list(first.forms)
    shift = 0.5 * ((i + 0.5) / len(first.names) - 0.5)
    for run, r in enumerate(results, 1):
        values = [r.forms[form][i] for form in forms]
        drawn.add_scatter(
            x=values, y=np.arange(len(forms)) + shift, mode="markers", marker=style.marker(8), row=2, col=1, name=name,
            legendgroup=name, showlegend=False, customdata=forms,
            hovertemplate=f"%{{customdata}}: %{{x:.4g}}<extra>{name}, run {run}</extra>",
        )  # fmt: skip


def table(*results: Rise) -> Table:
    """One row for each ball: what was found, from where, and what stands beside it."""
    from landscape.report import Table

    columns = (
        "run", "checkpoint", "ball", "radius", f"largest rise{nats(results[0], ' ({})')}", "± rounding",
        "lowest climb", "best start", "gap (part)", "‖ε‖/ρ", "to first order", "½ρ²λ₁", "average", "± s.e.",
        "m-sharpness", "± sampling, s.e.", "bound on the error",
    )  # fmt: skip
    rows: list[tuple[str | float | int | None, ...]] = []
    for run, r in enumerate(results, 1):
        for i, name in enumerate(r.labels):
            for k, rho in enumerate(r.radius):
                local = (float(r.linear[i, k]), float(r.quadratic[i, k]))
                mean = (float(r.average[i, k]), float(r.average_error[i, k]))
                more = (_cell(r.chunked[i, k]), _cell(r.sampling_error[i, k]), _bound(r, i, k))
                climbs = _climbed(r, "", (i, k))
                rows.append((run, name, "theta", float(rho), *climbs, float(r.reach[i, k]), *local, *mean, *more))
            for a, metric in enumerate(r.metrics):
                for q, part in enumerate(r.relative):
                    rho = float(part * r.length[i, a])
                    slope, bend = r.adaptive_gradient_norm[i, a], max(float(r.adaptive_eigenvalue[i, a]), 0)
                    mean = (float(r.adaptive_average[i, a, q]), float(r.adaptive_average_error[i, a, q]))
                    climbs = _climbed(r, "adaptive_", (i, a, q))
                    local = (rho * float(slope), rho**2 / 2 * bend)
                    rows.append((run, name, metric, rho, *climbs, None, *local, *mean, None, None, None))
            rows += [(run, name, *row, None, None, None) for row in _boxes(r, i)]
    r = results[0]
    chunk = f", chunks of {r.m} for m-sharpness" if r.m else ""
    note = (
        f"{plural(r.examples, 'example')}{chunk}; radii of scale-free balls are those of ASAM; to first order a ball "
        "rises by ρ‖∇L‖ and a box by ρ‖∇L‖₁; the average is that over the sphere, in rows of boxes over Gaussian ones; "
        f"PAC-Bayes bounds with δ = {r.delta:g} for all {len(r.radius)} radii together and the error at the worst step "
        "found: the true ones are no smaller"
    )
    return Table("Balls", columns, tuple(rows), note)


def _boxes(r: Rise, i: int) -> Iterator[tuple[str | float | None, ...]]:
    """Rows of the boxes of one checkpoint, up to the average and its standard error."""
    for k, rho in enumerate(r.box):
        climbs = _climbed(r, "box_", (i, k))
        mean = (float(r.gaussian[i, k]), float(r.gaussian_error[i, k]))
        yield ("box", float(rho), *climbs, None, float(rho * r.gradient_sum[i]), None, *mean)
    for q, rho in enumerate(r.relative):
        climbs = _climbed(r, "adaptive_box_", (i, q))
        mean = (float(r.adaptive_gaussian[i, q]), float(r.adaptive_gaussian_error[i, q]))
        yield ("elementwise box", float(rho), *climbs, None, float(rho * r.adaptive_gradient_sum[i]), None, *mean)


def _climbed(r: Rise, body: str, at: tuple[int, ...]) -> tuple[float | str | None, ...]:
    """Largest rise, rounding, lowest climb, best start and gap of one body, named as the prefix of its fields."""
    worst, rounding, climbs, gap = (getattr(r, f"{body}{name}")[at] for name in ("worst", "rounding", "climbs", "gap"))
    return float(worst), _cell(rounding), float(climbs.min()), r.starts[int(climbs.argmax())], _cell(gap)


def _bound(r: Rise, i: int, k: int) -> str | None:
    value = float(r.bound[i, k])
    if np.isnan(value):
        return None
    doubt = ", vacuous" if value >= 1 else "" if r.converged[i, k] else " at least, the search did not converge"
    return number(value) + doubt


def _cell(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
