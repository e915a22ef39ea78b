"""Click options made from the fields of an options dataclass, and those that several commands share."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from landscape.errors import InputError, UsageError
from landscape.types import Setting

F = TypeVar("F", bound=Callable[..., Any])


def from_fields(cls: type, skip: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Options of a command from the fields of a dataclass made with `landscape.options.option`.

    A flag that is not given is None, so that what the user said can be told from what is a default.

    Args:
        cls: The dataclass.
        skip: Names of fields that get no option.

    Returns:
        A decorator for the command's function.
    """

    def decorate(function: F) -> F:
        for field in reversed(dataclasses.fields(cls)):
            if field.name not in skip:
                function = _option(field)(function)
        return function

    return decorate


def _option(field: dataclasses.Field[Any]) -> Callable[[F], F]:
    about, name = field.metadata, field.name.replace("_", "-")
    text = described(about["text"], field.default)
    if about["kind"] is bool:
        return click.option(f"--{name}/--no-{name}", field.name, default=None, help=text)
    metavar = "|".join(about["choices"]) if about["choices"] else about["kind"].__name__.upper()
    return click.option(f"--{name}", field.name, default=None, metavar=metavar, help=text)


def described(text: str, default: object) -> str:
    """The help of an option: what it is, then its default in brackets.

    Args:
        text: What it is; where the default is None, what is taken in its place may follow a semicolon.
        default: Its default.

    Returns:
        For instance "weight decay  [default: that of the checkpoint's training]".
    """
    if isinstance(default, bool):
        return f"{text}  [{'yes' if default else 'no'}]"
    what, semicolon, taken = text.rpartition("; ")
    if default is not None or not semicolon:
        return f"{text}  [default: {'decided from the data' if default is None else default}]"
    return f"{what}  [default: {_LEADING.sub('', taken)}]"


_LEADING = re.compile("^(default|else|otherwise) ")  # which the brackets say


def given(values: Mapping[str, Any]) -> dict[str, Setting]:
    """Only the options that the user gave."""
    return {key: value for key, value in values.items() if value is not None}


def layered(settings: Path | None, pairs: tuple[str, ...], flags: Mapping[str, Any]) -> dict[str, Setting]:
    """Settings from a TOML file, then `--set key=value`, then flags; later ones win.

    Args:
        settings: The file, if any.
        pairs: Texts of the form key=value.
        flags: Values of flags by name, None where not given.

    Returns:
        Values by name, names with underscores.

    Raises:
        InputError: If the file cannot be read.
        UsageError: If a pair has no "=".
    """
    values: dict[str, Setting] = {}
    if settings is not None:
        try:
            values |= tomllib.loads(settings.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"{settings} cannot be read: {error}", "write lines like: rho = 0.15") from error
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair} has no value", "write --set key=value")
        values[key] = value
    return {key.replace("-", "_"): value for key, value in (values | given(flags)).items()}


def common(function: F) -> F:
    """Options of every command that computes: --device, --quiet, --json, --debug."""
    for decorator in (
        click.option("--debug", is_flag=True, help="show a traceback when something fails"),
        click.option("--json", "as_json", is_flag=True, help="one JSON object on stdout, for errors too"),
        click.option("--quiet", "-q", is_flag=True, help="no progress, no notes"),
    ):
        function = decorator(function)
    return function


device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda[:i] or mps")
force = click.option("--force", is_flag=True, help="replace files that exist")
problem = click.option("--problem", metavar="SPEC", help="the problem, where the checkpoints do not name it")
