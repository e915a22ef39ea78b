"""The table of a study: what a TOML file may say, read and checked.

Every key is a field of a dataclass below; an unknown one is an error that names the nearest. Nothing is trained,
loaded or computed here.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from analyses import REGISTRY
from analyses.experiments import EXPERIMENTS
from analyses.studies.quantity import FUNCTIONS, parse, references
from landscape.errors import InputError, LandscapeError, UsageError, nearest
from landscape.types import Setting

Values = Mapping[str, Setting | tuple[Setting, ...]]
"""Settings by name; several values of one are all taken in turn."""

TESTS = ("less", "greater", "between", "equals", "increasing", "decreasing", "sign", "mcnemar")
KINDS = ("sweep", "groups", "pareto", "scatter")
T = TypeVar("T")


@dataclass(frozen=True)
class Network:
    """A problem of a scale.

    Attributes:
        spec: As `landscape train` takes it; `{data}` is the directory of the data sets.
        settings: Settings of all trainings on it, over those of the scale.
        name: What it is called where a scale has several.
    """

    spec: str
    settings: Values = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class Scale:
    """How large a study is run.

    Attributes:
        text: What was scaled down, or that nothing was.
        seeds: Training seeds, by default.
        problem: The problem, if there is one.
        problems: Several of them, each with its own settings; every claim is then tested on each.
        settings: Settings of all trainings.
        values: Values for the `$names` that stand in trainings, analyses and experiments.
        name: "cpu" or "paper".
    """

    text: str
    seeds: int = 5
    problem: str = ""
    problems: tuple[Network, ...] = ()
    settings: Values = field(default_factory=dict)
    values: Values = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class Training:
    """Trainings: one for each combination of the settings that have several values.

    Attributes:
        id: What it is called.
        settings: Settings, `method` among them.
        fork: Another training, at whose step E this one starts though it differs from it before; without this, steps
            that two trainings have in common are found and trained once.
        seed_shift: Added to the seed: a fork then sees other batches from E on than the training it left.
    """

    id: str
    settings: Values = field(default_factory=dict)
    fork: str = ""
    seed_shift: int = 0


@dataclass(frozen=True)
class Question:
    """An analysis of trained checkpoints, or an experiment that needs none.

    Attributes:
        id: What it is called.
        analysis: Name of an analysis or experiment.
        of: Trainings whose last checkpoints are asked, in this order.
        options: Options; it is repeated for each combination where there are several values.
        show: Whether the report has its own figures; by default where it is not repeated over a setting.
    """

    id: str
    analysis: str
    of: tuple[str, ...] = ()
    options: Values = field(default_factory=dict)
    show: bool | None = None


@dataclass(frozen=True)
class Claim:
    """Something that was claimed, and the test of it.

    Attributes:
        id: What it is called.
        text: The claim.
        source: Who makes it.
        place: Where: section, table, figure.
        claimed: The number claimed, in words, with the setting it was found in.
        quantity: What is tested, one number for each seed, or a vector for a trend; see `quantity`.
        test: One of `TESTS`.
        than: The bound of `less` and `greater`, the number of `equals`.
        low: Lower end of `between`.
        high: Upper end of `between`.
        tolerance: Of `equals`.
        bootstrap: Intervals and tests from resampled seeds instead of Student's t.
        entries: Each entry of a vector is a unit, not each seed: repetitions within an experiment.
        other: The second count of `mcnemar`.
        unit: Unit of the quantity: "points" shows parts of one as percentage points.
        figure: A figure of the study or an analysis that shows it; by default one is drawn of the seeds.
    """

    id: str
    text: str
    source: str
    place: str
    claimed: str
    quantity: str
    test: str
    than: float = 0.0
    low: float = 0.0
    high: float = 0.0
    tolerance: float = 0.0
    bootstrap: bool = False
    entries: bool = False
    other: str = ""
    unit: str = ""
    figure: str = ""


@dataclass(frozen=True)
class Drawing:
    """A figure across trainings.

    Attributes:
        id: What it is called.
        title: Its title.
        kind: "sweep": y over the setting x; "groups": one column of seeds for each y; "pareto": error y over cost x
            with the front; "scatter": any y over any x.
        x: Quantity of the abscissa, the same for all curves (`sweep`), or by the name of each (`pareto`, `scatter`).
        y: Quantities by the name of the curve.
        level: Quantities that do not depend on x, drawn as horizontal lines.
        xlabel: Title of the x axis.
        ylabel: Title of the y axis, with its unit.
        log: Logarithmic axes: "x", "y" or "xy".
        caption: How to read it.
        percent: Whether y is shown in percent.
    """

    id: str
    title: str
    kind: str
    y: Mapping[str, str]
    ylabel: str
    x: str | Mapping[str, str] = ""
    level: Mapping[str, str] = field(default_factory=dict)
    xlabel: str = ""
    log: str = ""
    caption: str = ""
    percent: bool = False


@dataclass(frozen=True)
class Study:
    """A study.

    Attributes:
        name: The file's stem.
        title: Title of its report.
        text: What it is about, in a few words, for --list.
        reproduces: The tables and figures that it re-runs.
        scales: How large it can be run.
        trainings: What is trained.
        analyses: What is asked of checkpoints.
        experiments: What is computed without checkpoints.
        claims: What is tested.
        figures: What is drawn across trainings.
    """

    name: str
    title: str
    text: str
    reproduces: str
    scales: tuple[Scale, ...]
    trainings: tuple[Training, ...] = ()
    analyses: tuple[Question, ...] = ()
    experiments: tuple[Question, ...] = ()
    claims: tuple[Claim, ...] = ()
    figures: tuple[Drawing, ...] = ()

    def scale(self, name: str) -> Scale:
        """The scale of that name.

        Raises:
            UsageError: If there is none.
        """
        found = next((scale for scale in self.scales if scale.name == name), None)
        if found is None:
            raise UsageError(f"{self.name} has no scale '{name}'", nearest(name, (s.name for s in self.scales)))
        return found

    @property
    def questions(self) -> tuple[Question, ...]:
        """Analyses and experiments."""
        return (*self.analyses, *self.experiments)


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
        "claims": [_made(Claim, each, "claims") for each in known.pop("claims", [])],
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
        if training.fork and training.fork not in known - {training.id}:
            raise UsageError(f"'{training.id}' is forked from '{training.fork}'", nearest(training.fork, known))


def _check_question(study: Study, question: Question) -> None:
    registry = EXPERIMENTS if question in study.experiments else REGISTRY
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


def _check_claim(study: Study, claim: Claim) -> None:
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
    kinds = {analysis.NAME: analysis for analysis in (*REGISTRY, *EXPERIMENTS)}
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
