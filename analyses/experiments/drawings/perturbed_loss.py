"""Figures of the perturbed loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.experiments.drawings.animation import ROOM, slide
from landscape.result import Array
from landscape.style import NEUTRAL, TRAIN, layout, mark

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from analyses.experiments.perturbed_loss import PerturbedLoss

FORMULAS = (
    "Lines: measured. Dotted: what the theorems say, on valleys that are exactly quadratic and on others. The "
    "curvature is a difference over r − ρ, as in the proof; the proof's own algebra gives 1 + 2ρ/(r − ρ), of which it "
    "keeps half. Third: shift of the minimum against (c − 1)/(c + 1)·ρ with c from the slopes at distance ρ."
)


def curves(r: PerturbedLoss) -> Figure:
    """L and L̃ with their minima, and a slider for ρ."""
    from plotly.subplots import make_subplots

    start = len(r.rho) // 4
    drawn = make_subplots(2, 2, subplot_titles=[*r.drawn, "L̃ on ℝ²"], vertical_spacing=0.2, horizontal_spacing=0.13)
    changing: list[int] = []
    for i in range(len(r.drawn)):
        changing += _on_line(drawn, r, i, start)
    changing += _on_plane(drawn, r, start)
    frames = [_frame(r, k) for k in range(len(r.rho))]
    slide(drawn, frames, [f"{v:.3g}" for v in r.rho], changing, prefix="ρ = ", start=start)
    return layout(drawn, ["w", "w", "w", "w₁"], ["loss", "loss", "loss", "w₂"], height=680 + ROOM)


def _on_line(drawn: Figure, r: PerturbedLoss, i: int, k: int) -> list[int]:
    """Draw function i with L̃ at radius k, and tell which traces change with the radius: L̃ and its minimum."""
    at = {"row": i // 2 + 1, "col": i % 2 + 1, "showlegend": i == 0}
    ring = {"size": 9, "symbol": "circle-open", "color": NEUTRAL, "line": {"width": 2}}
    line, marks = {"x": r.place[i], "mode": "lines", **at}, {"mode": "markers", **at}
    drawn.add_scatter(y=r.loss[i], name="L", legendgroup="L", line=_line(0), **line)
    drawn.add_scatter(y=r.perturbed[i, k], name="L̃", legendgroup="L̃", line=_line(1), **line)
    drawn.add_scatter(**_lowest(r, i, 0), name="minimum of L", legendgroup="m", marker=ring, **marks)
    drawn.add_scatter(**_lowest(r, i, k), name="minimum of L̃", legendgroup="M", marker=_star(), **marks)
    drawn.update_yaxes(range=_range(r.loss[i]), row=at["row"], col=at["col"])
    return [len(drawn.data) - 3, len(drawn.data) - 1]


def _on_plane(drawn: Figure, r: PerturbedLoss, k: int) -> list[int]:
    """Draw L̃ at radius k on the plane, and tell which traces change with the radius: L̃ and its minimum."""
    at, white = {"row": 2, "col": 2}, "#ffffff"
    drawn.add_contour(
        x=r.axis, y=r.axis, **_field(r, k), name="", showscale=False, ncontours=14, contours={"coloring": "heatmap"},
        line={"width": 0.6, "color": NEUTRAL}, hovertemplate="L̃ = %{customdata:.3g}", **at,
    )  # fmt: skip
    drawn.add_scatter(
        x=[0], y=[0], mode="markers", showlegend=False, hovertemplate="minimum of L",
        marker={"size": 10, "symbol": "circle-open", "color": white, "line": {"width": 2}}, **at,
    )  # fmt: skip
    drawn.add_scatter(
        **_point(r, k), mode="markers", showlegend=False, hovertemplate="minimum of L̃ (%{x:.3f}, %{y:.3f})",
        marker={**_star(), "line": {"width": 1, "color": white}}, **at,
    )  # fmt: skip
    return [len(drawn.data) - 3, len(drawn.data) - 1]


def _frame(r: PerturbedLoss, k: int) -> list[dict[str, Any]]:
    """What the traces that change hold at radius k, in their order."""
    lines = [d for i in range(len(r.drawn)) for d in ({"y": r.perturbed[i, k]}, _lowest(r, i, k))]
    return [*lines, _field(r, k), _point(r, k)]


def _field(r: PerturbedLoss, k: int) -> dict[str, Array]:
    """L̃ on the plane at radius k, on a logarithmic colour scale."""
    return {"z": np.log10(r.plane_perturbed[k] + 0.02), "customdata": r.plane_perturbed[k]}


def _line(index: int) -> dict[str, object]:
    return mark(index).line()


def _star() -> dict[str, object]:
    return {"size": 12, "symbol": "star", "color": TRAIN}


def _range(loss: Array) -> list[float]:
    """A window from below the minimum to where the curve is read: its middle three quarters."""
    top = float(np.quantile(loss, 0.88))
    return [-0.06 * top, 1.25 * top]


def _lowest(r: PerturbedLoss, i: int, k: int) -> dict[str, Array]:
    """Minima of L̃ at radius k in the valleys of the drawn function i; at ρ = 0 those of L."""
    mine = [v for v, name in enumerate(r.valleys) if name.split()[0].strip(",") == r.drawn[i].split()[0]]
    x = r.minimum[mine, k]
    if r.drawn[i] == "sextic":  # symmetric about 1
        x = np.concatenate([x, 2 - x[1:]])
    return {"x": x, "y": np.interp(x, r.place[i], r.perturbed[i, k])}


def _point(r: PerturbedLoss, k: int) -> dict[str, list[float]]:
    return {"x": [float(r.plane_minimum[k, 0])], "y": [float(r.plane_minimum[k, 1])]}


def formulas(r: PerturbedLoss) -> Figure:
    """What was measured against what the theorems say, over ρ/r."""
    from plotly.subplots import make_subplots

    drawn = make_subplots(1, 3, horizontal_spacing=0.1, subplot_titles=["depth ΔL̃/ΔL", "curvature λ̃/λ", "shift"])
    for v, name in enumerate(r.valleys):
        look, smooth = mark(v), np.isfinite(r.depth_claimed[v, 0])
        curvature = r.curvature_claimed[v, 0]
        shown = {3: (r.minimum[v] - r.start[v], r.shift_claimed[v])}
        if smooth:
            shown[1] = (r.depth[v] / r.depth[v, 0], r.depth_claimed[v] / r.depth[v, 0])
            shown[2] = (r.curvature[v] / curvature, r.curvature_claimed[v] / curvature)
        for column, pair in shown.items():
            for values, dash, said in zip(pair, ("solid", "dot"), ("", ", theorem"), strict=True):
                drawn.add_scatter(
                    x=r.rho / r.reach[v], y=values, mode="lines", name=name, legendgroup=name,
                    showlegend=not said and column == (1 if smooth else 3), line={"color": look.color, "dash": dash},
                    hovertemplate=f"{name}{said}: %{{y:.4g}}<extra></extra>", row=1, col=column,
                )  # fmt: skip
    drawn.add_hline(y=0, line={"color": NEUTRAL, "width": 1}, row=1, col=1)
    drawn.update_xaxes(range=[0, 1])
    drawn.update_yaxes(range=[-0.4, 1.03], row=1, col=1)
    drawn.update_yaxes(range=[-0.5, 2], row=1, col=2)
    drawn.update_yaxes(range=[-0.02, 0.55], row=1, col=3)
    layout(drawn, ["ρ/r"] * 3, ["", "", "shift (θ)"])
    drawn.update_yaxes(type="log", row=1, col=2, tickformat="~g", nticks=5)
    return drawn
