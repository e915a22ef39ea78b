"""How every figure looks: colours, marks, one layout template for light and one for dark pages.

Train is red and test is blue, as in the thesis this toolkit grew from. Checkpoints and methods take the
colours of Okabe and Ito (2008), each with its own dash and marker so that colour is never the only code; their
orange, sky blue and yellow are darkened or left out until every colour has a contrast of 3:1 or more on both
page backgrounds (WCAG 2.2, 1.4.11). Plotly is not imported here: a template is a plain dictionary.
"""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TRAIN = "#dc3f3f"
TEST = "#2f7fd6"
NEUTRAL = "#808488"
"""Reference lines, optima, the position of a checkpoint: legible on light and on dark."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
HEIGHT = 420
"""Height of a figure in px, where it does not say."""

Theme = Literal["light", "dark"]


@dataclass(frozen=True)
class Mark:
    """How one checkpoint, method or seed is drawn.

    Attributes:
        color: Hex colour.
        dash: Plotly's name of a dash pattern.
        symbol: Plotly's name of a marker.
    """

    color: str
    dash: str
    symbol: str

    def line(self, width: float = 2) -> dict[str, Any]:
        """Return the `line` of a trace, `width` in px."""
        return {"color": self.color, "dash": self.dash, "width": width}

    def marker(self, size: float = 8) -> dict[str, Any]:
        """Return the `marker` of a trace, `size` in px."""
        return {"color": self.color, "symbol": self.symbol, "size": size}


MARKS = (
    Mark("#c47f00", "solid", "circle"),
    Mark("#009e73", "dash", "square"),
    Mark("#cc79a7", "dot", "diamond"),
    Mark("#3a9bd0", "dashdot", "triangle-up"),
    Mark("#d55e00", "longdash", "cross"),
    Mark("#0072b2", "longdashdot", "x"),
    Mark(NEUTRAL, "8px,2px,2px,2px", "star"),
)

METHODS = ("sgd", "sgd-sam", "sam", "sam-sgd", "psam")
"""Methods that keep their mark in every figure of every report."""


def mark(key: int | str) -> Mark:
    """Choose the mark of a checkpoint by its place, or of a method by its name.

    Args:
        key: Index from 0 (seven marks, then from the start again), or a method's name.

    Returns:
        The same mark for the same key, always; an unknown method gets one of the two that no known method has.
    """
    if isinstance(key, int):
        return MARKS[key % len(MARKS)]
    if key in METHODS:
        return MARKS[METHODS.index(key)]
    return MARKS[len(METHODS) + sum(key.encode("utf-8", "replace")) % (len(MARKS) - len(METHODS))]


def plain(text: str) -> str:
    """Escape a name for any text in a Plotly figure.

    Plotly reads a pseudo-HTML in titles, legends, ticks and hover text, fills in `%{…}` in hover templates
    and hands `$…$` to MathJax. Entities are decoded after all three have looked, so they show as typed.

    Args:
        text: A name as the user gave it.

    Returns:
        Text that Plotly shows letter by letter, on one line, without control characters.
    """
    words = re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+", " ", text)
    return html.escape(words, quote=False).replace("{", "&#123;").replace("$", "&#36;")


@dataclass(frozen=True)
class _Ink:
    text: str
    soft: str
    grid: str
    axis: str
    card: str


_INKS: dict[Theme, _Ink] = {
    "light": _Ink(text="#23272e", soft="#555c66", grid="#e8eaed", axis="#aeb4bd", card="#ffffff"),
    "dark": _Ink(text="#e4e7eb", soft="#a7aeb8", grid="#2d333b", axis="#596270", card="#1b1f24"),
}


_CLEAR = "rgba(0,0,0,0)"


def _axis(ink: _Ink) -> dict[str, Any]:
    return {
        "automargin": True, "gridcolor": ink.grid, "linecolor": ink.axis, "showline": True, "tickcolor": ink.axis,
        "ticks": "outside", "ticklen": 4, "zeroline": False, "exponentformat": "power", "minexponent": 4,
        "title": {"standoff": 10, "font": {"size": 13, "color": ink.text}}, "tickfont": {"color": ink.soft},
        "hoverformat": ".4~g",
    }  # fmt: skip


def _scene(ink: _Ink) -> dict[str, Any]:
    axis = {"gridcolor": ink.grid, "linecolor": ink.axis, "zerolinecolor": ink.axis, "backgroundcolor": _CLEAR}
    camera = {"eye": {"x": 1.5, "y": 1.5, "z": 1.1}, "center": {"z": -0.15}}
    return {"camera": camera, "xaxis": axis, "yaxis": axis, "zaxis": axis}


def _colorbar(ink: _Ink) -> dict[str, Any]:
    return {
        "thickness": 12, "outlinewidth": 0, "ticks": "outside", "ticklen": 4, "tickcolor": ink.axis,
        "tickfont": {"color": ink.soft}, "title": {"side": "right", "font": {"size": 13}}, "exponentformat": "power",
    }  # fmt: skip


def _slider(ink: _Ink) -> dict[str, Any]:
    return {
        "bgcolor": ink.grid, "activebgcolor": ink.soft, "bordercolor": ink.axis, "tickcolor": ink.axis, "ticklen": 4,
        "minorticklen": 2, "font": {"color": ink.soft, "size": 11.5},
        "currentvalue": {"font": {"color": ink.text, "size": 13}},
    }  # fmt: skip


def template(theme: Theme = "light") -> dict[str, Any]:
    """Build the layout template of all figures.

    Args:
        theme: For a light or a dark page; backgrounds are transparent in both.

    Returns:
        A Plotly template: fonts, margins, grid, legend above the plot, compact colour bars.
    """
    ink = _INKS[theme]
    bar = _colorbar(ink)
    layout = {
        "font": {"family": FONT, "size": 12.5, "color": ink.text},
        "colorway": [each.color for each in MARKS],
        "colorscale": {"sequential": "Viridis", "sequentialminus": "Viridis", "diverging": "RdBu"},
        "coloraxis": {"colorbar": bar},
        "paper_bgcolor": _CLEAR, "plot_bgcolor": _CLEAR,
        "margin": {"l": 56, "r": 16, "t": 16, "b": 48}, "bargap": 0.35, "bargroupgap": 0.08,
        "xaxis": _axis(ink), "yaxis": _axis(ink), "scene": _scene(ink),
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "top", "yref": "container",
                   "bgcolor": _CLEAR, "itemsizing": "trace", "font": {"size": 12.5}},
        "hoverlabel": {"bgcolor": ink.card, "bordercolor": ink.axis, "align": "left",
                       "font": {"family": FONT, "color": ink.text}, "namelength": 40},
        "modebar": {"bgcolor": _CLEAR, "color": ink.axis, "activecolor": ink.text},
        "annotationdefaults": {"font": {"color": ink.text, "size": 13}, "arrowcolor": ink.soft},
        "shapedefaults": {"line": {"color": NEUTRAL, "width": 1}},
        "sliderdefaults": _slider(ink),
        "updatemenudefaults": {"bgcolor": ink.card, "bordercolor": ink.axis, "font": {"color": ink.text}},
    }  # fmt: skip
    field = {"colorbar": bar, "colorscale": "Viridis"}
    fields = {kind: [field] for kind in ("heatmap", "contour", "surface", "histogram2d")}
    bars = {"marker": {"line": {"width": 0}}, "error_y": {"color": ink.text}, "error_x": {"color": ink.text}}
    return {"layout": layout, "data": {**fields, "bar": [bars]}}


@functools.cache
def _light() -> Any:
    """Validate the light template once; doing so takes Plotly as long as drawing thirty figures."""
    from plotly.graph_objects import layout as parts

    return parts.Template(template("light"))


def layout(
    figure: Figure,
    x: str | Sequence[str],
    y: str | Sequence[str],
    *,
    log: Collection[str] = "",
    height: int = HEIGHT,
    hover: Literal["closest", "x", "x unified"] = "closest",
) -> Figure:
    """Give a figure the common look and its axes their titles.

    Args:
        figure: Figure to change in place, with all its traces.
        x: Title of the x axis with its unit, as "loss (nats)"; of a figure with subplots one for each axis in
            order, "" for none. Under 40 characters, or it is cut off on a telephone.
        y: The same for y.
        log: Which axes are logarithmic: "x", "y" or "xy", in every subplot; or their names, as ("y2",).
        height: Height in px on a wide page.
        hover: What the pointer shows; "x" and "x unified" show all lines at one x.

    Returns:
        The same figure.
    """
    figure.update_layout(template=_light(), height=height, hovermode=hover)
    if any(note.y == 1 and note.yref == "paper" for note in figure.layout.annotations or ()):
        figure.update_layout(margin={"t": 48})  # titles of subplots
    figure.update_annotations(font={"size": 13}, selector={"font": {"size": 16}})  # which Plotly sets in 16 px
    for letter, axes, titles in (("x", figure.select_xaxes(), x), ("y", figure.select_yaxes(), y)):
        texts = iter([titles] if isinstance(titles, str) else titles)
        for axis in axes:
            text = next(texts, "")
            if text:
                axis.title.text = text
            name = axis.plotly_name.replace("axis", "")
            if letter in log or name in log:
                axis.update(_log_axis(decades(figure, name)))
    return figure


def _log_axis(span: float) -> dict[str, Any]:
    """Label powers of ten; below four decades Plotly labels 20 and 50 too, as a lone 2 and 5 if it is let."""
    labels = {"tickformat": "~g"} if span < 3.7 else {"tickfont": {"size": 10.5}}  # it enlarges powers by a quarter
    return {"type": "log", "nticks": 5, "minor": {"ticks": "outside", "ticklen": 2}, **labels}


def decades(figure: Figure, axis: str) -> float:
    """Measure how many powers of ten the positive values on an axis span.

    Args:
        figure: Figure with its traces.
        axis: "x", "y", "x2" and so on.

    Returns:
        log10 of the largest over the smallest; 0 where there is none.
    """
    letter = axis[0]
    traces = [trace for trace in figure.data if (getattr(trace, f"{letter}axis", None) or letter) == axis]
    values = [np.asarray(getattr(trace, letter), dtype=float).ravel() for trace in traces if letter in trace]
    filled = np.concatenate([[], *values])
    filled = filled[np.isfinite(filled) & (filled > 0)]
    return float(np.log10(filled.max() / filled.min())) if filled.size else 0.0
