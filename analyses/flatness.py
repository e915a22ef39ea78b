"""Rises around checkpoints in words: who is flatter, what explains it, and whether it orders the test errors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from landscape.result import Array
from landscape.rise import Rise
from landscape.wording import number, seeds, spread

EXPLAINED = (0.45, 1.1)  # of ρ‖∇L‖ + ½ρ²λ₁: a convex quadratic reaches half of it at least, and all of it at most


def words(*results: Rise) -> tuple[str, str]:
    """Who is flatter and by what factor, whether slope and curvature explain it, and whether it orders test errors.

    Args:
        *results: One result for each seed.

    Returns:
        The answer at the middle radius, and the rest.
    """
    first, own = results[0], results[0].own
    names, middle = first.labels[:own], len(first.radius) // 2
    worst = np.array([r.worst[:own] for r in results])  # (S, M, R)
    at = worst[:, :, middle]
    rho = f"{first.radius[middle]:g}"
    told = "; ".join(f"{names[i]} {spread(at[:, i])}" for i in np.argsort(at.mean(0), kind="stable"))
    detail = [f"Largest rise found at ρ = {rho}, in nats: {told}", _explained(results)]
    if own == 1:
        answer = f"Within ρ = {rho} the loss rises by {spread(at[:, 0], 'nats')} or more{seeds(len(results))}"
    else:
        flat, sharp = int(np.argmin(at.mean(0))), int(np.argmax(at.mean(0)))
        factor = _over(at[:, sharp], at[:, flat])
        sure = "" if len(results) == 1 else f" in {int((factor > 1).sum())} of {len(results)} seeds"
        answer = f"{names[flat]} is {spread(factor)} times flatter than {names[sharp]} at ρ = {rho}{sure}"
        ratios = _over(worst[:, sharp], worst[:, flat]).mean(0)
        others = [f"{number(x)} at {r:g}" for x, r in zip(ratios, first.radius, strict=True)]
        detail += [f"Factor by ρ: {', '.join(others)}", _ordered(results)]
    return answer, ". ".join([*detail, *_vacuous(results)])


def _explained(results: Sequence[Rise]) -> str:
    """Up to which radius slope and λ₁ tell the rise, and by how much it differs at the largest."""
    ratio = np.array([_over(r.worst, r.linear + r.quadratic)[: r.own] for r in results])  # (S, M, R)
    low, high = EXPLAINED
    within = np.logical_and(ratio >= low, ratio <= high).reshape(-1, ratio.shape[-1]).all(0)
    fine = int(np.argmin(np.append(within, False)))  # radii before the first at which it does not hold
    radius = results[0].radius
    if fine == len(radius):
        return f"Slope and λ₁ explain it up to ρ = {radius[-1]:g}"
    most = f"at ρ = {radius[-1]:g} it is {spread(ratio[:, :, -1].ravel())} times ρ‖∇L‖ + ½ρ²λ₁"
    if fine == 0:
        return f"Slope and λ₁ explain it at no radius: {most}"
    return f"Slope and λ₁ explain it up to ρ = {radius[fine - 1]:g}; {most}"


def _over(a: Array, b: Array) -> Array:
    """Quotients; 1 where both are 0, NaN where the divisor alone is."""
    return np.divide(a, b, out=np.where(a == 0, 1.0, np.nan), where=b > 0)


def _ordered(results: Sequence[Rise]) -> str:
    """Which forms order how many pairs of checkpoints as their test errors."""
    what = "errors" if results[0].classifies else "losses"
    agreeing: dict[str, int] = {}
    total = 0
    for r in results:
        target = (r.error if r.classifies else r.loss)[:, 1]
        pairs = [(i, j) for i, j in combinations(range(r.own), 2) if target[i] != target[j]]
        total += len(pairs)
        for name, form in r.forms.items():
            right = sum(bool((form[i] < form[j]) == (target[i] < target[j])) for i, j in pairs)
            agreeing[name] = agreeing.get(name, 0) + right
    if not total:
        return f"Test {what} are equal: there is no order to explain"
    counts = sorted(set(agreeing.values()), reverse=True)
    groups = [(n, [name for name, count in agreeing.items() if count == n]) for n in counts]
    told = [f"{n} of {total} by {'every form' if len(groups) == 1 else ', '.join(names)}" for n, names in groups]
    return f"Pairs whose test {what} are ordered right: {'; '.join(told)}"


def _vacuous(results: Sequence[Rise]) -> list[str]:
    """What the PAC-Bayes bound says, if it says anything."""
    if not results[0].classifies:
        return ["The PAC-Bayes bound needs a loss in [0, 1]"]
    bound = np.array([r.bound[: r.own] for r in results])
    least = number(float(bound.min()))
    if bound.min() >= 1:
        return [f"PAC-Bayes bound on the test error: {least} or more, vacuous"]
    return [f"PAC-Bayes bound on the test error: {least} at best, with the error found in the ball"]


def listing(result: Rise) -> list[str]:
    """Each form at its middle radius with what tells how far to trust it, generalization gaps, and rescaled copies."""
    r, told = result, []
    theta, part = len(r.radius) // 2, len(r.relative) // 2
    for i, name in enumerate(r.labels[: r.own]):
        rho = f"{r.radius[theta]:g}"
        beside = [f"ρ‖∇L‖ + ½ρ²λ₁ {number(r.linear[i, theta])} + {number(r.quadratic[i, theta])}"]
        beside.append(f"average {number(r.average[i, theta])} ± {number(r.average_error[i, theta])}")
        if r.m:
            beside.append(f"m-sharpness {number(r.chunked[i, theta])}")
        if r.sampling_error[i, theta] > 0:
            beside.append(f"sampling error {number(r.sampling_error[i, theta])}")
        found = _found(r.worst[i, theta], r.climbs[i, theta], r.starts)
        told.append(f"{name} ρ = {rho}: {found}, gap {number(r.gap[i, theta])}; {', '.join(beside)}")
        for a, metric in enumerate(r.metrics):
            found = _found(r.adaptive_worst[i, a, part], r.adaptive_climbs[i, a, part], r.starts)
            mean = f"{number(r.adaptive_average[i, a, part])} ± {number(r.adaptive_average_error[i, a, part])}"
            told.append(f"{name} {metric} {100 * r.relative[part]:g} %: {found}; average {mean}")
        told += _boxes(r, i)
    return told + _gaps(r) + _copies(r)


def _boxes(r: Rise, i: int) -> list[str]:
    """Boxes and Gaussian steps at their middle radius, in theta and relative to each weight."""
    box, part = len(r.box) // 2, len(r.relative) // 2
    plain = _found(r.box_worst[i, box], r.box_climbs[i, box], r.starts)
    relative = _found(r.adaptive_box_worst[i, part], r.adaptive_box_climbs[i, part], r.starts)
    slope = number(r.box[box] * r.gradient_sum[i])
    means = [
        f"Gaussian {number(float(mean))} ± {number(float(error))}"
        for mean, error in (
            (r.gaussian[i, box], r.gaussian_error[i, box]),
            (r.adaptive_gaussian[i, part], r.adaptive_gaussian_error[i, part]),
        )
    ]
    name = r.labels[i]
    return [
        f"{name} box ±{r.box[box]:g}: {plain}, gap {number(r.box_gap[i, box])}; ρ‖∇L‖₁ {slope}, {means[0]}",
        f"{name} elementwise box ±{100 * r.relative[part]:g} %: {relative}; {means[1]}",
    ]


def _found(worst: float, climbs: Array, starts: Sequence[str]) -> str:
    """The largest rise, where its climb began, and the lowest end of a climb."""
    return f"{number(float(worst))} from {starts[int(climbs.argmax())]}, climbs {number(float(climbs.min()))} and up"


def _gaps(r: Rise) -> list[str]:
    """Generalization gaps and bounds."""
    told = []
    for i, name in enumerate(r.labels[: r.own]):
        loss = number(float(r.loss[i, 1] - r.loss[i, 0]))
        error = f", error {100 * (r.error[i, 1] - r.error[i, 0]):+.2f} points" if r.classifies else ""
        told.append(f"{name} generalization gap: loss {loss} nats{error}")
    return told


def _copies(r: Rise) -> list[str]:
    """By what factor each measure of a rescaled copy differs: 1 where it is invariant."""
    told = []
    values = {"λ₁": r.eigenvalue, **r.forms}
    for i in range(len(r.names) - r.own):
        beside = [f"{name} {number(v[i])} → {number(v[r.own + i])}" for name, v in values.items()]
        told.append(f"{r.labels[i]} and the same network rescaled ×{r.rescale:g}: {', '.join(beside)}")
    return told
