"""Makes one node: trains up to a step, or asks a question. What runs in a worker process."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyses import named
from analyses.studies.node import Answer, Node, Training
from landscape.errors import DivergedError, InputError, UsageError
from landscape.files import atomic
from landscape.options import make
from landscape.types import Progress, quiet

if TYPE_CHECKING:
    from landscape.problem import Problem


@dataclass(frozen=True)
class Task:
    """A node, where it goes and what it is made from.

    Attributes:
        node: The node.
        out: Its file.
        inputs: Files of the nodes that it needs, in their order.
        device: Where to compute.
    """

    node: Node
    out: Path
    inputs: tuple[Path, ...]
    device: str


def failure(out: Path) -> Path:
    """The file that says why a node could not be made."""
    return out.with_suffix(".failed.json")


def perform(task: Task, progress: Progress = quiet) -> None:
    """Make a node's file; a divergence is a finding and is kept in a file of its own.

    Args:
        task: What to make.
        progress: Told how far it is.

    Raises:
        InterruptedRun: If a signal stopped it; what was trained is kept.
    """
    from analyses.compare import make_directory

    make_directory(task.out.parent)
    try:
        if isinstance(task.node, Training):
            _train(task, task.node, progress)
        elif isinstance(task.node, Answer) and task.node.needs:
            _ask(task, task.node, progress)
        else:
            assert isinstance(task.node, Answer)
            _experiment(task, task.node, progress)
    except DivergedError as error:
        with atomic(failure(task.out), force=True) as draft:
            draft.write_text(json.dumps({"cause": error.cause, "remedy": error.remedy}))


@functools.lru_cache(maxsize=2)
def _problem(spec: str) -> Problem:
    """A problem, kept while its nodes are made: reading data takes longer than a small training."""
    from landscape import problem as problems

    return problems.load(spec)


def _train(task: Task, node: Training, progress: Progress) -> None:
    """Train to `NAME.unfinished.pt`, which a later run goes on with, and rename it when it is whole."""
    from landscape.training.files import Order, train_to_file

    part = task.out.with_suffix(".unfinished.pt")
    resume = part.exists()
    if node.start == "resume" and not resume:
        with atomic(part) as draft:
            draft.write_bytes(task.inputs[0].read_bytes())
        resume = True
    fork = task.inputs[0] if node.start == "fork" and not resume else None
    order = Order(part, fork=fork, resume=resume, stop_at=node.until, force=True, device=task.device)
    train_to_file(_problem(node.spec), node.settings, order, _silent, progress)
    part.replace(task.out)


def _ask(task: Task, node: Answer, progress: Progress) -> None:
    from analyses.run import ask, state_of
    from landscape.opening import open_checkpoints

    analysis = named(node.analysis)
    assert analysis is not None
    problem, found = open_checkpoints(task.inputs, _problem(node.spec), _silent)
    called = [dataclasses.replace(c, name=label) for c, label in zip(found, node.labels, strict=True)]
    options: Any = make(analysis.Options, node.options)
    asked = functools.partial(
        ask, analysis, problem, called, task.inputs, options, task.out,
        force=True, device=task.device, dtype=node.dtype, progress=progress,
    )  # fmt: skip
    kept = bool(getattr(analysis, "resumable", lambda options: "")(options))
    if kept and state_of(task.out).exists():
        try:
            asked(resume=True)
            return
        except (UsageError, InputError):  # the state of another version or device, or damaged: begin anew
            pass
    asked(resume=False if kept else None)


def _experiment(task: Task, node: Answer, progress: Progress) -> None:
    from analyses import experiments
    from analyses.experiments.run import ask

    experiment = experiments.named(node.analysis)
    assert experiment is not None
    options: Any = make(experiment.Options, node.options)
    ask(experiment, options, task.out, force=True, device=task.device, dtype=node.dtype, progress=progress)


def why(path: Path) -> str:
    """What a failure file says."""
    told: Mapping[str, str] = json.loads(path.read_text())
    return told["cause"]


def _silent(text: str) -> None:
    del text
