"""The plane's figure in a browser: its menus switch views and quantities, and what was chosen outlives a redraw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import chromium, visit
from test_plane import point

from analyses import plane
from landscape.problem import Problem
from landscape.report import Page, Panel, Section, write
from landscape.split import Split
from landscape.task import SquaredError

pytestmark = pytest.mark.browser
STATE = """() => { const p = document.querySelector('.plot');
    return [p.data.map(t => t.visible !== false), p.layout.xaxis.visible !== false,
            p._fullLayout.coloraxis.colorbar.title.text, p._fullLayout.updatemenus.map(m => m.active)]; }"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    data = Split(x, x.sum(1, keepdim=True))
    problem = Problem(lambda: torch.nn.Linear(2, 1, bias=False), train=data, test=data, task=SquaredError())
    points = [point(problem, w) for w in ([0.0, 0.0], [1.0, 0.0], [0.0, 2.0])]
    found = plane.compute(problem, *points, options=plane.Options(grid="5x4"))
    panel = Panel("a plane", plane.figure(found), plane.CAPTION, "landscape plane")
    path = tmp_path_factory.mktemp("report") / "plane.html"
    write(Page("a plane", "", sections=(Section("plane", "what?", panels=(panel,)),)), path)
    return path


def test_what_is_chosen_in_a_figure_outlives_a_redraw(browser: Any, report: Path) -> None:
    with visit(browser, report, width=900, dark=True) as seen:
        seen.scroll_through()
        seen.page.wait_for_timeout(300)
        plot = seen.page.locator(".plot").first
        for label in ("heat map", "train loss", "test loss"):
            plot.get_by_text(label, exact=True).last.click(force=True)
            seen.page.wait_for_timeout(500)
        chosen = seen.page.evaluate(STATE)
        assert chosen[0] == [False, True, False, True, True, True, False, False]
        assert chosen[1] is True
        assert chosen[2].startswith("test loss")
        assert chosen[3] == [1, 1]
        seen.page.set_viewport_size({"width": 375, "height": 800})  # a telephone: the page draws anew
        seen.page.wait_for_timeout(500)
        assert seen.page.evaluate(STATE) == chosen
        assert seen.overflow() <= 0
        assert not seen.requests
        assert not [text for text in seen.errors if "WebGL" not in text]
