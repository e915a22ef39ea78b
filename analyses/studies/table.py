"""The table of a study: what a TOML file may say. Every key is a field of a dataclass below."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from landscape.errors import UsageError, nearest
from landscape.types import Setting

Values = Mapping[str, Setting | tuple[Setting, ...]]
"""Settings by name; several values of one are all taken in turn."""

TESTS = ("less", "greater", "between", "equals", "increasing", "decreasing", "sign", "mcnemar")
KINDS = ("sweep", "groups", "pareto", "scatter")


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
class Hypothesis:
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
    claims: tuple[Hypothesis, ...] = ()
    figures: tuple[Drawing, ...] = ()

    def scale(self, name: str) -> Scale:
        """The scale of that name.

        Args:
            name: As the file says.

        Returns:
            The scale.

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
