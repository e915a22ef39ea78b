"""Figures across the trainings of a study: means over seeds with 95 % intervals, and the seeds themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from analyses.studies.claims import Tested, per_seed
from analyses.studies.plan import Graph
from analyses.studies.table import Drawing
from landscape.errors import UsageError
from landscape.result import Array
from landscape.statistics.means import Mean, mean

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from analyses.pages import Stored
    from landscape.report import Table

CAPTIONS = {
    "sweep": "Thin lines are training seeds, thick ones their means, bars 95 % intervals of the means (Student's t). "
    "Claims compare within seeds: they can be decided where these intervals overlap.",
    "groups": "Points are training seeds; the bar beside them is their mean with its 95 % interval (Student's t).",
    "pareto": "Small points are training seeds, large ones their means. The line is the Pareto front: nothing that was "
    "run is both cheaper and better than what lies on it.",
    "scatter": "Small points are training seeds, large ones their means with 95 % intervals (Student's t).",
}
Rows = Callable[[str], Array]
"""Gives a quantity's values, shape (S,) or (S, K)."""


def draw(drawing: Drawing, graph: Graph, stored: Mapping[str, Stored], network: str) -> tuple[Figure, Table]:
    """Draw a figure of the study.

    Args:
        drawing: Which.
        graph: The graph.
        stored: Results by key.
        network: The problem.

    Returns:
        The figure and the numbers behind it.

    Raises:
        UsageError: If quantities do not fit together.
    """
    from landscape.report import Table
    from landscape.style import layout

    def rows(text: str) -> Array:
        found = per_seed(graph, stored, network, text)
        return np.array([np.broadcast_to(row, found[0].shape) for row in found])

    make = {"sweep": _sweep, "groups": _groups, "pareto": _pareto, "scatter": _scatter}[drawing.kind]
    try:
        figure, cells = make(drawing, rows)
    except (ValueError, IndexError) as error:
        raise UsageError(
            f"the figure '{drawing.id}' cannot be drawn: {error}", "x and y must have one value for each setting"
        ) from error
    layout(figure, drawing.xlabel, drawing.ylabel, log=drawing.log, height=440)
    if drawing.percent:
        figure.update_yaxes(tickformat=".1~%", hoverformat=".2%")
    columns = ("curve", drawing.xlabel or "x", "seed", drawing.ylabel)
    return figure, Table(drawing.title, columns, tuple(cells))


Cells = list[tuple[str | float | int | None, ...]]


def _sweep(drawing: Drawing, rows: Rows) -> tuple[Figure, Cells]:
    """Curves over a setting."""
    from plotly.graph_objects import Figure

    figure, cells = Figure(), Cells()
    if not isinstance(drawing.x, str) or not drawing.x:
        raise ValueError("a sweep has one x")
    x = rows(drawing.x)[0]
    order = np.argsort(x, kind="stable")
    x = x[order]
    for i, (name, text) in enumerate(drawing.y.items()):
        y = np.broadcast_to(rows(text).T, (len(x), len(rows(text)))).T[:, order]  # (S, K)
        _curve(figure, i, name, x, y)
        cells += [(name, float(x[k]), s, float(y[s, k])) for s in range(len(y)) for k in range(len(x))]
    for i, (name, text) in enumerate(drawing.level.items(), len(drawing.y)):
        values = rows(text)
        _level(figure, i, name, x, mean(values[~np.isnan(values)]))
        cells += [(name, None, s, float(value)) for s, value in enumerate(values)]
    return figure, cells


def _curve(figure: Figure, i: int, name: str, x: Array, y: Array) -> None:
    from landscape.style import mark, plain

    style = mark(i)
    means = [mean(column[~np.isnan(column)]) for column in y.T]
    for row in y if len(y) > 1 else ():
        figure.add_scatter(
            x=x, y=row, mode="lines", line=style.line(1), opacity=0.3, legendgroup=name, showlegend=False,
            hoverinfo="skip",
        )  # fmt: skip
    figure.add_scatter(
        x=x, y=[m.value for m in means], mode="lines+markers", name=plain(name), legendgroup=name, line=style.line(),
        marker=style.marker(8), error_y=_bars(means, style.color),
    )  # fmt: skip


def _bars(means: Sequence[Mean], color: str) -> dict[str, object]:
    reach = [m.high - m.value for m in means], [m.value - m.low for m in means]
    return {"type": "data", "array": reach[0], "arrayminus": reach[1], "thickness": 1.3, "width": 4, "color": color}


def _level(figure: Figure, i: int, name: str, x: Array, found: Mean) -> None:
    """A horizontal line with its interval as a band."""
    from landscape.style import mark, plain

    style = mark(i)
    ends = [float(x.min()), float(x.max())]
    if not np.isnan(found.low):
        figure.add_scatter(
            x=[*ends, *ends[::-1]], y=[found.low] * 2 + [found.high] * 2, fill="toself", mode="lines",
            line={"width": 0}, fillcolor=style.color, opacity=0.13, legendgroup=name, showlegend=False,
            hoverinfo="skip",
        )  # fmt: skip
    figure.add_scatter(
        x=ends, y=[found.value] * 2, mode="lines", name=plain(name), legendgroup=name,
        line={**style.line(1.8), "dash": "dash"},
    )  # fmt: skip


