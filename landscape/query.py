"""The text of a spec: what follows its '?', fewer training examples and smoothed targets, and its short form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from landscape.errors import UsageError, nearest


@dataclass(frozen=True)
class Query:
    """Changes to a problem that its spec asks for.

    Attributes:
        train_size: How many of the training examples are kept; None for all.
        label_smoothing: Part of each target that is spread over all classes, in training and in every measurement;
            None for what the problem has of its own.
    """

    train_size: int | None = None
    label_smoothing: float | None = None

    def __str__(self) -> str:
        """As it is written in a spec, '?' included; empty where nothing is changed."""
        asked = [] if self.train_size is None else [f"train_size={self.train_size}"]
        asked += [] if self.label_smoothing is None else [f"label_smoothing={self.label_smoothing:.12g}"]
        return "?" + "&".join(asked) if asked else ""


def parse(text: str, spec: str) -> Query:
    """Read `KEY=VALUE`, several joined by '&'.

    Args:
        text: What follows the '?'; may be empty.
        spec: The whole spec, for messages.

    Returns:
        What is asked.

    Raises:
        UsageError: If a key is unknown or given twice, or a value is none of its.
    """
    found: dict[str, int | float] = {}
    for part in text.split("&") if text else []:
        key, _, value = part.partition("=")
        if key not in _READERS:
            raise UsageError(f"'?{part}' in '{spec}' is not understood", nearest(key, _READERS) + f"; write ?{_FORMS}")
        read, form = _READERS[key]
        known = read(value)
        if known is None or key in found:
            raise UsageError(f"'{part}' in '{spec}' is {'given twice' if key in found else 'no such number'}", form)
        found[key] = known
    return Query(**found)  # type: ignore[arg-type]


def short(spec: str) -> str:
    """A spec without the directory of its data or of its file, which may lie elsewhere tomorrow.

    Args:
        spec: For instance "cifar10:/data/cifar10/resnet18?train_size=100", or "/home/me/own.py:problem".

    Returns:
        For instance "cifar10/resnet18?train_size=100", or "own.py:problem".
    """
    body, mark, query = spec.partition("?")
    kind, colon, rest = body.partition(":")
    if kind.endswith(".py"):
        return f"{Path(kind).name}{colon}{rest}{mark}{query}"
    return f"{kind}/{rest.rpartition('/')[2]}{mark}{query}" if colon else spec


def _count(value: str) -> int | None:
    return int(value) if value.isdecimal() and int(value) >= 1 else None


def _part(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) and 0 <= number <= 1 else None


_READERS = {
    "train_size": (_count, "write ?train_size=N with N at least 1"),
    "label_smoothing": (_part, "write ?label_smoothing=S with S from 0 to 1"),
}
_FORMS = "train_size=N or ?label_smoothing=S, joined by & if both"
