"""Asks every question of a pair of checkpoints and writes one report.

A question that this pair cannot be asked is left out and said so; the others go on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from analyses import REGISTRY, Analysis
from analyses.pages import page, read
from analyses.run import ask
from analyses.verdict import verdict
from landscape.errors import InputError, InterruptedRun, LandscapeError, ResourceError
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
ENDING = (InterruptedRun, ResourceError, InputError)
"""Errors that are not about one question: the next one would meet them too."""


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
    say: Callable[[str], None] = lambda text: None,
) -> Compared:
    """Run all of `ASKED` on a pair and write `report.html` beside the results.

    Results that a stopped comparison left there are taken over where they were made with the same settings.

    Args:
        problem: What both were trained on.
        checkpoints: The two.
        paths: Their files, as the user named them.
        directory: Where to write; made if it does not exist.
        batch_size: Examples in a forward pass.
        force: Whether files that exist may be replaced; that of a question which is left out goes.
        device: Where to compute.
        dtype: Floating point type.
        progress: Told (work done, work in all), an analysis counting 100.
        say: Told of each question that is left out, and why.

    Returns:
        The report, and the verdict it opens with.

    Raises:
        UsageError: If a report or a result made otherwise exists and `force` is not set, or both checkpoints are the
            same.
        InputError: If the directory cannot be made, or an input cannot be used.
        ResourceError: If memory or disk ran out.
        LandscapeError: If no question could be answered: why the first could not.
    """
    from landscape.checkpoint import check_apart

    check_apart(*checkpoints)
    outs = {analysis.NAME: directory / f"{analysis.NAME}.h5" for analysis in ASKED}
    refuse_existing(directory / REPORT, force)
    make_directory(directory)
    parameters = min(checkpoint.layout.size for checkpoint in checkpoints)
    options = {analysis.NAME: _options(analysis, batch_size, parameters) for analysis in ASKED}

    def answer(analysis: Analysis, resume: bool | None, tell: Progress) -> None:
        ask(
            analysis, problem, checkpoints, paths, options[analysis.NAME], outs[analysis.NAME],
            force=force, device=device, dtype=dtype, progress=tell, resume=resume,
        )  # fmt: skip

    finished = [analysis for analysis in ASKED if outs[analysis.NAME].exists() and not force]
    for analysis in finished:
        answer(analysis, True, quiet)  # which only checks that it was made with the same settings
    refused = _each([a for a in ASKED if a not in finished], partial(answer, resume=None), progress, say)
    if len(refused) == len(ASKED):
        raise refused[ASKED[0].NAME]
    for name in refused:
        outs[name].unlink(missing_ok=True)  # an old answer, about other checkpoints
    stored = [read(out) for name, out in outs.items() if name not in refused]
    found = _told({one.analysis.NAME: one.result for one in stored}, refused)
    names = " and ".join(checkpoint.name for checkpoint in checkpoints)
    made = page(stored, f"{names}: where in the valley?")
    write(dataclasses.replace(made, findings=(found, *made.findings)), directory / REPORT, force)
    return Compared(directory / REPORT, found)


def _options(analysis: Analysis, batch_size: int, parameters: int) -> Any:
    """The options of a question: no more eigenpairs are asked for than the network has parameters."""
    values: dict[str, Setting] = {"batch_size": batch_size, **COARSE.get(analysis.NAME, {})}
    top = getattr(analysis.Options, "top", 0)
    made: object = make(analysis.Options, values | ({"top": parameters} if top > parameters else {}))
    return made


def _each(
    asked: Sequence[Analysis],
    answer: Callable[..., None],
    progress: Progress,
    say: Callable[[str], None],
) -> dict[str, LandscapeError]:
    """Ask one question after the other, and say which could not be asked.

    Args:
        asked: The questions that have no answer yet.
        answer: Asks one, with `tell`, its progress.
        progress: Told (work done, work in all), a question counting 100.
        say: Told of each question that is left out.

    Returns:
        Why, by name of the question.
    """
    refused: dict[str, LandscapeError] = {}
    for done, analysis in enumerate(asked):

        def tell(part: int, whole: int, text: str, done: int = done, name: str = analysis.NAME) -> None:
            progress(100 * done + 100 * part // max(whole, 1), 100 * len(asked), f"{name}: {text}")

        try:
            answer(analysis, tell=tell)
        except ENDING:
            raise
        except LandscapeError as error:
            refused[analysis.NAME] = error
            say(f"{analysis.NAME} is left out: {error.cause}")
    return refused


def _told(results: Mapping[str, Any], refused: Mapping[str, LandscapeError]) -> Finding:
    """The verdict of what was answered; its detail ends with what was not asked, and why."""
    found = verdict(results)
    if not found.answer:
        found = dataclasses.replace(found, answer="Nothing that a verdict rests on could be measured")
    if not refused:
        return found
    reasons = "; ".join(f"{name}, because {error.cause}" for name, error in refused.items())
    return dataclasses.replace(found, detail=f"{found.detail}\nNot asked: {reasons}")


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
