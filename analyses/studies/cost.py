"""What a study will take: in units of an SGD run, and in seconds from a few timed steps."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from analyses.studies.execute import Made
from analyses.studies.node import Answer, Training
from analyses.studies.plan import Graph

if TYPE_CHECKING:
    from landscape.problem import Problem
    from landscape.training.settings import Settings

STEPS = 8
"""Steps that are timed at most."""
PATIENCE = 2.0
"""Seconds after which no further step is timed."""
BATCH = 8
"""Examples in the step that tells how long others take."""
FEW = 500
"""Test examples that are timed at most."""


@dataclass(frozen=True)
class Line:
    """Nodes that differ in the seed alone.

    Attributes:
        name: What they are called.
        count: How many.
        made: How many of them are there.
        source: What they go on from, "" for nothing.
        units: SGD runs that one of them takes; a part where steps are shared.
        seconds: Seconds that one of them takes; NaN for an experiment, which is not timed.
    """

    name: str
    count: int
    made: int
    source: str
    units: float
    seconds: float


def lines(graph: Graph, made: Made, device: str = "cpu") -> list[Line]:
    """The graph as a list, with its cost.

    Args:
        graph: The graph.
        made: What is there already.
        device: Where it would be computed.

    Returns:
        One line for nodes of the same name.
    """
    rates = {spec: _rates(graph, spec, device) for spec in graph.units}
    found: dict[str, list[str]] = {}
    for key, node in graph.nodes.items():
        found.setdefault(_seedless(node.name), []).append(key)
    told = []
    for name, keys in found.items():
        node = graph.nodes[keys[0]]
        sources = ", ".join(_seedless(graph.nodes[need].name) for need in node.needs)
        train, test = rates.get(node.spec, (float("nan"), float("nan")))
        seconds = node.work * (train if isinstance(node, Training) else test)
        units = node.work / graph.units[node.spec] if node.spec else 0.0
        there = sum(key in made.files for key in keys)
        told.append(Line(name, len(keys), there, sources if _long(node) else "", units, seconds))
    return told


def _long(node: object) -> bool:
    return isinstance(node, Training) or (isinstance(node, Answer) and len(node.needs) <= 2)


def _seedless(name: str) -> str:
    return re.sub(r"(^|/)seed\d+/", r"\1", name)


def _rates(graph: Graph, spec: str, device: str) -> tuple[float, float]:
    """Seconds for an example through the network: in training and in evaluation."""
    import torch

    from landscape import problem as problems
    from landscape.training.settings import resolve

    whole = problems.load(spec)
    runs = [n for n in graph.nodes.values() if isinstance(n, Training) and n.spec == spec]
    full = resolve(runs[0].settings, {"method": "sgd", "m": 0, "validation": 0})
    few = replace(full, batch_size=min(BATCH, full.batch_size))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        step = _step(whole, few, 1, device) / few.batch_size
        if step * full.batch_size < PATIENCE:  # small enough for its own batches
            step = _step(whole, full, STEPS, device) / full.batch_size
        tested = min(max(BATCH, int(PATIENCE / step)), FEW, len(whole.test))
        return step / 3, _evaluation(whole, few, tested, device)
    finally:
        torch.set_num_threads(threads)


def _step(whole: Problem, settings: Settings, steps: int, device: str) -> float:
    """Seconds of a step: of as many as there is patience for, what comes before the first one taken off."""
    from landscape.training.run import train

    problem = replace(whole, train=whole.train.head(min((1 + steps) * settings.batch_size, len(whole.train))))
    first = train(problem, settings, stop_at=1, device=device)
    began = time.perf_counter()
    train(problem, settings, start=first, stop_at=1, device=device)
    idle = time.perf_counter() - began
    began = time.perf_counter()
    last = train(
        problem, settings, start=first, stop_at=1 + steps, device=device,
        stop=lambda: time.perf_counter() - began > idle + PATIENCE,
    )  # fmt: skip
    return max(time.perf_counter() - began - idle, 1e-6) / max(last.step - 1, 1)


def _evaluation(whole: Problem, settings: Settings, examples: int, device: str) -> float:
    """Seconds of a test example."""
    from landscape.surface import Surface
    from landscape.training.run import train

    problem = replace(whole, train=whole.train.head(2 * settings.batch_size), test=whole.test.head(examples))
    surface = Surface(problem, device=device)
    surface.at(train(problem, settings, stop_at=0, device=device))
    began = time.perf_counter()
    float(surface.score("test").loss)
    return (time.perf_counter() - began) / len(problem.test)


def total(told: list[Line]) -> tuple[float, float]:
    """SGD runs and seconds that are still to be made."""
    left = [(line, line.count - line.made) for line in told]
    seconds = sum(n * line.seconds for line, n in left if line.seconds == line.seconds)
    return sum(n * line.units for line, n in left), seconds
