"""Experiments: questions that need no checkpoint, answered on toy functions; the tuple below is all there is.

From an experiment follow its command with options and help, its file's schema, its place in the report and its row in
the registry's tests, as from an analysis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

from analyses.experiments import exit_time, flatness, perturbed_loss, saddle, saddle_escape, toy_minima
from analyses.experiments.view import View


class Experiment(Protocol):
    """What a module in the tuple holds.

    `compute(options, progress, device, dtype)` answers the question. `label`, `words`, `views`, `claims` and
    their `note` show stored results that differ in the option `seed` alone, several at a time.
    """

    NAME: str
    TITLE: str
    QUESTION: str
    TEXT: str
    EXAMPLE: str
    CAPTION: str
    Options: type
    Result: type
    compute: Callable[..., Any]
    label: Callable[[Any], str]
    claims: Callable[..., Any]
    words: Callable[..., tuple[str, str]]
    note: Callable[..., str]
    views: Callable[..., tuple[View, ...]]


# in the order of a report; a test holds each module against the protocol
EXPERIMENTS = cast("tuple[Experiment, ...]", (perturbed_loss, exit_time, saddle, saddle_escape, flatness, toy_minima))


def named(name: str) -> Experiment | None:
    """The experiment of that name, if there is one."""
    return next((experiment for experiment in EXPERIMENTS if experiment.NAME == name), None)
