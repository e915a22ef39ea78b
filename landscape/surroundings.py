"""Measures the rise of the loss around the point where a surface is, a few fields of the result at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from landscape.result import Array
from landscape.search import Rules

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.ball import Peak
    from landscape.curvature import HessianOperator, Objective
    from landscape.nearby import Nearby
    from landscape.split import Split
    from landscape.surface import Surface


def measure(surface: Surface, rules: Rules) -> Iterator[dict[str, Any]]:
    """Measure around the point where a surface is, a few fields of `Rise` at a time.

    Args:
        surface: At a checkpoint, with the statistics that belong there; it comes back as it was.
        rules: What is searched.

    Yields:
        Values by the names of the fields, without the dimension of checkpoints.
    """
    import torch

    from landscape.curvature import HessianOperator, check_determinism
    from landscape.nearby import Nearby
    from landscape.scaling import ADAPTIVE, length, scaling

    objective, flat = rules.objective(surface), surface.flat
    hessian = HessianOperator(objective, rules.mode)
    check_determinism(hessian)
    loss, error = surface.scores()
    yield {"loss": loss, "error": error, "norm": float(torch.linalg.vector_norm(flat.theta.double()))}
    plain = Nearby(flat, objective, rules.mode)
    peaks, found = _ball(plain, hessian, rules.radius, rules)
    yield found | _told(plain, peaks, len(surface.problem.train), rules)
    yield _bounded(surface, plain, peaks, rules)
    chunked, made = _chunked(surface, objective, peaks, rules)
    yield chunked
    made += plain.evaluations
    adaptive = []
    for metric in ADAPTIVE:
        scale = scaling(metric, flat.theta, flat.layout)
        size = length(flat.theta, scale)
        nearby = Nearby(flat, objective, rules.mode, scale)
        adaptive.append(_ball(nearby, hessian, size * rules.parts, rules)[1] | {"length": np.array(size)})
        made += nearby.evaluations
    named = {key: key if key == "length" else f"adaptive_{key}" for key in adaptive[0]}
    yield {name: np.stack([each[key] for each in adaptive]) for key, name in named.items()} | {"evaluations": made}


def _ball(nearby: Nearby, hessian: HessianOperator, radii: Array, rules: Rules) -> tuple[list[Peak], dict[str, Array]]:
    """Worst and average case in balls of one metric, with slope and curvature there.

    Args:
        nearby: The loss around the point, in the metric.
        hessian: Of the same loss, in theta.
        radii: Radii in the metric, ascending, shape (R,).
        rules: Where climbs start, and how long they are.

    Returns:
        The highest point of each ball, and fields of `Rise`.
    """
    import torch

    from landscape.curvature import top_eigenpairs
    from landscape.nearby import average_rise, direction

    origin = torch.zeros(nearby.size, dtype=hessian.dtype, device=hessian.device)
    slope = nearby(origin)[1]
    pairs = top_eigenpairs(
        lambda z: nearby.scaled(hessian.product(nearby.scaled(z))), nearby.size, 1, seed=rules.seed,
        device=hessian.device, dtype=hessian.dtype,
    )  # fmt: skip
    v = pairs.vectors[0].to(origin)
    v = torch.where(v[v.abs().argmax()] < 0, -v, v)  # of two signs that with a positive largest entry
    random = [direction(nearby.size, rules.seed, -1 - k, origin) for k in range(rules.restarts)]
    peaks, heights = _climbs(nearby, [slope, v, -v, *random], radii, rules)
    average = np.array([average_rise(nearby, float(rho), rules.pairs, rules.seed, origin) for rho in radii])
    return peaks, {
        "gradient_norm": np.array(float(torch.linalg.vector_norm(slope.double()))),
        "eigenvalue": pairs.values[0],
        "residual": pairs.residuals[0],
        "worst": np.array([peak.height for peak in peaks]),
        "climbs": heights,
        "gap": np.array([peak.gap / peak.height if peak.height > 0 else math.nan for peak in peaks]),
        "average": average[:, 0],
        "average_error": average[:, 1],
    }


def _climbs(nearby: Nearby, starts: Sequence[Tensor], radii: Array, rules: Rules) -> tuple[list[Peak], Array]:
    """Climb in each ball from each start, and last from the highest point of the ball before.

    Before the first ball that is the centre: so no rise is negative, and none falls with the radius.

    Args:
        nearby: The loss around the point, in a metric.
        starts: Directions, shape (D,).
        radii: Radii in the metric, ascending, shape (R,).
        rules: How long climbs are.

    Returns:
        The highest point found in each ball, and the height of each climb, shape (R, S).
    """
    import torch

    from landscape.ball import climb

    peaks: list[Peak] = []
    heights = []
    for rho in map(float, radii):
        before = peaks[-1].point if peaks else torch.zeros_like(starts[0])
        points = [*(rho * _unit(start) for start in starts), before]
        ends = [climb(nearby, point, rho, rules.steps, rules.tol) for point in points]
        heights.append([end.height for end in ends])
        peaks.append(max(ends, key=lambda end: end.height))
    return peaks, np.array(heights)


def _unit(vector: Tensor) -> Tensor:
    """A vector over its length; zero stays zero."""
    import torch

    unit: Tensor = vector / torch.linalg.vector_norm(vector).clamp_min(torch.finfo(vector.dtype).tiny)
    return unit


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
        The error; 0 if all examples were used, NaN with batch statistics.
    """
    if not rules.examples or rules.mode == "train":
        return math.nan if rules.examples else 0.0
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
    return {
        "worst_error": np.array([float(nearby.each(peak.point, errors).mean()) for peak in peaks]),
        "complexity": np.array([complexity(nearby.size, n, norm, float(rho), rules.delta) for rho in rules.radius]),
    }


