"""One self-contained HTML file that shows a study: words first, then tables, then plots.

The page knows no analysis: it is given words, tables and figures. It opens from a disk, asks the network for
nothing, and runs no script but its own two, whose SHA-256 stand in its content security policy. Every string
may come from a stranger's checkpoint and is escaped here; inside a figure `landscape.style.plain` does it.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscape import __version__
from landscape.blank import is_blank, notes
from landscape.claim import Claim
from landscape.files import atomic
from landscape.style import HEIGHT, template

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Value = str | float | int | None
ROWS_SHOWN = 200
"""Rows of a table on the page; the rest is in its copy."""


@dataclass(frozen=True)
class Table:
    """A table, sortable by each of its columns.

    Attributes:
        title: Heading, may be empty.
        columns: Names of the columns with units.
        rows: Cells; numbers are shown to 4 significant digits, NaN as "not computed", None as a dash.
        note: A line below the table.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    note: str = ""

    def __post_init__(self) -> None:
        """Check that the table is a rectangle.

        Raises:
            ValueError: If a row has another number of cells than there are columns.
        """
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"expected {len(self.columns)} cells in each row of {self.title!r}, got {len(row)}")


@dataclass(frozen=True)
class Panel:
    """One figure with all that is needed to read it and to make it again.

    Attributes:
        title: What is shown.
        figure: Plotly figure, made with `landscape.style.layout`; a NaN is a gap, and of gaps alone there is no plot.
        caption: How to read it.
        command: Shell command that reproduces it.
        summary: What it says, in plain words, for those who cannot see it too.
        data: The numbers behind it.
        source: Provenance, key to value.
        anchor: What a link to it says: a plain word, "" for none.
    """

    title: str
    figure: Figure
    caption: str
    command: str
    summary: str = ""
    data: Table | None = None
    source: Mapping[str, str] = field(default_factory=dict)
    anchor: str = ""


