"""What all answers about a pair come to: which side of which valley, how sure, and what would change it.

A statement is made only where its own measurement supports it: a side where few random directions are as unequal, a
sharper one where the intervals of the eigenvalues lie apart, a better one where McNemar's test on the same test
images says so. All of it is about these two networks; what holds for their methods takes several seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analyses.connected import HIGH, has_hole, is_barrier, uncertain, within_sampling
from analyses.evidence import (
    CLEAR,
    LEVEL,
    SURE,
    before_minimum,
    chance,
    clear,
    contradicting,
    held_out_falls,
    no_valley,
    null_of,
    other_rules,
)
from analyses.pairs import strangers
from landscape.report import Finding
from landscape.rise import EQUAL, is_lost
from landscape.statistics.counts import mcnemar
from landscape.training.methods import labels
from landscape.valley import OK, STATUS
from landscape.wording import nats, number, plural

QUESTION = "What does the pair show?"


@dataclass(frozen=True)
class Remark:
    """One part of the verdict.

    Attributes:
        text: The statement.
        sure: What it rests on, with its uncertainty.
        open: What speaks against it or was not asked.
        sign: −1 or 1 where the second network is flatter or errs less, or sharper or errs more; 0 where not decided.
    """

    text: str
    sure: str
    open: tuple[str, ...] = ()
    sign: int = 0


def verdict(found: Mapping[str, Any]) -> Finding:
    """Put the answers about one pair together.

    Args:
        found: Results of the analyses by name, all of the same two checkpoints in one order; "distance", "asymmetry",
            "hessian", "sharpness", "interpolate" and "evaluate" are used, where they are there.

    Returns:
        The verdict in a few sentences; below it how sure each is and what would change it.
    """
    makers: dict[str, Callable[[Any], Remark | None]] = {
        "distance": strange,
        "asymmetry": side,
        "hessian": lambda r: sharper(r, found.get("sharpness")),
        "interpolate": barrier,
        "evaluate": better,
    }
    made = {name: make(found[name]) for name, make in makers.items() if name in found}
    remarks = {name: remark for name, remark in made.items() if remark}
    sentences = [remark.text for remark in remarks.values()]
    if "hessian" in remarks and "evaluate" in remarks:
        sentences.append(explained(remarks["hessian"], remarks["evaluate"], found["evaluate"].classifies))
    sure = [remark.sure for remark in remarks.values()]
    unsettled = [text for remark in remarks.values() for text in remark.open]
    unsettled.append("runs from other seeds: this is one pair")
    detail = [f"How sure: {'; '.join(sure)}", f"What would change it: {'; '.join(unsettled)}"]
    return Finding(QUESTION, ". ".join(sentences), "\n".join(detail))


def strange(r: Any) -> Remark | None:
    """That the two may number their units differently; nothing where they share a stem or were aligned."""
    if not strangers(r):
        return None
    text = "They share no known stem: what lies between them may mostly show how their units are numbered"
    return Remark(text, "no step of their training is known to be common", ("a renumbering (landscape align)",))


def side(r: Any) -> Remark:
    """On which side of the first network's valley the second lies."""
    a, b = labels(r.names, r.methods)
    ratio, what = float(r.log_ratio[0]), f"of {a}'s valley"
    if not math.isfinite(ratio):
        why = "the loss does not rise on both sides" if r.status[0] == OK else STATUS[int(r.status[0])]
        return Remark(f"On which side {what} {b} lies could not be measured", why)
    leaves = no_valley(r)
    if leaves:
        text = (
            f"{b} does not lie in one valley with {a}" if leaves.apart else f"On which side {what} {b} lies is not told"
        )
        return Remark(f"{text}: {leaves.why}", f"log rise ratio {number(ratio)}")
    null = null_of(r, 0)
    unequal, p = int((np.abs(null) >= abs(ratio)).sum()), chance(ratio, null)
    against = contradicting([r])
    told = clear(np.array([ratio]), r.log_ratio_error[:1], null) and not against
    sign = int(math.copysign(1, ratio)) if told else 0
    kind = {-1: "the flat", 1: "the steep", 0: "no clear"}[sign]
    short = before_minimum([r]) if told else ""
    speed = "slower" if ratio < 0 else "faster"
    rises = f"the loss rises {number(math.exp(abs(ratio)))} times {speed} than away from it"
    text = f"{b} lies on {kind} side {what}: toward it {rises}"
    if short:
        text = f"{a}'s valley is {'flatter' if ratio < 0 else 'steeper'} toward {b}: there {rises}; {short}"
    sure = (
        f"log rise ratio {number(ratio)}, and {unequal} of {len(null)} random directions are as unequal (p = {p:.2g})"
    )
    return Remark(text, sure, tuple(_against(r, ratio, told)), sign)


