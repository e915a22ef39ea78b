"""Measures the rise of the loss around the point where a surface is, a few fields of the result at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from landscape.result import Array
from landscape.search import Rules

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.ball import Body, Peak
    from landscape.curvature import HessianOperator
    from landscape.nearby import Draw, Nearby
    from landscape.precision import SecondPrecision
    from landscape.surface import Surface


def measure(surface: Surface, second: Surface, rules: Rules) -> Iterator[dict[str, Any]]:
    """Measure around the point where a surface is, a few fields of `Rise` at a time.

    Args:
        surface: At a checkpoint, with the statistics that belong there; it comes back as it was.
        second: In the other one of float32 and float64, at the same checkpoint with the same rule for statistics.
        rules: What is searched.

    Yields:
        Values by the names of the fields, without the dimension of checkpoints.
    """
    import torch

    from landscape.chunks import chunked
    from landscape.curvature import HessianOperator, check_determinism
    from landscape.nearby import Nearby
    from landscape.precision import SecondPrecision
    from landscape.scaling import ADAPTIVE, length, scaling

    objective, flat = rules.objective(surface), surface.flat
    hessian = HessianOperator(objective, rules.mode)
    check_determinism(hessian)
    loss, error = surface.scores()
    yield {"loss": loss, "error": error, "norm": float(torch.linalg.vector_norm(flat.theta.double()))}
    plain, other = Nearby(flat, objective, rules.mode), SecondPrecision(second, rules)
    centre = _centre(plain, hessian, other, rules)
    peaks, found = _ball(centre, rules.radius)
    yield found | _told(plain, peaks, len(surface.problem.train), rules)
    yield _box(centre, rules.half_widths)
    yield _bounded(surface, plain, peaks, rules)
    part, made = chunked(surface, objective, peaks, rules)
    yield part
    made += plain.evaluations
    balls, boxes = [], {}
    for metric in ADAPTIVE:
        scale = scaling(metric, flat.theta, flat.layout)
        size = length(flat.theta, scale)
        centre = _centre(Nearby(flat, objective, rules.mode, scale), hessian, other, rules)
        balls.append(_ball(centre, size * rules.parts)[1] | {"length": np.array(size)})
        if metric == "elementwise":
            boxes = _box(centre, rules.parts)
        made += centre.nearby.evaluations
    yield {f"adaptive_{key}": values for key, values in boxes.items()}
    named = {key: key if key == "length" else f"adaptive_{key}" for key in balls[0]}
    yield {name: np.stack([each[key] for each in balls]) for key, name in named.items()} | {"evaluations": made}


@dataclass(frozen=True)
class Centre:
    """A point in one metric, with what is known there before the first climb.

    Attributes:
        nearby: The loss around the point, in the metric.
        other: The same in the other precision, in theta.
        rules: Where climbs start, and how long they are.
        slope: The gradient in the metric, shape (D,).
        top: The top eigenvector of T H T, shape (D,).
        fields: `gradient_norm`, `eigenvalue` and `residual` of `Rise`.
    """

    nearby: Nearby
    other: SecondPrecision
    rules: Rules
    slope: Tensor
    top: Tensor
    fields: dict[str, Array]

    def starts(self) -> Iterator[Tensor]:
        """Directions that climbs start along, one at a time, shape (D,)."""
        from landscape.nearby import direction

        yield from (self.slope, self.top, -self.top)
        for k in range(self.rules.restarts):
            yield direction(self.nearby.size, self.rules.seed, -1 - k, self.slope)


def _centre(nearby: Nearby, hessian: HessianOperator, other: SecondPrecision, rules: Rules) -> Centre:
    """Take slope and top eigenvector at the point itself; the Hessian is that of the same loss, in theta."""
    import torch

    from landscape.curvature import rounding_told, top_eigenpairs

    slope = nearby(torch.zeros(nearby.size, dtype=hessian.dtype, device=hessian.device))[1]
    with rounding_told(hessian.objective, batchnorm=rules.mode):
        pairs = top_eigenpairs(
            lambda z: nearby.scaled(hessian.product(nearby.scaled(z))), nearby.size, 1, seed=rules.seed,
            device=hessian.device, dtype=hessian.dtype,
        )  # fmt: skip
    v = pairs.vectors[0].to(slope)
    v = torch.where(v[v.abs().argmax()] < 0, -v, v)  # of two signs that with a positive largest entry
    length = np.array(float(torch.linalg.vector_norm(slope.double())))
    fields = {"gradient_norm": length, "eigenvalue": pairs.values[0], "residual": pairs.residuals[0]}
    return Centre(nearby, other, rules, slope, v, fields)


def _ball(centre: Centre, radii: Array) -> tuple[list[Peak], dict[str, Array]]:
    """Worst and average case in round balls of one metric, radii ascending: highest points, and fields of `Rise`."""
    from landscape.ball import Ball
    from landscape.nearby import direction

    size, seed, like = centre.nearby.size, centre.rules.seed, centre.slope
    peaks, fields = _climbs(centre, [Ball(rho) for rho in radii.tolist()])
    mean, error = _average(centre, radii, lambda k: direction(size, seed, k, like))
    return peaks, centre.fields | fields | {"average": mean, "average_error": error}


def _box(centre: Centre, radii: Array) -> dict[str, Array]:
    """Worst case in boxes of one metric and mean over Gaussian steps, radii ascending: fields of `Rise`."""
    from landscape.ball import Box
    from landscape.nearby import normal

    size, seed, like = centre.nearby.size, centre.rules.seed, centre.slope
    _, fields = _climbs(centre, [Box(rho) for rho in radii.tolist()])
    mean, error = _average(centre, radii, lambda k: normal(size, seed, k).to(like))
    found = {f"box_{key}": values for key, values in fields.items()} | {"gaussian": mean, "gaussian_error": error}
    return found | {"gradient_sum": np.array(float(centre.slope.double().abs().sum()))}


def _average(centre: Centre, radii: Array, draw: Draw) -> tuple[Array, Array]:
    """Mean rise and its standard error at each radius, shape (R,)."""
    from landscape.nearby import average_rise

    found = np.array([average_rise(centre.nearby, rho, centre.rules.pairs, draw) for rho in radii.tolist()])
    return found[:, 0], found[:, 1]


def _climbs(centre: Centre, bodies: Sequence[Body]) -> tuple[list[Peak], dict[str, Array]]:
    """Climb in each body from each start, and last from the highest point of the body before.

    Before the first that is the centre: so no rise is negative, and none falls with the radius. Of the points of one
    body only the highest is kept.

    Args:
        centre: Where the bodies are.
        bodies: Each in the next.

    Returns:
        The highest point found in each, and fields of `Rise`: `worst`, `climbs`, `gap` and `rounding`.
    """
    from itertools import chain

    import torch

    from landscape.ball import Peak, climb

    rules, heights = centre.rules, []
    peaks: list[Peak] = []
    for body in bodies:
        before = peaks[-1].point if peaks else torch.zeros_like(centre.slope)
        best, reached = Peak(before, -math.inf, math.inf, 0), []
        for start in chain(map(body.farthest, centre.starts()), [before]):
            end = climb(centre.nearby, start, body, rules.steps, rules.tol)
            reached.append(end.height)
            best = max(best, end, key=lambda peak: peak.height)
        peaks.append(best)
        heights.append(reached)
    worst = np.array([peak.height for peak in peaks])
    rounding = centre.other.rounding(peaks, centre.nearby.scaled)
    gap = np.array([_part(peak.gap, peak.height) for peak in peaks])
    return peaks, {"worst": worst, "climbs": np.array(heights), "gap": gap, "rounding": rounding}


def _part(gap: float, height: float) -> float:
    """A gap as a part of the rise, infinite where that is 0 and the gap is not: the climb found nothing."""
    return gap / height if height > 0 else 0.0 if gap == 0 else math.inf


def _told(nearby: Nearby, peaks: Sequence[Peak], population: int, rules: Rules) -> dict[str, Array]:
    """What else is known of the highest points in theta, fields of shape (R,)."""
    import torch

    lengths = [float(torch.linalg.vector_norm(peak.point.double())) for peak in peaks]
    errors = [_sampling_error(nearby, peak, population, rules) for peak in peaks]
    return {"reach": np.array(lengths) / rules.radius, "sampling_error": np.array(errors)}


def _sampling_error(nearby: Nearby, peak: Peak, population: int, rules: Rules) -> float:
    """Standard error of the mean rise at a fixed step, for examples drawn without replacement.

    It does not contain the bias of a maximum that is taken over the same examples, which is upward.

    Args:
        nearby: The loss over the examples used.
        peak: The step.
        population: Examples they were drawn from.
        rules: Whether there was a draw.

    Returns:
        The error; 0 if all examples were used, NaN with batch statistics and for one example, which tells no spread.
    """
    if not rules.examples:
        return 0.0
    if rules.mode == "train" or len(nearby.objective.data) < 2:
        return math.nan
    rises = nearby.rises(peak.point)
    return float(rises.std()) * math.sqrt((1 - len(rises) / population) / len(rises))


def _bounded(surface: Surface, nearby: Nearby, peaks: Sequence[Peak], rules: Rules) -> dict[str, Array]:
    """The parts of the PAC-Bayes bound, fields of shape (R,); NaN where errors are no parts of one."""
    import torch

    from landscape.pacbayes import complexity

    if not surface.classifies:
        return {"worst_error": np.full(len(peaks), np.nan), "complexity": np.full(len(peaks), np.nan)}
    norm = float(torch.linalg.vector_norm(surface.flat.theta.double()))
    errors, n = surface.problem.task.errors, len(nearby.objective.data)
    delta = rules.delta / len(rules.radius)  # all of the bounds hold together, and so does the smallest
    return {
        "worst_error": np.array([float(nearby.each(peak.point, errors).mean()) for peak in peaks]),
        "complexity": np.array([complexity(nearby.size, n, norm, float(rho), delta) for rho in rules.radius]),
    }
