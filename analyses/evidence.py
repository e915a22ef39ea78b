"""What a measured asymmetry bears out: one valley or not, which side is flat, and how unusual that is.

A side is named only where the line is one valley, the two sides differ by a factor of two, by more than the sample of
examples explains, and by more than 19 in 20 random directions do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from landscape.asymmetric import FLOOR
from landscape.result import Array
from landscape.training.methods import labels
from landscape.wording import nats, number, spread

if TYPE_CHECKING:
    from landscape.asymmetry import Asymmetry

CLEAR = math.log(2)
"""Smallest log rise ratio that is called a side: one side rises twice as much."""
LEVEL = 0.05
"""Part of random directions, the one at hand counted with them, that may be as unequal."""
SURE = 1.959964
"""Standard errors that a log rise ratio must differ from zero by."""
RESOLUTION = 0.05
"""Log ratios closer to 0 say nothing: minimum and radius are known to a few per cent."""
DIP = 0.01
"""Depth of a fall of the loss, as a part of its mean rise at r, from which on it parts two valleys."""


class Leaves(NamedTuple):
    """Why a line is no single valley.

    Attributes:
        apart: Whether the other checkpoint lies in another valley; else only r reaches too far or not far enough.
        why: The reason in words.
    """

    apart: bool
    why: str


def null_of(r: Asymmetry, line: int, family: str = "Gaussian") -> Array:
    """Log rise ratios of a family under the rule of one line, those that were found."""
    values = _asked(r, line, family)
    found: Array = values[np.isfinite(values)]
    return found


def _asked(r: Asymmetry, line: int, family: str) -> Array:
    """The same with NaN for directions along which there is no ratio."""
    rule = r.rules[line]
    chosen = [f == family and own == rule for f, own in zip(r.null_family, r.null_rule, strict=True)]
    found: Array = r.null_ratio[np.array(chosen, dtype=bool)]
    return found


def held_out_falls(r: Asymmetry, line: int) -> str:
    """Where the test loss falls from the minimum of the training loss to ±r, so that its rises have no ratio.

    Args:
        r: The result.
        line: Which of its lines.

    Returns:
        "ahead", "behind" or "on both sides", or "" where it rises on both or is not known.
    """
    back, middle, ahead = r.held_out[line, [0, len(r.part) // 2, -1]]
    return {(True, True): "on both sides", (True, False): "behind", (False, True): "ahead"}.get(
        (bool(back < middle), bool(ahead < middle)), ""
    )


def lost(r: Asymmetry, line: int) -> int:
    """How many Gaussian directions have no ratio."""
    return len(_asked(r, line, "Gaussian")) - len(null_of(r, line))


def extremity(r: Asymmetry, line: int) -> tuple[int, int]:
    """How many Gaussian directions are less asymmetric, either way, than a line; and how many there are."""
    null = np.abs(null_of(r, line))
    return int((null < abs(r.log_ratio[line])).sum()), len(null)


def chance(ratio: float, null: Array) -> float:
    """Part of the random directions and this one that are at least as unequal: p of a permutation test.

    Args:
        ratio: Log rise ratio.
        null: Those of random directions, shape (M,).

    Returns:
        p in (0, 1]; 1 without random directions.
    """
    return (1 + int((np.abs(null) >= abs(ratio)).sum())) / (1 + len(null))


def clear(ratios: Array, errors: Array, null: Array) -> bool:
    """Whether one side is flat: all runs agree on which, and their mean is large, surely not 0, and unusual.

    Args:
        ratios: Log rise ratios of the runs, finite, shape (S,).
        errors: Their standard errors due to the sample, shape (S,); with one that is NaN no side is named.
        null: Log rise ratios of random directions, shape (M,).

    Returns:
        Whether to name a side.
    """
    mean = float(ratios.mean())
    error = float(np.sqrt(np.square(errors).sum())) / len(errors)
    same = bool((np.sign(ratios) == np.sign(mean)).all())
    return same and abs(mean) >= CLEAR and abs(mean) >= SURE * error and chance(mean, null) <= LEVEL


def flat_side(r: Asymmetry, line: int = 0) -> tuple[Array, Array]:
    """The map of c* with the flat side ahead, and its lower bound, shape (R, Z) each."""
    if r.log_ratio[line] < 0:
        return r.c[line], r.c_low[line]
    return r.c_back[line], r.c_back_low[line]


def no_valley(r: Asymmetry) -> Leaves | None:
    """Why the first line is no single valley with all checkpoints in it; None if it is one.

    The loss must rise from the minimum to both ends of r, and where there is another checkpoint also all the way to it.
    A fall counts if it is deeper than `DIP` of the rise at r and its slope has the wrong sign by `FLOOR` errors. A
    checkpoint beyond r that is lower than the wall at r lies in another valley.

    Args:
        r: What was measured, with a first line that has a log rise ratio.

    Returns:
        The reason.
    """
    here, there = -float(r.centre[0]), float(r.distance - r.centre[0])  # NaN if there is no other
    rise, offset = r.loss[0] - r.loss[0, r.loss.shape[1] // 2], r.offset[0]
    least = DIP * (rise[0] + rise[-1]) / 2
    if abs(there) > r.radius[0] * (1 + 1e-9):
        return _beyond(r, there, float(rise[-1 if there > 0 else 0]), least)
    for place, height in zip((here, there), r.height, strict=False):
        wall = float(rise[(offset * place >= 0) & (np.abs(offset) <= abs(place))].max(initial=0.0))
        if wall - height > least:
            where = "between the two" if len(r.names) > 1 else "on the way to the minimum"
            return Leaves(True, f"{where} the loss rises to {number(wall)}{nats(r, ' {}')} above the minimum")
    falls = _falls(r, least)
    if not falls.size:
        return None
    low, high = np.nanmin([0.0, here, there]), np.nanmax([0.0, here, there])
    if len(r.names) > 1 and not ((falls > low) & (falls < high)).any():
        nearest = float(falls[np.abs(falls).argmin()])
        return Leaves(False, f"the loss falls again before r, at {number(nearest)}, though not between the two")
    return Leaves(True, "the loss falls again before r")


def before_minimum(results: Sequence[Asymmetry]) -> str:
    """Whether the other checkpoint is short of the minimum on the line, so that it is on no side of it that is ahead.

    Args:
        results: One for each run, all with another checkpoint.

    Returns:
        How far it is short of it, with weight decay too, in words; "" where it has passed it in every run.
    """
    places = [float(r.distance - r.centre[0]) for r in results]
    short = [-place for place in places if place < 0]
    if not short:
        return ""
    decayed = [float(r.distance - r.decayed_centre[0]) for r in results]
    part = "" if len(short) == len(results) else f" in {len(short)} of {len(results)} runs"
    passed = f", {spread(decayed)} past that of the loss with weight decay" if min(decayed) > 0 else ""
    other = labels(results[0].names, results[0].methods)[1]
    return f"{other} itself is {spread(short)} short of the minimum{part}{passed}"


def _beyond(r: Asymmetry, place: float, wall: float, least: float) -> Leaves:
    """What it means that the other checkpoint is farther from the minimum than r, where the loss is a wall's."""
    other, radius = labels(r.names, r.methods)[1], number(float(r.radius[0]))
    at = f"at {number(place)}, {number(float(r.height[1]))}{nats(r, ' {}')} above the minimum"
    if wall - r.height[1] > least:
        return Leaves(True, f"{other} lies {at}, beyond the wall of {number(wall)} at r = {radius}")
    return Leaves(False, f"{other} lies {at}, beyond r = {radius} (a larger --rise or --radius reaches it)")