def _against(r: Any, ratio: float, told: bool) -> list[str]:
    """Other ways to measure the side that do not agree."""
    others = {
        "with weight decay": float(r.decayed_log_ratio[0]),
        "on the test loss": float(r.held_out_ratio[0]),
        **{f"with BatchNorm rule {rule}": value for rule, value in other_rules(r).items()},
    }
    found = [
        f"{how} the log rise ratio is {number(value)}"
        for how, value in others.items()
        if math.isfinite(value) and told and (value * ratio < 0 or abs(value) < CLEAR)
    ]
    falls = held_out_falls(r, 0) if told else ""
    if falls in {"on both sides", "behind" if ratio < 0 else "ahead"}:
        found.append(f"the test loss falls on {'both sides' if falls == 'on both sides' else 'the steep side'}")
    if len(set(r.rules)) == 1 and r.rules[0] != "none":
        found.append(f"another BatchNorm rule than {r.rules[0]}, which was not asked (asymmetry --batchnorm both)")
    return found


def sharper(r: Any, rises: Any | None = None) -> Remark:
    """Which network has the larger top eigenvalue, where the intervals lie apart, and whether scale-free forms agree.

    Args:
        r: Eigenvalues of both.
        rises: Sharpness of both in balls, or None.

    Returns:
        The remark.
    """
    a, b = labels(r.names, r.methods)
    low, high, value = (np.asarray(getattr(r, key))[:, 0] for key in ("interval_low", "interval_high", "eigenvalue"))
    if high[1] < low[0] or high[0] < low[1]:
        flat = int(high[1] < low[0])
        agree, against = _scale_free(rises, flat)
        if low[flat] <= 0:
            told = " against ".join(number(float(value[i])) for i in (flat, 1 - flat))
            text = f"{(a, b)[flat]} has the smaller λ₁, {told}: the loss there rises in no direction by curvature"
            return Remark(text, f"the intervals of λ₁ lie apart{agree}", against, -1 if flat else 1)
        bounds = f"[{number(float(low[1 - flat] / high[flat]))}, {number(float(high[1 - flat] / low[flat]))}]"
        factor = float(value[1 - flat] / value[flat])
        if factor < EQUAL:
            told = f"their λ₁ differ by a factor of {number(factor)}, in {bounds}"
            return Remark(f"{a} and {b} are about equally flat in λ₁", told)
        return Remark(
            f"{(a, b)[flat]} is {number(factor)} times flatter in λ₁ than {(a, b)[1 - flat]}",
            f"the intervals of λ₁ lie apart, ratio in {bounds}{agree}",
            against,
            -1 if flat else 1,
        )
    return Remark(
        f"{a} and {b} are not told apart by λ₁", "the intervals of λ₁ overlap", ("a smaller tolerance (hessian --tol)",)
    )


