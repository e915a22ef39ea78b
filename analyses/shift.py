"""Does the theory of SAM's bias hold here, and how far does it reach?

Along the line from the first checkpoint to the second (SAM's), measured from the training loss's minimum: where
theorem 3.3.2 says that SAM should sit and where it sits; the shift between training and test loss (definition 2.3.2);
and the generalization bound of theorem 3.3.3 with each of its assumptions and whether it was seen to hold.

Source: thesis, definitions 2.3.1 and 2.3.2, assumptions 2.3.3 and 2.3.4, theorems 3.3.2 and 3.3.3; He et al. 2019,
arXiv 1902.00744.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analyses.bias import CAPTION, figure, listing, table, words
from landscape.errors import UsageError
from landscape.options import option
from landscape.result import Array, arrays, quantity
from landscape.shift import Profile, bias_interval, generalization_bound, sam_minimum
from landscape.theorem import ASSUMPTIONS, UNKNOWN, assumptions
from landscape.training.methods import labels
from landscape.types import Progress, Work, quiet
from landscape.valley import OK

if TYPE_CHECKING:
    from landscape.checkpoint import Checkpoint
    from landscape.noise import Noise
    from landscape.problem import Problem
    from landscape.ray import Ray
    from landscape.theorem import Asymmetric
    from landscape.valley import Valley

NAME = "shift"
TITLE = "Bias and shift"
QUESTION = "Does the theory of SAM's bias hold here?"
TEXT = "SAM's bias along the line, predicted and measured, the shift of the test loss, and the bound that follows"
EXAMPLE = "landscape shift sgd.pt sgd-sam.pt"
TAKES = (2, 2)
ZETA = (0.05, 0.1, 0.25, 0.5)
RADII = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Options:
    """Options of the shift."""

    rho: float | None = option(
        None, "ρ of SAM in units of theta; that of the second checkpoint's training", kind=float, low=1e-9
    )
    rise: float = option(0.5, "mean rise of the loss on both sides that sets r, in nats", low=1e-9)
    radius: float = option(0.0, "r in units of theta; 0 finds it from --rise", low=0.0)
    points: int = option(24, "points of the losses on each side", low=8)
    neighbours: int = option(5, "points around the minimum where the asymmetry is tested again", low=0)
    batchnorm: str = option(
        "recalibrate",
        "BatchNorm statistics along the line: of the training data at each point, or fixed at the checkpoint's",
        choices=("recalibrate", "keep"),
    )
    seed: int = option(0, "seed of --neighbours", low=0)
    batch_size: int = option(500, "examples in a forward pass; BatchNorm statistics are those of a pass", low=2)


@dataclass(frozen=True)
class Shift:
    """The line from a checkpoint to SAM's, its losses, and what theorems 3.3.2 and 3.3.3 say of it.

    Attributes:
        names: Labels of both checkpoints.
        methods: Their training methods.
        batchnorm: The rule for BatchNorm statistics.
        assumptions: What the theorems suppose, with the number that was measured.
        status: See `landscape.valley.STATUS`.
        rho: ρ; NaN where the second checkpoint's last steps were not SAM's and none was given.
        centre: ℓ₀, minimum of the training loss along the line, from the first checkpoint.
        radius: r of the strongest asymmetry on the map whose r is above ρ.
        zeta: Its ζ.
        p: Its p*.
        c: Its c*.
        c_low: What c* exceeds given rounding.
        displacement: Where the second checkpoint sits, from the minimum.
        bias_low: Lower end of theorem 3.3.2's interval; NaN for c < 1.
        bias_high: Its upper end.
        line_minimum: Minimum of max |ε| ≤ ρ of L(ℓ + ε) on this very line.
        reach: R, where the gap is taken: (c − 1)/(c + 1) ρ, or where the theorem is silent the displacement.
        shift: δ that leaves the smallest gap between test and training loss.
        minima_shift: Minimum of the test loss minus that of the training loss on the line.
        gap: ξ, the (δ, R)-shift gap at that δ.
        gap_error: Error of the interpolation between points that is in ξ.
        bound: Theorem 3.3.3's lower bound of the gain in population loss; NaN for c ≤ 1.
        gain: Test loss at the line's minimum minus that at the second checkpoint.
        gain_error: Its standard error over test examples.
        holds: Whether each assumption holds (1), fails (0), was not measured (−1) or does not apply (−2), shape (A,).
        number: The number behind it, shape (A,).
        offset: ℓ − ℓ₀, shape (P,).
        train: Training loss there, shape (P,).
        test: Test loss there, shape (P,).
    """

    labelled: ClassVar[Mapping[str, str]] = {"assumption": "assumptions"}

    names: tuple[str, ...]
    methods: tuple[str, ...]
    batchnorm: str
    assumptions: tuple[str, ...]
    status: Array = quantity("1", "0 measured, else see the documentation")
    rho: Array = quantity("theta", "radius of SAM's ball")
    centre: Array = quantity("theta", "minimum along the line, from the first checkpoint")
    radius: Array = quantity("theta", "outer radius of the asymmetry")
    zeta: Array = quantity("theta", "inner radius of the asymmetry")
    p: Array = quantity("nats / theta", "largest slope of the flat side")
    c: Array = quantity("1", "largest c of the direction")
    c_low: Array = quantity("1", "its lower bound")
    displacement: Array = quantity("theta", "second checkpoint, from the minimum")
    bias_low: Array = quantity("theta", "lower end of the predicted bias")
    bias_high: Array = quantity("theta", "upper end of the predicted bias")
    line_minimum: Array = quantity("theta", "minimum of SAM's loss on this line")
    reach: Array = quantity("theta", "radius of the shift gap")
    shift: Array = quantity("theta", "shift with the smallest gap")
    minima_shift: Array = quantity("theta", "test minimum minus training minimum")
    gap: Array = quantity("nats", "shift gap")
    gap_error: Array = quantity("nats", "interpolation error of the gap")
    bound: Array = quantity("nats", "predicted gain in population loss, at least")
    gain: Array = quantity("nats", "measured gain in test loss")
    gain_error: Array = quantity("nats", "standard error of the gain")
    holds: Array = quantity("1", "1 holds, 0 fails, -1 not measured, -2 does not apply", "assumption")
    number: Array = quantity("1", "number behind it, its unit in the name", "assumption")
    offset: Array = quantity("theta", "distance from the minimum along the line", "point")
    train: Array = quantity("nats", "training loss", "point")
    test: Array = quantity("nats", "test loss", "point")


Result = Shift


def compute(
    problem: Problem,
    *checkpoints: Checkpoint,
    options: Options = Options(),
    progress: Progress = quiet,
    device: str = "cpu",
    dtype: str = "float32",
) -> Shift:
    """Measure the line, and hold the theorems against it.

    Args:
        problem: What both were trained on.
        *checkpoints: A solution, and SAM's.
        options: Options of the shift.
        progress: Told (parts done, parts in all).
        device: Where to compute.
        dtype: Floating point type of weights and computation; derivatives are summed in float64.

    Returns:
        Prediction, measurement, and the status of each assumption.

    Raises:
        UsageError: If there are not two checkpoints, or both are the same point.
    """
    from landscape.asymmetric import Slopes
    from landscape.noise import Noise
    from landscape.ray import Ray, stand
    from landscape.surface import Surface
    from landscape.theorem import strongest
    from landscape.valley import measure

    if len(checkpoints) != 2:
        raise UsageError(f"a line goes through 2 checkpoints, got {len(checkpoints)}", EXAMPLE)
    here, there = checkpoints
    apart = there.theta.double() - here.theta.double()
    distance = float(apart.norm())
    if not distance > 0:
        raise UsageError(f"{here.name} and {there.name} are the same point", "compare two different checkpoints")
    surface = Surface(problem, batch_size=options.batch_size, device=device, dtype=dtype)
    rule = options.batchnorm if surface.has_batchnorm else "none"
    line = Ray(stand(surface, here, rule), apart / distance)
    rho = _rho(there) if options.rho is None else options.rho
    progress(0, 4, "minimum and radius")
    size = float(here.theta.double().norm())
    parts = sorted({*RADII, *(z * part for z in ZETA for part in RADII)})
    valley = measure(line, 1e-3 * size or 1e-3, options.rise, options.radius, parts)
    values = dict.fromkeys(_single(), math.nan) | {
        "status": valley.status, "rho": rho, "centre": valley.centre, "displacement": distance - valley.centre
    }  # fmt: skip
    profile = Profile(*(np.full(2, np.nan) for _ in range(3)))
    told = [(UNKNOWN, math.nan)] * len(ASSUMPTIONS)
    if valley.status == OK:
        progress(1, 4, "slopes on both sides")
        other = "float64" if dtype == "float32" else "float32"
        wide = Surface(problem, batch_size=options.batch_size, device=device, dtype=other)
        probes = [part * valley.radius for part in RADII]
        noise = Noise(line, valley.centre, probes, lambda: stand(wide, here, rule), len(problem.train))
        slopes = Slopes(line, valley.centre, [part * valley.radius for part in parts], noise)
        strong = strongest(slopes, probes, ZETA, rho)
        progress(2, 4, "losses on the line")
        predicted, profile = _predict(line, valley, strong, rho, distance, options)
        values |= predicted
        progress(3, 4, "neighbourhood")
        near = _nearby(line, valley, strong, values, options, noise)
        told = assumptions(strong, rho, valley.centre, values["shift"], values["gap"], near)
    progress(4, 4, here.name)
    return Shift(
        names=(here.name, there.name),
        methods=(here.method, there.method),
        batchnorm=rule,
        assumptions=ASSUMPTIONS,
        **{name: np.array(value) for name, value in values.items()},
        holds=np.array([verdict for verdict, _ in told]),
        number=np.array([number for _, number in told]),
        offset=profile.offset,
        train=profile.train,
        test=profile.test,
    )


def _single() -> list[str]:
    """Names of the fields that hold one number."""
    return [name for name, field in arrays(Shift).items() if not field.metadata["dims"]]


def _rho(checkpoint: Checkpoint) -> float:
    """ρ of a run whose last step was SAM's; NaN of any other."""
    gap = checkpoint.history.get("gap")
    last = gap is not None and len(gap) > 0 and not math.isnan(float(gap[-1]))
    return float(str(checkpoint.settings["rho"])) if last else math.nan