def _chunked(
    surface: Surface, objective: Objective, peaks: Sequence[Peak], rules: Rules
) -> tuple[dict[str, Array], float]:
    """Measure m-sharpness: each chunk climbs from its own SAM step and from the highest point of all examples.

    The second start makes the mean over chunks no smaller than the rise found for all of them.

    Args:
        surface: Where the point is.
        objective: The loss over all examples used.
        peaks: Its highest point in each ball.
        rules: The chunks' size, and how long climbs are.

    Returns:
        Fields of shape (R,), and the evaluations of all examples that it took.
    """
    blank = np.full(len(peaks), np.nan)
    if not rules.m:
        return {"chunked": blank, "chunked_error": blank}, 0.0
    found, sizes, made = [], [], 0.0
    for part in chunks(objective.data, rules.m):
        heights, evaluations = _chunk(surface, replace(objective, data=part), peaks, rules)
        found.append(heights)
        sizes.append(len(part))
        made += evaluations * len(part) / len(objective.data)
    error = np.std(found, axis=0, ddof=1) / math.sqrt(len(sizes)) if len(sizes) > 1 else blank
    return {"chunked": np.average(found, axis=0, weights=sizes), "chunked_error": error}, made


def _chunk(surface: Surface, objective: Objective, peaks: Sequence[Peak], rules: Rules) -> tuple[list[float], int]:
    """The largest rise found for one chunk in each ball, and the evaluations it took."""
    import torch

    from landscape.ball import climb
    from landscape.nearby import Nearby

    nearby = Nearby(surface.flat, objective, rules.mode)
    unit = _unit(nearby(torch.zeros_like(surface.flat.theta))[1])
    heights = []
    for rho, peak in zip(map(float, rules.radius), peaks, strict=True):
        ends = [climb(nearby, start, rho, rules.steps, rules.tol) for start in (rho * unit, peak.point)]
        heights.append(max(end.height for end in ends))
    return heights, nearby.evaluations


def chunks(data: Split, m: int) -> Iterator[Split]:
    """Cut data front to back into parts of m examples; a remainder of one joins the part before it.

    Args:
        data: What is cut.
        m: Examples in a part.

    Yields:
        The parts.
    """
    starts = list(range(0, len(data), m))
    if len(starts) > 1 and len(data) - starts[-1] == 1:
        starts.pop()
    for start, stop in zip(starts, [*starts[1:], len(data)], strict=True):
        yield replace(data, inputs=data.inputs[start:stop], targets=data.targets[start:stop])