@dataclass(frozen=True)
class Section:
    """One question with what was found and its figures."""

    title: str
    question: str
    findings: tuple[str, ...] = ()
    panels: tuple[Panel, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A question, its answer with uncertainty, the first sentence of which stands out, and the numbers behind it."""

    question: str
    answer: str
    detail: str = ""


@dataclass(frozen=True)
class Page:
    """The whole report, in the order of reading.

    Attributes:
        title: Title of the page.
        lead: One sentence: what was compared, on what.
        findings: The verdicts, on the first screen.
        tables: What was compared: one row for each checkpoint.
        sections: The evidence.
        warnings: What to be careful with.
        provenance: Versions, inputs and their hashes, commands.
        claims: What was claimed beside what was found; they stand before the findings.
        remark: How the claims were tested, in a sentence or two.
    """

    title: str
    lead: str
    findings: tuple[Finding, ...] = ()
    tables: tuple[Table, ...] = ()
    sections: tuple[Section, ...] = ()
    warnings: tuple[str, ...] = ()
    provenance: tuple[Table, ...] = ()
    claims: tuple[Claim, ...] = ()
    remark: str = ""


def is_number(value: object) -> bool:
    """Tell a number (NumPy's too) from text, None and truth values."""
    return isinstance(value, Real) and not isinstance(value, bool)


def shown(value: object) -> str:
    """Write a cell for the eye.

    Args:
        value: Text, a number or None.

    Returns:
        Integers in full, other numbers to 4 significant digits with a true minus sign, text as it is.
    """
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        digits = f"{int(value):,}" if abs(int(value)) >= 10_000 else str(int(value))
        return digits.replace(",", "\u202f").replace("-", "−")
    if not isinstance(value, Real):
        return str(value)
    number = float(value)
    if math.isnan(number):
        return "not computed"
    if math.isinf(number):
        return "∞" if number > 0 else "−∞"
    return _significant(number).replace("-", "−")


def _significant(number: float) -> str:
    mantissa, exponent = f"{number:.3e}".split("e")
    power = int(exponent)
    if number == 0:
        return "0"
    if -4 <= power <= 5:
        return f"{number:.{max(0, 3 - power)}f}"
    return mantissa + "×10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def opening(answer: str) -> tuple[str, str]:
    """The first sentence of an answer, and the others; several lines, each of its own runs, stay together."""
    first, cut, rest = _SENTENCE.sub("\n", answer, count=1).partition("\n")
    return (answer, "") if "\n" in answer or not cut else (first, rest if rest.endswith(".") else f"{rest}.")


_SENTENCE = re.compile(r"(?<=\.) (?=[^a-z])")


def numeric_columns(table: Table) -> tuple[bool, ...]:
    """Say of each column whether all that it holds is numbers."""
    filled = [[cell for cell in column if cell is not None] for column in zip(*table.rows, strict=True)]
    return tuple(bool(cells) and all(map(is_number, cells)) for cells in filled) or (False,) * len(table.columns)


def tsv(table: Table) -> str:
    """Write all rows of a table as tab separated values, numbers in full.

    Args:
        table: Table of any length.

    Returns:
        A header line and one line for each row. A text that a spreadsheet would run as a formula gets an
        apostrophe in front.
    """

    def cell(value: object) -> str:
        if value is None or is_number(value):
            return "" if value is None else str(value)
        words = " ".join(str(value).split())
        return f"'{words}" if words.startswith(("=", "+", "-", "@")) else words

    return "".join("\t".join(map(cell, row)) + "\n" for row in (table.columns, *table.rows))


def _figure_json(figure: Figure) -> str:
    """Serialise a figure without its template, which the page holds once for each theme."""
    from plotly.io.json import to_json_plotly

    if any(trace.type.endswith("gl") for trace in figure.data):
        raise ValueError("expected SVG traces; scattergl and its kin lose the marks in print and export")
    spec = figure.to_dict()
    spec["layout"].pop("template", None)
    spec["layout"]["annotations"] = [*spec["layout"].get("annotations", ()), *notes(figure)]
    return str(to_json_plotly(spec))


def _in_script(text: str) -> str:
    """Escape JSON so that no end tag or comment can stand in its script element."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def script_hash(script: str) -> str:
    """Compute what a content security policy calls the source of an inline script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _asset(name: str) -> str:
    return resources.files("landscape").joinpath(name).read_text(encoding="utf-8")


@functools.cache
def _page_template() -> Any:
    """Compile the page's template and bind what is the same in every report."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    scripts = [get_plotlyjs(), _asset("report.js")]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(
        version=__version__,
        css=Markup(_asset("report.css")),
        scripts=[Markup(script) for script in scripts],
        hashes=" ".join(f"'{script_hash(script)}'" for script in scripts),
        themes={theme: template(theme) for theme in ("light", "dark")},
        rows_shown=ROWS_SHOWN,
        default_height=HEIGHT,
        shown=shown,
        opening=opening,
        is_blank=is_blank,
        is_number=is_number,
        numeric=numeric_columns,
        tsv=tsv,
    )
    environment.filters["figure"] = lambda figure: Markup(_in_script(_figure_json(figure)))
    environment.filters["json"] = lambda value: Markup(_in_script(json.dumps(value)))
    return environment.from_string(_asset("report.html.j2"))


def render(page: Page) -> str:
    """Turn a page into one HTML document that needs nothing else.

    Args:
        page: Words, tables and figures.

    Returns:
        HTML; the same page gives the same text.
    """
    return str(_page_template().render(page=page))


def write(page: Page, path: Path, force: bool = False) -> None:
    """Write a page as one HTML file: whole, or not at all.

    Args:
        page: Words, tables and figures.
        path: Where to.
        force: Replace a file that is there.

    Raises:
        UsageError: If the file exists and `force` is not given.
        InputError: If the directory does not exist or cannot be written to.
        ResourceError: If the disk is full.
    """
    content = render(page).encode("utf-8", "replace")  # a file's name may hold bytes that are no text
    with atomic(path, force) as draft:
        draft.write_bytes(content)