def _falls(r: Asymmetry, least: float) -> Array:
    """Places on the first line, from its minimum, where the loss begins to fall away from it by more than a depth."""
    floor = FLOOR * math.hypot(float(r.rounding[0]), float(np.nan_to_num(r.sampling[0])))
    found = []
    for sign in (-1, 1):
        side = np.argsort(sign * r.offset[0])[len(r.offset[0]) // 2 :]  # from the minimum outward
        loss, slope = r.loss[0, side], sign * r.slope[0, side]
        for i in np.flatnonzero(slope < -floor):
            higher = np.flatnonzero(loss[i:] > loss[i])
            if loss[i] - loss[i : i + higher[0] if higher.size else None].min() > least:
                found.append(r.offset[0, side[i]])
    return np.array(found)


def other_rules(r: Asymmetry) -> dict[str, float]:
    """Log rise ratio of the first direction under every BatchNorm rule but the first."""
    first = r.directions[0].removesuffix(f" ({r.rules[0]})")
    return {
        rule: float(ratio)
        for name, rule, ratio in zip(r.directions, r.rules, r.log_ratio, strict=True)
        if rule != r.rules[0] and name == f"{first} ({rule})" and math.isfinite(ratio)
    }


def contradicting(results: Sequence[Asymmetry]) -> dict[str, float]:
    """Rules under which the mean over runs names the other side, by more than `RESOLUTION`, with that mean."""
    mean = float(np.nanmean([r.log_ratio[0] for r in results]))
    rules = dict.fromkeys(rule for r in results for rule in other_rules(r))
    means = {rule: float(np.mean([o[rule] for o in map(other_rules, results) if rule in o])) for rule in rules}
    return {rule: value for rule, value in means.items() if value * mean < 0 and abs(value) > RESOLUTION}
