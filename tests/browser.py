"""A headless Chromium for tests: opens a local file offline and writes down whatever goes wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Visit:
    """One open page with all that it said and asked for.

    Attributes:
        page: Playwright's page.
        errors: Console errors and uncaught exceptions, in order.
        requests: Addresses that were asked for, the page's own and data or blob URLs left out.
    """

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def scroll_through(self) -> None:
        """Scroll to each plot and wait until it is drawn."""
        for plot in self.page.locator(".plot").all():
            plot.scroll_into_view_if_needed()
            plot.locator(".main-svg").first.wait_for(state="attached", timeout=60_000)

    def overflow(self) -> int:
        """Measure by how many px the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@contextmanager
def chromium() -> Iterator[Any]:
    """Start Debian's Chromium, or skip the test that asked for it.

    Yields:
        Playwright's browser.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@contextmanager
def visit(browser: Any, file: Path, *, width: int = 1280, height: int = 800, dark: bool = False) -> Iterator[Visit]:
    """Open a file without network.

    Args:
        browser: What `chromium` gave.
        file: HTML file.
        width: Window width in px.
        height: Window height in px.
        dark: Whether the reader prefers dark pages.

    Yields:
        The visit; the window is closed afterwards.
    """
    scheme = "dark" if dark else "light"
    context = browser.new_context(offline=True, viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    seen = Visit(page)
    page.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    address = file.resolve().as_uri()
    ours = (address, "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(ours) else seen.requests.append(request.url))
    page.set_default_timeout(120_000)  # a busy machine is slow, not wrong
    page.goto(address)
    try:
        yield seen
    finally:
        context.close()
