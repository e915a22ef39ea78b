"""Training into a file: saved on the way, resumed from it, forked from another, stopped by a signal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from landscape import checkpoint as checkpoints
from landscape import problem as problems
from landscape.checkpoint import Checkpoint
from landscape.errors import InputError, InterruptedRun, UsageError
from landscape.files import refuse_existing
from landscape.interruption import signals
from landscape.options import as_dict, differences
from landscape.problem import Problem
from landscape.query import short
from landscape.task import smoothing_of
from landscape.training.fork import relation
from landscape.training.run import train
from landscape.training.settings import Settings, complete, resolve
from landscape.training.state import of_problem
from landscape.types import Progress, Setting, quiet
from landscape.vector import layout_of


@dataclass(frozen=True)
class Order:
    """What a user asks of a training run, beside problem and settings.

    Attributes:
        out: File to write.
        fork: Checkpoint to start from, shared with another run.
        resume: Whether to go on with `out`.
        stop_at: Step to stop at.
        save_at: Steps to keep, "switch" for step E.
        save_every: Every how many steps one is kept; 0 for none.
        force: Whether `out` may be replaced.
        device: Where to train.
    """

    out: Path
    fork: Path | None = None
    resume: bool = False
    stop_at: int | None = None
    save_at: tuple[str, ...] = ()
    save_every: int = 0
    force: bool = False
    device: str = "cpu"


def train_to_file(
    spec: str | Problem,
    wanted: Mapping[str, Setting],
    order: Order,
    say: Callable[[str], None],
    progress: Progress = quiet,
) -> Checkpoint:
    """Train and save.

    The unfinished state is saved whenever the test data are evaluated, so that a killed run can be resumed.

    Args:
        spec: The problem or its spec.
        wanted: Settings the user gave; the rest comes from the checkpoint resumed or forked, or from the problem.
        order: Files and steps.
        say: Told of every guess.
        progress: Told how far it is.

    Returns:
        The saved checkpoint.

    Raises:
        UsageError: If settings are wrong, the file exists, or the run to resume had other settings.
        InputError: If a file cannot be used.
        DivergedError: If the loss was not finite; the last good state is in the file.
        InterruptedRun: If a signal stopped it; the state is in the file.
    """
    problem = spec if isinstance(spec, Problem) else problems.load(spec)
    start = _start(order, say)
    settings = _settings(start, problem, wanted)
    steps = settings.steps(len(problem.train))
    if start is not None:
        _check_start(start, settings, problem, order, wanted.get("label_smoothing") is not None, say)
        if order.stop_at is not None and order.stop_at < start.step:
            raise UsageError(
                f"--stop-at {order.stop_at} lies before step {start.step} of {start.name}.pt", "go further"
            )
        if order.resume and start.step == steps:
            say(f"{order.out} is complete already")
            return start
    kept = _steps_to_keep(order, settings, problem, 0 if start is None else start.step)
    _refuse(order, kept)
    regular = {round((i + 1) * steps / settings.evaluations) for i in range(settings.evaluations)} - {steps}

    def keep(state: Checkpoint) -> None:
        if state.step in kept:
            checkpoints.save(state, kept[state.step], force=True)
        if state.step in regular or state.diverged:
            checkpoints.save(state, order.out, force=True)

    with signals() as stopped:
        state = train(
            problem, settings, start=start, stop_at=order.stop_at, save_at={*kept, *regular}, keep=keep,
            stop=lambda: bool(stopped), progress=progress, device=order.device,
        )  # fmt: skip
    saved = checkpoints.save(state, order.out, force=True)
    if stopped and state.step < steps:
        raise InterruptedRun(
            f"stopped at step {state.step} of {steps}; the state is in {order.out}",
            "run the same command again with --resume",
        )
    return saved


def _settings(start: Checkpoint | None, problem: Problem, wanted: Mapping[str, Setting]) -> Settings:
    # over the settings of the run that is gone on with, or those that suit the problem, goes what was asked for;
    # that a problem's loss is smoothed was asked for by naming that problem
    if start is None:
        return of_problem(resolve(problem.defaults, wanted), problem)
    smoothing = smoothing_of(problem.task)
    return of_problem(resolve(start.settings, {"label_smoothing": smoothing} if smoothing else {}, wanted), problem)


def _start(order: Order, say: Callable[[str], None]) -> Checkpoint | None:
    if order.fork and order.resume:
        raise UsageError("--fork and --resume exclude each other", "to go on with a forked run, give --resume alone")
    if order.resume:
        if order.out.exists():
            return checkpoints.load(order.out)
        say(f"{order.out} does not exist yet: starting from the beginning")
    return checkpoints.load(order.fork) if order.fork else None


def _check_start(
    start: Checkpoint, settings: Settings, problem: Problem, order: Order, asked: bool, say: Callable[[str], None]
) -> None:
    if not start.settings:
        raise InputError(f"{start.name}.pt does not say how it was made", "train the common steps with landscape train")
    other = "network" if start.layout != layout_of(problem.build(0)) else "data"
    if other == "network" or start.data not in {"", problem.fingerprint()}:
        raise InputError(f"{start.name}.pt is of another {other} than {problem.spec}", "train both from one problem")
    if order.resume:
        before, now = short(start.problem), short(problem.spec)
        if before and now and before != now:
            raise UsageError(f"{order.out} was trained on {before}, not on {now}", "resume with its own problem")
        changed = differences(complete(start.settings), as_dict(settings))
        if changed:
            raise UsageError(
                f"{order.out} was trained with other settings: {', '.join(changed)}",
                "resume with its own settings, or choose another --out",
            )
        return
    apart = relation(start, settings, len(problem.train))
    parts = [text for text in apart if "part before" in text]
    if parts and start.step > settings.switch_step(len(problem.train)):
        raise UsageError(
            f"{start.name}.pt is at step {start.step}: {parts[0]}",
            f"fork from step {settings.switch_step(len(problem.train))} or earlier: train with --save-at switch",
        )
    if settings.label_smoothing != smoothing_of(problem.task) and not asked:
        say(
            f"the fork goes on with the label smoothing of {start.name}.pt, {settings.label_smoothing:g}; the loss of "
            f"{short(problem.spec) or 'this problem'} has {smoothing_of(problem.task):g}"
        )
    if apart:
        say(f"the fork is not what an unforked run would give: {'; '.join(apart)}")


def _steps_to_keep(order: Order, settings: Settings, problem: Problem, done: int) -> dict[int, Path]:
    kept = {}
    steps = settings.steps(len(problem.train))
    for word in order.save_at:
        step = settings.switch_step(len(problem.train)) if word == "switch" else int(word) if word.isdecimal() else -1
        if not done < step <= steps:
            raise UsageError(
                f"--save-at {word} is no step of this run", f"give a step in {done + 1} to {steps}, or 'switch'"
            )
        kept[step] = order.out.with_name(f"{order.out.stem}@{step}.pt")
    periodic = range(order.save_every, steps, order.save_every) if order.save_every else ()
    return kept | {step: order.out.with_name(f"{order.out.stem}@{step}.pt") for step in periodic if step > done}


def _refuse(order: Order, kept: Mapping[int, Path]) -> None:
    """Refuse before hours of training what would be refused after them."""
    if not order.out.resolve().parent.is_dir():
        raise InputError(f"the directory {order.out.parent} does not exist", "create it, or choose another --out")
    for path in [] if order.resume else [order.out, *kept.values()]:
        refuse_existing(path, order.force)
