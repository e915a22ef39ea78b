"""Figures of escape from saddles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from landscape.claim import pooled
from landscape.style import layout, mark

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from analyses.experiments.saddle_escape import SaddleEscape

EQUATION = (
    "Mean time until dy = −λ(1 + ρλ)y dt + √η dW, begun at the saddle of x² − y², is beyond the edge: simulated by "
    "Euler's and Maruyama's rule with two standard errors (marks), exact for its time step (line) and exact for the "
    "equation (dotted). The saddle repels below ρ = 1/|λ| = 0.5 and attracts above."
)


def sweeps(*results: SaddleEscape) -> Figure:
    """Part that left against batch size, one line for each momentum, one column for each method."""
    from plotly.subplots import make_subplots

    r = results[0]
    drawn = make_subplots(
        2, len(r.methods), subplot_titles=[f"x² − y²: {m}" for m in r.methods] + [f"network: {m}" for m in r.methods],
        vertical_spacing=0.2, horizontal_spacing=0.07, shared_yaxes=True,
    )  # fmt: skip
    for row, (key, batch) in enumerate((("toy_left", r.toy_batch), ("net_left", r.net_batch)), 1):
        left = np.mean([getattr(o, key) for o in results], axis=0)
        for column in range(len(r.methods)):
            for i, momentum in enumerate(r.momentum):
                look, name = mark(i), f"β = {momentum:g}"
                drawn.add_scatter(
                    x=batch, y=left[column, i], mode="lines+markers", name=name, legendgroup=name,
                    showlegend=row == column + 1 == 1, line=look.line(), marker=look.marker(),
                    row=row, col=column + 1,
                )  # fmt: skip
    drawn.update_yaxes(range=[-0.05, 1.05])
    drawn.update_annotations(font={"size": 12})
    titles = ["", "", "", *["batch size B"] * 3]
    layout(drawn, titles, ["part that left", "", "", "part that left", "", ""], height=560)
    drawn.update_xaxes(type="log", tickvals=[1, 2, 4, 8, 16], minor={"ticks": ""})
    return drawn


def equation(*results: SaddleEscape) -> Figure:
    """Mean exit time of the equation against ρ."""
    from plotly import graph_objects as go

    r = results[0]
    mean, error = pooled([o.sde for o in results], [o.sde_error for o in results])
    look = mark("sam")
    drawn = go.Figure()
    drawn.add_scatter(x=r.sde_rho, y=mean, mode="markers", name="simulated", marker=look.marker(),
                      error_y={"array": 2 * error, "width": 4})  # fmt: skip
    drawn.add_scatter(x=r.sde_rho, y=r.sde_chain, mode="lines", name="exact, finite step", line={"color": look.color})
    drawn.add_scatter(
        x=r.sde_rho, y=r.sde_limit, mode="lines", name="exact, equation", line={"color": look.color, "dash": "dot"}
    )
    drawn.add_vline(x=0.5, line={"dash": "dash"}, annotation_text="ρ = 1/|λ|", annotation_position="top left")
    return layout(drawn, "ρ", "mean exit time", log="y")