def _predict(
    line: Ray, valley: Valley, strong: Asymmetric, rho: float, distance: float, options: Options
) -> tuple[dict[str, float], Profile]:
    """What the theorems say of the line with this asymmetry, beside what is measured."""
    c, p = strong.sides.c, strong.sides.ahead.high
    displacement = distance - valley.centre
    low, high = bias_interval(c, rho)
    reach = low if low > 0 else min(abs(displacement), valley.radius / 2)
    profile = _profile(line, valley, 3 * max(reach, abs(displacement)), options.points)
    shift, gap = profile.best_shift(reach)
    held = line.held_out([valley.centre, distance])
    gain = held[0] - held[1]
    return {
        "radius": strong.radius,
        "zeta": strong.zeta,
        "p": p,
        "c": c,
        "c_low": strong.sides.c_low,
        "bias_low": low,
        "bias_high": high,
        "line_minimum": math.nan if math.isnan(rho) else sam_minimum(lambda x: line.loss(valley.centre + x), rho),
        "reach": reach,
        "shift": shift,
        "minima_shift": profile.minima[1] - profile.minima[0],
        "gap": gap,
        "gap_error": profile.error,
        "bound": generalization_bound(c, p, rho, gap) if c > 1 else math.nan,
        "gain": float(gain.mean()),
        "gain_error": float(gain.std(ddof=1)) / math.sqrt(len(gain)),
    }, profile


