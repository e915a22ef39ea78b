"""Figures of flatness: losses, the perturbed loss, the choice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analyses.experiments.drawings.animation import ROOM, slide
from landscape.claim import pooled
from landscape.style import NEUTRAL, TEST, TRAIN, layout, mark

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from analyses.experiments.flatness import Flatness

PERTURBED = (
    "One empirical loss L and L̃, its worst value within ρ. Move the slider: the sharp minimum rises first, and the "
    "lowest point of L̃ (star) changes over to the flat one."
)
CHOICE = (
    "Left: part of the draws in which L̃ is lowest at the flat minimum. Right: change of the population loss of what "
    "is chosen, against choosing with ρ = 0, with two standard errors; below 0 is better. Lines: by how much the "
    "sharp minimum is deeper in the population."
)
KINDS = ((TRAIN, "circle"), (TEST, "square"))


def losses(*results: Flatness) -> Figure:
    """Population loss, ten empirical losses, and the population loss at the minima of all."""
    from plotly import graph_objects as go

    r = results[0]
    drawn = go.Figure()
    thin = slice(None, None, 4)
    for i, loss in enumerate(r.empirical):
        drawn.add_scatter(
            x=r.place[thin],
            y=loss[thin],
            mode="lines",
            name="empirical losses",
            legendgroup="empirical",
            showlegend=i == 0,
            line={"color": mark(3).color, "width": 1},
            opacity=0.55,
            hoverinfo="skip",
        )
    drawn.add_scatter(
        x=r.place[thin],
        y=r.population[thin],
        mode="lines",
        name="population loss",
        line={"color": NEUTRAL, "width": 3.5},
    )
    for k, (kind, (color, symbol)) in enumerate(zip(r.minima, KINDS, strict=True)):
        x, y = (np.concatenate([getattr(o, key)[:, k] for o in results]) for key in ("minimum", "worth"))
        drawn.add_scatter(x=x, y=y, mode="markers", name=f"{kind} minima", opacity=0.6,
                          marker={"color": color, "symbol": symbol, "size": 6})  # fmt: skip
    return layout(drawn, "w", "loss")


def perturbed(r: Flatness) -> Figure:
    """One empirical loss and its L̃, with a slider for ρ."""
    from plotly import graph_objects as go

    drawn = go.Figure()
    thin = slice(None, None, 4)
    at, first = r.perturbed.argmin(-1), 3
    drawn.add_scatter(x=r.place[thin], y=r.empirical[0, thin], mode="lines", name="L", line=mark(0).line())
    drawn.add_scatter(x=r.place[thin], y=r.perturbed[first, thin], mode="lines", name="L̃", line=mark(1).line())
    lowest = {"x": [r.place[at[first]]], "y": [r.perturbed[first, at[first]]]}
    drawn.add_scatter(**lowest, mode="markers", name="lowest point of L̃",
                      marker={"symbol": "star", "size": 13, "color": TRAIN})  # fmt: skip
    frames = [[{"y": loss[thin]}, {"x": [r.place[k]], "y": [loss[k]]}] for loss, k in zip(r.perturbed, at, strict=True)]
    slide(drawn, frames, [f"{rho:g}" for rho in r.rho], [1, 2], prefix="ρ = ", start=first)
    return layout(drawn, "w", "loss", height=380 + ROOM)


def choice(*results: Flatness) -> Figure:
    """How often the flat minimum is chosen, and what that is worth."""
    from plotly.subplots import make_subplots

    r = results[0]
    flat = np.mean([o.flat for o in results], axis=0)
    gain, error = pooled([o.gain for o in results], [o.gain_error for o in results])
    titles = ["part that chooses the flat minimum", "change of the population loss"]
    drawn = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.14)
    for i, advantage in enumerate(r.advantage):
        look, name = mark(i), f"sharp deeper by {advantage:g}"
        drawn.add_scatter(x=r.rho, y=flat[i], mode="lines+markers", name=name, legendgroup=name, line=look.line(),
                          marker=look.marker(), row=1, col=1)  # fmt: skip
        drawn.add_scatter(x=r.rho, y=gain[i], mode="lines+markers", name=name, legendgroup=name, showlegend=False,
                          line=look.line(), marker=look.marker(), error_y={"array": 2 * error[i], "width": 3},
                          row=1, col=2)  # fmt: skip
    drawn.add_hline(y=0, line={"color": NEUTRAL, "dash": "dash"}, row=1, col=2)
    return layout(drawn, ["ρ", "ρ"], ["", ""])
