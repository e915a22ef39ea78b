"""A study from beginning to end: make its nodes, test its claims, write `claims.json` and `report.html`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyses.compare import REPORT, make_directory
from analyses.studies import reading
from analyses.studies.execute import Made, execute, present
from analyses.studies.plan import Graph, plan
from analyses.studies.rank import check
from analyses.studies.shard import share
from landscape.errors import DivergedError, InputError, UsageError
from landscape.files import atomic
from landscape.types import Progress, quiet

CLAIMS = "claims.json"
STUDY = "study.json"


@dataclass(frozen=True)
class Order:
    """What a user asks for.

    Attributes:
        study: Name of a study that comes along, or a TOML file.
        scale: "cpu" or "paper".
        seeds: How many; None for the scale's.
        overrides: Values by name, over those of the file.
    """

    study: str
    scale: str = "cpu"
    seeds: int | None = None
    overrides: Mapping[str, str] | None = None

    def command(self, out: Path) -> str:
        """The shell command that makes it."""
        words = ["landscape", "study", self.study, "--scale", self.scale, "--out", str(out)]
        words += ["--seeds", str(self.seeds)] if self.seeds else []
        for key, value in (self.overrides or {}).items():
            words += ["--set", f"{key}={value}"]
        return shlex.join(words)


def resolve(order: Order) -> Graph:
    """The graph of an order, its quantities checked; data are read, nothing is made."""
    graph = plan(reading.read(*reading.find(order.study)), order.scale, order.seeds, order.overrides)
    check(graph)
    return graph


def run(
    order: Order, graph: Graph, out: Path, *, jobs: int = 1, shard: tuple[int, int] | None = None, device: str = "cpu",
    progress: Progress = quiet,
) -> Path | None:  # fmt: skip
    """Make a study, or a shard of it.

    Args:
        order: What was asked for.
        graph: Its graph.
        out: Where to.
        jobs: Worker processes.
        shard: (i, n) for the i-th of n shards, from 1.
        device: Where to compute.
        progress: Told how far it is.

    Returns:
        The report; None after a shard.

    Raises:
        InterruptedRun: If a signal stopped it.
        UsageError: If the directory holds another study.
    """
    make_directory(out)
    _remember(order, graph, out)
    wanted = share(graph.nodes, *shard) if shard else set(graph.nodes)
    command = order.command(out)
    made = execute(graph.nodes, wanted, out, jobs=jobs, device=device, progress=progress)
    return None if shard else conclude(graph, made, out, command)


def _remember(order: Order, graph: Graph, out: Path) -> None:
    """Keep what was asked, so that shards can be told to be of one study."""
    told = {"study": graph.study.name, "scale": order.scale, "seeds": graph.seeds, "set": dict(order.overrides or {})}
    text = reading.find(order.study)[1]
    path = out / STUDY
    if path.exists() and json.loads(path.read_text())["study"] != graph.study.name:
        raise UsageError(f"{out} holds the study {json.loads(path.read_text())['study']}", "choose another --out")
    with atomic(path, force=True) as draft:
        draft.write_text(json.dumps(told | {"toml": text}, indent=1) + "\n")


def conclude(graph: Graph, made: Made, out: Path, command: str) -> Path:
    """Test the claims of a study whose nodes are there, and write what was found.

    Args:
        graph: The graph.
        made: Its files.
        out: Where to.
        command: Command that makes the study.

    Returns:
        The report.

    Raises:
        DivergedError: If nothing could be made.
    """
    from analyses.pages import read
    from analyses.studies.claims import judge
    from analyses.studies.listing import as_json
    from analyses.studies.page import page
    from landscape.report import write

    stored = {key: read(path) for key, path in made.files.items() if path.suffix == ".h5" and key in graph.nodes}
    if graph.nodes and not stored:
        raise DivergedError(next(iter(made.failed.values()), "nothing was made"), "lower lr or rho in the study")
    tested = judge(graph, stored)
    made_page = page(graph, stored, tested, made.failed, command)
    with atomic(out / CLAIMS, force=True) as draft:
        draft.write_text(as_json(graph, tested, made_page.claims, command), encoding="utf-8")
    write(made_page, out / REPORT, force=True)
    return out / REPORT


def merge(directories: Sequence[Path], out: Path) -> Path:
    """Join the shards of a study, and conclude it.

    Args:
        directories: What the shards made.
        out: Where to.

    Returns:
        The report.

    Raises:
        InputError: If a directory is no shard, shards are of different studies or disagree, or nodes are missing.
    """
    told = [_remembered(directory) for directory in directories]
    if any(each != told[0] for each in told):
        raise InputError(
            "the directories are of different studies, scales, seeds or settings", "merge shards of one study"
        )
    about = told[0]
    graph = plan(reading.read(about["study"], about["toml"]), about["scale"], about["seeds"], about["set"])
    make_directory(out)
    for directory in directories:
        _bring(graph, directory, out)
    made = present(graph.nodes, out)
    missing = [node.name for key, node in graph.nodes.items() if key not in made.files and key not in made.failed]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(graph.nodes)} nodes are missing, as {missing[0]}", "run the other shards"
        )
    with atomic(out / STUDY, force=True) as draft:
        draft.write_text(json.dumps(about, indent=1) + "\n")
    return conclude(graph, made, out, shlex.join(["landscape", "merge", *map(str, directories), "--out", str(out)]))


def _remembered(directory: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((directory / STUDY).read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{directory} holds no study", "name directories that landscape study --shard wrote"
        ) from error
    return found


def _bring(graph: Graph, directory: Path, out: Path) -> None:
    """Copy what a shard made; what is there already has to be the same."""
    there = present(graph.nodes, out).files
    made = present(graph.nodes, directory)
    for key, path in made.files.items():
        target = out / graph.nodes[key].file
        if key in there:
            if not _same(there[key], path):
                raise InputError(
                    f"{path} differs from what another shard made", "run both with the same version of torch"
                )
            continue
        make_directory(target.parent)
        with atomic(target) as draft:
            draft.write_bytes(path.read_bytes())
    for path in directory.rglob("*.failed.json"):
        make_directory((out / path.relative_to(directory)).parent)
        with atomic(out / path.relative_to(directory), force=True) as draft:
            draft.write_bytes(path.read_bytes())


def _same(one: Path, other: Path) -> bool:
    from analyses.pages import read
    from landscape import checkpoint as checkpoints
    from landscape.result import equal

    if one.suffix == ".h5":
        return equal(read(one).result, read(other).result)
    return checkpoints.load(one).sha256 == checkpoints.load(other).sha256
