"""The report is one file that says every word, and trusts nobody's names."""

from __future__ import annotations

import errno
import itertools
import math
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from hostile_names import PAYLOADS, everywhere
from plotly.offline import get_plotlyjs
from sample_report import interpolation_figure, radius_figure, sample_page

from landscape import report, style
from landscape.errors import InputError, ResourceError, UsageError
from landscape.report import Finding, Page, Panel, Section, Table, render, shown, tsv, write


class Outline(HTMLParser):
    """All start tags with their attributes, in order; scripts' contents apart."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html.replace(get_plotlyjs(), ""))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(tag, tuple(attributes)) for tag, attributes in self.tags]


@pytest.fixture(scope="module")
def html() -> str:
    return render(sample_page())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (0.0, "0"), (-0.0, "0"), (7, "7"), (-1234, "−1234"), (11_173_962, "11\u202f173\u202f962"),
        (0.0652, "0.06520"), (41.83761, "41.84"), (99.99951, "100.0"), (-2.5, "−2.500"), (123456.7, "123457"),
        (1234567.8, "1.235×10⁶"), (1.234e-5, "1.234×10⁻⁵"), (np.float32(0.5), "0.5000"), (np.int64(3), "3"),
        (math.nan, "not computed"), (math.inf, "∞"), (-math.inf, "−∞"), (None, "—"), (True, "yes"), ("a < b", "a < b"),
    ],
)  # fmt: skip
def test_a_cell_is_written_for_the_eye(value: object, text: str) -> None:
    assert shown(value) == text


def test_a_table_is_a_rectangle_and_a_column_of_numbers_is_known() -> None:
    with pytest.raises(ValueError, match="expected 2 cells"):
        Table("t", ("a", "b"), ((1,),))
    table = Table("t", ("a", "b", "c", "d"), ((1, "x", None, None), (math.nan, 2, None, 0.5)))
    assert report.numeric_columns(table) == (True, False, False, True)
    assert report.numeric_columns(Table("t", ("a", "b"), ())) == (False, False)


@pytest.mark.parametrize(
    ("answer", "first", "rest"),
    [
        ("One valley", "One valley", ""),
        ("A lies left. B is 1.2 times flatter. So be it", "A lies left.", "B is 1.2 times flatter. So be it."),
        ("Below, cf. the text, 0.5 and 1. are met", "Below, cf. the text, 0.5 and 1. are met", ""),
        ("a: one. Two\nb: three. Four", "a: one. Two\nb: three. Four", ""),  # an answer of several runs
        ("", "", ""),
    ],
)
def test_of_several_sentences_the_first_stands_out(answer: str, first: str, rest: str) -> None:
    assert report.opening(answer) == (first, rest)
    html = render(Page("t", "l", (Finding("q", answer),)))
    assert f"<strong>{first}</strong>{f'<p>{rest}</p>' if rest else ''}</dd>" in html


def test_the_copy_of_a_table_keeps_all_rows_and_digits_and_runs_no_formula() -> None:
    table = Table("t", ("a", "b"), ((0.1 + 0.2, "=1+1"), (None, "two\twords\n")))
    assert tsv(table) == "a\tb\n0.30000000000000004\t'=1+1\n\ttwo words\n"


def test_a_long_table_shows_200_rows_and_says_so() -> None:
    table = Table("t", ("row",), tuple((f"r{k:04}",) for k in range(1234)))
    html = render(Page("t", "l", tables=(table,)))
    assert html.count("<td>r") == 200
    assert "The first 200 of 1234 rows are shown" in html
    assert r"r1233\n" in html


def test_plotly_is_embedded_once_and_the_rest_is_small(html: str) -> None:
    assert html.count("plotly.js v") == get_plotlyjs().count("plotly.js v") == 1
    assert len(render(Page("t", "l")).encode()) < 4_900_000
    assert len(html.encode()) < 5_000_000


def test_the_policy_names_the_hash_of_each_script_and_nothing_else(html: str) -> None:
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    named = re.findall(r"'(sha256-[^']+)'", html.split("</head>")[0])
    assert named == [report.script_hash(script) for script in scripts]
    assert len(named) == 2
    assert "script-src 'sha256-" in html
    assert "default-src 'none'" in html


def test_the_same_page_gives_the_same_bytes(html: str) -> None:
    assert render(sample_page()) == html


def test_the_page_has_a_language_headings_in_order_and_unique_names(html: str) -> None:
    tags = Outline(html).tags
    assert ("html", {"lang": "en"}) in tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))
    names = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(names) == len(set(names))
    told = [a[key] for _, a in tags for key in ("aria-labelledby", "aria-describedby", "data-from") if key in a]
    assert set(told) <= set(names)
    links = [a["href"] for tag, a in tags if tag == "a"]
    assert {link[1:] for link in links} <= set(names)


def test_an_empty_report_reads_sensibly() -> None:
    html = render(Page("Nothing yet", "No result was given."))
    assert "Nothing has been measured yet" in html
    assert "<figure" not in html
    assert "<table" not in html


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_hostile_name_in_every_field_changes_no_tag(payload: str) -> None:
    page = render(everywhere(payload, payload))
    assert Outline(page).shape() == Outline(render(everywhere("h" * len(payload), "h"))).shape()


def test_webgl_traces_are_refused() -> None:
    figure = go.Figure(go.Scattergl(x=[1], y=[1]))
    page = Page("t", "l", sections=(Section("s", "q", (), (Panel("p", figure, "c", "landscape"),)),))
    with pytest.raises(ValueError, match="scattergl"):
        render(page)


def test_nothing_is_overwritten_without_force(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(UsageError, match="--force"):
        write(Page("t", "l"), path)
    assert path.read_text() == "mine"
    write(Page("t", "l"), path, force=True)
    assert path.read_text(encoding="utf-8") == render(Page("t", "l"))
    assert os.listdir(tmp_path) == ["report.html"]


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, ResourceError), (errno.EDQUOT, ResourceError), (errno.EACCES, InputError)]
)
def test_a_failed_write_leaves_the_old_file_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    path = tmp_path / "report.html"
    path.write_text("mine")

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(kind, match="could not be written"):
        write(Page("t", "l"), path, force=True)
    assert path.read_text() == "mine"
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_directory_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        write(Page("t", "l"), tmp_path / "absent" / "report.html")
    with pytest.raises(InputError, match="could not be written"):
        write(Page("t", "l"), tmp_path, force=True)


def test_importing_the_report_imports_neither_torch_nor_plotly() -> None:
    check = "import sys, landscape.report; sys.exit(bool({'torch', 'plotly', 'jinja2'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=Path(report.__file__).parents[1])


def luminance(color: str) -> float:
    """Relative luminance of a hex colour (WCAG 2.2)."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two hex colours (WCAG 2.2)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_colour_is_legible_on_both_pages(theme: style.Theme) -> None:
    look = style.template(theme)["layout"]
    card = look["hoverlabel"]["bgcolor"]
    for color in (style.TRAIN, style.TEST, style.NEUTRAL, *look["colorway"]):
        assert contrast(color, card) >= 3
    for color in (look["font"]["color"], look["xaxis"]["tickfont"]["color"]):
        assert contrast(color, card) >= 4.5


