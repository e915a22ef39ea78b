"""Sliders and play buttons for figures: steps are frames that replace the data of some traces, nothing is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

ROOM = 92
"""Height in px that a slider takes below the plot."""


def slide(
    figure: Figure,
    frames: Sequence[Sequence[dict[str, Any]]],
    names: Sequence[str],
    traces: Sequence[int],
    *,
    prefix: str,
    play: bool = False,
    start: int = 0,
    milliseconds: int = 90,
) -> Figure:
    """Give a figure a slider, below the plot, and a play button if it shows time.

    Args:
        figure: Figure to change in place; its traces show step `start`.
        frames: For each step, for each of `traces`, what replaces its data.
        names: What each step is called on the slider; all different.
        traces: Indices of the traces that change.
        prefix: What stands before the step's name, as "ρ = ".
        play: Whether there is a button to play and one to pause.
        start: Step that is shown first.
        milliseconds: Time of one step while it plays.

    Returns:
        The same figure.
    """
    kinds = [figure.data[trace].type for trace in traces]
    figure.frames = [
        {"name": name, "traces": list(traces), "data": [{"type": k, **d} for k, d in zip(kinds, data, strict=True)]}
        for name, data in zip(names, frames, strict=True)
    ]
    redraw = any(trace.type != "scatter" for trace in figure.data)  # without it Plotly drops all other kinds
    now = {"mode": "immediate", "frame": {"duration": 0, "redraw": redraw}, "transition": {"duration": 0}}
    going = {**now, "fromcurrent": True, "frame": {"duration": milliseconds, "redraw": redraw}}
    steps = [{"label": n, "method": "animate", "args": [[n], now]} for n in names]
    figure.update_layout(
        sliders=[
            {
                "active": start, "steps": steps,
                "currentvalue": {"prefix": prefix, "xanchor": "right" if play else "left"},
                "x": 0.12 if play else 0, "len": 0.88 if play else 1, "y": 0, "yanchor": "top",
                "pad": {"t": 44, "b": 4},
            }
        ]
    )  # fmt: skip
    if play:
        buttons = [
            {"label": "▶", "method": "animate", "args": [None, going]},
            {"label": "❚❚", "method": "animate", "args": [[None], now]},
        ]
        figure.update_layout(
            updatemenus=[
                {
                    "type": "buttons", "direction": "left", "showactive": False, "buttons": buttons,
                    "x": 0, "xanchor": "left", "y": 0, "yanchor": "top", "pad": {"t": 60},
                }
            ]
        )  # fmt: skip
    return figure