def _scale_free(rises: Any | None, flat: int) -> tuple[str, tuple[str, ...]]:
    """Whether the forms that no rescaling of the weights changes order the two as λ₁ does: what agrees, what does not.

    Args:
        rises: Sharpness of both in balls, or None.
        flat: Which of the two is the flatter one.

    Returns:
        Words for what it rests on, and for what speaks against it.
    """
    if rises is None:
        return "", ("a measure of sharpness that no rescaling of the weights changes (landscape sharpness)",)
    worst = np.asarray(rises.adaptive_worst)  # (M, A, Q)
    told = ~is_lost(worst, rises.adaptive_rounding).any(axis=0)
    if not told.any():
        return "", ("scale-free sharpness, which is lost in rounding (--dtype float64)",)
    same = (worst[flat] < worst[1 - flat])[told]
    forms = f"{' and '.join(rises.metrics)} sharpness, which no rescaling of the weights changes"
    if same.all():
        return f"; {forms}, orders them so at every radius", ()
    return "", (f"{forms}: it orders them so in {int(same.sum())} of {same.size} cases",)


def barrier(r: Any) -> Remark:
    """Whether the two lie in one valley."""
    height, between = float(r.barrier_loss[0]), float(r.barrier_loss_between[0])
    unit = nats(r, " {}")
    if not math.isfinite(height):
        return Remark("Whether a barrier lies between them could not be measured", "the loss of an end is not finite")
    if within_sampling(r):
        rise = f"the error rises by {100 * float(r.barrier_error[0]):.3g} points, no more than its sampling error"
        return Remark("Whether a barrier lies between them is not decided", rise, ("more training examples",))
    one = not is_barrier(r)
    if one and has_hole(r):
        return Remark(
            "Whether a barrier lies between them is not decided", "the loss was not computed everywhere there"
        )
    text = "No barrier lies between them" if one else f"A barrier of {number(height)}{unit} lies between them"
    if r.classifies and one and height > max(HIGH, uncertain(r)):
        text = f"No barrier of the error lies between them, but one of {number(height)} nats in the loss"
    return Remark(
        text,
        f"largest rise above the chord {number(height)}{unit}, uncertain by {number(between)} between points",
        () if one else ("a renumbering of units, if they share no stem (landscape align)",),
    )


def better(r: Any) -> Remark:
    """Which network errs less on the test data, by McNemar's test."""
    a, b = labels(r.names, r.methods)
    if not r.classifies:
        return _lower(r, a, b)
    first, second = int(r.only_wrong[0, 1]), int(r.only_wrong[1, 0])
    test = mcnemar(first, second)
    p = min(1.0, 2 * min(test.above, test.below))
    apart = 100 * float(r.error[1, 1] - r.error[0, 1])
    counts = f"{plural(first, 'test example')} only {a} gets wrong, {second} only {b} (McNemar, p = {p:.2g})"
    if p > LEVEL:
        return Remark(
            f"Their test errors are not told apart ({apart:+.2g} points)".replace("-", "−"),
            counts,
            ("more test examples",),
        )
    return Remark(f"{b if apart < 0 else a} errs less, by {abs(apart):.2g} points", counts, (), -1 if apart < 0 else 1)


def _lower(r: Any, a: str, b: str) -> Remark:
    """Which of two regressions has the lower test loss, from the differences of the same examples."""
    apart, error = float(r.loss[1, 1] - r.loss[0, 1]), float(r.apart_error[0, 1])
    told = f"{a} {number(float(r.loss[0, 1]))}, {b} {number(float(r.loss[1, 1]))}, apart {number(apart)}"
    told += f" ± {number(error)} by the same test examples"
    if not abs(apart) > SURE * error:
        return Remark("Their test losses are not told apart", told, ("more test examples",))
    return Remark(f"{b if apart < 0 else a} has the lower test loss", told, (), -1 if apart < 0 else 1)


def explained(sharpness: Remark, error: Remark, classifies: bool = True) -> str:
    """Whether the flatter network is the better one."""
    if not sharpness.sign or not error.sign:
        what = "errors" if classifies else "losses"
        return f"So flatness explains no difference of test {what} that is shown here"
    better, worse = ("errs less", "errs more") if classifies else ("has the lower loss", "has the higher loss")
    if sharpness.sign == error.sign:
        return f"The flatter one {better}, as flatness would have it"
    return f"The flatter one {worse}: flatness does not explain it"
