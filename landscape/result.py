"""Result: a frozen dataclass of arrays with units, one for each question asked.

A field made with `quantity` becomes a dataset of the result's file, with its unit and its dimensions; a field whose
only dimension bears its own name is the coordinate of that dimension. Every other field is a plain value and becomes
an attribute. A class attribute `labelled` says which plain field names the entries along a dimension.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.types import Setting

Array = NDArray[Any]
SPLITS = ("train", "test")
"""Parts of the data, in the order of the dimension `split`."""


def quantity(unit: str, text: str, *dims: str) -> Any:
    """A field that holds an array.

    Args:
        unit: Its unit; "1" for pure numbers.
        text: What it is, in a few words.
        *dims: Names of its dimensions, outermost first.

    Returns:
        The dataclass field.
    """
    return dataclasses.field(metadata={"unit": unit, "text": text, "dims": dims})


@dataclass(frozen=True)
class Provenance:
    """Where a result comes from.

    Attributes:
        analysis: Name of the analysis.
        command: Shell command that computes it again.
        options: Resolved options by name.
        problem: Spec of the problem.
        data: Fingerprint of the data.
        inputs: SHA-256 of each checkpoint's content, by label.
        trained: Training settings of each checkpoint, by label; runs that differ in the seed alone are repetitions.
        device: Device it was computed on.
        dtype: Floating point type of the computation.
        versions: Versions of what computed it.
        created: Time of writing, ISO 8601, UTC.
        seconds: Wall time of the computation, in seconds.
        smoothing: Label smoothing of the loss that was measured.
    """

    analysis: str
    command: str
    options: dict[str, Setting]
    problem: str
    data: str
    inputs: dict[str, str]
    trained: dict[str, dict[str, Setting]]
    device: str
    dtype: str
    versions: dict[str, str]
    created: str
    seconds: float
    smoothing: float = 0.0


def arrays(result: object) -> dict[str, dataclasses.Field[Any]]:
    """The array fields of a result, by name."""
    return {f.name: f for f in dataclasses.fields(result) if "dims" in f.metadata}  # type: ignore[arg-type]


def unit_of(result: object, name: str) -> str:
    """The unit of a field of a result; the loss of a regression, and what is made of it, is not in nats."""
    unit: str = arrays(result)[name].metadata["unit"]
    return unit if getattr(result, "classifies", True) else unit.replace("nats", "1")


def equal(one: object, other: object) -> bool:
    """Whether two results hold the same values; NaN equals NaN."""
    if type(one) is not type(other):
        return False
    for f in dataclasses.fields(one):  # type: ignore[arg-type]
        a, b = getattr(one, f.name), getattr(other, f.name)
        if f.name not in arrays(one):
            if a != b and not (a != a and b != b):  # NaN equals NaN
                return False
        elif a.dtype != b.dtype or not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
            return False
    return True
