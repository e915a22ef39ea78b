"""Which side of the valley is flat, and on which side does the other checkpoint lie?

Along unit directions (toward another checkpoint, Hessian eigenvectors) the training loss is followed to both sides of
its minimum on that line: the largest c of the (r, p, c, ζ)-asymmetry as a map over ζ and r, the rise ratio against
random directions as a null, and the same rises on test data, which had no part in choosing the direction.

Source: He et al. 2019, arXiv 1902.00744; thesis, definitions 2.3.1 and 3.3.1, assumption 2.3.4 and section 5.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from analyses.sides import listing, words
from analyses.valleys import CAPTION, figure, table
from landscape.asymmetry import Asymmetry
from landscape.errors import UsageError
from landscape.options import option
from landscape.training.methods import labels
from landscape.types import Progress, Work, quiet
from landscape.valley import OK

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.checkpoint import Checkpoint
    from landscape.detector import Direction, Terms
    from landscape.metric import Metric
    from landscape.problem import Problem
    from landscape.ray import Ray, Stand
    from landscape.result import Array
    from landscape.surface import Surface
    from landscape.valley import Valley

NAME = "asymmetry"
TITLE = "Both sides"
QUESTION = "Which side is flat?"
TEXT = "slopes on both sides of the minimum along directions: which side is flat"
EXAMPLE = "landscape asymmetry sgd.pt --toward sgd-sam.pt"
TAKES = (1, 2)
ZETA = (0.05, 0.1, 0.25)
"""ζ as parts of r that are always reported."""
RADII = (0.25, 0.5, 1.0)
"""Radii of the map, as parts of r."""


@dataclass(frozen=True)
class Options:
    """Options of the asymmetry."""

    eigenvectors: int = option(1, "how many top Hessian eigenvectors to take as directions", low=0)
    orthonormal: bool = option(False, "make the directions orthonormal in the order they are listed (Gram-Schmidt)")
    gaussian: int = option(100, "Gaussian directions of the null, a few forward passes each", low=0)
    sign_matched: int = option(8, "directions of the null that have the signs of the weights", low=0)
    metric: str = option(
        "euclidean",
        "what lengths are measured in: theta, or each filter's or each layer's part of its own norm",
        choices=("euclidean", "filter", "layer"),
    )
    radius: float = option(0.0, "r in units of the metric; 0 finds it from --rise", low=0.0)
    rise: float = option(0.5, "mean rise of the loss on both sides that sets r, in nats", low=1e-9)
    zeta: float = option(0.1, "ζ as a part of r: slopes nearer to the minimum do not count", low=1e-3, high=0.99)
    points: int = option(12, "points on each side", low=4)
    neighbours: int = option(0, "points around the minimum where the asymmetry is tested again", low=0)
    neighbourhood: float = option(0.01, "radius R' of the ball of these points, as a part of the norm of w", low=0.0)
    batchnorm: str = option(
        "recalibrate",
        "BatchNorm statistics along the line: of the training data at each point, or fixed at the checkpoint's",
        choices=("recalibrate", "keep", "both"),
    )
    decay: float | None = option(
        None, "weight decay of the regularised loss; that of the checkpoint's training", kind=float, low=0.0
    )
    examples: int = option(0, "random training examples to use, slopes with sampling error; 0 for all", low=0)
    seed: int = option(0, "seed of the random directions, of --examples and of --neighbours", low=0)
    batch_size: int = option(500, "examples in a forward pass; BatchNorm statistics are those of a pass", low=2)


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
        UsageError: If there are more than two checkpoints, equal ones, no direction, or more examples than there are.
    """
    from landscape.asymmetry import columns
    from landscape.metric import metric, same_sign, shares
    from landscape.null import FAMILIES
    from landscape.ray import Ray, stand
    from landscape.surface import Surface

    here, toward = checkpoints[0], checkpoints[1] if len(checkpoints) > 1 else None
    part = _part(problem, options)
    surface, wide = (
        Surface(part, batch_size=options.batch_size, device=device, dtype=kind) for kind in (dtype, _other(dtype))
    )
    measured = metric(options.metric, here.theta, here.layout)
    terms = _terms(problem, here, measured, options)
    surface.at(here)
    chosen = _directions(surface, here, toward, measured, options)
    both = options.batchnorm == "both"
    rules = (("recalibrate", "keep") if both else (options.batchnorm,)) if surface.has_batchnorm else ("none",)
    found: list[Direction] = []
    null: list[tuple[str, str, float]] = []
    heights: list[Array] = []
    distance = float("nan") if toward is None else measured.norm(toward.theta.double() - here.theta.double())
    counts = (options.gaussian, options.sign_matched)
    cost = 10 * len(chosen) + sum(counts)  # a direction takes about as long as ten random ones
    for k, rule in enumerate(rules):
        start, other = stand(surface, here, rule), partial(stand, wide, here, rule)
        tell = _after(progress, k * cost, len(rules) * cost)
        records, ratios = _look(start, other, chosen, measured, terms, counts, tell)
        found += records
        heights.append(_heights(Ray(start, chosen[0][1]), records[0].valley, distance))
        null += [(FAMILIES[family], rule, ratio) for family, ratio in ratios]
    progress(len(rules) * cost, len(rules) * cost, here.name)
    lines = [(name, rule, u) for rule in rules for name, u in chosen]
    return Asymmetry(
        names=tuple(c.name for c in checkpoints[:2]),
        methods=tuple(c.method for c in checkpoints[:2]),
        classifies=problem.classifies,
        directions=tuple(name if len(rules) == 1 else f"{name} ({rule})" for name, rule, _ in lines),
        rules=tuple(rule for _, rule, _ in lines),
        batchnorm=options.batchnorm if surface.has_batchnorm else "none",
        metric=options.metric,
        distance=distance,
        decay=terms.decay,
        examples=len(part.train),
        chosen=terms.chosen,
        neighbourhood=options.neighbourhood if options.neighbours else float("nan"),
        null_family=tuple(family for family, *_ in null),
        null_rule=tuple(rule for _, rule, _ in null),
        height=heights[0],
        null_ratio=np.array([ratio for *_, ratio in null]),
        same_sign=np.array([same_sign(u, here.theta) for *_, u in lines]),
        share=np.stack([shares(u, surface.flat.model).numpy() for *_, u in lines]),
        **columns(found, terms),
    )


