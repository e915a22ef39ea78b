"""The figure of lines: error above, loss below on a log axis; train red, test blue, thin lines for single seeds.

Where a point could not be measured, curves and bands have a gap and a cross marks the place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from landscape.binomial import wilson
from landscape.interpolation import OK, Interpolation, curve_of
from landscape.result import SPLITS, Array
from landscape.style import NEUTRAL, TEST, TRAIN, layout, plain

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def draw(results: Sequence[Interpolation], ends: Sequence[str]) -> Figure:
    """Draw lines, one for each seed; of regressions, whose error is their loss, the loss alone.

    Args:
        results: The lines.
        ends: What stands at α = 0 and at α = 1.

    Returns:
        The figure.
    """
    from plotly.subplots import make_subplots

    both = results[0].classifies
    drawn = make_subplots(rows=2 if both else 1, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for s, name in enumerate(SPLITS):
        if both:
            _draw_split(drawn, 1, [_errors(r, s) for r in results], name, smooth=False, first=True)
            _draw_band(drawn, results, s)
        _draw_split(drawn, 1 + both, [_losses(r, s) for r in results], name, smooth=True, first=not both)
    _draw_missing(drawn, 1 + both, results)
    for place, end in enumerate(ends):
        drawn.add_vline(x=place, line={"color": NEUTRAL, "dash": "dot", "width": 1})
        drawn.add_annotation(
            x=place,
            y=1.0,
            yref="paper",
            yanchor="bottom",
            text=plain(end),
            showarrow=False,
            xanchor=("right", "left")[place],
        )
    if both:
        layout(drawn, ("", "α"), ("error", "loss (nats)"), log=("y2",), height=560, hover="x unified")
        drawn.update_yaxes(tickformat=".0%", rangemode="tozero", row=1, col=1)
    else:
        layout(drawn, ("α",), ("loss",), log=("y",), height=420, hover="x unified")
    return drawn


Drawn = tuple[Array, Callable[[Array], Array]]
"""Measured places, and the values of a curve at any place."""


def _errors(result: Interpolation, s: int) -> Drawn:
    """Straight lines between measured errors, with a gap at each that is missing."""
    return result.alpha, lambda at: np.interp(at, result.alpha, result.error[s], left=np.nan, right=np.nan)


def _losses(result: Interpolation, s: int) -> Drawn:
    """The curve through the measured losses, with a gap at each that is missing."""
    curve = curve_of(result.alpha, result.loss[s], result.slope if s == 0 else None)
    if curve:
        return result.alpha, curve.positive()
    return result.alpha, lambda at: np.interp(at, result.alpha, result.loss[s])


def _between(places: Sequence[Array], smooth: bool) -> Array:
    """All places, for a smooth curve with an even grid among them."""
    x = np.unique(np.concatenate(places))
    return np.union1d(x, np.linspace(x[0], x[-1], 241)) if smooth else x


def _draw_split(
    drawn: Figure, row: int, curves: Sequence[Drawn], name: str, smooth: bool, first: bool
) -> None:  # fmt: skip
    """Curves of one split with their mean; in the legend if they are the first of it."""
    line = {"color": TRAIN if name == "train" else TEST, "dash": "solid" if name == "train" else "dash"}
    several = len(curves) > 1
    for run, (x, curve) in enumerate(curves):
        at = _between([x], smooth)
        drawn.add_scatter(
            x=at, y=curve(at), mode="lines", line={**line, "width": 1 if several else 2}, name=name, legendgroup=name,
            opacity=0.45 if several else 1, showlegend=first and run == 0 and not several,
            hoverinfo="skip" if several else None, row=row, col=1,
        )  # fmt: skip
        if not several:
            drawn.add_scatter(
                x=x, y=curve(x), mode="markers", marker={"color": line["color"], "size": 5}, legendgroup=name,
                showlegend=False, hoverinfo="skip", row=row, col=1,
            )  # fmt: skip
    if several:
        at = _between([x for x, _ in curves], smooth)
        drawn.add_scatter(
            x=at, y=np.mean([curve(at) for _, curve in curves], axis=0), mode="lines", line={**line, "width": 3},
            name=f"{name}, mean of {len(curves)}", legendgroup=name, showlegend=first, row=row, col=1,
        )  # fmt: skip


def _draw_missing(drawn: Figure, row: int, results: Sequence[Interpolation]) -> None:
    """Crosses at the foot of the losses where none was computed."""
    missing = np.unique(np.concatenate([r.alpha[r.status != OK] for r in results]))
    values = np.concatenate([r.loss.ravel() for r in results])
    values = values[np.isfinite(values) & (values > 0)]
    if not len(missing) or not len(values):
        return
    drawn.add_scatter(
        x=missing, y=np.full(len(missing), values.min()), mode="markers", name="not computed", cliponaxis=False,
        marker={"color": NEUTRAL, "symbol": "x", "size": 7}, hovertemplate="not computed<extra></extra>",
        row=row, col=1,
    )  # fmt: skip


def _draw_band(drawn: Figure, results: Sequence[Interpolation], s: int) -> None:
    """The 95 % interval of the mean error over seeds, for the examples of one split; with the gaps of the errors."""
    curves = [_errors(r, s) for r in results]
    at = _between([x for x, _ in curves], smooth=False)
    mean = np.mean([curve(at) for _, curve in curves], axis=0)
    known = np.isfinite(mean)
    for run in np.split(np.arange(len(at)), np.flatnonzero(known[1:] != known[:-1]) + 1):
        if not known[run[0]]:
            continue
        x, (low, high) = at[run], wilson(mean[run], int(results[0].examples[s]))
        drawn.add_scatter(
            x=np.concatenate([x, x[::-1]]), y=np.concatenate([high, low[::-1]]), fill="toself", mode="none",
            fillcolor=(TRAIN, TEST)[s], opacity=0.15, legendgroup=SPLITS[s], showlegend=False, hoverinfo="skip",
            row=1, col=1,
        )  # fmt: skip
