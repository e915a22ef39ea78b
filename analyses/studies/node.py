"""Nodes of a study's graph: what is made, from what, and the key that says whether it has been made already.

A key is a SHA-256 over all that determines a node's content: the resolved settings, the data's fingerprint, the keys of
what it is made from, its options. So a node is made once, whatever the study is called and in whatever order it is
written; a training's state at step t has the same key whether its steps were shared with another or not.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from landscape.types import Setting

if TYPE_CHECKING:
    from landscape.training.settings import Settings

FORMAT = "landscape/study/1"
SHORT = 16
"""Digits of a key that stand in a file's name."""


def key_of(*parts: object) -> str:
    """SHA-256 of values that JSON can hold, in hexadecimal."""
    return hashlib.sha256(json.dumps([FORMAT, *parts], sort_keys=True).encode()).hexdigest()


def schema(result: type) -> list[list[object]]:
    """Fields of a result and their dimensions: a result of an older version, which lacks some, is another node."""
    return [[f.name, list(f.metadata.get("dims", ()))] for f in dataclasses.fields(result)]


@dataclass(frozen=True)
class Place:
    """Where a training takes place.

    Attributes:
        spec: The problem's spec on this machine.
        portable: The spec without directories; of a user's file its name and SHA-256.
        data: Fingerprint of the data.
        train: Training examples N.
        test: Test examples.
        defaults: The problem's own settings.
    """

    spec: str
    portable: str
    data: str
    train: int
    test: int
    defaults: Mapping[str, Setting]


@dataclass(frozen=True)
class Node:
    """Something to make.

    Attributes:
        key: Names it.
        name: File without suffix below the study's directory, for people.
        needs: Keys of the nodes that it is made from.
        work: Examples through the network, a backward pass counting as two forward ones.
        spec: The problem, "" for none.
    """

    key: str
    name: str
    needs: tuple[str, ...]
    work: float
    spec: str

    suffix = ""

    @property
    def file(self) -> str:
        """Path below the study's directory."""
        return f"{self.name}.{self.key[:SHORT]}{self.suffix}"


@dataclass(frozen=True)
class Training(Node):
    """The state of a training run at a step.

    Attributes:
        settings: Resolved settings.
        until: The step.
        start: How it begins: "" from initial weights, "resume" from an earlier state of this run, "fork" from a state
            of another one.
        steps: Steps made from there.
    """

    settings: Mapping[str, Setting]
    until: int
    start: str
    steps: int

    suffix = ".pt"


@dataclass(frozen=True)
class Answer(Node):
    """The result of an analysis or an experiment.

    Attributes:
        analysis: Its name.
        options: Resolved options.
        labels: What the checkpoints are called in it.
        dtype: Floating point type.
    """

    analysis: str
    options: Mapping[str, Setting]
    labels: tuple[str, ...]
    dtype: str

    suffix = ".h5"


def training_work(settings: Settings, train: int, begin: int, end: int) -> float:
    """Examples through the network in steps begin to end − 1: three for each example and gradient.

    Args:
        settings: The run's settings; its seed does not matter.
        train: Training examples N.
        begin: First step.
        end: Step after the last.

    Returns:
        Work in forward passes of one example.
    """
    return 3 * settings.batch_size * _gradients(replace(settings, seed=0), train, begin, end)


@functools.lru_cache(maxsize=1024)
def _gradients(settings: Settings, train: int, begin: int, end: int) -> int:
    from landscape.training.methods import METHODS

    kind = METHODS[settings.method].gradient
    each = {"entropy": settings.inner_steps, "smooth": settings.samples}.get(kind, 1)
    schedule = settings.schedule(train)
    return each * (end - begin) + sum(schedule(t) for t in range(begin, end))
