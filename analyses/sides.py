"""What is said and drawn of asymmetric valleys: words, lines, figure and table of `analyses.asymmetry`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from analyses.evidence import clear, contradicting, extremity, flat_side, lost, no_valley, null_of, other_rules
from landscape.result import Array
from landscape.training.methods import labels
from landscape.valley import OK, STATUS
from landscape.wording import number, spread

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from landscape.asymmetry import Asymmetry
    from landscape.report import Table, Value

CAPTION = (
    "Training loss (line) and test loss (points) along each direction, measured from the training loss's minimum on "
    "that line, to the radius r where the mean rise of both sides reaches the level asked for. The side that rises "
    "less is the flat one. Grey marks show where the checkpoints sit: the first a circle, the second a diamond. The "
    "strip holds the log rise ratios of the measured directions and of random ones, the map the largest c of the "
    "(r, p, c, ζ)-asymmetry of the first direction, flat side ahead: the definition asks for 1 or more."
)


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
    told += [_beside("on test data", [r.held_out_ratio[0] for r in usable])]
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
    if against:
        rule, ratio = next(iter(against.items()))
        told = f"log ratio {spread(ratios)} with {first.rules[0]}, {number(ratio)} with {rule}"
        return f"Which side is flat {where} depends on the BatchNorm rule: {told}"
    if not null.size:
        return f"Log ratio {spread(ratios)} {where}, compared with no random direction"
    if not clear(ratios, errors, null):
        return f"No clear side of {names[0]}'s valley {where}: log ratio {spread(ratios)}"
    flat = float(ratios.mean()) < 0
    factor = number(float(np.exp(np.abs(ratios.mean()))))
    rises = f"he loss rises {factor} times {'slower' if flat else 'faster'} {where}"
    if len(names) == 1:
        return f"T{rises}"
    return f"{names[1]} lies on the {'flat' if flat else 'steep'} side of {names[0]}'s valley: t{rises}"


def _with_error(results: Sequence[Asymmetry]) -> str:
    """Log rise ratios, with the standard error of a single one that rests on a sample."""
    error = float(results[0].log_ratio_error[0])
    told = spread([r.log_ratio[0] for r in results])
    return f"{told} ± {number(error)}" if len(results) == 1 and error != 0 else told


def _beside(what: str, values: Sequence[float]) -> str:
    finite = [v for v in values if np.isfinite(v)]
    return f"{what} {spread(finite)}" if finite else f"{what} not measured"


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
        _held(float(r.held_out_ratio[v]), float(r.held_out_error[v])),
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


def _held(ratio: float, error: float) -> str:
    """The log rise ratio of the test loss with its error; a first-order error above 1 says that it is not known."""
    if math.isfinite(ratio) and not error <= 1:
        return "test ratio not known: the examples differ too much"
    return f"test {number(ratio)} ± {number(error)}"


def figure(*results: Asymmetry) -> Figure:
    """The first direction large; then all directions with the null as a strip, and the map of c*."""
    from plotly.subplots import make_subplots

    from landscape.style import NEUTRAL, layout

    first = results[0]
    several = len(results) > 1
    drawn = make_subplots(
        rows=3, cols=1, vertical_spacing=0.11, row_heights=[0.52, 0.2, 0.28], specs=[[{}], [{}], [{"type": "heatmap"}]]
    )
    for run, r in enumerate(results):
        _valley(drawn, r, shown=run == 0, width=1 if several else 2)
    if several:
        _mean(drawn, results)
    _strip(drawn, results)
    _map(drawn, results)
    unit = "θ" if first.metric == "euclidean" else f"{first.metric} norms"
    layout(
        drawn, (f"ℓ − ℓ₀ (units of {unit})", "log rise ratio", "ζ / radius, in the cells the largest c"),
        ("rise of the loss (nats)", "", "radius / r"), height=820,
    )  # fmt: skip
    drawn.add_vline(x=0, line={"color": NEUTRAL, "dash": "dot", "width": 1}, row=1, col=1)
    drawn.add_vline(x=0, line={"color": NEUTRAL, "dash": "dot", "width": 1}, row=2, col=1)
    drawn.update_xaxes(type="category", row=3, col=1)
    drawn.update_yaxes(type="category", row=3, col=1)
    return drawn


def _valley(drawn: Figure, r: Asymmetry, shown: bool, width: int) -> None:
    """Training loss as a line, test loss as points, the checkpoints as marks."""
    from landscape.style import NEUTRAL, TEST, TRAIN, plain

    middle, held = r.loss.shape[1] // 2, len(r.part) // 2
    drawn.add_scatter(
        x=r.offset[0], y=r.loss[0] - r.loss[0, middle], mode="lines", name="training loss", legendgroup="train",
        showlegend=shown, line={"color": TRAIN, "width": width}, row=1, col=1,
    )  # fmt: skip
    drawn.add_scatter(
        x=r.part * r.radius[0], y=r.held_out[0] - r.held_out[0, held], mode="markers", name="test loss",
        legendgroup="test", showlegend=shown, marker={"color": TEST, "size": 7}, row=1, col=1,
    )  # fmt: skip
    if r.status[0] != OK:
        return
    names = labels(r.names, r.methods)
    places = [-r.centre[0]] + ([r.distance - r.centre[0]] if len(names) > 1 else [])
    drawn.add_scatter(
        x=places, y=r.height, mode="markers", hoverinfo="text",
        text=[plain(n) for n in names], showlegend=False,
        marker={"color": NEUTRAL, "size": 10, "symbol": ["circle", "diamond"][: len(places)]}, row=1, col=1,
    )  # fmt: skip


def _mean(drawn: Figure, results: Sequence[Asymmetry]) -> None:
    """Mean training loss of the runs, as far as all of them reach."""
    from landscape.style import TRAIN

    measured = [r for r in results if r.status[0] == OK]
    if not measured:
        return
    reach = min(float(r.radius[0]) for r in measured)
    x = np.linspace(-reach, reach, 81)
    rises = [np.interp(x, r.offset[0], r.loss[0] - r.loss[0, r.loss.shape[1] // 2]) for r in measured]
    drawn.add_scatter(
        x=x, y=np.mean(rises, axis=0), mode="lines", name="mean of runs", line={"color": TRAIN, "width": 4},
        opacity=0.7, row=1, col=1,
    )  # fmt: skip


def _strip(drawn: Figure, results: Sequence[Asymmetry]) -> None:
    """Log ratios: random directions as thin grey ticks, measured ones as marks above them."""
    from landscape.style import NEUTRAL, mark, plain

    first = results[0]
    rules = _one_of_each_rule(first)
    for family in ("sign-matched", "Gaussian"):
        for line in reversed(rules):
            values = np.concatenate([null_of(r, line, family) for r in results])
            name = f"{family} ({first.rules[line]})" if len(rules) > 1 else family
            if values.size:
                drawn.add_scatter(
                    x=values, y=[name] * len(values), mode="markers", name=name, showlegend=False, opacity=0.6,
                    marker={"color": NEUTRAL, "symbol": "line-ns-open", "size": 12, "line": {"width": 1}}, row=2, col=1,
                )  # fmt: skip
    for v, name in enumerate(first.directions):
        own = [r.log_ratio[v] for r in results if v < len(r.log_ratio)]
        drawn.add_scatter(
            x=own, y=[plain(name)] * len(own), mode="markers", name=plain(name), showlegend=False,
            marker=mark(v).marker(10), row=2, col=1,
        )  # fmt: skip


def _one_of_each_rule(r: Asymmetry) -> list[int]:
    return [r.rules.index(rule) for rule in dict.fromkeys(r.rules)]


def _map(drawn: Figure, results: Sequence[Asymmetry]) -> None:
    """c* over radius and ζ, flat side ahead, its mean over runs; blank where a run has none."""
    first = results[0]
    same = [r for r in results if r.zeta.tolist() == first.zeta.tolist()]
    values = np.mean([flat_side(r)[0] for r in same], axis=0)
    certified = np.all([r.certified[0] for r in same], axis=0)
    shown = [
        [
            "none" if np.isnan(c) else number(float(c)) + ("" if sure else "?")
            for c, sure in zip(row, sures, strict=True)
        ]
        for row, sures in zip(values, certified, strict=True)
    ]
    drawn.add_heatmap(
        x=[f"{z:g}" for z in first.zeta], y=[f"{part:g}" for part in first.reach], z=np.minimum(values, 1.0),
        text=shown, texttemplate="%{text}", zmin=0, zmax=1, colorscale="Viridis", name="c*", hoverinfo="text",
        showscale=False, row=3, col=1,
    )  # fmt: skip


def table(*results: Asymmetry) -> Table:
    """One row for each direction and run."""
    from landscape.report import Table

    zeta = results[0].zeta  # runs that share a page were asked alike; others keep their own files
    columns = (
        "run", "direction", "status", "ℓ₀", "r", "log rise ratio", "with weight decay", "test", "± (test)",
        "less asymmetric Gaussian", "curvature behind", "curvature ahead", "skewness", "same sign as w", "a", "b",
        "rounding of slopes", "sampling of slopes", "asymmetric nearby", "smallest c nearby",
        *(f"c*, ζ = {z:g} r" for z in zeta), *(f"c* of −u, ζ = {z:g} r" for z in zeta), "certified",
    )  # fmt: skip
    rows = [_row(run, r, v, zeta) for run, r in enumerate(results, 1) for v in range(len(r.directions))]
    note = "A negative log ratio: the direction points to the flat side. Lengths in units of θ, or of the metric named."
    return Table("Directions", columns, tuple(rows), note)


def _row(run: int, r: Asymmetry, v: int, zeta: Array) -> tuple[Value, ...]:
    less, total = extremity(r, v)
    plain = (
        r.centre, r.radius, r.log_ratio, r.decayed_log_ratio, r.held_out_ratio, r.held_out_error,
    )  # fmt: skip
    rest = (r.skewness, r.same_sign, r.symmetric_low, r.symmetric_high, r.rounding, r.sampling, r.near_part, r.near_c)
    return (
        run, r.directions[v], STATUS[int(r.status[v])], *(float(values[v]) for values in plain),
        f"{less} of {total}", *(float(value) for value in r.curvature[v]), *(float(values[v]) for values in rest),
        *_at(r, r.c[v, -1], zeta), *_at(r, r.c_back[v, -1], zeta), "yes" if r.certified[v].all() else "no",
    )  # fmt: skip


def _at(r: Asymmetry, values: Array, zeta: Array) -> list[float]:
    """Values at some ζ; NaN where this run was not asked for it."""
    known = dict(zip(r.zeta.tolist(), values.tolist(), strict=True))
    return [known.get(z, float("nan")) for z in zeta.tolist()]
