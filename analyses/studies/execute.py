"""Makes the nodes of a graph in worker processes, each of one thread, and only those that are not there.

Nodes whose inputs are there are started in the order of what still hangs on them, the longest chain first. A signal
stops the workers, which save what they have trained; the next run goes on from there.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from analyses.studies.making import Task, failure, perform, why
from analyses.studies.node import SHORT, Node
from landscape.errors import InterruptedRun, ResourceError
from landscape.types import Progress, quiet

LEAST = 1e-3
"""Part of all work that a node counts at least, so that experiments without passes move the bar."""


@dataclass(frozen=True)
class Made:
    """What is there after a run.

    Attributes:
        files: File of each node that is there, by key.
        failed: Why a node is not, by key.
    """

    files: Mapping[str, Path]
    failed: Mapping[str, str]


def present(nodes: Mapping[str, Node], directory: Path) -> Made:
    """Look for nodes by the keys in the names of files, whatever else they are called.

    Args:
        nodes: The nodes.
        directory: The study's directory.

    Returns:
        What is there, and what could not be made.
    """
    by_short = {key[:SHORT]: key for key in nodes}
    files, failed = {}, {}
    for path in sorted(directory.rglob("*")) if directory.is_dir() else ():
        match = re.fullmatch(rf".*\.([0-9a-f]{{{SHORT}}})\.(pt|h5|failed\.json)", path.name)
        key = by_short.get(match[1]) if match else None
        if match and key and match[2] == "failed.json":
            failed[key] = f"{nodes[key].name}: {why(path)}"
        elif key:
            files[key] = path
    return Made(files, _spread(nodes, failed))


def _spread(nodes: Mapping[str, Node], failed: Mapping[str, str]) -> dict[str, str]:
    """A node whose input could not be made cannot be made either."""
    found = dict(failed)
    for key, node in nodes.items():  # each after those it needs
        lost = next((found[need] for need in node.needs if need in found), None)
        if lost and key not in found:
            found[key] = lost
    return found


class _Work:
    """What is left to do: nodes, their files, and which of them can be started."""

    def __init__(self, nodes: Mapping[str, Node], wanted: Collection[str], directory: Path, progress: Progress) -> None:
        made = present(nodes, directory)
        self.nodes, self.directory = nodes, directory
        self.files, self.failed = dict(made.files), dict(made.failed)
        chains = _chains(nodes)
        self.waiting = sorted(
            (k for k in wanted if k not in self.files and k not in self.failed), key=lambda k: -chains[k]
        )
        total = sum(node.work for node in nodes.values()) or 1.0
        self._weights = {key: max(nodes[key].work / total, LEAST) for key in self.waiting}
        self._count = len(self.waiting)
        self._progress = progress

    def ready(self) -> list[str]:
        """Keys whose inputs are all there, the longest chain first; they are waiting no more."""
        found = [key for key in self.waiting if all(need in self.files for need in self.nodes[key].needs)]
        self.waiting = [key for key in self.waiting if key not in found]
        return found

    def task(self, key: str, device: str) -> Task:
        """What a worker is told."""
        node = self.nodes[key]
        return Task(node, self.directory / node.file, tuple(self.files[k] for k in node.needs), device)

    def finished(self, task: Task) -> None:
        """Note that a node was made, or could not be."""
        key = task.node.key
        if failure(task.out).exists():
            lost = self.failed | {key: f"{task.node.name}: {why(failure(task.out))}"}
            self.failed = _spread(self.nodes, lost)
            self.waiting = [k for k in self.waiting if k not in self.failed]
        else:
            self.files[key] = task.out
        left = [k for k in self._weights if k not in self.files and k not in self.failed]
        done = 1 - sum(self._weights[k] for k in left) / sum(self._weights.values())
        self._progress(round(1000 * done), 1000, f"{self._count - len(left)} of {self._count} nodes, {task.node.name}")


def execute(
    nodes: Mapping[str, Node], wanted: Collection[str], directory: Path, *,
    jobs: int = 1, device: str = "cpu", progress: Progress = quiet,
) -> Made:  # fmt: skip
    """Make nodes.

    Args:
        nodes: All nodes by key, each after those it needs.
        wanted: Keys of those to make, with all that they need.
        directory: Where to.
        jobs: Worker processes; 1 works in this one.
        device: Where to compute.
        progress: Told (thousandths done, 1000, nodes and the last one's name).

    Returns:
        What is there.

    Raises:
        InterruptedRun: If a signal stopped it.
        ResourceError: If a worker died.
    """
    work = _Work(nodes, wanted, directory, progress)
    with _stoppable():
        if jobs == 1:
            with _one_thread():
                while ready := work.ready():
                    for key in ready:
                        task = work.task(key, device)
                        perform(task)
                        work.finished(task)
        elif work.waiting:
            _in_workers(work, jobs, device)
    return Made(work.files, work.failed)


def _in_workers(work: _Work, jobs: int, device: str) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_worker) as pool:
        running: dict[Future[None], Task] = {}
        try:
            while True:
                for key in work.ready():
                    task = work.task(key, device)
                    running[pool.submit(perform, task)] = task
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                    work.finished(running.pop(future))
        except BrokenProcessPool as error:
            raise ResourceError("a worker process died, for want of memory perhaps", "use fewer --jobs") from error
        except BaseException:
            for worker in multiprocessing.active_children():
                worker.terminate()  # a training finishes its step and saves
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _chains(nodes: Mapping[str, Node]) -> dict[str, float]:
    """Work of the longest chain that begins at each node."""
    found = {key: node.work for key, node in nodes.items()}
    for key in reversed(list(nodes)):
        for need in nodes[key].needs:
            found[need] = max(found[need], nodes[need].work + found[key])
    return found


def _worker() -> None:
    """One thread, so that results do not depend on how many processors there are; Ctrl-C is the parent's to handle."""
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM and SIGINT end the study as an interruption that can be resumed; other threads leave them alone."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise InterruptedRun("the study was stopped", "run the same command again: it goes on where it was")

    try:
        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:
        yield
        return
    try:
        yield
    except InterruptedRun as error:
        raise InterruptedRun("the study was stopped", "run the same command again: it goes on where it was") from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
