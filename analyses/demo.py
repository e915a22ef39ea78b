"""The whole path in one go: trains the pairs on digits over seeds, asks every question, writes one report.

SGD | SGD→SAM and SAM | SAM→SGD share their first E steps, which are trained once; PSAM runs beside them. Tasks run in
worker processes of one thread each. What is there already and was made with the same settings is not made again.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from analyses import named
from analyses.compare import REPORT, make_directory
from analyses.pages import page, read
from analyses.run import ask
from landscape import checkpoint as checkpoints
from landscape import store
from landscape.errors import InterruptedRun, UsageError
from landscape.opening import open_checkpoints
from landscape.options import as_dict, make
from landscape.report import write
from landscape.types import Progress, Setting, quiet

SPEC = "digits/resnet8"
METHODS = ("sgd", "sgd-sam", "sam", "sam-sgd", "psam")
STEM = {"sgd-sam": "sgd", "sam-sgd": "sam"}
FORK: dict[str, Setting] = {"low": -6.0, "high": 10.0}  # one range for all seeds, so that a mean can be drawn
NULL: dict[str, Setting] = {"gaussian": 20, "sign_matched": 0}  # a small one: six lines are asked for
QUESTIONS: tuple[tuple[str, tuple[str, ...], dict[str, Setting]], ...] = (
    ("evaluate", METHODS, {}),
    ("hessian", METHODS, {}),
    ("distance", METHODS, {"barrier": 3}),
    ("interpolate", ("sgd", "sgd-sam"), FORK),
    ("interpolate", ("sam", "sam-sgd"), FORK),
    ("interpolate", ("sgd", "psam"), {"low": -1.0, "high": 2.0}),
    ("asymmetry", ("sgd", "sgd-sam"), NULL),
    ("asymmetry", ("sam-sgd", "sam"), NULL),
)


@dataclass(frozen=True)
class Task:
    """One file to make in a worker.

    Attributes:
        out: The file.
        weight: How long it takes, in units of an SGD run.
        method: Method of a training, or name of an analysis.
        paths: Checkpoints an analysis asks; a training forks from the first, if there is one.
        values: Settings or options.
        force: Whether a file that exists is made again.
    """

    out: Path
    weight: int
    method: str
    paths: tuple[Path, ...]
    values: dict[str, Setting]
    force: bool


def run(
    directory: Path, seeds: int = 3, *, jobs: int | None = None, force: bool = False, progress: Progress = quiet
) -> Path:
    """Train, measure and report.

    Args:
        directory: Where to write; made if it does not exist.
        seeds: How many seeds.
        jobs: Worker processes; default one for each processor.
        force: Whether to make everything again.
        progress: Told (work done, work in all, in hundredths of an SGD run).

    Returns:
        The report.

    Raises:
        UsageError: If a file exists that was made otherwise and `force` is not set.
        InputError: If the directory cannot be made.
    """
    make_directory(directory)
    phases = (_stems(directory, seeds, force), _forks(directory, seeds, force), _questions(directory, seeds, force))
    total = sum(task.weight for phase in phases for task in phase)
    done = 0
    context = multiprocessing.get_context("spawn")
    workers = jobs or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else jobs or os.cpu_count() or 1
    with _terminated(), ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
        for phase in phases:
            futures: dict[Future[None], Task] = {pool.submit(_make, task): task for task in phase}
            try:
                for future in as_completed(futures):
                    future.result()
                    done += futures[future].weight
                    progress(done, total, futures[future].out.name)
            except BaseException:
                for worker in multiprocessing.active_children():
                    worker.terminate()  # a training finishes its step and saves
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    results = [read(task.out) for task in phases[2]]
    write(page(results, "SGD, SAM and PSAM on handwritten digits"), directory / REPORT, force=True)
    return directory / REPORT


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """Let SIGTERM end the demo as an interruption that can be resumed; outside the main thread leave it alone."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise InterruptedRun("the demo was stopped", "run the same command again: it goes on where it was")

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _place(directory: Path, seed: int) -> Path:
    return directory / f"seed{seed}"


def _stems(directory: Path, seeds: int, force: bool) -> list[Task]:
    weights = {"sam": 200, "psam": 130, "sgd": 100}  # the longest first
    return [
        Task(_place(directory, s) / f"{method}.pt", weight, method, (), {"method": method, "seed": s}, force)
        for method, weight in weights.items()
        for s in range(seeds)
    ]


def _forks(directory: Path, seeds: int, force: bool) -> list[Task]:
    found = []
    for s in range(seeds):
        for method, stem in STEM.items():
            place = _place(directory, s)
            values: dict[str, Setting] = {"method": method, "seed": s}
            found.append(Task(place / f"{method}.pt", 40, method, (place / f"{stem}@600.pt",), values, force))
    return found


def _questions(directory: Path, seeds: int, force: bool) -> list[Task]:
    weights = {"asymmetry": 160, "hessian": 100, "interpolate": 30}
    return [
        Task(
            out=_place(directory, s) / f"{'--'.join(methods) if len(methods) == 2 else 'all'}.{name}.h5",
            weight=weights.get(name, 10),
            method=name,
            paths=tuple(_place(directory, s) / f"{method}.pt" for method in methods),
            values=values,
            force=force,
        )
        for name, methods, values in sorted(QUESTIONS, key=lambda q: -weights.get(q[0], 10))
        for s in range(seeds)
    ]


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _make(task: Task) -> None:
    """Make one file, unless it is there."""
    if task.out.suffix == ".pt":
        _train(task)
    else:
        _ask(task)


def _train(task: Task) -> None:
    from landscape.training.files import Order, train_to_file

    fork = task.paths[0] if task.paths else None
    keep: tuple[str, ...] = () if fork or task.method == "psam" else ("switch",)
    beside = [task.out.with_name(f"{task.out.stem}@600.pt")] if keep else []
    if not task.force and all(path.exists() for path in (task.out, *beside)):
        there = checkpoints.load(task.out)
        if any(there.settings.get(key) != value for key, value in task.values.items()):
            raise _other(task.out)
        if there.state == "complete":
            return
        keep = tuple(word for word in keep if not beside[0].exists())
        train_to_file(SPEC, {}, Order(task.out, resume=True, save_at=keep, force=True), _silent)
        return
    make_directory(task.out.parent)
    train_to_file(SPEC, task.values, Order(task.out, fork=fork, save_at=keep, force=True), _silent)


def _ask(task: Task) -> None:
    analysis = named(task.method)
    assert analysis is not None
    options: object = make(analysis.Options, task.values)
    problem, found = open_checkpoints(task.paths, None, _silent)
    if task.out.exists() and not task.force:
        there = store.provenance(task.out)
        if there.inputs != {c.name: c.sha256 for c in found} or there.options != as_dict(options):
            raise _other(task.out)
        return
    ask(analysis, problem, found, task.paths, options, task.out, force=True)


def _other(path: Path) -> UsageError:
    return UsageError(f"{path} exists and was made otherwise", "choose another --out, or add --force to make all again")


def _silent(text: str) -> None:
    del text
