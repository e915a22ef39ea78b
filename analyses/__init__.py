"""One file for each question asked of checkpoints; the registry below is all there is.

From an analysis follow its command with options and help, its file's schema, its place in the report and its row in
the registry's tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

from analyses import (
    along,
    asymmetry,
    connect,
    distance,
    escape,
    evaluate,
    hessian,
    interpolate,
    plane,
    sharpness,
    shift,
    spectrum,
)
from analyses.experiments import EXPERIMENTS as EXPERIMENTS
from landscape.types import Work


class Analysis(Protocol):
    """What a module in the registry holds.

    `compute(problem, *checkpoints, options, progress, device, dtype)` answers the question and `work` says beforehand
    what it takes; `label`, `words`, `figure` and `table` show stored results of one label, several runs at a time.
    A module may also have `listing(result)`: lines that the command prints below its answer; and `resumable(options)`:
    "search" or "points", whose state `compute` then takes as `rest` and goes on from after an interruption, or "";
    and `beside(options)`: the end of the name of a checkpoint that `compute` hands to `keep`, or "".
    """

    NAME: str
    TITLE: str
    QUESTION: str
    TEXT: str
    EXAMPLE: str
    CAPTION: str
    TAKES: tuple[int, int]
    Options: type
    Result: type
    compute: Callable[..., Any]
    work: Callable[[Any, int], Work]
    label: Callable[[Any], str]
    words: Callable[..., tuple[str, str]]
    figure: Callable[..., Any]
    table: Callable[..., Any]


# in the order of a report; a test holds each module against the protocol
REGISTRY = cast(
    "tuple[Analysis, ...]",
    (evaluate, hessian, spectrum, sharpness, interpolate, along, plane, asymmetry, shift, distance, connect, escape),
)


def named(name: str) -> Analysis | None:
    """The analysis of that name, if there is one."""
    return next((analysis for analysis in REGISTRY if analysis.NAME == name), None)
