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
from typing import TYPE_CHECKING

import numpy as np

from analyses.bias import CAPTION, figure, listing, table, words
from landscape.bias import Shift
from landscape.errors import UsageError
from landscape.options import option
from landscape.profile import UNKNOWN as NO_GAP
from landscape.profile import Gap, Profile, explore
from landscape.result import arrays
from landscape.shift import bias_interval, generalization_bound, sam_minimum
from landscape.theorem import ASSUMPTIONS, UNKNOWN, assumptions
from landscape.training.methods import labels
from landscape.types import Progress, Work, quiet
from landscape.valley import OK, ROUNDED

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
    points: int = option(8, "points of the losses on each side to begin with", low=4)
    most: int = option(120, "most points of the losses, more being added where the shift gap is least certain", low=17)
    tolerance: float = option(
        0.01, "error of the shift gap that ends the refinement, in parts of the training loss's rise within R", low=1e-6
    )
    neighbours: int = option(5, "points around the minimum where the asymmetry is tested again", low=0)
    batchnorm: str = option(
        "recalibrate",
        "BatchNorm statistics along the line: of the training data at each point, or fixed at the checkpoint's",
        choices=("recalibrate", "keep"),
    )
    seed: int = option(0, "seed of --neighbours", low=0)
    batch_size: int = option(500, "examples in a forward pass; BatchNorm statistics are those of a pass", low=2)


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
    profile = Profile(*(np.empty(0) for _ in range(3)))
    told = [(UNKNOWN, math.nan)] * len(ASSUMPTIONS)
    if valley.status == OK:
        progress(1, 4, "slopes on both sides")
        other = "float64" if dtype == "float32" else "float32"
        wide = Surface(problem, batch_size=options.batch_size, device=device, dtype=other)
        probes = [part * valley.radius for part in RADII]
        noise = Noise(line, valley.centre, probes, lambda: stand(wide, here, rule), len(problem.train))
        values["status"] = ROUNDED if noise.hides(valley) else OK
    if values["status"] == OK:
        slopes = Slopes(line, valley.centre, [part * valley.radius for part in parts], noise)
        strong = strongest(slopes, probes, ZETA, rho)
        progress(2, 4, "losses on the line")
        predicted, profile, gap = _predict(line, valley, strong, rho, distance, options)
        values |= predicted
        progress(3, 4, "neighbourhood")
        near = _nearby(line, valley, strong, values, options, noise)
        told = assumptions(strong, rho, valley.centre, gap, near)
    progress(4, 4, here.name)
    return Shift(
        names=(here.name, there.name),
        methods=(here.method, there.method),
        batchnorm=rule,
        classifies=problem.classifies,
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
) -> tuple[dict[str, float], Profile, Gap]:
    """What the theorems say of the line with this asymmetry, beside what is measured."""
    c, p = strong.sides.c, strong.sides.ahead.high
    displacement = distance - valley.centre
    applies = not strong.radius <= rho  # the theorems ask for r > ρ
    low, high = bias_interval(c if applies else math.nan, rho)
    bounded = c > 1 and applies
    reach = low if low > 0 else min(abs(displacement), valley.radius / 2)
    profile, gap = _profile(line, valley, reach, abs(displacement), options)
    held = line.held_out([valley.centre, distance])
    gain = held[0] - held[1]
    return (
        {
            "radius": strong.radius,
            "zeta": strong.zeta,
            "p": p,
            "c": c,
            "c_low": strong.sides.c_low,
            "bias_low": low,
            "bias_high": high,
            "line_minimum": math.nan if math.isnan(rho) else sam_minimum(lambda x: line.loss(valley.centre + x), rho),
            "reach": reach,
            "shift": gap.shift,
            "shift_low": gap.shift_low,
            "shift_high": gap.shift_high,
            "minima_shift": math.nan if gap is NO_GAP else profile.minima[1] - profile.minima[0],
            "gap": gap.gap,
            "gap_low": gap.low,
            "gap_high": gap.high,
            "bound": generalization_bound(c, p, rho, gap.gap) if bounded else math.nan,
            "bound_low": generalization_bound(max(1.0, strong.sides.c_low), p, rho, gap.high)
            if c > 1 and applies
            else math.nan,
            "gain": float(gain.mean()),
            "gain_error": float(gain.std(ddof=1)) / math.sqrt(len(gain)) if len(gain) > 1 else math.nan,
        },
        profile,
        gap,
    )


def _profile(line: Ray, valley: Valley, reach: float, near: float, options: Options) -> tuple[Profile, Gap]:
    """Both losses on the line, first evenly to r and evenly around the minimum, then where the gap asks for them."""
    far = max(valley.radius, 3 * reach)
    sides = [np.linspace(-end, end, 2 * options.points + 1) for end in (min(3 * max(reach, near), far), far)]
    start = np.unique(np.round(np.concatenate(sides) / far, 9)) * far

    def losses(offset: float) -> tuple[float, float]:
        place = valley.centre + offset
        return line.loss(place), float(line.held_out([place])[0].mean())

    return explore(losses, start, reach, options.tolerance, max(options.most, len(start)))


def _nearby(
    line: Ray, valley: Valley, strong: Asymmetric, values: Mapping[str, float], options: Options, noise: Noise
) -> float:
    """Part of the points within R′ = |δ| + R where p and c hold too; NaN if none was asked for or δ is not known."""
    from landscape.detector import neighbourhood
    from landscape.metric import metric

    if not options.neighbours or math.isnan(values["shift"]):
        return math.nan
    start = line.start
    plain = metric("euclidean", start.theta, start.surface.flat.layout)
    ball = (plain, abs(values["shift"]) + values["reach"])
    interval = (strong.zeta, strong.radius)
    limits = (strong.sides.ahead.high, strong.sides.c)
    count, seed = options.neighbours, options.seed
    return neighbourhood(line, valley.centre, interval, ball, count, seed, noise, limits=limits).within


def work(options: Options, checkpoints: int) -> Work:
    """Passes over the data: about 75 slopes for the asymmetry, two losses at each point, slopes nearby."""
    del checkpoints
    slopes = 75 + 8 * options.neighbours
    points = max(options.most, 4 * options.points)
    text = f"about {slopes} slopes and at most {points} points on the line"
    return Work(text, train=3 * slopes + 60 + 2 * points, test=points + 2, vectors=8)


def label(result: Shift) -> str:
    """What the pair is called."""
    return " → ".join(labels(result.names, result.methods))


__all__ = ["CAPTION", "figure", "listing", "table", "words"]