def _profile(line: Ray, valley: Valley, near: float, points: int) -> Profile:
    """Both losses on the line: half of the points evenly to r, half of them densely around the minimum."""
    near, r = min(near, valley.radius), valley.radius
    sides = [np.linspace(-reach, reach, points + 1 + points % 2) for reach in (near, r)]
    offset = np.unique(np.round(np.concatenate([*sides, [0.0]]) / r, 9)) * r
    places = (valley.centre + offset).tolist()
    test = np.array([float(line.held_out([x])[0].mean()) for x in places])
    return Profile(offset, np.array([line.loss(x) for x in places]), test)


def _nearby(
    line: Ray, valley: Valley, strong: Asymmetric, values: Mapping[str, float], options: Options, noise: Noise
) -> float:
    """Part of the points within R′ = |δ| + R where the direction is as asymmetric; NaN if none was asked for."""
    from landscape.detector import neighbourhood
    from landscape.metric import metric

    if not options.neighbours:
        return math.nan
    start = line.start
    plain = metric("euclidean", start.theta, start.surface.flat.layout)
    ball = (plain, abs(values["shift"]) + values["reach"])
    interval = (strong.zeta, strong.radius)
    return neighbourhood(line, valley.centre, interval, ball, options.neighbours, options.seed, noise).asymmetric


def work(options: Options, checkpoints: int) -> Work:
    """Passes over the data: about 75 slopes for the asymmetry, two losses at each point, slopes nearby."""
    del checkpoints
    slopes = 75 + 8 * options.neighbours
    points = 2 * options.points + 3
    text = f"about {slopes} slopes and {points} points on the line"
    return Work(text, train=3 * slopes + 60 + 2 * points, test=points + 2, vectors=8)


def label(result: Shift) -> str:
    """What the pair is called."""
    return " → ".join(labels(result.names, result.methods))


__all__ = ["CAPTION", "figure", "listing", "table", "words"]
