"""Valleys along directions as a figure and a table: the drawing half of `analyses.asymmetry`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from analyses.evidence import extremity, flat_side, held_out_falls, null_of
from landscape.result import Array
from landscape.training.methods import labels
from landscape.valley import OK, STATUS
from landscape.wording import nats, number

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
        (f"rise of the loss{nats(first, ' ({})')}", "", "radius / r"), height=820,
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
    falls = held_out_falls(r, v)
    plain = (r.centre, r.radius, r.log_ratio, r.decayed_log_ratio)
    rest = (r.skewness, r.same_sign, r.symmetric_low, r.symmetric_high, r.rounding, r.sampling, r.near_part, r.near_c)
    return (
        run, r.directions[v], STATUS[int(r.status[v])], *(float(values[v]) for values in plain),
        f"falls {falls}" if falls else float(r.held_out_ratio[v]), float(r.held_out_error[v]),
        f"{less} of {total}", *(float(value) for value in r.curvature[v]), *(float(values[v]) for values in rest),
        *_at(r, r.c[v, -1], zeta), *_at(r, r.c_back[v, -1], zeta), "yes" if r.certified[v].all() else "no",
    )  # fmt: skip


def _at(r: Asymmetry, values: Array, zeta: Array) -> list[float]:
    """Values at some ζ; NaN where this run was not asked for it."""
    known = dict(zip(r.zeta.tolist(), values.tolist(), strict=True))
    return [known.get(z, float("nan")) for z in zeta.tolist()]
