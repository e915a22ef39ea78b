"""The methods: one row each. A method says at which steps SAM's perturbation is used.

All share one base optimizer, so momentum is carried across a switch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from landscape.training.schedule import Always, Every, Never, Schedule, Until


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        name: What the user types.
        label: What figures say.
        text: What it does, in a few words.
        cost: Cost relative to SGD as a formula.
        source: Where it comes from.
        schedule: Makes the schedule from E (a step) and n (a period).
    """

    name: str
    label: str
    text: str
    cost: str
    source: str
    schedule: Callable[[int, int], Schedule]


_TABLE = (
    Method("sgd", "SGD", "never SAM", "1", "Nesterov 1983; Sutskever et al. 2013", lambda e, n: Never()),
    Method("sam", "SAM", "always SAM", "2", "Foret et al. 2021, arXiv 2010.01412", lambda e, n: Always()),
    Method(
        "psam",
        "PSAM",
        "SAM where n divides t before step E, always from E on",
        "2 − (n−1)E/(nT)",
        "thesis, Algorithm 1",
        lambda e, n: Until(e, Every(n), Always()),
    ),
    Method(
        "sgd-sam",
        "SGD→SAM",
        "SGD before step E, SAM from E on",
        "2 − E/T",
        "thesis, section 5.3",
        lambda e, n: Until(e, Never(), Always()),
    ),
    Method(
        "sam-sgd",
        "SAM→SGD",
        "SAM before step E, SGD from E on",
        "1 + E/T",
        "thesis, section 5.3",
        lambda e, n: Until(e, Always(), Never()),
    ),
)

METHODS = {method.name: method for method in _TABLE}


def label(method: str) -> str:
    """What figures call a method; a name that is not in the table stays as it is."""
    return METHODS[method].label if method in METHODS else method


def labels(names: tuple[str, ...], methods: tuple[str, ...]) -> tuple[str, ...]:
    """What figures call some checkpoints: their methods' labels if all are known and distinct, else their names."""
    distinct = len(set(methods)) == len(methods) and all(method in METHODS for method in methods)
    return tuple(label(method) for method in methods) if distinct else names
