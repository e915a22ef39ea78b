"""The figure of planes: contours, heat map and surface; four quantities and several runs; chosen inside the figure.

One menu chooses the view, that is which traces are visible; the other the quantity and the run, that is what the
traces hold. So neither undoes the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from landscape.plane import Plane
from landscape.result import Array
from landscape.style import NEUTRAL, layout, mark, plain
from landscape.wording import nats, number

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

VIEWS = ("contours", "heat map", "surface")
# traces in order: contour, heat map, surface, then in 2-D and in 3-D: tracks and checkpoints; missing points in 2-D
_SHOWN = {
    "contours": (True, False, False, True, True, True, False, False),
    "heat map": (False, True, False, True, True, True, False, False),
    "surface": (False, False, True, False, False, False, True, True),
}
_LABELLED = 6  # checkpoints that all have their name beside them; of more, only where a run begins or ends
_STRETCH = 4.0  # axes have one scale up to this ratio of their lengths
_HERE = "x: %{x:.4~g}<br>y: %{y:.4~g}<br>"
_MISSING = f"{_HERE}%{{text}}<extra></extra>"
_OWN = (
    f"<b>%{{customdata[0]}}</b><br>{_HERE}its own: %{{customdata[1]:.4~g}}<br>%{{customdata[2]:.3~g}} off the plane"
    "<extra></extra>"
)
_BAR = {
    "orientation": "h", "x": 0.5, "xanchor": "center", "y": -0.16, "yanchor": "top", "len": 1, "nticks": 6,
    "title": {"side": "bottom"},
}  # fmt: skip
_CAMERA = {"eye": {"x": 1.4, "y": 1.4, "z": 1.0}, "center": {"z": -0.15}}
_BUTTON = {"font": {"size": 12.5}, "showactive": True}


def draw(results: Sequence[Plane]) -> Figure:
    """Draw planes, one run at a time.

    Args:
        results: One plane for each run.

    Returns:
        The figure.
    """
    from plotly import graph_objects as go

    choices = [(run, field, s) for run in range(len(results)) for field, s in _quantities(results[run])]
    names = [_name(results, *choice) for choice in choices]
    states = [_state(results[run], field, s) for run, field, s in choices]
    drawn = go.Figure(_traces(results[0]))
    keys = states[0][0]
    for i, trace in enumerate(drawn.data):
        trace.visible = _SHOWN[VIEWS[0]][i]
        trace.update({key: keys[key][i] for key in keys if keys[key][i] is not None})
    drawn.update_layout(
        coloraxis={"colorscale": "Viridis", "colorbar": _BAR},
        showlegend=False,
        scene={"aspectmode": "manual", "aspectratio": _aspect(results[0]), "camera": _CAMERA},
        annotations=[{
            "text": "", "x": 1, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "right", "yanchor": "bottom",
            "showarrow": False,
        }],
        updatemenus=[
            {"buttons": [_view(name) for name in VIEWS], "type": "buttons", "direction": "right", **_BUTTON,
             "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "pad": {"b": 44}},
            {"buttons": [{"label": name, "method": "update", "args": list(state)}
                         for name, state in zip(names, states, strict=True)],
             "direction": "down", **_BUTTON, "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "pad": {"b": 6}},
        ],
    )  # fmt: skip
    layout(drawn, "x", "y", height=600)
    drawn.update_layout({key.replace(".", "_").replace("[0]", "_0"): value for key, value in states[0][1].items()})
    drawn.update_layout(margin={"t": 96})
    if all(_one_scale(r) for r in results):
        drawn.update_yaxes(scaleanchor="x", scaleratio=1, constrain="domain")
        drawn.update_xaxes(constrain="domain")
    return drawn


def _quantities(result: Plane) -> list[tuple[str, int]]:
    """What there is a value of, training before test, loss before error."""
    fields = ("loss", "error") if result.classifies else ("loss",)
    found = [(field, s) for field in fields for s in (0, 1) if np.isfinite(getattr(result, field)[s]).any()]
    return found or [("loss", 0)]


def _name(results: Sequence[Plane], run: int, field: str, s: int) -> str:
    told = f"{results[run].split[s]} {field}"
    return told if len(results) == 1 else f"{told}, run {run + 1}"


def _view(name: str) -> dict[str, Any]:
    solid = name == "surface"
    axes = {"xaxis.visible": not solid, "yaxis.visible": not solid}
    return {"label": name, "method": "update", "args": [{"visible": list(_SHOWN[name])}, axes]}


def _traces(result: Plane) -> list[dict[str, Any]]:
    """The eight traces without what depends on quantity and run."""
    field = {"coloraxis": "coloraxis"}
    colors = [mark(m if m != "unknown" else i).color for i, m in enumerate(result.methods)]
    symbols = [mark(m if m != "unknown" else i).symbol for i, m in enumerate(result.methods)]
    named = {"mode": "markers+text", "text": _labels(result), "textposition": _sides(result.place)}
    shadow = {"color": "white", "size": 13, "shadow": "0 0 3px #000, 0 0 3px #000, 0 0 5px #000"}
    track = {"mode": "lines", "hoverinfo": "skip", "line": {"color": "white", "width": 1.5, "dash": "solid"}}
    return [
        {"type": "contour", **field, "contours": {"coloring": "fill"}, "ncontours": 20, "connectgaps": False,
         "line": {"width": 0.6, "color": "rgba(255,255,255,0.6)"}},
        {"type": "heatmap", **field, "connectgaps": False, "zsmooth": False},
        {"type": "surface", **field, "connectgaps": False},
        {"type": "scatter", **track},
        {"type": "scatter", "mode": "markers", "cliponaxis": False,
         "marker": {"symbol": "x-thin", "size": 7, "line": {"width": 1.5, "color": NEUTRAL}}},
        {"type": "scatter", **named, "textfont": shadow, "cliponaxis": False,
         "marker": {"color": colors, "symbol": symbols, "size": 11, "line": {"color": "white", "width": 1.5}}},
        {"type": "scatter3d", **track, "line": {"color": NEUTRAL, "width": 3}},
        {"type": "scatter3d", **named,
         "marker": {"color": colors, "size": 5, "line": {"color": "white", "width": 1}}},
    ]  # fmt: skip


def _labels(result: Plane) -> list[str]:
    """Names to stand beside checkpoints: all of a few; of many, those where a run begins or ends."""
    called = [plain(name) for name in result.called]
    if len(called) <= _LABELLED:
        return called
    inner = {i for i in range(len(called)) if i in result.after and result.after[i] >= 0}
    return ["" if i in inner else name for i, name in enumerate(called)]


def _sides(place: Array) -> list[str]:
    """On which side of each checkpoint its name stands: away from the others."""
    away = place - (place.sum(0) - place) / max(len(place) - 1, 1)
    return [f"{'top' if dy >= 0 else 'bottom'} {'right' if dx >= 0 else 'left'}" for dx, dy in away]


def _state(result: Plane, field: str, s: int) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """What the traces hold and what the axes say for one quantity of one run: the two arguments of Plotly's update."""
    raw, own = getattr(result, field)[s], getattr(result, f"own_{field}")[s]
    log = _log(raw) and field == "loss"
    z, height = (np.log10(v) if log else v for v in (raw, np.where(own > 0, own, np.nan) if log else own))
    (px, py), (tx, ty) = result.place.T, _tracks(result.after, *result.place.T)
    j, i = np.nonzero(result.status)
    about = [[plain(n), float(o), float(d)] for n, o, d in zip(result.called, own, result.off_plane, strict=True)]
    heights = _tracks(result.after, height, height)[0]
    x, y, shade = (v.astype(np.float32) for v in (result.x, result.y, z))
    grid, shown = (_rounded(raw), "customdata") if log else (None, "z")
    hover = f"{_HERE}%{{{shown}:.4~g}}<extra></extra>"
    data: dict[str, list[Any]] = {
        "x": [x, x, x, tx, result.x[i], px, tx, px],
        "y": [y, y, y, ty, result.y[j], py, ty, py],
        "z": [shade, shade, shade, None, None, None, heights, height],
        "customdata": [grid, grid, grid, None, None, about, None, about],
        "hovertemplate": [hover, hover, hover, None, _MISSING, _OWN, None, _OWN],
        "text": [None, None, None, None, _reasons(result, j, i), _labels(result), None, _labels(result)],
    }
    title = f"{result.split[s]} {field}" + (nats(result, " ({})") if field == "loss" else "")
    ticks = _ticks(raw) if log else {"tickmode": "auto"}
    if field == "error":
        ticks["tickformat"] = ".0%" if np.nanmax(raw, initial=0) - np.nanmin(raw, initial=1) > 0.04 else ".1%"
    changes: dict[str, Any] = {
        "coloraxis.colorbar.title.text": title,
        "scene.zaxis.title.text": title,
        "annotations[0].text": f"× {result.missing} missing" if result.missing else "",
    }
    for name in ("coloraxis.colorbar", "scene.zaxis"):
        changes |= {f"{name}.{key}": ticks.get(key) for key in ("tickmode", "tickvals", "ticktext", "tickformat")}
    for axis, title in zip("xy", result.titles, strict=True):
        places = getattr(result, axis)
        changes[f"{axis}axis.title.text"] = plain(title) + (", units of its direction" if result.source else " (θ)")
        changes[f"{axis}axis.range"] = [float(places[0]), float(places[-1])]
        changes[f"scene.{axis}axis.title.text"] = axis
    return data, changes


