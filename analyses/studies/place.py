"""What --set says over a study's file, and where its trainings take place."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

from analyses.studies.node import Place
from analyses.studies.table import Scale, Study
from landscape.errors import InputError, UsageError, nearest
from landscape.query import short
from landscape.types import Setting


def overridden(study: Study, scale: Scale, overrides: dict[str, str]) -> tuple[Scale, dict[str, Setting]]:
    """The scale with what --set says of it, and the settings that are left."""
    from landscape.training.settings import Settings

    settings = [f.name for f in dataclasses.fields(Settings)]
    extra: dict[str, Setting] = {}
    values = dict(scale.values)
    for word, text in overrides.items():
        key = word.replace("-", "_")
        if key == "problem":
            scale = dataclasses.replace(scale, problem=text, problems=())
        elif key in values:
            parts = tuple(_scalar(part) for part in text.split(","))
            values[key] = parts if isinstance(values[key], tuple) else _scalar(text)
        elif key in settings or key == "data":
            extra[key] = text
        else:
            raise UsageError(f"--set {word}: {study.name} has no such value", nearest(word, [*values, *settings]))
    return dataclasses.replace(scale, values=values), extra


def _scalar(text: str) -> Setting:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def check_folders(specs: Sequence[str], data: str) -> None:
    """Say at once that a data set is missing, before others are read.

    Args:
        specs: Of the problems; `{data}` stands for the directory of the data sets.
        data: That directory, "" where none is known.

    Raises:
        InputError: If the folder of one does not exist.
    """
    missing = [spec for spec in specs if data and not _folder(spec, data).is_dir()]
    if missing:
        there = next((spec for spec in specs if spec not in missing), None)
        remedy = f", or study one that is there: --set problem='{there}'" if there else ""
        folder = _folder(missing[0], data)
        raise InputError(f"the study reads {missing[0]}, and {folder} is not a directory", f"get the data{remedy}")


def _folder(spec: str, data: str) -> Path:
    _, of_data, rest = spec.partition("{data}")
    return Path(data) / rest.lstrip("/").rpartition("/")[0] if of_data else Path()


def place_of(spec: str, data: str) -> Place:
    """Read a problem's data.

    Args:
        spec: Its spec; `{data}` stands for the directory of the data sets.
        data: That directory, "" where none is known.

    Returns:
        What keys and costs need of it.

    Raises:
        InputError: If the data cannot be read.
        UsageError: If the directory is needed and not known, or there is no such problem.
    """
    from landscape import problem as problems

    if "{data}" in spec and not data:
        raise UsageError(
            f"the study reads {spec}, and where the data lie is not said", "set LANDSCAPE_DATA, or add --set data=DIR"
        )
    problem = problems.load(spec.replace("{data}", data))
    portable, _, query = short(problem.spec).partition("?")
    file = problem.spec.partition(":")[0]
    if file.endswith(".py"):
        portable += f":{hashlib.sha256(Path(file).read_bytes()).hexdigest()}"
    return Place(
        problem.spec, f"{portable}?{query}", problem.fingerprint(), len(problem.train), len(problem.test),
        problem.defaults,
    )  # fmt: skip