def _groups(drawing: Drawing, rows: Rows) -> tuple[Figure, Cells]:
    """One column of seeds for each quantity."""
    from plotly.graph_objects import Figure

    figure, cells = Figure(), Cells()
    for i, (name, text) in enumerate(drawing.y.items()):
        values = rows(text)
        _column(figure, i, name, values)
        cells += [(name, None, s, float(value)) for s, value in enumerate(values)]
    names = list(drawing.y)
    figure.update_xaxes(
        tickmode="array", tickvals=list(range(len(names))), ticktext=names, range=[-0.6, len(names) - 0.4]
    )
    return figure, cells


def _column(figure: Figure, i: int, name: str, values: Array) -> None:
    from landscape.style import mark, plain

    style, found = mark(i), mean(values[~np.isnan(values)])
    jitter = i - 0.12 + 0.06 * np.linspace(-1, 1, len(values)) if len(values) > 1 else np.array([i - 0.12])
    figure.add_scatter(
        x=jitter, y=values, mode="markers", marker={**style.marker(6), "opacity": 0.45}, showlegend=False,
        text=[f"{plain(name)}, seed {s}" for s in range(len(values))], hovertemplate="%{text}: %{y:.4g}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=[i + 0.12], y=[found.value], mode="markers", marker=style.marker(9), showlegend=False,
        error_y=_bars([found], style.color), hovertemplate=f"{plain(name)}, mean: %{{y:.4g}}<extra></extra>",
    )  # fmt: skip


def _scatter(drawing: Drawing, rows: Rows) -> tuple[Figure, Cells]:
    """One quantity over another."""
    from plotly.graph_objects import Figure

    figure, cells = Figure(), Cells()
    for i, (name, x, y) in enumerate(_clouds(drawing, rows)):
        _cloud(figure, i, name, x, y)
        cells += [(name, float(x[s, k]), s, float(y[s, k])) for s in range(len(y)) for k in range(y.shape[1])]
    return figure, cells


def _pareto(drawing: Drawing, rows: Rows) -> tuple[Figure, Cells]:
    """Error over cost, with the front of those that nothing beats in both."""
    from landscape.style import NEUTRAL

    figure, cells = _scatter(drawing, rows)
    clouds = [(x.mean(0), y.mean(0)) for _, x, y in _clouds(drawing, rows)]
    best = front([(float(a), float(b)) for x, y in clouds for a, b in zip(x, y, strict=True)])
    figure.add_scatter(
        x=[x for x, _ in best], y=[y for _, y in best], mode="lines", name="Pareto front",
        line={"color": NEUTRAL, "width": 1.5, "dash": "dot", "shape": "hv"}, hoverinfo="skip",
    )  # fmt: skip
    return figure, cells


def _clouds(drawing: Drawing, rows: Rows) -> list[tuple[str, Array, Array]]:
    """Name, x and y of each curve, both of shape (S, K)."""
    if not isinstance(drawing.x, Mapping) or set(drawing.x) != set(drawing.y):
        raise ValueError("there must be one x for each y")
    found = []
    for name in drawing.y:
        y = rows(drawing.y[name])
        y = y[:, None] if y.ndim == 1 else y
        x = rows(drawing.x[name])
        found.append((name, np.broadcast_to(x[:, None] if x.ndim == 1 else x, y.shape), y))
    return found


def _cloud(figure: Figure, i: int, name: str, x: Array, y: Array) -> None:
    """Seeds as small points, their means as large ones."""
    from landscape.style import mark, plain

    style = mark(i)
    means = [mean(column[~np.isnan(column)]) for column in y.T]
    figure.add_scatter(
        x=x.ravel(), y=y.ravel(), mode="markers", marker={**style.marker(5), "opacity": 0.3},
        legendgroup=name, showlegend=False, hoverinfo="skip",
    )  # fmt: skip
    figure.add_scatter(
        x=np.nanmean(x, 0), y=[m.value for m in means], mode="markers", marker=style.marker(10), name=plain(name),
        legendgroup=name, error_y=_bars(means, style.color),
    )  # fmt: skip


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points (cost, error) than which none is at most as dear and at most as bad, and better in one; by cost.

    Args:
        points: Costs and errors.

    Returns:
        The Pareto front, cheapest first.
    """
    found: list[tuple[float, float]] = []
    for cost, error in sorted(points):
        if not found or error < found[-1][1]:
            found.append((cost, error))
    return found


def of_claim(tested: Tested) -> tuple[Figure, Table]:
    """The seeds of a claim, their mean, and what they are held against."""
    from plotly.graph_objects import Figure

    from landscape.report import Table
    from landscape.style import NEUTRAL, layout

    claim = tested.claim
    scale = 100.0 if claim.unit == "points" else 1.0
    figure = Figure()
    _column(figure, 0, "found", tested.values * scale)
    bounds = {"between": (claim.low, claim.high)}.get(claim.test, (claim.than,))
    for bound in bounds:
        figure.add_hline(y=bound * scale, line={"color": NEUTRAL, "width": 1.2, "dash": "dash"})
    if claim.test == "between":
        figure.add_hrect(y0=claim.low * scale, y1=claim.high * scale, fillcolor=NEUTRAL, opacity=0.12, line_width=0)
    figure.update_xaxes(showticklabels=False, showgrid=False, ticks="", range=[-0.6, 0.6])
    label = {"increasing": "Kendall's τ", "decreasing": "Kendall's τ"}.get(claim.test, claim.unit or "quantity")
    layout(figure, "", label, height=280)
    what = "entry" if claim.entries else "seed"
    return figure, Table("", (what, label), tuple((i, float(v) * scale) for i, v in enumerate(tested.values)))
