"""From the table of a study at a scale to the graph of what has to be made.

Lists of values are expanded to their products, `$names` take the scale's values, steps that trainings share become
nodes of their own, and every node gets its key. Data are read, for their fingerprints; nothing is trained.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analyses import experiments, named
from analyses.studies.expansion import Run, Varied, expanded, joined, named_values, product, single
from analyses.studies.node import Answer, Node, Place, Training, key_of, schema, training_work
from analyses.studies.place import check_folders, overridden, place_of
from analyses.studies.sharing import Stem, owner, stems
from analyses.studies.table import Network, Question, Scale, Study
from landscape.errors import UsageError
from landscape.options import as_dict, make
from landscape.types import Setting

if TYPE_CHECKING:
    from landscape.training.settings import Settings


@dataclass(frozen=True)
class Asked:
    """An analysis of the study with one choice of what is repeated.

    Attributes:
        network: Name of the problem, "" where there is one.
        id: The analysis's id in the study.
        varied: Settings over which it was repeated, with their values here.
        keys: Key of the result for each seed; a single one, for seed 0, of an experiment without randomness.
        seeded: Whether there is one for each seed.
    """

    network: str
    id: str
    varied: Varied
    keys: Mapping[int, str]
    seeded: bool = True


@dataclass(frozen=True)
class Graph:
    """What a study needs.

    Attributes:
        study: The table.
        scale: At which scale.
        seeds: Training seeds.
        nodes: Nodes by key, each after those it needs.
        asked: What claims and figures may name.
        networks: Names of the problems.
        units: Examples through the network in one SGD run, by spec.
        overrides: What was said over the file's values.
    """

    study: Study
    scale: Scale
    seeds: int
    nodes: dict[str, Node] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    networks: tuple[str, ...] = ("",)
    units: dict[str, float] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)

    def add(self, node: Node) -> str:
        """Keep a node, unless it is there."""
        self.nodes.setdefault(node.key, node)
        return node.key


def plan(study: Study, scale_name: str, seeds: int | None = None, overrides: Mapping[str, str] | None = None) -> Graph:
    """Resolve a study.

    Args:
        study: The table.
        scale_name: "cpu", "paper" or another of its scales.
        seeds: How many training seeds; default the scale's.
        overrides: Values by name over those of the file: `data`, `problem`, a `$name` of the scale or a setting.

    Returns:
        The graph.

    Raises:
        InputError: If data cannot be read.
        UsageError: If a setting, option or name is wrong.
    """
    scale, extra = overridden(study, study.scale(scale_name), dict(overrides or {}))
    networks = scale.problems or ((Network(scale.problem),) if scale.problem else ())
    if study.trainings and not networks:
        raise UsageError(f"the scale '{scale_name}' of {study.name} names no problem", "write problem = …")
    graph = Graph(
        study, scale, seeds or scale.seeds, networks=tuple(n.name for n in networks) or ("",),
        overrides=dict(overrides or {}),
    )  # fmt: skip
    data = extra.pop("data", os.environ.get("LANDSCAPE_DATA", ""))
    check_folders([network.spec for network in networks] if study.trainings else [], str(data))
    for network in networks if study.trainings else ():
        place = place_of(network.spec, str(data))
        runs = expanded(study, scale)
        layers = (place.defaults, single(scale.settings), single(network.settings), extra)
        trained = _train(graph, network.name, place, runs, layers)
        for question in study.analyses:
            _ask(graph, network.name, place, question, runs, trained)
    for question in study.experiments:
        _experiment(graph, question)
    return graph


def _train(
    graph: Graph, network: str, place: Place, runs: Sequence[Run], layers: Sequence[Mapping[str, Setting]]
) -> list[dict[int, str]]:
    """Nodes of all trainings on a problem; for each run its last node by seed."""
    from landscape.training.settings import resolve

    first = [resolve(*layers, run.given, {"seed": run.shift}) for run in runs]
    forced = [_forced(run, settings, place) for run, settings in zip(runs, first, strict=True)]
    begun = stems(first, forced, place.train)
    graph.units[place.spec] = max((training_work(s, place.train, 0, s.steps(place.train)) for s in first
                                   if s.method == "sgd"), default=0.0) or min(
        training_work(s, place.train, 0, s.steps(place.train)) for s in first)  # fmt: skip
    needed: list[set[int]] = [{settings.steps(place.train)} for settings in first]
    for stem in begun:
        if stem is not None:
            needed[stem.run].add(stem.step)
    found: list[dict[int, str]] = [{} for _ in runs]
    for seed in range(graph.seeds):
        all_settings = [dataclasses.replace(s, seed=s.seed + seed) for s in first]
        maker = _Maker(graph, network, place, runs, all_settings, begun, needed, seed)
        for i in range(len(runs)):
            found[i][seed] = maker.node(i, all_settings[i].steps(place.train))
    return found


def _forced(run: Run, settings: Settings, place: Place) -> Stem | None:
    if run.fork is None:
        return None
    step = settings.switch_step(place.train)
    if step < 1:
        raise UsageError(f"{run.id} is forked at step 0", "give it a switch above 0")
    return Stem(run.fork, step)


@dataclass(frozen=True)
class _Maker:
    """Makes the nodes of one seed."""

    graph: Graph
    network: str
    place: Place
    runs: Sequence[Run]
    settings: Sequence[Settings]
    begun: Sequence[Stem | None]
    needed: Sequence[set[int]]
    seed: int

    def identity(self, i: int) -> str:
        """Hash of all that determines run i at every step."""
        fork = self.runs[i].fork
        above = "" if fork is None else f"{self.identity(fork)}@{self.settings[i].switch_step(self.place.train)}"
        return key_of("run", self.place.portable, self.place.data, as_dict(self.settings[i]), above)

    def node(self, i: int, until: int) -> str:
        """The key of run i's state at a step; it and what it needs are put into the graph."""
        run, stem = self.runs[i], self.begun[i]
        key = key_of("state", self.identity(i), until)
        if key in self.graph.nodes:
            return key
        needs: tuple[str, ...] = ()
        earlier = [step for step in self.needed[i] if step < until and (stem is None or step > stem.step)]
        if earlier:
            start, begin, needs = "resume", max(earlier), (self.node(i, max(earlier)),)
        elif stem is not None:
            above = owner(self.begun, stem)
            assert above is not None
            start, begin, needs = "fork", stem.step, (self.node(above.run, above.step),)
        else:
            start, begin = "", 0
        n = self.place.train
        at = "" if until == self.settings[i].steps(n) else f"@{until}"
        return self.graph.add(Training(
            key=key, name=_folder(self.network, self.seed) + _title(run.id, run.varied) + at, needs=needs,
            work=training_work(self.settings[i], n, begin, until), spec=self.place.spec,
            settings=as_dict(self.settings[i]), until=until, start=start, steps=until - begin,
        ))  # fmt: skip


