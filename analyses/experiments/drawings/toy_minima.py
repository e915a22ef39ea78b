"""Figures of the review's toy functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analyses.experiments import toy_minima
from landscape.style import NEUTRAL, TRAIN, layout, mark

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from analyses.experiments.toy_minima import ToyMinima

SLIT = (
    "Part of nine starts left of the slit of x²(x − 1)²/(x² + 1e-4) that end in the slit at 0, at x = ρ, where SAM's "
    "gradient is 0 and the loss's is not, and at the minimum at 1, for each η and ρ. Lowest row: gradient descent."
)
RATE = (
    "Mean of ‖∇f(xₜ)‖² up to T for SAM with η₀/√t and ρ₀/√t on Σ x²/(1 + x²) with noisy gradients, mean over runs "
    "(marks), and the bound of theorem 2 with its own constants (dotted)."
)


def cross(*results: ToyMinima) -> Figure:
    """Largest eigenvalue at the end against ρ."""
    from plotly import graph_objects as go

    r = results[0]
    every = np.concatenate([o.spread_sharpness for o in results])
    low, middle, high = np.quantile(every, [0.25, 0.5, 0.75], axis=0)
    x = np.where(r.cross_rho > 0, r.cross_rho, 1e-6)
    drawn = go.Figure()
    look, other = mark("sam"), mark("sgd-sam")
    drawn.add_scatter(
        x=x, y=r.sharpness, mode="lines+markers", name="from (0, 1.3)", line=look.line(), marker=look.marker()
    )
    drawn.add_scatter(x=x * 1.12, y=middle, mode="markers", name="random starts", marker=other.marker(),
                      error_y={"array": high - middle, "arrayminus": middle - low, "width": 4})  # fmt: skip
    drawn.add_scatter(x=[1e-5], y=[toy_minima.CLAIMED_SAM], mode="markers", name="claimed",
                      marker={"symbol": "x", "size": 11, "color": TRAIN})  # fmt: skip
    drawn.add_hline(y=toy_minima.CLAIMED_GD, line={"color": NEUTRAL, "dash": "dash"})
    layout(drawn, "ρ", "largest eigenvalue (1/θ²)", log="xy")
    names = {1e-6: "GD", 1e-5: "10⁻⁵", 1e-4: "10⁻⁴", 1e-3: "0.001", 1e-2: "0.01", 1e-1: "0.1"}
    drawn.update_xaxes(tickvals=list(names), ticktext=list(names.values()), minor={"ticks": ""})
    return drawn


def slit(r: ToyMinima) -> Figure:
    """Where starts end, for each η and ρ."""
    from plotly.subplots import make_subplots

    found = toy_minima.fates(r.slit_end, r.slit_rho)
    drawn = make_subplots(1, len(found), subplot_titles=list(found), horizontal_spacing=0.06, shared_yaxes=True)
    for column, (name, part) in enumerate(found.items(), 1):
        drawn.add_heatmap(
            x=[f"{v:g}" for v in r.slit_lr], y=["GD" if v == 0 else f"{v:g}" for v in r.slit_rho], z=part.T,
            zmin=0, zmax=1,
            showscale=column == len(found), hovertemplate=f"η %{{x}}, ρ %{{y}}: %{{z:.0%}} {name}<extra></extra>",
            xgap=1, ygap=1, row=1, col=column,
        )  # fmt: skip
    drawn.update_xaxes(type="category")
    drawn.update_yaxes(type="category")
    return layout(drawn, ["η"] * 3, ["ρ", "", ""], height=380)


def rate(r: ToyMinima) -> Figure:
    """Mean squared gradient against T with the bound."""
    from plotly import graph_objects as go

    drawn = go.Figure()
    for i, rho in enumerate(r.rate_rho):
        look, name = mark(i), "SGD" if rho == 0 else f"SAM, ρ₀ = {rho:g}"
        drawn.add_scatter(x=r.step, y=r.gradient[i], mode="markers", name=name, legendgroup=name, marker=look.marker(6),
                          error_y={"array": 2 * r.gradient_error[i], "width": 2})  # fmt: skip
        drawn.add_scatter(x=r.step, y=r.bound[i], mode="lines", name=f"{name}, bound", legendgroup=name,
                          showlegend=False, line={"color": look.color, "dash": "dot"})  # fmt: skip
    return layout(drawn, "T", "mean squared gradient (1/θ²)", log="xy")
