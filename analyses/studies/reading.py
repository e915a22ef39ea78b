"""Reads the table of a study and checks it: an unknown key or name is an error that says the nearest.

Nothing is trained, loaded or computed here.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from analyses import REGISTRY, Analysis
from analyses.experiments import EXPERIMENTS, Experiment
from analyses.studies.quantity import FUNCTIONS, parse, references
from analyses.studies.table import KINDS, TESTS, Drawing, Hypothesis, Network, Question, Scale, Study, Training
from landscape.errors import InputError, LandscapeError, UsageError, nearest

T = TypeVar("T")


def shipped() -> tuple[str, ...]:
    """Names of the studies that come along."""
    files = resources.files("analyses.studies").iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def find(name: str) -> tuple[str, str]:
    """The name and text of a study.

    Args:
        name: One that comes along, or a file.

    Returns:
        The study's name and its TOML text.

    Raises:
        InputError: If the file cannot be read.
        UsageError: If there is no such study.
    """
    if name in shipped():
        return name, resources.files("analyses.studies").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    path = Path(name)
    if path.suffix != ".toml":
        raise UsageError(f"there is no study '{name}'", f"{nearest(name, shipped())}, or name a FILE.toml of your own")
    try:
        return path.stem, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{name} cannot be read: {error}", "check the path; landscape study --list names those here"
        ) from error


def read(name: str, text: str) -> Study:
    """Read and check a study.

    Args:
        name: What it is called.
        text: The TOML text.

    Returns:
        The study.

    Raises:
        UsageError: If a key, a name or a quantity is wrong.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the study {name} is not TOML: {error}", "mend that line") from error
    try:
        study = _study(name, table)
        _check(study)
    except LandscapeError as error:
        raise type(error)(f"{name}: {error.cause}", error.remedy) from error
    return study


def _study(name: str, table: Mapping[str, Any]) -> Study:
    known = dict(table)
    scales = [_made(Scale, {"name": key, **value}, f"scales.{key}") for key, value in known.pop("scales", {}).items()]
    parts = {
        "trainings": [_training(each) for each in known.pop("trainings", [])],
        "analyses": [_made(Question, each, "analyses") for each in known.pop("analyses", [])],
        "experiments": [_made(Question, each, "experiments") for each in known.pop("experiments", [])],
        "claims": [_made(Hypothesis, each, "claims") for each in known.pop("claims", [])],
        "figures": [_made(Drawing, each, "figures") for each in known.pop("figures", [])],
    }
    return _made(Study, {"name": name, "scales": scales, **parts, **known}, "the study")


def _training(table: Mapping[str, Any]) -> Training:
    own = {f.name for f in dataclasses.fields(Training)} - {"settings"}
    settings = {key: value for key, value in table.items() if key not in own}
    return _made(Training, {k: v for k, v in table.items() if k in own} | {"settings": settings}, "trainings")


