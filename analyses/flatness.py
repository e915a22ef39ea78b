"""Rises around checkpoints in words: who is flatter, what explains it, and whether it orders the test errors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from landscape.result import Array
from landscape.rise import EQUAL, Rise, is_lost
from landscape.wording import nats, number, seeds, spread

EXPLAINED = (0.45, 1.1)  # of ρ‖∇L‖ + ½ρ²λ₁: a convex quadratic reaches half of it at least, and all of it at most
LEVEL = 1.96  # standard errors: 5 %, two-sided
REMEDY = "use --dtype float64 or larger radii"


def words(*results: Rise) -> tuple[str, str]:
    """Who is flatter and by what factor, whether slope and curvature explain it, and whether it orders test errors.

    Args:
        *results: One result for each seed.

    Returns:
        The answer at the middle one of the radii whose rises are usable, and the rest.
    """
    first, own = results[0], results[0].own
    worst = np.array([r.worst[:own] for r in results])  # (S, M, R)
    usable = np.flatnonzero(np.all([r.usable[:own] for r in results], axis=(0, 1)))
    doubts = [*_unusable(results), *_vacuous(results)]
    if not len(usable):
        what = "How far the loss rises" if own == 1 else "Which is flatter"
        return f"{what} is not told: at no ρ was a rise found that is more than rounding", ". ".join(doubts)
    place = int(min(usable, key=lambda k: (abs(int(k) - len(first.radius) // 2), -k)))
    at, rho = worst[:, :, place], f"{first.radius[place]:g}"
    told = "; ".join(f"{first.labels[i]} {spread(at[:, i])}" for i in np.argsort(at.mean(0), kind="stable"))
    detail = [f"Largest rise found at ρ = {rho}{nats(first, ', in {}')}: {told}", _explained(results, usable)]
    if own == 1:
        answer = f"Within ρ = {rho} the loss rises by {spread(at[:, 0], nats(first))} or more{seeds(len(results))}"
    else:
        flat, sharp = np.argsort(at.mean(0), kind="stable")[[0, -1]].tolist()
        pair = worst[:, [flat, sharp]][:, :, usable]
        names = first.labels[flat], first.labels[sharp]
        answer = _flatter(names, pair, first.radius[usable], usable.tolist().index(place))
        others = [
            f"{number(x)} at {r:g}" for x, r in zip(_factors(pair[:, 0], pair[:, 1]), first.radius[usable], strict=True)
        ]
        detail += [f"Factor by ρ: {', '.join(others)}", _ordered(results)]
    return answer, ". ".join([*detail, *doubts])


def _flatter(names: tuple[str, str], pair: Array, radius: Array, place: int) -> str:
    """Which of two checkpoints is flatter, or that this depends on ρ, or that they are about equally flat.

    Args:
        names: Of the flatter at the place, and of the sharper.
        pair: Their largest rises at the usable radii, shape (S, 2, K).
        radius: These radii, ascending, shape (K,).
        place: At which of them the answer is.

    Returns:
        The answer, one sentence.
    """
    mean, at, rho = pair.mean(0), pair[:, :, place], f"{radius[place]:g}"
    clear = [k for k in range(len(radius)) if mean[:, k].max() > EQUAL * mean[:, k].min()]
    groups = [[k for k in clear if mean[i, k] == mean[:, k].min()] for i in (0, 1)]
    both = " and ".join(names)
    if not clear and not at.any():
        return f"{both} are not told apart: no rise was found at ρ = {rho}"
    if not clear:
        return f"{both} are about equally flat at ρ = {rho}: a factor of {number(_factors(*mean[:, [place]])[0])}"
    if all(groups) or place not in clear:
        neither = [] if all(groups) else [k for k in range(len(radius)) if k not in clear]
        parts = zip((*names, "neither"), (*groups, neither), strict=True)
        told = ", ".join(f"{name} at {_places(radius, group)}" for name, group in parts if group)
        return f"Which is flatter depends on ρ: {told}"
    sure = "" if len(pair) == 1 else f" in {int((at[:, 1] > at[:, 0]).sum())} of {len(pair)} seeds"
    if not at[:, 0].all():
        return f"{names[0]} is flatter than {names[1]} at ρ = {rho}{sure}: no rise was found around it"
    return f"{names[0]} is {spread(at[:, 1] / at[:, 0])} times flatter than {names[1]} at ρ = {rho}{sure}"


def _places(radius: Array, group: list[int]) -> str:
    """Radii in words: "0.01 to 0.05" where they are neighbours."""
    if len(group) > 1 and group[-1] - group[0] == len(group) - 1:
        return f"{radius[group[0]]:g} to {radius[group[-1]]:g}"
    return ", ".join(f"{radius[k]:g}" for k in group)


def _unusable(results: Sequence[Rise]) -> list[str]:
    """At which radii the rise is lost in rounding, and at which none was found though there is a slope."""
    radius, own = results[0].radius, results[0].own
    lost = np.any([r.lost[:own] for r in results], axis=(0, 1))
    empty = np.any([r.worst[:own] == 0 for r in results] & ~np.isfinite([r.gap[:own] for r in results]), axis=(0, 1))
    told = []
    if lost.any():
        told.append(f"The rise is lost in rounding at ρ = {_listed(radius[lost])}: {REMEDY}")
    if (empty & ~lost).any():
        told.append(f"No rise was found at ρ = {_listed(radius[empty & ~lost])}, though the loss has a slope")
    return told


def _listed(radii: Array) -> str:
    return ", ".join(f"{rho:g}" for rho in radii)


def _explained(results: Sequence[Rise], usable: Array) -> str:
    """Up to which of the usable radii slope and λ₁ tell the rise, and by how much it differs at the largest."""
    ratio = np.array([_over(r.worst, r.linear + r.quadratic)[: r.own, usable] for r in results])  # (S, M, K)
    low, high = EXPLAINED
    within = np.logical_and(ratio >= low, ratio <= high).reshape(-1, ratio.shape[-1]).all(0)
    fine = int(np.argmin(np.append(within, False)))  # radii before the first at which it does not hold
    radius = results[0].radius[usable]
    if fine == len(radius):
        return f"Slope and λ₁ explain it up to ρ = {radius[-1]:g}"
    most = f"at ρ = {radius[-1]:g} it is {spread(ratio[:, :, -1].ravel())} times ρ‖∇L‖ + ½ρ²λ₁"
    if fine == 0:
        return f"Slope and λ₁ explain it at no radius: {most}"
    return f"Slope and λ₁ explain it up to ρ = {radius[fine - 1]:g}; {most}"


def _factors(flat: Array, sharp: Array) -> Array:
    """By what factor one rises more than the other at each radius, mean over seeds: of rises (S, K), shape (K,)."""
    factors: Array = np.atleast_2d(_over(sharp, flat)).mean(0)
    return factors


def _over(a: Array, b: Array) -> Array:
    """Quotients; 1 where both are 0, NaN where the divisor alone is."""
    return np.divide(a, b, out=np.where(a == 0, 1.0, np.nan), where=b > 0)


def _ordered(results: Sequence[Rise]) -> str:
    """Which forms order how many pairs of checkpoints as their test errors; ties and lost rises take no part."""
    if not results[0].classifies:
        return "Whether any form orders the test losses of a regression is not tested"
    counts: dict[str, tuple[int, int]] = {}
    pairs = [told_apart(r) for r in results]
    if not any(pairs):
        return "Test errors are not told apart: there is no order to explain"
    for r, apart in zip(results, pairs, strict=True):
        target = r.error[:, 1]
        for name, form in r.forms.items():
            lost = r.blurred.get(name, np.zeros(len(form), bool))
            clear = [(i, j) for i, j in apart if form[i] != form[j] and not (lost[i] or lost[j])]
            right = sum(bool((form[i] < form[j]) == (target[i] < target[j])) for i, j in clear)
            before = counts.get(name, (0, 0))
            counts[name] = before[0] + right, before[1] + len(clear)
    groups: dict[tuple[int, int], list[str]] = {}
    for name, count in counts.items():
        groups.setdefault(count, []).append(name)
    ranked = sorted((count for count in groups if count[1]), key=lambda count: (-count[0] / count[1], -count[1]))
    if not ranked:
        return "No form tells the pairs apart whose test errors differ"
    told = [f"{n} of {of} by {'every form' if len(groups) == 1 else ', '.join(groups[n, of])}" for n, of in ranked]
    return f"Pairs whose test errors are ordered right: {'; '.join(told)}"


def told_apart(r: Rise) -> list[tuple[int, int]]:
    """Pairs of checkpoints whose test errors differ by more than chance; none of a regression.

    Two errors p, q of n examples each differ where |p − q| > 1.96 √(p(1 − p)/n + q(1 − q)/n), the standard error of two
    independent samples. Both are of the same examples, on which networks mostly err alike: that only makes the
    difference surer, so this is conservative.

    Args:
        r: One result.

    Returns:
        Places of the two in each pair, copies left out.
    """
    pairs = list(combinations(range(r.own), 2))
    if not r.classifies:
        return []
    p = r.error[:, 1]
    variance = p * (1 - p) / r.test_examples
    return [(i, j) for i, j in pairs if abs(p[i] - p[j]) > LEVEL * np.sqrt(variance[i] + variance[j])]


def _vacuous(results: Sequence[Rise]) -> list[str]:
    """What the PAC-Bayes bound says, if it says anything; one below 1 counts only where the climb came to a top."""
    if not results[0].classifies:
        return ["The PAC-Bayes bound needs a loss in [0, 1]"]
    bound = np.array([r.bound[: r.own] for r in results])
    found = bound[np.array([r.converged[: r.own] for r in results])]
    if bound.min() >= 1:
        return [f"PAC-Bayes bound on the test error: {number(float(bound.min()))} or more, vacuous"]
    if found.size and found.min() < 1:
        return [
            f"PAC-Bayes bound on the test error: {number(float(found.min()))} at best, with the error found in the ball"
        ]
    return ["PAC-Bayes bound on the test error: not told, the search for the worst step did not converge"]


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
        found = _found(r, "", (i, theta))
        told.append(f"{name} ρ = {rho}: {found}, gap {number(r.gap[i, theta])}; {', '.join(beside)}")
        for a, metric in enumerate(r.metrics):
            found = _found(r, "adaptive_", (i, a, part))
            mean = f"{number(r.adaptive_average[i, a, part])} ± {number(r.adaptive_average_error[i, a, part])}"
            told.append(f"{name} {metric} {100 * r.relative[part]:g} %: {found}; average {mean}")
        told += _boxes(r, i)
    return told + _gaps(r) + _copies(r)


def _boxes(r: Rise, i: int) -> list[str]:
    """Boxes and Gaussian steps at their middle radius, in theta and relative to each weight."""
    box, part = len(r.box) // 2, len(r.relative) // 2
    plain, relative = _found(r, "box_", (i, box)), _found(r, "adaptive_box_", (i, part))
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


def _found(r: Rise, body: str, at: tuple[int, ...]) -> str:
    """The largest rise of one body, where its climb began, the lowest end of a climb, and whether it is rounding."""
    worst, climbs, rounding = (getattr(r, f"{body}{name}")[at] for name in ("worst", "climbs", "rounding"))
    told = f"{number(float(worst))} from {r.starts[int(climbs.argmax())]}, climbs {number(float(climbs.min()))} and up"
    return told + (f", lost in rounding of {number(float(rounding))}: {REMEDY}" if is_lost(worst, rounding) else "")


def _gaps(r: Rise) -> list[str]:
    """Generalization gaps and bounds."""
    told = []
    for i, name in enumerate(r.labels[: r.own]):
        loss = number(float(r.loss[i, 1] - r.loss[i, 0]))
        error = f", error {100 * (r.error[i, 1] - r.error[i, 0]):+.2f} points" if r.classifies else ""
        told.append(f"{name} generalization gap: loss {loss}{nats(r, ' {}')}{error}")
    return told


def _copies(r: Rise) -> list[str]:
    """By what factor each measure of a rescaled copy differs: 1 where it is invariant."""
    told = []
    values = {"λ₁": r.eigenvalue, **r.forms}
    for i in range(len(r.names) - r.own):
        beside = [f"{name} {number(v[i])} → {number(v[r.own + i])}" for name, v in values.items()]
        told.append(f"{r.labels[i]} and the same network rescaled ×{r.rescale:g}: {', '.join(beside)}")
    return told