def _folder(network: str, seed: int) -> str:
    return f"{_title(network, {})}/seed{seed}/" if network else f"seed{seed}/"


def _ask(
    graph: Graph, network: str, place: Place, question: Question, runs: Sequence[Run],
    trained: Sequence[Mapping[int, str]],
) -> None:  # fmt: skip
    """Nodes of an analysis: one for each choice on which its trainings agree, for each choice of options and seed."""
    analysis = named(question.analysis)
    assert analysis is not None
    least, most = analysis.TAKES
    if not least <= len(question.of) <= most:
        raise UsageError(f"'{question.id}' asks {question.analysis} of {len(question.of)} trainings",
                         f"it takes {least}" if least == most else f"it takes {least} to {most}")  # fmt: skip
    for chosen, varied in joined(question.of, runs):
        for choice, options in product(named_values(question.options, graph.scale)):
            resolved: Any = make(analysis.Options, options)
            both = varied | choice
            keys = {}
            for seed in range(graph.seeds):
                needs = tuple(trained[i][seed] for i in chosen)
                work, first = analysis.work(resolved, len(needs)), graph.nodes[needs[0]]
                batch = int(first.settings["batch_size"] or 0) if isinstance(first, Training) else 0
                keys[seed] = graph.add(Answer(
                    key=key_of("answer", analysis.NAME, schema(analysis.Result), as_dict(resolved), question.of, needs),
                    needs=needs,
                    name=_folder(network, seed) + _title(question.id, both), spec=place.spec,
                    work=float(work.examples(place.train, place.test, batch)), analysis=analysis.NAME,
                    options=as_dict(resolved), labels=question.of, dtype="float32",
                ))  # fmt: skip
            graph.asked.append(Asked(network, question.id, both, keys))


def _experiment(graph: Graph, question: Question) -> None:
    """Nodes of an experiment: one for each choice of options, and for each seed where it takes one."""
    experiment = experiments.named(question.analysis)
    assert experiment is not None
    seeded = "seed" in {f.name for f in dataclasses.fields(experiment.Options)} and "seed" not in question.options
    for varied, options in product(named_values(question.options, graph.scale)):
        keys = {}
        for seed in range(graph.seeds if seeded else 1):
            resolved: Any = make(experiment.Options, options | ({"seed": seed} if seeded else {}))
            keys[seed] = graph.add(Answer(
                key=key_of("answer", experiment.NAME, schema(experiment.Result), as_dict(resolved)),
                needs=(), spec="", work=0.0,
                name=(f"seed{seed}/" if seeded else "") + _title(question.id, varied), analysis=experiment.NAME,
                options=as_dict(resolved), labels=(), dtype="float64",
            ))  # fmt: skip
        graph.asked.append(Asked("", question.id, varied, keys, seeded))


def _title(name: str, varied: Varied) -> str:
    """A name that can stand in a path: sgd-sam,rho=0.1."""
    words = [name, *(f"{key}={value}" for key, value in varied.items())]
    return ",".join("".join(c if c.isalnum() or c in "-_.=" else "_" for c in word) for word in words)[:120]
