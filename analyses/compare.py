"""Asks every question of a pair of checkpoints and writes one report."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from analyses import REGISTRY
from analyses.pages import page, read
from analyses.run import ask
from analyses.verdict import verdict
from landscape.errors import InputError
from landscape.files import refuse_existing
from landscape.options import make
from landscape.report import Finding, write
from landscape.types import Progress, Setting, quiet

if TYPE_CHECKING:
    from landscape.checkpoint import Checkpoint
    from landscape.problem import Problem

REPORT = "report.html"
ASKED = tuple(a for a in REGISTRY if a.TAKES[0] <= 2 <= a.TAKES[1] and a.NAME != "connect")
"""The questions of a pair; a curve has to be trained and is asked for by name."""
COARSE: dict[str, dict[str, Setting]] = {"plane": {"grid": "13x9"}}  # what would take longest, with fewer points


class Compared(NamedTuple):
    """A comparison.

    Attributes:
        report: The page.
        verdict: What it comes to.
    """

    report: Path
    verdict: Finding


def compare(
    problem: Problem,
    checkpoints: Sequence[Checkpoint],
    paths: Sequence[Path],
    directory: Path,
    *,
    batch_size: int = 500,
    force: bool = False,
    device: str = "cpu",
    dtype: str = "float32",
    progress: Progress = quiet,
) -> Compared:
    """Run all of `ASKED` on a pair and write `report.html` beside the results.

    Results that a stopped comparison left there are taken over where they were made with the same settings.

    Args:
        problem: What both were trained on.
        checkpoints: The two.
        paths: Their files, as the user named them.
        directory: Where to write; made if it does not exist.
        batch_size: Examples in a forward pass.
        force: Whether files that exist may be replaced.
        device: Where to compute.
        dtype: Floating point type.
        progress: Told (work done, work in all), an analysis counting 100.

    Returns:
        The report, and the verdict it opens with.

    Raises:
        UsageError: If a report or a result made otherwise exists and `force` is not set, or both checkpoints are the
            same.
        InputError: If the directory cannot be made.
    """
    from landscape.checkpoint import check_apart

    check_apart(*checkpoints)
    outs = [directory / f"{analysis.NAME}.h5" for analysis in ASKED]
    refuse_existing(directory / REPORT, force)
    make_directory(directory)
    for done, (analysis, out) in enumerate(zip(ASKED, outs, strict=True)):
        options: object = make(analysis.Options, {"batch_size": batch_size, **COARSE.get(analysis.NAME, {})})

        def inner(part: int, whole: int, text: str, done: int = done, name: str = analysis.NAME) -> None:
            progress(100 * done + 100 * part // max(whole, 1), 100 * len(ASKED), f"{name}: {text}")

        ask(
            analysis, problem, checkpoints, paths, options, out,
            force=force, device=device, dtype=dtype, progress=inner, resume=(out.exists() and not force) or None,
        )  # fmt: skip
    names = " and ".join(checkpoint.name for checkpoint in checkpoints)
    stored = [read(out) for out in outs]
    found = verdict({one.analysis.NAME: one.result for one in stored})
    made = page(stored, f"{names}: where in the valley?")
    write(dataclasses.replace(made, findings=(found, *made.findings)), directory / REPORT, force)
    return Compared(directory / REPORT, found)


def make_directory(directory: Path) -> None:
    """Make a directory and those above it.

    Args:
        directory: The directory; fine if it exists.

    Raises:
        InputError: If it cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{directory} cannot be made: {error.strerror}", "choose another --out") from error
