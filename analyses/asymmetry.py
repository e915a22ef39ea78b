"""Which side of the valley is flat, and on which side does the other checkpoint lie?

Along unit directions (toward another checkpoint, Hessian eigenvectors, Gaussian) the loss is followed to both sides of
its minimum on that line: rise ratio, and the largest c of the (r, p, c, ζ)-asymmetry for several ζ.

Source: He et al. 2019, arXiv 1902.00744; thesis, definition 2.3.1 and section 5.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from landscape.errors import UsageError
from landscape.options import option
from landscape.result import Array, quantity
from landscape.training.methods import labels
from landscape.types import Progress, Work, quiet
from landscape.valley import OK, STATUS, Valley, measure
from landscape.wording import number, spread

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
    from torch import Tensor

    from landscape.checkpoint import Checkpoint
    from landscape.problem import Problem
    from landscape.report import Table
    from landscape.surface import Surface
    from landscape.valley import Line

NAME = "asymmetry"
TITLE = "Both sides"
QUESTION = "Which side is flat?"
TEXT = "slopes on both sides of the minimum along directions: which side is flat"
EXAMPLE = "landscape asymmetry sgd.pt --toward sgd-sam.pt"
TAKES = (1, 2)
ZETA = (0.05, 0.1, 0.25)  # parts of r that are always reported


@dataclass(frozen=True)
class Options:
    """Options of the asymmetry."""

    eigenvectors: int = option(1, "how many top Hessian eigenvectors to take as directions", low=0)
    gaussian: int = option(4, "how many Gaussian directions to take, as a control", low=0)
    radius: float = option(0.0, "r in units of theta; 0 finds it from --rise", low=0.0)
    rise: float = option(0.5, "mean rise of the loss on both sides that sets r, in nats", low=1e-9)
    zeta: float = option(0.1, "ζ as a part of r: slopes nearer to the minimum do not count", low=0.0, high=0.99)
    points: int = option(20, "points on each side", low=4)
    batchnorm: str = option(
        "recalibrate",
        "BatchNorm statistics along the line: of the training data at each point, or fixed at the checkpoint's",
        choices=("recalibrate", "keep"),
    )
    seed: int = option(0, "seed of the Gaussian directions", low=0)
    batch_size: int = option(500, "examples in a forward pass; BatchNorm statistics are those of a pass", low=2)


@dataclass(frozen=True)
class Asymmetry:
    """Valleys along V directions through one checkpoint.

    Attributes:
        names: Labels of the checkpoint, and of the one that the first direction points to, if any.
        methods: Their training methods.
        directions: Names of the directions.
        batchnorm: The rule for BatchNorm statistics.
        distance: Distance to the other checkpoint; NaN if there is none.
        zeta: ζ as parts of r, shape (Z,).
        status: See `landscape.valley.STATUS`, shape (V,).
        centre: ℓ₀, the minimum along the line, measured from the checkpoint, shape (V,).
        radius: r, shape (V,).
        log_ratio: log of the rise at +r over the rise at −r, shape (V,): negative where u points to the flat side.
        c: Largest c for which u is asymmetric, shape (V, Z); NaN where it is for none.
        c_back: The same for −u.
        offset: ℓ − ℓ₀, shape (V, P).
        loss: Training loss there, shape (V, P).
        slope: Its exact derivative along u, shape (V, P).
    """

    labelled: ClassVar[Mapping[str, str]] = {"direction": "directions"}

    names: tuple[str, ...]
    methods: tuple[str, ...]
    directions: tuple[str, ...]
    batchnorm: str
    distance: float
    zeta: Array = quantity("1", "inner radius over outer radius", "zeta")
    status: Array = quantity("1", "0 measured, else see the documentation", "direction")
    centre: Array = quantity("theta", "minimum along the line, from the checkpoint", "direction")
    radius: Array = quantity("theta", "outer radius r", "direction")
    log_ratio: Array = quantity("1", "log of rise ahead over rise behind", "direction")
    c: Array = quantity("1", "largest c of the direction", "direction", "zeta")
    c_back: Array = quantity("1", "largest c of the opposite direction", "direction", "zeta")
    offset: Array = quantity("theta", "distance from the minimum along the line", "direction", "point")
    loss: Array = quantity("nats", "training loss", "direction", "point")
    slope: Array = quantity("nats / theta", "derivative of the loss along the direction", "direction", "point")


Result = Asymmetry


def compute(
    problem: Problem,
    *checkpoints: Checkpoint,
    options: Options = Options(),
    progress: Progress = quiet,
    device: str = "cpu",
    dtype: str = "float32",
) -> Asymmetry:
    """Measure the valley along directions.

    Args:
        problem: What the checkpoints were trained on.
        *checkpoints: The one that stands in the valley, and optionally the one to look toward.
        options: Options of the asymmetry.
        progress: Told (directions done, directions in all).
        device: Where to compute.
        dtype: Floating point type of weights and computation; derivatives are summed in float64.

    Returns:
        The valleys.

    Raises:
        UsageError: If there are more than two checkpoints, equal ones, or no direction.
    """
    import torch

    from landscape.surface import Surface

    here, toward = checkpoints[0], checkpoints[1] if len(checkpoints) > 1 else None
    surface = Surface(problem, batch_size=options.batch_size, device=device, dtype=getattr(torch, dtype))
    surface.at(here)
    chosen = _directions(surface, here, toward, options)
    if not chosen:
        raise UsageError("there is no direction to look along", "add --toward b.pt, --eigenvectors or --gaussian")
    reach = 1e-3 * float(torch.linalg.vector_norm(here.theta.double()))
    found: list[Valley] = []
    for name, direction in chosen:
        progress(len(found), len(chosen), name)
        line = _line(surface, here, direction, by_batch=options.batchnorm == "recalibrate")
        found.append(measure(line, reach, options.rise, options.radius, options.points))
    progress(len(chosen), len(chosen), here.name)
    pair = (here,) if toward is None else (here, toward)
    zeta = sorted({*ZETA, options.zeta})
    return Asymmetry(
        names=tuple(c.name for c in pair),
        methods=tuple(c.method for c in pair),
        directions=tuple(name for name, _ in chosen),
        batchnorm=options.batchnorm if surface.has_batchnorm else "none",
        distance=float("nan") if toward is None else float(torch.dist(toward.theta.double(), here.theta.double())),
        zeta=np.array(zeta),
        status=np.array([v.status for v in found]),
        centre=np.array([v.centre for v in found]),
        radius=np.array([v.radius for v in found]),
        log_ratio=np.array([v.log_ratio for v in found]),
        c=np.array([[v.largest_c(z)[0] for z in zeta] for v in found]),
        c_back=np.array([[v.largest_c(z)[1] for z in zeta] for v in found]),
        offset=np.stack([v.offsets for v in found]),
        loss=np.stack([v.losses for v in found]),
        slope=np.stack([v.slopes for v in found]),
    )


def _directions(
    surface: Surface, here: Checkpoint, toward: Checkpoint | None, options: Options
) -> list[tuple[str, Tensor]]:
    """Unit directions by name; an eigenvector takes the sign that points toward the other checkpoint."""
    import torch

    from landscape.curvature import eigenpairs

    found: list[tuple[str, Tensor]] = []
    origin = here.theta.double()
    if toward is not None:
        apart = toward.theta.double() - origin
        if not float(apart.norm()) > 0:
            raise UsageError(f"{here.name} and {toward.name} are the same point", "look toward another checkpoint")
        found.append((f"toward {toward.name}", apart / apart.norm()))
    if options.eigenvectors:
        pairs = eigenpairs(surface.objective(), options.eigenvectors, seed=options.seed)
        for k, vector in enumerate(pairs.vectors.double().cpu(), 1):
            reference = found[0][1] if toward is not None else origin
            found.append((f"eigenvector {k}", vector if float(vector @ reference) >= 0 else -vector))
    generator = torch.Generator().manual_seed(options.seed)
    for k in range(1, options.gaussian + 1):
        vector = torch.randn(origin.numel(), generator=generator, dtype=torch.float64)
        found.append((f"Gaussian {k}", vector / vector.norm()))
    return [(name, surface.vector(direction)) for name, direction in found]


def _line(surface: Surface, here: Checkpoint, direction: Tensor, by_batch: bool) -> Line:
    """Loss and slope on the line through a checkpoint, each point computed once."""
    origin = surface.vector(here.theta)

    @cache
    def line(offset: float) -> tuple[float, float]:
        loss, slopes = surface.loss_and_slopes(origin + offset * direction, direction[None], by_batch)
        return loss, float(slopes[0])

    return line


def work(options: Options, checkpoints: int) -> Work:
    """Passes over the data: a forward and a backward at about 40 points beside those of the profile."""
    directions = options.eigenvectors + options.gaussian + checkpoints - 1
    points = directions * (2 * options.points + 40)
    products = 20 * options.eigenvectors
    return Work(
        f"{directions} directions × about {points // max(1, directions)} slopes", train=3 * points + 5 * products
    )


def label(result: Asymmetry) -> str:
    """What the checkpoints are called."""
    return " → ".join(labels(result.names, result.methods)) if len(result.names) > 1 else result.names[0]


def words(*results: Asymmetry) -> tuple[str, str]:
    """On which side of the first one's valley the other lies, over seeds.

    Args:
        *results: One result for each seed.

    Returns:
        The answer, and the numbers with the Gaussian control.
    """
    first = results[0]
    names = labels(first.names, first.methods)
    ratios = np.array([r.log_ratio[0] for r in results])
    usable = ratios[np.isfinite(ratios)]
    control = np.array([
        r.log_ratio[i] for r in results for i, d in enumerate(first.directions) if i > 0 and d.startswith("Gauss")
    ])
    control = control[np.isfinite(control)]
    told = f"Gaussian control {spread(control)}" if control.size else "No Gaussian control"
    if not usable.size:
        why = STATUS[int(first.status[0])] if first.status[0] != OK else "the loss does not rise on both sides"
        return f"Not measured along '{first.directions[0]}': {why}", told
    flat = float(usable.mean()) < 0
    same = int(((usable < 0) == flat).sum())
    beyond = not control.size or not control.min() <= usable.mean() <= control.max()
    toward = len(names) > 1
    where = f"toward {names[1]}" if toward else f"along {first.directions[0]}"
    if same < len(usable) or not beyond:
        answer = f"No clear side of {names[0]}'s valley {where}: log ratio {spread(usable)}"
    else:
        side = f"{names[1]} lies on the {'flat' if flat else 'steep'} side of {names[0]}'s valley: " if toward else ""
        factor = number(float(np.exp(np.abs(usable.mean()))))
        answer = f"{side}the loss rises {factor} times {'slower' if flat else 'faster'} {where}"
        answer = answer[0].upper() + answer[1:]
    largest = first.c[0] if flat else first.c_back[0]
    c = ", ".join(
        f"{'none' if np.isnan(v) else number(float(v))} for ζ = {z:g} r"
        for v, z in zip(largest, first.zeta, strict=True)
    )
    detail = f"Log rise ratio {spread(usable)}" + (f", {same} of {len(usable)} of one sign" if len(usable) > 1 else "")
    which = "Largest c" if len(results) == 1 else "Largest c, first run"
    return answer, f"{detail}, r = {spread([r.radius[0] for r in results])}. {told}. {which}: {c}"


CAPTION = (
    "Training loss along each direction, measured from its minimum on that line (0), to the radius r where the mean "
    "rise of both sides reaches the level asked for. The side that rises less is the flat one. Grey marks show where "
    "the checkpoints sit: the first a circle, the second a diamond."
)


def figure(*results: Asymmetry) -> Figure:
    """Loss above its minimum against distance along the first direction in theta, and all directions in units of r."""
    from plotly.subplots import make_subplots

    from landscape.style import NEUTRAL, layout, mark, plain

    first = results[0]
    drawn = make_subplots(rows=2, cols=1, vertical_spacing=0.16)
    for run, r in enumerate(results):
        middle = r.loss.shape[1] // 2
        style = mark(0)
        drawn.add_scatter(
            x=r.offset[0], y=r.loss[0] - r.loss[0, middle], mode="lines", name=plain(first.directions[0]),
            legendgroup="0", showlegend=run == 0, line=style.line(2), row=1, col=1,
        )  # fmt: skip
        _mark_ends(drawn, r)
        for v, name in enumerate(first.directions):
            kind = 2 if name.startswith("Gauss") else 1 if name.startswith("eigen") else 0
            drawn.add_scatter(
                x=r.offset[v] / r.radius[v], y=r.loss[v] - r.loss[v, middle], mode="lines",
                name=("Gaussian", "eigenvector", plain(first.directions[0]))[2 - kind],
                legendgroup=str(kind), showlegend=run == 0 and kind > 0 and name.endswith(" 1"),
                line=mark(kind).line(1.5), opacity=0.8, row=2, col=1,
            )  # fmt: skip
    rise = "rise of the loss (nats)"
    layout(drawn, ("ℓ − ℓ₀ (units of θ)", "(ℓ − ℓ₀) / r"), (rise, rise), height=620)
    drawn.add_vline(x=0, line={"color": NEUTRAL, "dash": "dot", "width": 1})
    return drawn


def _mark_ends(drawn: Figure, r: Asymmetry) -> None:
    """Dots where the checkpoints sit on the first line."""
    from landscape.style import NEUTRAL, mark, plain

    if r.status[0] != OK:
        return
    names = labels(r.names, r.methods)
    places = [-r.centre[0]] + ([r.distance - r.centre[0]] if len(names) > 1 else [])
    heights = np.interp(places, r.offset[0], r.loss[0] - r.loss[0].min())
    drawn.add_scatter(
        x=places, y=heights, mode="markers", showlegend=False, text=[plain(n) for n in names], hoverinfo="text",
        marker={**mark(0).marker(9), "color": NEUTRAL, "symbol": ["circle", "diamond"][: len(places)]}, row=1, col=1,
    )  # fmt: skip


def table(*results: Asymmetry) -> Table:
    """One row for each direction and run."""
    from landscape.report import Table

    about = ("run", "direction", "status", "ℓ₀ (θ)", "r (θ)", "log rise ratio")
    zeta = results[0].zeta  # runs that share a page were asked alike; others keep their own files
    columns = (*about, *(f"c*, ζ = {z:g} r" for z in zeta), *(f"c* of −u, ζ = {z:g} r" for z in zeta))
    rows: list[tuple[str | float | int, ...]] = [
        (run, name, STATUS[int(r.status[v])], float(r.centre[v]), float(r.radius[v]), float(r.log_ratio[v]),
         *_at(r, r.c[v], zeta), *_at(r, r.c_back[v], zeta))
        for run, r in enumerate(results, 1)
        for v, name in enumerate(r.directions)
    ]  # fmt: skip
    return Table("Directions", columns, tuple(rows), "A negative log ratio: the direction points to the flat side.")


def _at(r: Asymmetry, values: Array, zeta: Array) -> list[float]:
    """Values at some ζ; NaN where this run was not asked for it."""
    known = dict(zip(r.zeta.tolist(), values.tolist(), strict=True))
    return [known.get(z, float("nan")) for z in zeta.tolist()]