def test_the_colours_of_the_page_itself_are_legible() -> None:
    css = (Path(report.__file__).parent / "report.css").read_text(encoding="utf-8")
    ink = {name: pair for name, *pair in re.findall(r"--(\w+): light-dark\((#\w+), (#\w+)\)", css)}
    for at, ground, text in itertools.product((0, 1), ("page", "card", "wash"), ("ink", "soft", "link", "heed")):
        assert contrast(ink[ground][at], ink[text][at]) >= 4.5


def test_a_method_keeps_its_mark_and_no_code_is_colour_alone() -> None:
    assert style.mark("sgd") == style.mark(0) != style.mark("sgd-sam")
    assert style.mark("mine") == style.mark("mine")
    assert style.mark("mine") not in [style.mark(name) for name in style.METHODS]
    for part in ("color", "dash", "symbol"):
        assert len({getattr(mark, part) for mark in style.MARKS}) == len(style.MARKS)


def test_axes_carry_their_titles_in_order() -> None:
    figure = style.layout(interpolation_figure(), ("", "x (θ)"), ("error", "loss (nats)"), log=("y2",))
    assert (figure.layout.xaxis.title.text, figure.layout.xaxis2.title.text) == (None, "x (θ)")
    assert (figure.layout.yaxis.title.text, figure.layout.yaxis2.title.text) == ("error", "loss (nats)")
    assert (figure.layout.yaxis.type, figure.layout.yaxis2.type) == (None, "log")


def test_a_log_axis_spells_its_ticks_out_below_four_decades() -> None:
    figure = go.Figure([go.Scatter(x=[1, 2, 3, 4], y=[0.0, 0.1, np.nan, 10]), go.Scatter(x=[1], y=[100], yaxis="y2")])
    assert style.decades(figure, "y") == pytest.approx(2)
    assert style.decades(figure, "y2") == 0
    assert style.layout(figure, "x", "y", log="y").layout.yaxis.tickformat == "~g"
    assert style.layout(radius_figure(), "x", "y", log="y").layout.yaxis.tickformat is None
