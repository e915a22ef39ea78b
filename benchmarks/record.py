"""Tables of a benchmark, between its own markers so that several share one page, and pictures of its figures."""

from __future__ import annotations

import datetime
import platform
import shutil
from pathlib import Path

import torch

PATIENCE = 300_000  # milliseconds for a browser on a loaded machine


def hardware(device: str) -> str:
    """One line: device, processor threads, versions and date."""
    what = (
        torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or platform.machine()
    )
    threads = f"{torch.get_num_threads()} thread" + ("s" if torch.get_num_threads() > 1 else "")
    return f"{what}, {threads}, torch {torch.__version__}, {datetime.datetime.now(datetime.UTC).date().isoformat()}"


def write(name: str, text: str, path: Path) -> None:
    """Replace what stands between the markers of a benchmark, or add it at the end."""
    begin, end = f"<!-- {name} benchmark: begin -->", f"<!-- {name} benchmark: end -->"
    block = f"{begin}\n{text.strip()}\n{end}"
    old = path.read_text(encoding="utf-8") if path.exists() else "# Benchmarks\n\n"
    if begin in old and end in old:
        new = old[: old.index(begin)] + block + old[old.index(end) + len(end) :]
    else:
        new = f"{old.rstrip()}\n\n{block}\n"
    path.write_text(new, encoding="utf-8")


def pictures(page_file: Path, stem: Path) -> list[Path]:
    """Photograph the figures of a report, 960 px wide, with Chromium, as STEM-1.png and so on."""
    from playwright.sync_api import sync_playwright

    made = []
    with sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=flags, timeout=PATIENCE)
        view = browser.new_page(viewport={"width": 960, "height": 900})
        view.set_default_timeout(PATIENCE)
        view.goto(page_file.resolve().as_uri())
        for i, plot in enumerate(view.locator(".plot").all()):
            plot.scroll_into_view_if_needed()
            plot.locator(".main-svg").first.wait_for(state="attached")
            made.append(stem.with_name(f"{stem.name}-{i + 1}.png"))
            plot.screenshot(path=made[-1])
        browser.close()
    return made
