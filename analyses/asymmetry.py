"""Which side of the valley is flat, and on which side does the other checkpoint lie?

Along unit directions (toward another checkpoint, Hessian eigenvectors) the training loss is followed to both sides of
its minimum on that line: the largest c of the (r, p, c, ζ)-asymmetry as a map over ζ and r, the rise ratio against
random directions as a null, and the same rises on test data, which had no part in choosing the direction.

Source: He et al. 2019, arXiv 1902.00744; thesis, definitions 2.3.1 and 3.3.1, assumption 2.3.4 and section 5.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analyses.sides import CAPTION, figure, listing, table, words
from landscape.errors import UsageError
from landscape.options import option
from landscape.result import Array, quantity
from landscape.training.methods import labels
from landscape.types import Progress, Work, quiet

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.asymmetric import Sides
    from landscape.checkpoint import Checkpoint
    from landscape.detector import Direction, Terms
    from landscape.metric import Metric
    from landscape.problem import Problem
    from landscape.surface import Surface

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


@dataclass(frozen=True)
class Asymmetry:
    """Valleys along V lines through one checkpoint, and M random ones.

    Attributes:
        names: Labels of the checkpoint, and of the one that the first direction points to, if any.
        methods: Their training methods.
        directions: Names of the lines.
        rules: Their BatchNorm rules.
        batchnorm: The rules asked for.
        metric: What a direction has length 1 in, and the unit of all offsets and radii.
        distance: Distance to the other checkpoint in the metric; NaN if there is none.
        decay: Weight decay λ of the regularised loss.
        examples: Training examples used.
        chosen: ζ of the neighbourhood test and of the symmetric bounds, as a part of r.
        neighbourhood: R′ as a part of ‖w‖; NaN if not asked for.
        null_family: Family of each random direction.
        null_rule: Its BatchNorm rule.
        zeta: ζ as parts of r, shape (Z,).
        reach: Radii of the map as parts of r, shape (R,).
        part: Places of the held-out losses as parts of r, shape (H,).
        status: See `landscape.valley.STATUS`, shape (V,).
        centre: ℓ₀, the minimum along the line, measured from the checkpoint, shape (V,).
        radius: r, shape (V,).
        log_ratio: log of the rise at +r over the rise at −r, shape (V,): negative where u points to the flat side.
        decayed_centre: ℓ₀ of the loss with weight decay, shape (V,).
        decayed_log_ratio: Log rise ratio of the loss with weight decay, about its own minimum, shape (V,).
        curvature: Second derivative behind and ahead of the minimum, shape (V, 2).
        skewness: L‴ r / L″ at the minimum, shape (V,).
        c: Largest c for which u is asymmetric, shape (V, R, Z); NaN where it is for none.
        c_low: What it exceeds with 95 %, shape (V, R, Z).
        c_back: The largest c for −u, shape (V, R, Z).
        c_back_low: What that exceeds with 95 %, shape (V, R, Z).
        certified: Whether refinement can move no slope's bound by more than 1 %, shape (V, R, Z).
        symmetric_low: a of the symmetric direction at the chosen ζ and the full r, shape (V,).
        symmetric_high: b of it, shape (V,).
        rounding: Error of slopes by rounding, shape (V,).
        sampling: Standard error of the slope at the chosen ζ due to the sample of examples, shape (V,).
        same_sign: Part of the entries of u with the weight's sign, shape (V,).
        share: Parts of ‖u‖² in weights, biases and BatchNorm, shape (V, 3).
        near_part: Part of the neighbouring points where u is asymmetric for some c ≥ 1, shape (V,).
        near_c: Smallest c* of them, shape (V,).
        near_common: The c that holds with one p for all of them, shape (V,).
        held_out: Test loss at the parts of r, shape (V, H).
        held_out_ratio: Log rise ratio of the test loss between the same three points, shape (V,).
        held_out_error: Its standard error over test examples, shape (V,).
        null_ratio: Log rise ratios of the random directions, shape (M,).
        offset: ℓ − ℓ₀, shape (V, P).
        loss: Training loss there, shape (V, P).
        slope: Its exact derivative along u, shape (V, P).
    """

    labelled: ClassVar[Mapping[str, str]] = {"direction": "directions"}

    names: tuple[str, ...]
    methods: tuple[str, ...]
    directions: tuple[str, ...]
    rules: tuple[str, ...]
    batchnorm: str
    metric: str
    distance: float
    decay: float
    examples: int
    chosen: float
    neighbourhood: float
    null_family: tuple[str, ...]
    null_rule: tuple[str, ...]
    zeta: Array = quantity("1", "inner radius over outer radius", "zeta")
    reach: Array = quantity("1", "outer radius of the map over r", "reach")
    part: Array = quantity("1", "place of a held-out loss over r", "part")
    status: Array = quantity("1", "0 measured, else see the documentation", "direction")
    centre: Array = quantity("theta", "minimum along the line, from the checkpoint", "direction")
    radius: Array = quantity("theta", "outer radius r", "direction")
    log_ratio: Array = quantity("1", "log of rise ahead over rise behind", "direction")
    decayed_centre: Array = quantity("theta", "minimum along the line with weight decay", "direction")
    decayed_log_ratio: Array = quantity("1", "log rise ratio with weight decay", "direction")
    curvature: Array = quantity("nats / theta^2", "second derivative behind and ahead", "direction", "side")
    skewness: Array = quantity("1", "third derivative times r over the second", "direction")
    c: Array = quantity("1", "largest c of the direction", "direction", "reach", "zeta")
    c_low: Array = quantity("1", "its lower 95 % bound", "direction", "reach", "zeta")
    c_back: Array = quantity("1", "largest c of the opposite direction", "direction", "reach", "zeta")
    c_back_low: Array = quantity("1", "its lower 95 % bound", "direction", "reach", "zeta")
    certified: Array = quantity("1", "whether bounds of slopes are certified to 1 %", "direction", "reach", "zeta")
    symmetric_low: Array = quantity("nats / theta", "a of the symmetric direction", "direction")
    symmetric_high: Array = quantity("nats / theta", "b of the symmetric direction", "direction")
    rounding: Array = quantity("nats / theta", "rounding error of slopes", "direction")
    sampling: Array = quantity("nats / theta", "sampling error of the slope at zeta", "direction")
    same_sign: Array = quantity("1", "part of entries with the weight's sign", "direction")
    share: Array = quantity("1", "part of the squared norm in weights, biases, BatchNorm", "direction", "kind")
    near_part: Array = quantity("1", "part of neighbouring points with c of at least 1", "direction")
    near_c: Array = quantity("1", "smallest c at neighbouring points", "direction")
    near_common: Array = quantity("1", "c with one p for all neighbouring points", "direction")
    held_out: Array = quantity("nats", "test loss", "direction", "part")
    held_out_ratio: Array = quantity("1", "log rise ratio of the test loss", "direction")
    held_out_error: Array = quantity("1", "standard error of it", "direction")
    null_ratio: Array = quantity("1", "log rise ratio along random directions", "random")
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
        UsageError: If there are more than two checkpoints, equal ones, no direction, or more examples than there are.
    """
    from landscape.detector import HELD, detect
    from landscape.metric import metric, same_sign, shares
    from landscape.null import FAMILIES, rise_ratios
    from landscape.ray import stand
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
    rules = ("recalibrate", "keep") if options.batchnorm == "both" and surface.has_batchnorm else (options.batchnorm,)
    rules = rules if surface.has_batchnorm else ("none",)
    randoms = options.gaussian + options.sign_matched
    found: list[tuple[str, str, Tensor, Direction]] = []
    null: list[tuple[str, str, float]] = []
    total = len(rules) * (10 * len(chosen) + randoms)  # a direction takes about as long as ten random ones
    for rule in rules:
        start = stand(surface, here, rule)
        for name, direction in chosen:
            progress(10 * len(found) + len(null), total, name)
            record = detect(start, measured, direction, terms, lambda rule=rule: stand(wide, here, rule))  # type: ignore[misc]
            found.append((name, rule, direction, record))
        done = 10 * len(found) + len(null)
        ratios = rise_ratios(
            start, measured, (options.gaussian, options.sign_matched), options.rise, terms.reach, options.seed,
            lambda i, n, text, done=done: progress(done + i, total, text),  # type: ignore[misc]
        )  # fmt: skip
        null += [(FAMILIES[family], rule, ratio) for family, ratio in ratios]
    progress(total, total, here.name)
    pair = (here,) if toward is None else (here, toward)

    def column(value: Callable[[Direction], object]) -> Array:
        return np.array([value(record) for _, _, _, record in found], dtype=float)

    def bounds(value: Callable[[Sides], float]) -> Array:
        nothing = [[np.nan] * len(terms.zeta)] * len(terms.radii)
        return column(lambda d: [[value(sides) for sides in row] for row in d.sides] or nothing)

    return Asymmetry(
        names=tuple(c.name for c in pair),
        methods=tuple(c.method for c in pair),
        directions=tuple(name if len(rules) == 1 else f"{name} ({rule})" for name, rule, *_ in found),
        rules=tuple(rule for _, rule, *_ in found),
        batchnorm=options.batchnorm if surface.has_batchnorm else "none",
        metric=options.metric,
        distance=float("nan") if toward is None else measured.norm(toward.theta.double() - here.theta.double()),
        decay=terms.decay,
        examples=len(part.train),
        chosen=terms.chosen,
        neighbourhood=options.neighbourhood if options.neighbours else float("nan"),
        null_family=tuple(family for family, *_ in null),
        null_rule=tuple(rule for _, rule, _ in null),
        zeta=np.array(terms.zeta),
        reach=np.array(terms.radii),
        part=np.array(HELD),
        status=np.array([record.valley.status for *_, record in found]),
        centre=column(lambda d: d.valley.centre),
        radius=column(lambda d: d.valley.radius),
        log_ratio=column(lambda d: d.valley.log_ratio),
        decayed_centre=column(lambda d: d.decayed.centre),
        decayed_log_ratio=column(lambda d: d.decayed.log_ratio),
        curvature=column(lambda d: d.valley.curvatures),
        skewness=column(lambda d: d.valley.skewness),
        c=bounds(lambda s: s.c),
        c_low=bounds(lambda s: s.c_low),
        c_back=bounds(lambda s: s.reversed.c),
        c_back_low=bounds(lambda s: s.reversed.c_low),
        certified=bounds(lambda s: s.certified),
        symmetric_low=column(lambda d: d.symmetric(terms)[0]),
        symmetric_high=column(lambda d: d.symmetric(terms)[1]),
        rounding=column(lambda d: d.rounding),
        sampling=column(lambda d: d.sampling),
        same_sign=np.array([same_sign(u, here.theta) for _, _, u, _ in found]),
        share=np.stack([shares(u, surface.flat.model).numpy() for _, _, u, _ in found]),
        near_part=column(lambda d: d.around.asymmetric if d.around else np.nan),
        near_c=column(lambda d: d.around.smallest if d.around else np.nan),
        near_common=column(lambda d: d.around.common if d.around else np.nan),
        held_out=column(lambda d: d.held_out),
        held_out_ratio=column(lambda d: d.held_out_ratio),
        held_out_error=column(lambda d: d.held_out_error),
        null_ratio=np.array([ratio for *_, ratio in null]),
        offset=column(lambda d: d.valley.offsets),
        loss=column(lambda d: d.valley.losses),
        slope=column(lambda d: d.valley.slopes),
    )


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
        train=rules * (lines * (3 * places + 60) + 7 * random) + 100 * options.eigenvectors,
        test=9 * rules * lines,
        vectors=24,
    )


def label(result: Asymmetry) -> str:
    """What the checkpoints are called."""
    return " → ".join(labels(result.names, result.methods)) if len(result.names) > 1 else result.names[0]


__all__ = ["CAPTION", "figure", "listing", "table", "words"]
