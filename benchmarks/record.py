"""Tables of a benchmark, put between its own markers in a file, so that several benchmarks share one page."""

from __future__ import annotations

import datetime
import platform
from pathlib import Path

import torch


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