def _heights(line: Ray, valley: Valley, distance: float) -> Array:
    """Training loss at the checkpoint, and at the other one if there is one, above the line's minimum, shape (M,)."""
    places = [0.0] if math.isnan(distance) else [0.0, distance]
    if valley.status != OK:
        return np.full(len(places), np.nan)
    return np.array([line.loss(place) for place in places]) - line.loss(valley.centre)


def _look(
    start: Stand, other: Callable[[], Stand], chosen: Sequence[tuple[str, Tensor]], measured: Metric, terms: Terms,
    counts: Sequence[int], tell: Callable[[int, str], None],
) -> tuple[list[Direction], list[tuple[int, float]]]:  # fmt: skip
    """What is found along all chosen directions, and the log rise ratios of random ones with their families."""
    from landscape.detector import detect
    from landscape.null import rise_ratios

    found: list[Direction] = []
    for name, direction in chosen:
        tell(10 * len(found), name)
        found.append(detect(start, measured, direction, terms, other))
    ratios = rise_ratios(
        start, measured, counts, terms.rise, terms.reach, terms.seed,
        lambda done, total, text: tell(10 * len(found) + done, text), terms.radius,
    )  # fmt: skip
    return found, ratios


def _after(progress: Progress, before: int, total: int) -> Callable[[int, str], None]:
    """Progress of a part that begins when some of all is done."""
    return lambda done, text: progress(before + done, total, text)


def _other(dtype: str) -> str:
    return "float64" if dtype == "float32" else "float32"


def _part(problem: Problem, options: Options) -> Problem:
    """The problem with the training examples that are used."""
    if not options.examples:
        return problem
    return replace(problem, train=problem.train.sample(options.examples, options.seed))


def _terms(problem: Problem, here: Checkpoint, measured: Metric, options: Options) -> Terms:
    """What is asked of each direction, in the units of the metric."""
    from landscape.detector import Terms

    size = measured.norm(here.theta)
    trained = here.settings.get("weight_decay", 0.0)
    return Terms(
        reach=1e-3 * size or 1e-3,
        rise=options.rise,
        radius=options.radius,
        points=options.points,
        zeta=tuple(sorted({*ZETA, options.zeta})),
        radii=RADII,
        chosen=options.zeta,
        decay=float(str(trained)) if options.decay is None else options.decay,
        population=len(problem.train),
        neighbours=options.neighbours,
        neighbourhood=options.neighbourhood * size,
        seed=options.seed,
    )


def _directions(
    surface: Surface, here: Checkpoint, toward: Checkpoint | None, measured: Metric, options: Options
) -> list[tuple[str, Tensor]]:
    """Unit directions by name; an eigenvector takes the sign that points toward the other checkpoint."""
    from landscape.curvature import eigenpairs

    found: list[tuple[str, Tensor]] = []
    origin = here.theta.double()
    if toward is not None:
        apart = toward.theta.double() - origin
        if not float(apart.norm()) > 0:
            raise UsageError(f"{here.name} and {toward.name} are the same point", "look toward another checkpoint")
        found.append((f"toward {toward.name}", measured.unit(apart)))
    if options.eigenvectors:
        pairs = eigenpairs(surface.objective(), options.eigenvectors, seed=options.seed)
        for k, vector in enumerate(pairs.vectors.double().cpu(), 1):
            reference = found[0][1] if toward is not None else origin
            signed = vector if float(vector @ reference) >= 0 else -vector
            found.append((f"eigenvector {k}", measured.unit(signed)))
    if not found:
        raise UsageError("there is no direction to look along", "add --toward b.pt or --eigenvectors")
    if options.orthonormal:
        names = [name if i == 0 else f"{name} ⟂ {i} before it" for i, (name, _) in enumerate(found)]
        return list(zip(names, measured.orthonormal([vector for _, vector in found]), strict=True))
    return found


def work(options: Options, checkpoints: int) -> Work:
    """Passes over the data: forward and backward at about 75 places of a line, 7 forward passes for a random one."""
    lines = options.eigenvectors + checkpoints - 1
    rules = 2 if options.batchnorm == "both" else 1
    places = 75 + 2 * options.points + 8 * options.neighbours
    random = options.gaussian + options.sign_matched
    return Work(
        f"{lines} directions × about {places} slopes and {random} random ones",
        train=rules * (lines * (3 * places + 60 + (66 if options.examples else 0)) + 7 * random)
        + 100 * options.eigenvectors,
        test=9 * rules * lines,
        vectors=24,
    )


def label(result: Asymmetry) -> str:
    """What the checkpoints are called."""
    return " → ".join(labels(result.names, result.methods)) if len(result.names) > 1 else result.names[0]


__all__ = ["CAPTION", "figure", "listing", "table", "words"]
