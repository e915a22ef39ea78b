"""Figures of saddles: animated paths, the basin map, the threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.experiments.drawings.animation import ROOM, slide
from landscape.result import Array
from landscape.style import NEUTRAL, TRAIN, layout, mark

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from analyses.experiments.saddle import Saddle

BASINS = (
    "Each cell is a start on Beale's function; its colour says where the method is after the last step. The cross is "
    "the saddle. Move the slider from gradient descent to SAM with larger and larger ρ. Right: "
    'part of the starts with each fate. ρ stands for ε = ρ∇L, "unit" for ε = ρ∇L/‖∇L‖.'
)
THRESHOLD = (
    "Growth of a small displacement along the direction of negative curvature in a step of SAM with ε = ρ∇L: marks "
    "measured at the saddles of x² − y² and of Beale's function, line 1 − ρ|λ|. Below 0 the saddle attracts."
)
SADDLES = ((0.0, 0.0), (0.0, 1.0))
LOOKS = (mark("sgd"), mark("sam"), mark("sgd-sam"))
COLORS = ("#9aa0a6", "#cc79a7", "#009e73", "#3b3b3b")  # of the fates


def paths(r: Saddle) -> Figure:
    """Paths over the ground, with a play button and a slider."""
    from plotly.subplots import make_subplots

    drawn = make_subplots(1, 2, subplot_titles=list(r.functions), horizontal_spacing=0.1)
    moving: list[int] = []
    for f in range(len(r.functions)):
        _ground(drawn, r, f)
        moving += _tracks(drawn, r, f)
    drawn.add_scatter(
        x=[3], y=[0.5], mode="markers", showlegend=False, hovertemplate="minimum<extra></extra>",
        marker={"symbol": "star", "size": 13, "color": TRAIN}, row=1, col=2,
    )  # fmt: skip
    moments = range(r.step.shape[1])
    frames = [[_now(r, f, m, t) for f in range(len(r.functions)) for m in range(len(r.methods))] for t in moments]
    names = [f"{a} | {b}" for a, b in r.step.T]
    slide(drawn, frames, names, moving, prefix="steps: ", play=True)
    return layout(drawn, ["x", "x"], ["y", "y"], height=470 + ROOM)


def _ground(drawn: Figure, r: Saddle, f: int) -> None:
    """Draw the values of function f and its saddle; Beale's on a logarithmic colour scale."""
    at, (x, y) = {"row": 1, "col": f + 1}, SADDLES[f]
    drawn.add_contour(
        x=r.abscissa[f], y=r.ordinate[f], z=r.ground[f] if f == 0 else np.log10(r.ground[f] + 1e-3), showscale=False,
        ncontours=18, opacity=0.55, name=r.functions[f], hoverinfo="skip", colorscale="Greys",
        line={"width": 0.7, "color": NEUTRAL}, **at,
    )  # fmt: skip
    drawn.add_scatter(
        x=[x], y=[y], mode="markers", showlegend=False, hovertemplate="saddle<extra></extra>",
        marker={"symbol": "x-thin", "size": 12, "line": {"width": 2.5, "color": TRAIN}}, **at,
    )  # fmt: skip
    drawn.update_xaxes(range=[r.abscissa[f, 0], r.abscissa[f, -1]], **at)
    drawn.update_yaxes(range=[r.ordinate[f, 0], r.ordinate[f, -1]], **at)


def _tracks(drawn: Figure, r: Saddle, f: int) -> list[int]:
    """Draw all paths on function f and, over them, a mark at the start of each; tell which traces move: the marks."""
    at = {"row": 1, "col": f + 1}
    for m, (method, look) in enumerate(zip(r.methods, LOOKS, strict=True)):
        x, y = _joined(_inside(r, f, m))
        drawn.add_scatter(
            x=x, y=y, mode="lines", name=method, legendgroup=method, showlegend=False, opacity=0.75,
            line=look.line(1.5), hoverinfo="skip", **at,
        )  # fmt: skip
    for m, (method, look) in enumerate(zip(r.methods, LOOKS, strict=True)):
        drawn.add_scatter(
            **_now(r, f, m, 0), mode="markers", name=method, legendgroup=method, showlegend=f == 0,
            marker={**look.marker(9), "line": {"width": 1, "color": "#ffffff"}}, **at,
        )  # fmt: skip
    return list(range(len(drawn.data) - len(r.methods), len(drawn.data)))


