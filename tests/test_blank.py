"""A figure of which nothing was measured gives way to the reason; axes with nothing on them say so."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import valley_kit as kit
from conftest import Command, Pair
from plotly.subplots import make_subplots

from analyses import asymmetry, shift
from analyses.pages import page, read
from analyses.run import ask
from landscape.blank import is_blank, known, notes, shows
from landscape.options import make
from landscape.report import Panel, render
from landscape.style import layout

NAN = float("nan")


def test_what_can_be_drawn_is_neither_nan_nor_infinite_nor_none() -> None:
    assert known([1, NAN, None, "a", np.inf, np.float32("nan")]).tolist() == [True, False, False, True, False, False]
    assert known([[1.0, NAN], np.array([2.0])]).tolist() == [True, False, True]
    assert known(np.array(["a", "b"])).all()
    assert known([]).tolist() == []


@pytest.mark.parametrize(
    ("trace", "seen"),
    [
        (go.Scatter(x=[1, 2], y=[NAN, 3]), True),
        (go.Scatter(x=[1, NAN], y=[NAN, 3]), False),  # no place has both
        (go.Scatter(y=[1]), True),
        (go.Scatter(x=[], y=[]), False),
        (go.Scatter(), False),
        (go.Bar(x=["a"], y=[None]), False),
        (go.Heatmap(x=["0.1", "0.2"], z=[[NAN, NAN]]), False),
        (go.Heatmap(z=[[NAN, 1.0]]), True),
        (go.Surface(z=np.zeros((2, 2))), True),
        (go.Pie(values=[1]), True),  # of what is not known here
    ],
)
def test_a_trace_shows_what_can_be_placed(trace: Any, seen: bool) -> None:
    assert shows(trace) == seen
    assert is_blank(go.Figure(trace)) != seen


def test_what_a_menu_or_a_frame_brings_counts() -> None:
    nothing = go.Heatmap(z=[[NAN]])
    button = {"label": "other", "method": "restyle", "args": [{"z": [[[1.0]]]}, [0]]}
    assert not is_blank(go.Figure(nothing).update_layout(updatemenus=[{"buttons": [button]}]))
    assert not is_blank(go.Figure(nothing, frames=[go.Frame(data=[go.Heatmap(z=[[1.0]])])]))
    assert is_blank(go.Figure(nothing, frames=[go.Frame(data=[nothing])]))


def test_axes_with_nothing_on_them_say_so_and_the_others_do_not() -> None:
    drawn = make_subplots(rows=3, cols=1)
    drawn.add_scatter(x=[0, 1], y=[0, 1], row=1, col=1)
    drawn.add_heatmap(z=[[NAN]], row=2, col=1)
    told = notes(layout(drawn, ("", "", "x"), ("a", "b", "c")))
    assert [(note["xref"], note["yref"], note["text"]) for note in told] == [
        ("x2 domain", "y2 domain", "not measured"),
        ("x3 domain", "y3 domain", "not measured"),
    ]
    assert notes(go.Figure(go.Scatter(x=[0], y=[0]))) == []


@pytest.mark.parametrize("analysis", [asymmetry, shift], ids=lambda a: a.NAME)
def test_the_reason_stands_where_a_loss_that_only_falls_has_no_valley_to_draw(
    analysis: ModuleType, tmp_path: Path
) -> None:
    problem = kit.problem(lambda z: -z)
    ends = [kit.at(kit.MINIMUM + step, name) for step, name in ((-0.3 * kit.AXIS, "a"), (0.8 * kit.AXIS, "b"))]
    alone = {"eigenvectors": 0, "gaussian": 0, "sign_matched": 0} if analysis is asymmetry else {}
    options: object = make(analysis.Options, alone)
    out = tmp_path / "r.h5"
    ask(analysis, problem, ends, [Path("a.pt"), Path("b.pt")], options, out, dtype="float64")  # type: ignore[arg-type]
    made = page([read(out)])
    assert is_blank(made.sections[0].panels[0].figure)
    html = render(made)
    assert 'class="plot"' not in html
    assert "no minimum within reach" in html.split('<p class="nothing"')[1].split("</p>")[0]


def test_what_was_measured_is_drawn(pair: Pair, run: Command, tmp_path: Path) -> None:
    out = tmp_path / "r.h5"
    quick = ("--gaussian", "1", "--sign-matched", "1", "--eigenvectors", "0", "--points", "4")
    done = run("asymmetry", pair.paths[0], "--toward", pair.paths[1], *quick, "--out", out, "-q")
    assert done.exit_code == 0, done.output
    made: Panel = page([read(out)]).sections[0].panels[0]
    assert not is_blank(made.figure)
    assert notes(made.figure) == []
