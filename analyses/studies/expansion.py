"""Lists of values expanded to their products, and which of the expanded trainings belong together."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analyses.studies.table import Scale, Study, Training, Values
from landscape.errors import UsageError, nearest
from landscape.types import Setting

Varied = dict[str, Setting]
"""What varies, with its value here."""


@dataclass(frozen=True)
class Run:
    """A training with one choice of its settings, for any seed."""

    id: str
    varied: Varied
    given: Mapping[str, Setting]
    fork: int | None
    shift: int


def named_values(values: Values, scale: Scale) -> dict[str, Any]:
    """Values with the scale's in place of `$names`."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, str) and value.startswith("$"):
            if value[1:] not in scale.values:
                raise UsageError(f"{key} = '{value}' has no value at this scale", nearest(value[1:], scale.values))
            value = scale.values[value[1:]]
        found[key] = value
    return found


def single(values: Values) -> dict[str, Setting]:
    """Settings of a scale or a problem, of which none may have several values."""
    found: dict[str, Setting] = {}
    for key, value in values.items():
        if isinstance(value, tuple):
            raise UsageError(f"{key} has several values for a whole scale", "give them to a training")
        found[key] = value
    return found


def product(values: Mapping[str, Any]) -> list[tuple[Varied, dict[str, Setting]]]:
    """Every combination of values that are given as several.

    Args:
        values: Values by name; a tuple holds several.

    Returns:
        For each combination what varies, and all values.
    """
    varying = [key for key, value in values.items() if isinstance(value, tuple)]
    found = []
    for choice in itertools.product(*(values[key] for key in varying)):
        varied = dict(zip(varying, choice, strict=True))
        found.append((varied, {**values, **varied}))
    return found


def agree(one: Varied, other: Varied) -> bool:
    """Whether two choices say the same of what both of them vary."""
    return all(other[key] == value for key, value in one.items() if key in other)


def expanded(study: Study, scale: Scale) -> list[Run]:
    """Trainings expanded; forks once for each choice of the training that they leave."""
    found: list[Run] = []
    made: set[str] = set()
    waiting: list[Training] = list(study.trainings)
    while waiting:
        ready = [t for t in waiting if not t.fork or t.fork in made]
        if not ready:
            raise UsageError(f"{waiting[0].id} is forked from itself, through others", "let a fork start elsewhere")
        for training in ready:
            parents: list[tuple[int | None, Run]] = [(i, run) for i, run in enumerate(found) if run.id == training.fork]
            for varied, given in product(named_values(training.settings, scale)):
                above: Varied
                for i, above in [(i, run.varied) for i, run in parents] or [(None, {})]:
                    if agree(above, varied):
                        found.append(Run(training.id, above | varied, {**above, **given}, i, training.seed_shift))
            made.add(training.id)
        waiting = [t for t in waiting if t.id not in made]
    return found


def joined(ids: Sequence[str], runs: Sequence[Run]) -> list[tuple[tuple[int, ...], Varied]]:
    """Runs of the given trainings, one of each, that agree on what they vary in common."""
    found: list[tuple[tuple[int, ...], Varied]] = [((), {})]
    for name in ids:
        mine = [(i, run.varied) for i, run in enumerate(runs) if run.id == name]
        found = [((*chosen, i), varied | own) for chosen, varied in found for i, own in mine if agree(varied, own)]
    return found
