"""Options: frozen dataclasses whose fields carry help and bounds, checked at the door, once.

The command line makes its flags from these fields, a settings file is read into them, and a result stores them,
so that an option is written in one place.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from landscape.errors import UsageError, nearest
from landscape.types import Setting

Kind = TypeVar("Kind")

LARGEST = 2**63 - 1
"""Largest integer of an option, a seed's above all: random generators and result files hold 64 bits with a sign."""


def option(
    default: Setting,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    kind: type | None = None,
    infinite: bool = False,
) -> Any:
    """A field of an options dataclass.

    Args:
        default: Default value; None means "decided from the data".
        text: Help: what it is, with its unit.
        low: Smallest allowed value.
        high: Largest allowed value; None for no limit but that of integers, `LARGEST`.
        choices: Allowed words.
        kind: Type of the value where the default does not tell.
        infinite: Whether infinity is a value.

    Returns:
        The dataclass field.
    """
    kind = kind or type(default)
    return dataclasses.field(
        default=default,
        metadata={"text": text, "low": low, "high": high, "choices": choices, "kind": kind, "default": default}
        | {"infinite": infinite},
    )


def make(cls: type[Kind], values: Mapping[str, Setting]) -> Kind:
    """Make checked options from named values.

    Args:
        cls: The options dataclass.
        values: Values by name; names may be written with dashes; a text is converted where a number is meant.

    Returns:
        The options; what was not named takes its default.

    Raises:
        UsageError: If a name is unknown, or a value is of the wrong kind or out of bounds.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    clean: dict[str, Setting] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in fields:
            raise UsageError(f"unknown setting '{key}'", nearest(name, fields))
        clean[name] = _checked(name, value, fields[name].metadata)
    return cls(**clean)


def _checked(name: str, value: Setting, about: Mapping[str, Any]) -> Setting:
    if value is None and about["default"] is None:
        return None
    value = _converted(name, value, about["kind"])
    low, high, choices = about["low"], about["high"], about["choices"]
    if choices and value not in choices:
        raise UsageError(f"{name}='{value}' is not known", nearest(str(value), choices))
    number = value if isinstance(value, (int, float)) else 0  # integers are compared as such: floats have 53 bits
    high = LARGEST if high is None and isinstance(number, int) and number > LARGEST else high
    lost = isinstance(number, float) and (math.isnan(number) or (math.isinf(number) and not about["infinite"]))
    if lost or (low is not None and number < low) or (high is not None and number > high):
        bounds = (
            "a finite number"
            if lost
            else f"at least {low}"
            if high is None
            else f"at most {high}"
            if low is None
            else f"in [{low}, {high}]"
        )
        raise UsageError(f"{name}={value} is out of range", f"{name} must be {bounds}: {about['text']}")
    return value


def _converted(name: str, value: Setting, kind: type) -> Setting:
    if kind is bool and isinstance(value, str) and value.lower() in {"true", "false", "yes", "no", "1", "0"}:
        return value.lower() in {"true", "yes", "1"}
    try:
        if isinstance(value, kind) and not (kind is not bool and isinstance(value, bool)):
            return value
        if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
            return float(value)
        if kind is int and isinstance(value, str) and value.strip().lstrip("+-").isdecimal():
            return int(value)
        if kind is int and isinstance(value, (str, float)) and float(value) == int(float(value)):
            return int(float(value))
    except (ValueError, OverflowError):
        pass
    raise UsageError(f"{name}={value!r} is not understood", f"{name} must be of type {kind.__name__}")


def as_dict(options: object) -> dict[str, Setting]:
    """The values of an options dataclass by name."""
    return dataclasses.asdict(options)  # type: ignore[call-overload, no-any-return]


def as_flags(options: object) -> list[str]:
    """The words of a command that give an options dataclass its values, those at their defaults left out."""
    words = []
    for field in dataclasses.fields(options):  # type: ignore[arg-type]
        value, name = getattr(options, field.name), field.name.replace("_", "-")
        if value != field.default:
            words += [f"--{'' if value else 'no-'}{name}"] if isinstance(value, bool) else [f"--{name}", str(value)]
    return words


def differences(old: Mapping[str, Setting], new: Mapping[str, Setting]) -> list[str]:
    """Say what differs between two sets of values, as "name (old → new)", in the order of names."""
    names = sorted(old.keys() | new.keys())
    return [f"{n} ({old.get(n)} → {new.get(n)})" for n in names if old.get(n) != new.get(n)]