def _made(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """A dataclass from a TOML table, lists as tuples, tables of networks as such."""
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    where = f"{where} '{table['id']}'" if isinstance(table.get("id"), str) else where
    for key, value in table.items():
        if key not in fields:
            raise UsageError(f"{where} has the unknown key '{key}'", nearest(key, fields))
        wanted = str(fields[key].type)
        kinds = _KINDS.get(wanted)
        if kinds and (not isinstance(value, kinds) or (isinstance(value, bool) and wanted != "bool")):
            raise UsageError(f"{key} of {where} is {value!r}", f"{key} must be {wanted}")
    missing = [f.name for f in fields.values() if _required(f) and f.name not in table]
    if missing:
        raise UsageError(f"{where} lacks '{missing[0]}'", f"write {missing[0]} = …")
    return cls(**{key: _frozen(key, value) for key, value in table.items()})


_KINDS: Mapping[str, Any] = {"str": str, "int": int, "float": (int, float), "bool": bool, "Values": Mapping}


def _required(f: dataclasses.Field[Any]) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _frozen(key: str, value: Any) -> Any:
    if key == "problems":
        return tuple(_made(Network, {"name": name, **each}, f"problems.{name}") for name, each in value.items())
    if isinstance(value, Mapping):
        return {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
    return tuple(value) if isinstance(value, list) else value


def _check(study: Study) -> None:
    """Names lead somewhere, quantities can be read."""
    if not study.scales:
        raise UsageError("there is no scale", "write a table [scales.cpu] with text, problem and settings")
    for scale in study.scales:
        if scale.seeds < 1:
            raise UsageError(f"the scale '{scale.name}' has {scale.seeds} seeds", "write seeds = 1 or more")
    ids = [each.id for part in (study.trainings, study.questions, study.claims, study.figures) for each in part]
    _check_ids([t.id for t in study.trainings])
    _check_ids([q.id for q in study.questions])
    _check_ids([c.id for c in study.claims] + [f.id for f in study.figures])
    for name in ids:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
            raise UsageError(f"the id '{name}' is not a plain word", "use letters, digits, - and _")
    for question in study.questions:
        if not question.id.isidentifier() or question.id in FUNCTIONS:
            raise UsageError(f"the id '{question.id}' cannot stand in a quantity", "use letters, digits and _")
    _check_trainings(study)
    for question in study.questions:
        _check_question(study, question)
    for claim in study.claims:
        _check_claim(study, claim)
    for drawing in study.figures:
        if drawing.kind not in KINDS:
            raise UsageError(f"the figure '{drawing.id}' is of the kind '{drawing.kind}'", nearest(drawing.kind, KINDS))
        x = drawing.x.values() if isinstance(drawing.x, Mapping) else [drawing.x] if drawing.x else []
        for text in (*x, *drawing.y.values(), *drawing.level.values()):
            _check_quantity(study, text)


def _check_ids(ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise UsageError(f"the id '{name}' is used twice", "give each its own")
        seen.add(name)


def _check_trainings(study: Study) -> None:
    known = {training.id for training in study.trainings}
    for training in study.trainings:
        if training.fork == training.id:
            raise UsageError(f"'{training.id}' is forked from itself", "name the training that it leaves")
        if training.fork and training.fork not in known:
            raise UsageError(f"'{training.id}' is forked from '{training.fork}'", nearest(training.fork, known))


def _check_question(study: Study, question: Question) -> None:
    registry: tuple[Analysis | Experiment, ...] = EXPERIMENTS if question in study.experiments else REGISTRY
    analysis = next((each for each in registry if each.NAME == question.analysis), None)
    if analysis is None:
        raise UsageError(
            f"'{question.id}' asks for '{question.analysis}'", nearest(question.analysis, (a.NAME for a in registry))
        )
    known = {training.id for training in study.trainings}
    for name in question.of:
        if name not in known:
            raise UsageError(f"'{question.id}' is asked of '{name}', which is not trained", nearest(name, known))
    options = {f.name for f in dataclasses.fields(analysis.Options)}
    for key in question.options:
        if key not in options:
            raise UsageError(f"'{question.id}' has the unknown option '{key}'", nearest(key, options))


def _check_claim(study: Study, claim: Hypothesis) -> None:
    if claim.test not in TESTS:
        raise UsageError(f"the claim '{claim.id}' has the test '{claim.test}'", nearest(claim.test, TESTS))
    if claim.test == "between" and not claim.low < claim.high:
        raise UsageError(f"the claim '{claim.id}' is between {claim.low} and {claim.high}", "give low and high")
    if (claim.test == "mcnemar") != bool(claim.other):
        raise UsageError(f"the claim '{claim.id}': mcnemar takes two counts", "give quantity and other")
    for text in filter(None, (claim.quantity, claim.other)):
        _check_quantity(study, text)
    shown = {f.id for f in study.figures} | {q.id for q in study.questions}
    if claim.figure and claim.figure not in shown:
        raise UsageError(f"the claim '{claim.id}' points to '{claim.figure}'", nearest(claim.figure, shown))


def _check_quantity(study: Study, text: str) -> None:
    questions = {question.id: question for question in study.questions}
    kinds: dict[str, Analysis | Experiment] = {a.NAME: a for a in REGISTRY} | {e.NAME: e for e in EXPERIMENTS}
    for name, key in references(parse(text)):
        if name in FUNCTIONS:
            continue
        if name not in questions:
            raise UsageError(f"the quantity '{text}' names '{name}'", nearest(name, questions))
        question = questions[name]
        fields = {f.name for f in dataclasses.fields(kinds[question.analysis].Result)}
        varied = {k for t in study.trainings if t.id in question.of for k in t.settings} | set(question.options)
        if key not in fields | varied:
            raise UsageError(f"the quantity '{text}': {name} has no '{key}'", nearest(key, fields | varied))