def _inside(r: Saddle, f: int, m: int) -> Array:
    """A path, cut off where it leaves the window."""
    path = r.path[f, m].copy()  # (P, T, 2)
    low = np.array([r.abscissa[f, 0], r.ordinate[f, 0]])
    high = np.array([r.abscissa[f, -1], r.ordinate[f, -1]])
    gone = np.maximum.accumulate(~((path >= low) & (path <= high)).all(-1), axis=1)
    path[gone] = np.nan
    return np.asarray(path)


def _joined(path: Array) -> tuple[Array, Array]:
    """All paths as one line with gaps."""
    broken = np.concatenate([path, np.full_like(path[:, :1], np.nan)], 1).reshape(-1, 2)
    return broken[:, 0], broken[:, 1]


def _now(r: Saddle, f: int, m: int, t: int) -> dict[str, Any]:
    place = _inside(r, f, m)[:, t]
    return {"x": place[:, 0], "y": place[:, 1]}


def basins(r: Saddle) -> Figure:
    """The fate of each start, with a slider over methods and ρ, beside the parts of all."""
    from plotly.subplots import make_subplots

    drawn = make_subplots(1, 2, column_widths=[0.6, 0.4], horizontal_spacing=0.2)
    scale = [[k / 4, color] for j, color in enumerate(COLORS) for k in (j, j + 1)]  # four flat steps
    drawn.add_heatmap(
        x=r.column, y=r.row, z=r.basin[0], zmin=-0.5, zmax=3.5, colorscale=scale,
        showscale=False, customdata=_fates(r, 0), hovertemplate="(%{x:.2f}, %{y:.2f}) %{customdata}<extra></extra>",
        row=1, col=1,
    )  # fmt: skip
    white = {"size": 12, "line": {"width": 2.5, "color": "#ffffff"}}
    drawn.add_scatter(
        x=[0],
        y=[1],
        mode="markers",
        showlegend=False,
        hovertemplate="saddle<extra></extra>",
        marker={"symbol": "x-thin", **white},
        row=1,
        col=1,
    )
    for k, fate in enumerate(r.fates):
        look = {"color": COLORS[k]}
        drawn.add_bar(x=r.share[:, k], y=_short(r), orientation="h", name=fate, marker=look, row=1, col=2)
    frames = [[{"z": r.basin[c], "customdata": _fates(r, c)}] for c in range(len(r.settings))]
    slide(drawn, frames, list(_short(r)), [0], prefix="")
    drawn.update_layout(barmode="stack")
    layout(drawn, ["x", "part of the starts"], ["y", ""], height=430 + ROOM)
    drawn.update_yaxes(autorange="reversed", row=1, col=2)
    return drawn


def _fates(r: Saddle, c: int) -> Array:
    return np.asarray(np.array(r.fates)[r.basin[c]])


def _short(r: Saddle) -> tuple[str, ...]:
    """Settings in few words: "GD", "0.03", "0.3, unit"."""
    named = []
    for setting in r.settings:
        rho = setting.rpartition("= ")[2] if "ρ =" in setting else ""
        named.append("GD" if not rho else f"ρ = {rho}{', unit' if '‖' in setting else ''}")
    return tuple(named)


def threshold(r: Saddle) -> Figure:
    """Growth at the saddles against ρ|λ|."""
    from plotly import graph_objects as go

    drawn = go.Figure()
    drawn.add_scatter(x=r.rho, y=r.growth_claimed[0], mode="lines", name="1 − ρ|λ|", line={"color": NEUTRAL})
    for f, function in enumerate(r.functions):
        every = slice(f, None, 2)
        drawn.add_scatter(x=r.rho[every], y=r.growth[f, every], mode="markers", name=function, marker=mark(f).marker(9))
    drawn.add_hline(y=0, line={"dash": "dash"})
    return layout(drawn, "ρ|λ|", "growth in a step over η|λ|", height=360)
