"""Figures of exit times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from landscape.claim import pooled
from landscape.result import Array
from landscape.style import NEUTRAL, Mark, layout, mark

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from analyses.experiments.exit_time import ExitTime

SAM = (
    "SAM with normalised perturbations in the same valley at λ = 1, begun at 0. Left: mean exit time against ρ in "
    "units of half the valley's width, simulated with two standard errors (marks) and exact (lines). Right: part of "
    "the walks that is inside still, simulated (steps) and exact (dotted), without SAM and at the largest ρ."
)


def exits(*results: ExitTime) -> Figure:
    """Mean exit time against B/η, and its exponent over the theorem's."""
    from plotly.subplots import make_subplots

    r = results[0]
    mean, error = pooled([o.mean for o in results], [o.error for o in results])
    drawn = make_subplots(
        1, 2, subplot_titles=["mean exit time", "(η/B) ln E[ν] over the theorem's limit"], horizontal_spacing=0.14
    )
    for i, curvature in enumerate(r.curvature):
        look, name, x = mark(i), f"λ = {curvature:g}", r.batch[i] / r.lr
        claimed = r.chain[i, 0] * np.exp(r.claimed[i] * (x - x[0]))
        _simulated(drawn, x, mean[i], error[i], look, name)
        _curve(drawn, x, r.chain[i], f"{name}, exact", name, {"color": look.color})
        _curve(drawn, x, claimed, f"{name}, theorem", name, {"color": look.color, "dash": "dot"})
        drawn.add_scatter(
            x=r.scale, y=r.exponent[i] / r.claimed[i], mode="lines+markers", name=name, legendgroup=name,
            showlegend=False, marker=look.marker(), line={"color": look.color}, row=1, col=2,
        )  # fmt: skip
    drawn.add_hline(y=1, line={"color": NEUTRAL, "dash": "dot"}, row=1, col=2)
    layout(drawn, ["B/η", "2(B/η)ΔL/λ"], ["steps · η", ""], log=("y", "x2"))
    drawn.update_yaxes(rangemode="tozero", row=1, col=2)
    return drawn


def sam(*results: ExitTime) -> Figure:
    """SAM's mean exit time against ρ, and survival curves."""
    from plotly.subplots import make_subplots

    r = results[0]
    mean, error = pooled([o.sam for o in results], [o.sam_error for o in results])
    survival = np.mean([o.survival for o in results], axis=0)
    drawn = make_subplots(1, 2, subplot_titles=["mean exit time", "part of the walks inside"], horizontal_spacing=0.14)
    for i, seen in enumerate(r.ascent):
        look, name = mark(("sam", "sgd-sam")[i]), f"SAM, ascent on {seen}"
        _simulated(drawn, r.rho, mean[i], error[i], look, name)
        _curve(drawn, r.rho, r.sam_chain[i], f"{name}, exact", name, {"color": look.color})
        _survival(drawn, r, survival[i, -1], r.survival_exact[i, -1], look.color, name)
    _survival(drawn, r, survival[0, 0], r.survival_exact[0, 0], mark("sgd").color, "SGD", shown=True)
    return layout(drawn, ["ρ over half the width", "steps"], ["steps · η", ""], log=("y", "x2"))


def _simulated(drawn: Figure, x: Array, mean: Array, error: Array, look: Mark, name: str) -> None:
    """Marks with two standard errors, on the left."""
    drawn.add_scatter(
        x=x, y=mean, mode="markers", name=name, legendgroup=name, marker=look.marker(),
        error_y={"array": 2 * error, "width": 4}, row=1, col=1,
    )  # fmt: skip


def _curve(
    drawn: Figure, x: Array, y: Array, name: str, group: str, line: dict[str, str], col: int = 1, shown: bool = False
) -> None:
    drawn.add_scatter(
        x=x, y=y, mode="lines", name=name, legendgroup=group, showlegend=shown, line=line, row=1, col=col
    )  # fmt: skip


def _survival(
    drawn: Figure, r: ExitTime, part: Array, exact: Array, color: str, name: str, shown: bool = False
) -> None:
    _curve(drawn, r.step, part, name, name, {"color": color, "shape": "hv"}, 2, shown)
    _curve(drawn, r.step, exact, f"{name}, exact", name, {"color": color, "dash": "dot"}, 2)
