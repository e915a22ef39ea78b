"""Quantities are read as arithmetic on results, select by name, value or place, and refuse all else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from analyses.studies.quantity import Instance, evaluate, parse, references
from landscape.errors import UsageError
from landscape.result import Array, quantity


@dataclass(frozen=True)
class Shown:
    """A result with names, a coordinate and a bare dimension."""

    labelled: ClassVar[Mapping[str, str]] = {"checkpoint": "names"}

    names: tuple[str, ...]
    distance: float
    split: Array = quantity("1", "part", "split")
    rho: Array = quantity("theta", "radius", "rho")
    error: Array = quantity("1", "error", "checkpoint", "split")
    steps: Array = quantity("steps", "steps", "rho", "walk")


def result(add: float = 0.0) -> Shown:
    error = np.array([[0.1, 0.2], [0.3, 0.5]]) + add
    steps = np.array([[40.0, 60.0, 50.0], [4.0, 9.0, 5.0]])
    return Shown(("sgd", "sam"), 2.5, np.array(["train", "test"]), np.array([0.0, 0.05]), error, steps)


def find(name: str) -> Sequence[Instance]:
    if name == "swept":
        return [Instance({"rho": rho}, result(rho)) for rho in (0.1, 0.2, 0.4)]
    if name == "lost":
        return [Instance({"rho": 0.1}, result()), Instance({"rho": 0.2}, None)]
    return [Instance({}, result())]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('a.error["sam", "test"] - a.error["sgd", "test"]', 0.3),
        ("a.error[1, 1] * 100", 50.0),
        ("-a.error[0, 0] ** 2", -0.01),
        ('log(a.error["sam", "train"] / a.error["sgd", "train"])', np.log(3)),
        ("a.distance", 2.5),
        ("a.steps[0.05, 1]", 9.0),
        ("median(a.steps[0, :])", 50.0),
        ("median(a.steps)", [50.0, 5.0]),
        ("atmost(median(a.steps), 20)", [20.0, 5.0]),
        ("atleast(median(a.steps), 20)", [50.0, 20.0]),
        ('swept.error["sgd", "test"]', [0.3, 0.4, 0.6]),
        ('swept(rho=0.2).error["sgd", "test"]', 0.4),
        ("swept.rho", [0.1, 0.2, 0.4]),
        ('kendall(swept.rho, swept.error["sgd", "test"])', 1.0),
        ('slope(swept.rho, swept.error["sgd", "test"])', 1.0),
        ("spearman(a.error[:, 0], -a.error[:, 1])", -1.0),
        ('lost.error["sgd", "test"]', [0.2, np.nan]),
    ],
)
def test_a_quantity_is_arithmetic_on_results(text: str, expected: object) -> None:
    found = evaluate(text, find)
    assert found.shape == np.shape(expected)
    assert found == pytest.approx(np.asarray(expected), nan_ok=True)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "a.error.__class__", "[x for x in a.error]", "a.error[0:1, 0]", "a",
        'a.error["adam", "test"]', "a.eror", "a.error[0, 0, 0]", "swept(rho=0.3).error[0, 0]", "sin(a.distance)",
        "a.steps[0.07, 1]", "a.error[lambda: 0]", "1 if a.distance else 2", "a.names", "'text'", "a.error[",
    ],
)  # fmt: skip
def test_what_is_no_quantity_is_refused_in_two_lines(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        evaluate(text, find)
    assert refused.value.remedy


def test_a_quantity_says_what_it_names() -> None:
    tree = parse('log(a.error["sam"] / b(rho=0.1).l2[0]) + c.rho')
    assert sorted(references(tree)) == [("a", "error"), ("b", "l2"), ("c", "rho")]
