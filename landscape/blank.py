"""What a figure does not show: a NaN is a gap, and axes with nothing but gaps say less than a word does.

A trace shows something if a number of it can be placed: a finite z, or an x and a y that are known together. What a
menu of the figure would put in its place, and the frames of an animation, count as well. Plotly is not imported here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from landscape.result import Array

NOT_MEASURED = "not measured"


def known(values: Any) -> Array:
    """Which of some values can be drawn.

    Args:
        values: Numbers, texts or None, of any shape, nested as they come.

    Returns:
        Truth values, flat: false for NaN, infinities and None.
    """
    if not isinstance(values, (list, tuple, np.ndarray)):
        drawable = values is not None and not (isinstance(values, (float, np.floating)) and not np.isfinite(values))
        return np.array([drawable])
    if isinstance(values, np.ndarray) and values.dtype.kind != "O":
        return np.isfinite(values).ravel() if values.dtype.kind == "f" else np.ones(values.size, dtype=bool)
    return np.concatenate([np.zeros(0, dtype=bool), *(known(value) for value in values)])


def shows(trace: Any) -> bool:
    """Whether anything of a trace can be seen."""
    if "z" in trace and trace["z"] is not None:
        return bool(known(trace["z"]).any())
    given = [known(trace[key]) for key in ("x", "y") if key in trace and trace[key] is not None]
    if not given:
        return trace.type not in {"scatter", "bar", "heatmap", "contour", "surface", "scatter3d", "histogram"}
    return bool(np.logical_and.reduce([each[: min(map(len, given))] for each in given]).any())


def is_blank(figure: Any) -> bool:
    """Whether nothing of a figure can be seen, whatever is pressed in it."""
    frames = (trace for frame in figure.frames for trace in frame.data)
    return not any(map(shows, (*figure.data, *frames))) and not any(known(z).any() for z in _choices(figure))


def _choices(figure: Any) -> Iterator[Any]:
    """Numbers that a menu puts into the figure."""
    for menu in figure.layout.updatemenus or ():
        for button in menu.buttons:
            changed = button.args[0] if button.args and isinstance(button.args[0], dict) else {}
            yield from (changed[key] for key in ("y", "z") if key in changed)


def notes(figure: Any) -> list[dict[str, Any]]:
    """Words for the middle of each pair of axes on which nothing can be seen.

    Args:
        figure: Any of one or several pairs of axes; one with menus or frames is left alone.

    Returns:
        Annotations of Plotly's layout.
    """
    if figure.frames or figure.layout.updatemenus:
        return []
    seen = {getattr(trace, "yaxis", None) or "y" for trace in figure.data if shows(trace)}
    blank = [axis for axis in figure.select_yaxes() if not axis.overlaying and _name(axis) not in seen]
    return [
        {
            "text": NOT_MEASURED, "showarrow": False, "x": 0.5, "y": 0.5,
            "xref": f"{axis.anchor or 'x'} domain", "yref": f"{_name(axis)} domain",
        }
        for axis in blank
    ]  # fmt: skip


def _name(axis: Any) -> str:
    return str(axis.plotly_name).replace("axis", "")
