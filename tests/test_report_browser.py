"""The report in a browser: all is drawn, all that can be pressed works, and nobody's name does anything."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from browser import chromium, visit
from hostile_names import CALL, PAYLOADS, everywhere
from sample_report import sample_page
from test_report import contrast

from landscape import style
from landscape.report import Page, Panel, Section, write

pytestmark = pytest.mark.browser

TRACES = (4, 4, 2, 4, 1)
"""Traces of each figure of the sample page, in order."""


@pytest.fixture(scope="module")
def chrome() -> Any:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write(sample_page(), path)
    return path


def test_every_plot_is_drawn_when_reached_and_nothing_is_asked_of_the_network(chrome: Any, sample: Path) -> None:
    with visit(chrome, sample) as seen:
        words = seen.page.locator(".findings > div").last.bounding_box()
        assert words["y"] + words["height"] < 800
        assert seen.page.locator(".plot").last.locator(".main-svg").count() == 0
        seen.scroll_through()
        counts = seen.page.eval_on_selector_all(".plot", "plots => plots.map((plot) => plot.data.length)")
        assert tuple(counts) == TRACES
        assert seen.page.locator(".plot .scatterlayer .trace").count() == sum(TRACES) - 2  # all but field and bars
        gap = seen.page.locator("#panel-1-1 .trace").nth(1).locator(".js-line")
        assert gap.count() == 2  # the line on either side of the NaN
        assert seen.page.locator(".modebar a, .modebar [data-title^=Share]").count() == 0
        assert seen.errors == []
        assert seen.requests == []


def test_the_theme_changes_page_and_plots_and_keeps_the_zoom(chrome: Any, sample: Path) -> None:
    with visit(chrome, sample, dark=True) as seen:
        page = seen.page
        seen.scroll_through()
        plot = "document.querySelector('#panel-2-1')"
        page.evaluate(f"Plotly.relayout({plot}, {{'xaxis.range': [2, 5]}})")
        look = f"[getComputedStyle(document.body).backgroundColor, {plot}.querySelector('.xtick text').style.fill]"
        dark = page.evaluate(look)
        page.get_by_role("button", name="Light theme").click()
        light = page.evaluate(look)
        assert dark[0] == "rgb(21, 24, 28)"
        assert light[0] == "rgb(255, 255, 255)"
        assert dark[1] != light[1]
        assert page.evaluate(f"{plot}.layout.xaxis.range") == [2, 5]
        assert page.get_by_role("button", name="Dark theme").is_visible()
        assert seen.errors == []


def test_the_page_fits_a_telephone_and_a_wide_window_and_legends_leave_room(chrome: Any, sample: Path) -> None:
    with visit(chrome, sample, width=375) as seen:
        seen.page.eval_on_selector_all("details", "all => all.forEach((each) => (each.open = true))")
        for width in (375, 1280):
            seen.page.set_viewport_size({"width": width, "height": 800})
            seen.scroll_through()
            assert seen.overflow() == 0
            for plot in seen.page.locator(".plot").all():
                whole, heatmap = plot.bounding_box(), plot.locator(".heatmaplayer image")
                assert whole["width"] < width
                inner = (heatmap if heatmap.count() else plot.locator(".gridlayer").first).bounding_box()
                assert inner["width"] > 0.5 * whole["width"]
                assert plot.locator(".legend").count() == 0 or plot.locator(".legend").bounding_box()["height"] < 80
        assert seen.errors == []


def test_the_way_to_each_part_is_seen_or_can_be_scrolled_to(chrome: Any, tmp_path: Path) -> None:
    names = ("Errors and cost", "Sharpness along the line", "All eigenvalues", "Rise in a ball", "Bias and shift")
    sections = tuple(Section(f"{name} {k}", "why?") for k in (1, 2, 3) for name in names)
    write(Page("t", "l", sections=sections), tmp_path / "r.html")
    with visit(chrome, tmp_path / "r.html") as seen:
        nav, links = seen.page.locator(".bar nav"), seen.page.locator(".bar nav a")
        box = nav.bounding_box()
        for place in (link.bounding_box() for link in links.all()):
            assert box["x"] <= place["x"] < place["x"] + place["width"] <= box["x"] + box["width"]
            assert box["y"] <= place["y"] < place["y"] + place["height"] <= box["y"] + box["height"]
        assert seen.overflow() == 0
        seen.page.set_viewport_size({"width": 375, "height": 800})
        style = "nav => [nav.scrollWidth > nav.clientWidth, getComputedStyle(nav).overflowX, nav.clientHeight < 60]"
        assert nav.evaluate(style) == [True, "auto", True]
        assert "gradient" in nav.evaluate("nav => getComputedStyle(nav).maskImage")  # which shows that there is more
        links.last.scroll_into_view_if_needed()
        assert links.last.bounding_box()["x"] + links.last.bounding_box()["width"] <= 375
        assert seen.overflow() == 0


def test_a_link_leads_to_a_heading_that_the_bar_leaves_free(chrome: Any, tmp_path: Path) -> None:
    sections = tuple(Section(f"Part number {k} of the report", "why?", ("found",) * 20) for k in range(15))
    write(Page("t", "l", sections=sections), tmp_path / "r.html")
    with visit(chrome, tmp_path / "r.html") as seen:
        seen.page.emulate_media(reduced_motion="reduce")
        seen.page.locator(".bar nav a").nth(8).click()
        bar, heading = seen.page.locator(".bar").bounding_box(), seen.page.locator("h2").nth(8).bounding_box()
        assert bar["y"] + bar["height"] <= heading["y"] < 400


def test_buttons_in_a_figure_are_legible_in_the_dark_whether_pressed_or_not(chrome: Any, tmp_path: Path) -> None:
    figure = style.layout(go.Figure(go.Scatter(x=[1], y=[1])), "x", "y")
    views = [{"label": name, "method": "restyle", "args": [{"opacity": 1}]} for name in ("one", "two")]
    figure.update_layout(updatemenus=[{"type": "buttons", "buttons": views}])
    page = Page("t", "l", sections=(Section("s", "q", (), (Panel("p", figure, "c", "landscape"),)),))
    write(page, tmp_path / "r.html")
    look = """() => [...document.querySelectorAll(".updatemenu-button")].map((button) =>
        [".updatemenu-item-rect", ".updatemenu-item-text"].map(
            (part) => getComputedStyle(button.querySelector(part)).fill.match(/\\d+/g).map(Number)))"""
    for dark in (True, False):
        with visit(chrome, tmp_path / "r.html", dark=dark) as seen:
            seen.scroll_through()
            for ground, text in seen.page.evaluate(look):
                assert contrast(*(f"#{''.join(f'{part:02x}' for part in color)}" for color in (ground, text))) >= 4.5
                assert (max(ground) < 100) == dark
            assert seen.errors == []


def test_the_reason_stands_where_there_is_nothing_to_draw(chrome: Any, tmp_path: Path) -> None:
    nothing = style.layout(go.Figure(go.Scatter(x=[1.0], y=[float("nan")])), "x", "y")
    panel = Panel("p", nothing, "c", "landscape", "Not measured: no minimum within reach.")
    write(Page("t", "l", sections=(Section("s", "q", (), (panel,)),)), tmp_path / "r.html")
    with visit(chrome, tmp_path / "r.html") as seen:
        assert seen.page.locator(".plot").count() == 0
        told = seen.page.locator("figure .nothing").inner_text()
        assert told == "Not measured: no minimum within reach. There is nothing to draw."
        seen.page.locator("summary", has_text="Reproduce").click()
        seen.page.emulate_media(media="print")
        assert seen.errors == []


def test_tables_sort_copies_copy_and_details_open(chrome: Any, sample: Path) -> None:
    with visit(chrome, sample) as seen:
        page = seen.page
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        column = "() => [...document.querySelectorAll('#table-1 tbody tr')].map((row) => row.cells[7].textContent)"
        header = page.locator("#table-1 th").nth(7)
        for direction, values in (
            ("ascending", ["0.05740", "0.05810", "0.06520", "∞"]),
            ("descending", ["∞", "0.06520", "0.05810", "0.05740"]),
        ):
            header.get_by_role("button").click()
            assert header.get_attribute("aria-sort") == direction
            assert page.evaluate(column) == values
        missing = page.locator("#table-1 th").nth(6)
        missing.get_by_role("button").press("Enter")
        assert page.locator("#table-1 tbody tr").last.locator("td").nth(6).text_content() == "not computed"

        figure = page.get_by_role("group", name="Loss and error along the line")
        figure.locator("summary", has_text="Data").click()
        figure.get_by_role("button", name="Copy data").click()
        figure.get_by_role("button", name="Copied").wait_for()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied.startswith("α\ttrain error\ttest error\n-1.0\t")
        assert copied.count("\n") == 302
        figure.locator("summary", has_text="Reproduce").click()
        figure.get_by_role("button", name="Copy command").click()
        figure.get_by_role("button", name="Copied").nth(1).wait_for()
        assert page.evaluate("navigator.clipboard.readText()").startswith("landscape interpolate runs/")
        assert seen.errors == []


def test_a_plot_is_saved_as_svg_and_print_draws_all(chrome: Any, sample: Path) -> None:
    with visit(chrome, sample) as seen:
        seen.page.locator(".plot").first.scroll_into_view_if_needed()
        seen.page.locator(".plot").first.hover()
        with seen.page.expect_download() as download:
            seen.page.locator(".modebar-btn[data-title^=Download]").first.click()
        assert download.value.suggested_filename.endswith(".svg")
        assert Path(download.value.path()).read_text(encoding="utf-8").startswith("<svg")
        assert seen.page.locator(".plot:has(.main-svg)").count() < len(TRACES)
        seen.page.pdf()
        assert seen.page.locator(".plot:has(.main-svg)").count() == len(TRACES)
        assert seen.errors == []


def test_hostile_names_stay_words(chrome: Any, tmp_path: Path) -> None:
    parts = [everywhere(payload, payload) for payload in PAYLOADS]
    names = ("findings", "tables", "sections", "warnings", "provenance")
    fields = {name: tuple(itertools.chain.from_iterable(getattr(part, name) for part in parts)) for name in names}
    write(Page(PAYLOADS[0], PAYLOADS[2], **fields), tmp_path / "r.html")
    with visit(chrome, tmp_path / "r.html") as seen:
        page = seen.page
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator(".plot:has(.main-svg)").count() == len(PAYLOADS)
        hover = "plots => plots.forEach((plot) => Plotly.Fx.hover(plot, [{curveNumber: 0, pointNumber: 0}]))"
        page.eval_on_selector_all(".plot", hover)
        assert page.locator(".hoverlayer .hovertext").count() == len(PAYLOADS)
        page.locator("button.sort").first.click()
        assert page.evaluate("window.__pwned") is None
        assert page.locator("main :is(img, iframe, base, form, style, link, meta, math)").count() == 0
        links = "all => all.flatMap((a) => [...a.attributes]).filter((a) => /href$/.test(a.name)).map((a) => a.value)"
        for link in page.eval_on_selector_all("a", links):
            assert not re.match(r"\s*(javascript|data|vbscript):", link, re.IGNORECASE)
        assert seen.requests == []
        assert seen.errors == []


def test_a_plain_name_is_shown_letter_by_letter(chrome: Any, tmp_path: Path) -> None:
    figure = go.Figure()
    for payload in PAYLOADS:
        name = style.plain(payload)
        figure.add_scatter(x=[1, 2], y=[1, 2], name=name, hovertemplate=name + "<extra></extra>")
    figure = style.layout(figure, style.plain(PAYLOADS[0]), "y", height=900, hover="x")
    panel = Panel("p", figure, "c", "landscape")
    write(Page("t", "l", sections=(Section("s", "q", (), (panel,)),)), tmp_path / "r.html")
    spoken = [re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+", " ", payload) for payload in PAYLOADS]
    with visit(chrome, tmp_path / "r.html") as seen:
        seen.scroll_through()
        shown_names = seen.page.locator(".legendtext").all_text_contents()
        assert [" ".join(name.split()) for name in shown_names] == [" ".join(name.split()) for name in spoken]
        assert seen.page.locator(".xtitle").text_content() == PAYLOADS[0]
        points = [{"curveNumber": at, "pointNumber": 0} for at in range(len(PAYLOADS))]
        seen.page.evaluate("points => Plotly.Fx.hover(document.querySelector('.plot'), points)", points)
        words = seen.page.locator(".hovertext").all_text_contents()
        assert {" ".join(each.split()) for each in words} == {" ".join(each.split()) for each in spoken}
        assert seen.errors == []


def test_a_script_that_gets_in_all_the_same_is_blocked(chrome: Any, sample: Path) -> None:
    inject = f"""() => {{
        const script = document.createElement("script");
        script.textContent = "{CALL}";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", "<img src='data:,' onerror='{CALL}'>");
        document.body.insertAdjacentHTML("beforeend", "<a id=in href='javascript:{CALL}'>in</a>");
        document.getElementById("in").click();
        fetch("https://example.invalid/").catch(() => 0);
    }}"""
    with visit(chrome, sample) as seen:
        seen.page.evaluate(inject)
        seen.page.wait_for_timeout(200)
        assert seen.page.evaluate("window.__pwned") is None
        assert all("Content Security Policy" in error for error in seen.errors)
        assert len(seen.errors) >= 4
        assert seen.requests == []
