"""View: one of several figures of one result."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


class View(NamedTuple):
    """A figure with its title and how to read it."""

    title: str
    figure: Figure
    caption: str