def _rounded(values: Array) -> list[list[float | None]]:
    """Four digits for the pointer; plain lists, as Plotly finds no point in nested typed arrays."""
    return [[float(f"{v:.4g}") if np.isfinite(v) else None for v in row] for row in values]


def _reasons(result: Plane, j: Array, i: Array) -> list[str]:
    from landscape.sheet import STATUS

    return [f"missing: {STATUS[int(status)]}" for status in result.status[j, i]]


def _tracks(after: Sequence[int], x: Array, y: Array) -> tuple[list[float | None], list[float | None]]:
    """From each checkpoint's predecessor to it, with gaps between."""
    found: tuple[list[float | None], list[float | None]] = ([], [])
    for i, j in enumerate(after):
        if j >= 0:
            for values, places in zip(found, (x, y), strict=True):
                values += [float(places[j]), float(places[i]), None]
    return found


def _log(values: Array) -> bool:
    """Whether a logarithm shows more: all positive, over more than one power of ten."""
    finite = values[np.isfinite(values)]
    return bool(finite.size and finite.min() > 0 and finite.max() > 10 * finite.min())


def _ticks(values: Array) -> dict[str, Any]:
    """Round values between the smallest and the largest, at their logarithms."""
    low, high = np.log10(np.nanmin(values)), np.log10(np.nanmax(values))
    powers = range(int(np.floor(low)), int(np.ceil(high)) + 1)
    steps = (1, 2, 5) if high - low < 2.5 else (1, 3) if high - low < 4 else (1,)
    round_ = [float(f"{step}e{power}") for power in powers for step in steps]
    inside = [value for value in round_ if low <= np.log10(value) <= high]
    texts = [f"{value:g}" if 1e-3 <= value < 1e4 else number(value).removeprefix("1.0·") for value in inside]
    return {"tickmode": "array", "tickvals": [float(np.log10(value)) for value in inside], "ticktext": texts}


def _spans(result: Plane) -> tuple[float, float]:
    return float(np.ptp(result.x)) or 1.0, float(np.ptp(result.y)) or 1.0


def _one_scale(result: Plane) -> bool:
    across, up = _spans(result)
    return max(across / up, up / across) <= _STRETCH


def _aspect(result: Plane) -> dict[str, float]:
    """Sides of the box of the surface: as long as the ranges are, if that is not too long."""
    across, up = _spans(result) if _one_scale(result) else (1.0, 1.0)
    mean = np.sqrt(across * up)
    return {"x": float(across / mean), "y": float(up / mean), "z": 0.7}
