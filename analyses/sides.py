"""What is said of asymmetric valleys: the words and lines of `analyses.asymmetry`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from analyses.evidence import (
    LEVEL,
    before_minimum,
    clear,
    contradicting,
    extremity,
    flat_side,
    held_out_falls,
    lost,
    no_valley,
    null_of,
    other_rules,
)
from landscape.result import Array
from landscape.training.methods import labels
from landscape.valley import OK, STATUS
from landscape.wording import number, spread

if TYPE_CHECKING:
    from landscape.asymmetry import Asymmetry


def words(*results: Asymmetry) -> tuple[str, str]:
    """On which side of the first one's valley the other lies, over seeds.

    Args:
        *results: One result for each seed.

    Returns:
        The answer, and the numbers with the Gaussian null and the strict definition.
    """
    first = results[0]
    usable = [r for r in results if np.isfinite(r.log_ratio[0])]
    null = np.concatenate([null_of(r, 0) for r in results])
    if not usable:
        why = STATUS[int(first.status[0])] if first.status[0] != OK else "the loss does not rise on both sides"
        return f"Not measured along '{first.directions[0]}': {why}", _null_words(usable, null)
    ratios = np.array([r.log_ratio[0] for r in usable])
    told = [f"Log rise ratio {_with_error(usable)}"]
    if len(usable) > 1:
        flat = float(ratios.mean()) < 0
        told[0] += f", {int(((ratios < 0) == flat).sum())} of {len(usable)} of one sign"
    told += [_beside("with weight decay", [r.decayed_log_ratio[0] for r in usable])]
    told += [_on_test_data(usable)]
    told += [_beside(f"with BatchNorm {rule}", [other_rules(r).get(rule, math.nan) for r in usable])
             for rule in other_rules(first)]  # fmt: skip
    radius = f"r = {spread([r.radius[0] for r in usable])}"
    return _answer(usable, null), f"{', '.join(told)}, {radius}. {_null_words(usable, null)}. {_strict(usable)}"


def _answer(results: Sequence[Asymmetry], null: Array) -> str:
    """Which side, if the numbers bear it out."""
    first = results[0]
    names = labels(first.names, first.methods)
    ratios, errors = (np.array([getattr(r, key)[0] for r in results]) for key in ("log_ratio", "log_ratio_error"))
    where = f"toward {names[1]}" if len(names) > 1 else f"along {first.directions[0]}"
    why = [reason for reason in map(no_valley, results) if reason]
    against = contradicting(results)
    if why:
        part = "" if len(why) == len(results) else f" in {len(why)} of {len(results)} runs"
        return f"No single valley {where}{part}: {why[0].why}, log ratio {spread(ratios)}"
    if not null.size:
        return f"Log ratio {spread(ratios)} {where}, compared with no random direction"
    if 1 / (1 + len(null)) > LEVEL:
        told = f"log ratio {spread(ratios)}, and {len(null)} random directions are too few to compare it with"
        return f"No side of {names[0]}'s valley is named {where}: {told}"
    if not clear(ratios, errors, null):
        return f"No clear side of {names[0]}'s valley {where}: log ratio {spread(ratios)}"
    if against:
        rule, ratio = next(iter(against.items()))
        told = f"log ratio {spread(ratios)} with {first.rules[0]}, {number(ratio)} with {rule}"
        return f"Which side is flat {where} depends on the BatchNorm rule: {told}"
    flat = float(ratios.mean()) < 0
    factor = number(float(np.exp(np.abs(ratios.mean()))))
    rises = f"he loss rises {factor} times {'slower' if flat else 'faster'} {where}"
    if len(names) == 1:
        return f"T{rises}"
    short = before_minimum(results)
    if short:
        return f"{names[0]}'s valley is {'flatter' if flat else 'steeper'} {where}: t{rises}; {short}"
    return f"{names[1]} lies on the {'flat' if flat else 'steep'} side of {names[0]}'s valley: t{rises}"


def _with_error(results: Sequence[Asymmetry]) -> str:
    """Log rise ratios, with the standard error of a single one that rests on a sample."""
    error = float(results[0].log_ratio_error[0])
    told = spread([r.log_ratio[0] for r in results])
    return f"{told} ± {number(error)}" if len(results) == 1 and error != 0 else told


def _beside(what: str, values: Sequence[float]) -> str:
    finite = [v for v in values if np.isfinite(v)]
    return f"{what} {spread(finite)}" if finite else f"{what} not measured"


def _on_test_data(results: Sequence[Asymmetry]) -> str:
    """Ratios of the test loss, and where it falls instead of rising."""
    falls = [where for where in (held_out_falls(r, 0) for r in results) if where]
    told = [f"the test loss falls {where}" + (f" in {falls.count(where)} of {len(results)}" if len(results) > 1 else "")
            for where in dict.fromkeys(falls)]  # fmt: skip
    if len(falls) < len(results):
        told.insert(0, _beside("on test data", [r.held_out_ratio[0] for r in results]))
    return ", ".join(told)


def _null_words(results: Sequence[Asymmetry], null: Array) -> str:
    """Where the direction stands among random ones."""
    if not null.size:
        return "No Gaussian null (--gaussian 100)"
    if not results:
        return f"Gaussian null {spread(null)}"
    less, total = (sum(pair) for pair in zip(*(extremity(r, 0) for r in results), strict=True))
    told = f"Gaussian null {spread(null)}: {less} of {total} are less asymmetric"
    gone = sum(lost(r, 0) for r in results)
    told += f", {gone} more have no ratio" if gone else ""
    signed = np.concatenate([null_of(r, 0, "sign-matched") for r in results])
    return told + (f"; sign-matched {spread(signed)}" if signed.size else "")


def _strict(results: Sequence[Asymmetry]) -> str:
    """What the definition, c of at least 1, says."""
    first = results[0]
    best, low = flat_side(first)
    told = ", ".join(
        f"{'none' if np.isnan(v) else number(float(v))} for ζ = {z:g} r"
        for v, z in zip(best[-1], first.zeta, strict=True)
    )
    where = _met(low, first.zeta, first.reach)
    verdict = (
        f"asymmetric by definition 2.3.1 {where}" if where else "not asymmetric by definition 2.3.1 at any ζ measured"
    )
    return f"Largest c{'' if len(results) == 1 else ', first run'}: {told} ({verdict})"


def _met(low: Array, zeta: Array, reach: Array) -> str:
    """For which ζ and r the lower bound of c is 1 or more, the widest first; "" for none.

    Args:
        low: Lower bounds of c, shape (R, Z).
        zeta: ζ as parts of r, ascending, shape (Z,).
        reach: Radii as parts of the largest, ascending, shape (R,).

    Returns:
        The words.
    """
    for bounds, part in zip(low[::-1], reach[::-1], strict=True):
        if (bounds >= 1).any():
            within = "" if part == 1 else f"within {part:g} r, "
            return f"{within}for ζ = {zeta[bounds >= 1][0]:g} {'r' if part == 1 else 'of that'} and more"
    return ""


def listing(result: Asymmetry) -> list[str]:
    """One line for each direction."""
    return [_line(result, v) for v in range(len(result.directions))]


def _line(r: Asymmetry, v: int) -> str:
    """A direction's minimum, signs, shares, symmetric bounds and neighbourhood."""
    if r.status[v] != OK:
        return f"{r.directions[v]}: {STATUS[int(r.status[v])]}"
    kinds = zip(("weights", "biases", "BatchNorm"), r.share[v], strict=True)
    share = ", ".join(f"{part:.0%} {kind}" for kind, part in kinds if part >= 0.005)
    told = [
        f"minimum at {number(float(r.centre[v]))}, log ratio {number(float(r.log_ratio[v]))}",
        _held(r, v),
        (f"same sign as w {r.same_sign[v]:.0%}; " if math.isfinite(r.same_sign[v]) else "") + share,
    ]
    a, b = float(r.symmetric_low[v]), float(r.symmetric_high[v])
    if not math.isnan(a):
        told.append(f"symmetric with (b−a)/(a+b) = {number((b - a) / (a + b))}")
    if not math.isnan(r.near_part[v]):
        told.append(f"asymmetric at {r.near_part[v]:.0%} of the points within {r.neighbourhood:g} ‖w‖")
    if not r.certified[v].all():
        told.append(f"{int((r.certified[v] == 0).sum())} of {r.certified[v].size} bounds not certified")
    return f"{r.directions[v]}: {'; '.join(told)}"


def _held(r: Asymmetry, v: int) -> str:
    """The log rise ratio of the test loss with its error; a first-order error above 1 says that it is not known."""
    ratio, error = float(r.held_out_ratio[v]), float(r.held_out_error[v])
    if not math.isfinite(ratio):
        where = held_out_falls(r, v)
        return f"test loss falls {where}" if where else "test ratio not measured"
    if not error <= 1:
        return "test ratio not known: the examples differ too much"
    return f"test {number(ratio)} ± {number(error)}"
