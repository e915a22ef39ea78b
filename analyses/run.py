"""Asks one question of checkpoints and keeps the answer: compute, provenance, file."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscape import store
from landscape.errors import UsageError
from landscape.files import check_target
from landscape.interruption import signals
from landscape.options import as_dict, as_flags, differences
from landscape.result import Provenance
from landscape.types import Progress, Setting, quiet

if TYPE_CHECKING:
    from analyses import Analysis
    from landscape.checkpoint import Checkpoint
    from landscape.curvature import Rest
    from landscape.problem import Problem
    from landscape.surface import Surface
    from landscape.unfinished import Unfinished


def ask(
    analysis: Analysis,
    problem: Problem,
    checkpoints: Sequence[Checkpoint],
    paths: Sequence[Path],
    options: Any,
    out: Path,
    *,
    force: bool = False,
    device: str = "cpu",
    dtype: str = "float32",
    progress: Progress = quiet,
    resume: bool | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Any:
    """Compute an analysis and write its result.

    Args:
        analysis: The question.
        problem: What the checkpoints were trained on.
        checkpoints: Whom to ask.
        paths: Their files, as the user named them.
        options: The analysis's options.
        out: File to write.
        force: Whether it may be replaced.
        device: Where to compute.
        dtype: Floating point type, "float32" or "float64".
        progress: Told how far it is.
        resume: Whether to go on from the state that an interrupted call left beside `out`. None keeps no such state
            and leaves signals alone.
        say: Told of what is not as one would think.

    Returns:
        The result.

    Raises:
        UsageError: If the file exists and `force` is not set, an option is wrong, or what is to be resumed differs.
        InputError: If the place cannot be written to.
        ResourceError: If the disk is full.
        InterruptedRun: If a signal stopped it; the state is beside `out`.
    """
    from landscape.checkpoint import save

    about = _about(analysis, problem, checkpoints, paths, options, out, device, dtype)
    if resume and out.exists():
        _same(out, identity(store.provenance(out)), identity(about))
        say(f"{out} is complete already")
        return store.load(out, analysis.Result)
    point, kept = beside(analysis, options, out), list["Checkpoint"]()
    for path in (out, point) if point else (out,):
        check_target(path, force, paths)
    began = time.monotonic()
    with _resting(analysis, options, out, identity(about), resume, force, say) as rest:
        extra: dict[str, Any] = ({} if rest is None else {"rest": rest}) | ({"keep": kept.append} if point else {})
        result = analysis.compute(
            problem, *checkpoints, options=options, progress=progress, device=device, dtype=dtype, **extra
        )
        seconds = round(time.monotonic() - began if rest is None else rest.seconds, 3)
        if point:
            save(kept[0], point, force)
        store.save(out, result, dataclasses.replace(about, created=_now(), seconds=seconds), force)
    return result


def beside(analysis: Analysis, options: Any, out: Path) -> Path | None:
    """Where the checkpoint goes that an analysis makes beside its result; None if it makes none."""
    end = getattr(analysis, "beside", lambda options: "")(options)
    return out.with_name(f"{out.stem}{end}.pt") if end else None


def _about(
    analysis: Analysis, problem: Problem, checkpoints: Sequence[Checkpoint], paths: Sequence[Path], options: Any,
    out: Path, device: str, dtype: str,
) -> Provenance:  # fmt: skip
    """Where the result will come from, as far as that is known before it is computed."""
    from landscape.task import smoothing_of
    from landscape.training.state import versions

    return Provenance(
        analysis=analysis.NAME,
        command=command(analysis, paths, options, out, problem.spec, dtype),
        options=as_dict(options),
        problem=problem.spec,
        data=next((c.data for c in checkpoints if c.data), "") or problem.fingerprint(),
        inputs={c.name: c.sha256 for c in checkpoints},
        trained={c.name: dict(c.settings) for c in checkpoints},
        device=device,
        dtype=dtype,
        versions=versions(),
        created=_now(),
        seconds=0.0,
        smoothing=smoothing_of(problem.task),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def identity(about: Provenance) -> dict[str, Setting]:
    """What determines a result, by name."""
    inputs = {f"checkpoint {name}": digest[:12] for name, digest in about.inputs.items()}
    place = {"problem": about.problem, "data": about.data, "device": about.device, "dtype": about.dtype}
    return {"analysis": about.analysis, "version": about.versions["landscape"], **place, **inputs, **about.options}


def state_of(out: Path) -> Path:
    """Where the state of an interrupted run lies: beside its result."""
    return out.with_name(f"{out.name}.state")


def _same(out: Path, old: dict[str, Setting], new: dict[str, Setting]) -> None:
    changed = differences(old, new)
    if changed:
        raise UsageError(
            f"{out} was made with other settings: {', '.join(changed)}",
            "choose another --out, or add --force, without --resume, to make it again",
        )


@contextlib.contextmanager
def _resting(
    analysis: Analysis, options: Any, out: Path, about: dict[str, Setting], resume: bool | None, force: bool,
    say: Callable[[str], None],
) -> Iterator[Rest | Unfinished | None]:  # fmt: skip
    """Keep the state of a computation beside its result until the result is written."""
    if resume is None:
        yield None
        return
    kind = getattr(analysis, "resumable", lambda options: "")(options)
    if not kind:
        if resume:
            raise UsageError(f"{analysis.NAME} cannot be resumed with these options", "leave out --resume")
        yield None
        return
    path = state_of(out)
    if path.exists() and not (resume or force):
        raise UsageError(
            f"{path} holds the state of an interrupted run", "go on with --resume, or add --force to begin again"
        )
    with signals() as stopped:
        if resume and not path.exists():
            say(f"{path} does not exist: starting from the beginning")
        rest = _begin(kind, path, about, stopped, resume and path.exists())
        yield rest
    rest.discard()


def _begin(
    kind: str, path: Path, about: dict[str, Setting], stopped: list[int], resume: bool
) -> Rest | Unfinished:  # fmt: skip
    from landscape.curvature import Rest
    from landscape.unfinished import Unfinished

    return (Rest if kind == "search" else Unfinished)(path, about, stopped, resume)


def estimate(
    analysis: Analysis, problem: Problem, checkpoints: Sequence[Checkpoint], options: Any, device: str, dtype: str
) -> dict[str, str | float]:
    """Say what an analysis will take, from one evaluation that is timed.

    Args:
        analysis: The question.
        problem: What the checkpoints were trained on.
        checkpoints: Whom to ask.
        options: The analysis's options.
        device: Where it would be computed.
        dtype: Floating point type.

    Returns:
        Work in words, passes over the data, seconds, and bytes held beside the data: in vectors, in gradient graphs.
    """
    from landscape.surface import Surface

    surface = Surface(problem, batch_size=options.batch_size, device=device, dtype=dtype)
    surface.at(checkpoints[0])
    began = time.perf_counter()
    float(surface.score("test").loss)
    per_example = (time.perf_counter() - began) / len(problem.test)
    work, batch = analysis.work(options, len(checkpoints)), int(checkpoints[0].settings.get("batch_size") or 0)
    theta = surface.flat.theta
    return {
        "work": work.text,
        "train_passes": work.train,
        "test_passes": work.test,
        "seconds": per_example * work.examples(len(problem.train), len(problem.test), batch),
        "bytes": work.vectors * theta.numel() * theta.element_size(),
        "graph_bytes": _graph_bytes(surface, work.graphs),
    }


def _graph_bytes(surface: Surface, most: int | None) -> int:
    """Bytes of the gradient graphs that will be kept, measured on a few examples."""
    from landscape.curvature import HessianOperator
    from landscape.curvature.memory import default_budget

    if most == 0:
        return 0
    needed = HessianOperator(surface.objective()).graph_bytes()
    return min(needed, default_budget(surface.flat.theta.device) if most is None else most)


def command(
    analysis: Analysis, paths: Sequence[Path], options: Any, out: Path, spec: str, dtype: str = "float32"
) -> str:
    """The shell command that asks the same again, options at their defaults left out."""
    words = ["landscape", analysis.NAME, *_files(analysis, paths), *as_flags(options)]
    if dtype != "float32":
        words += ["--dtype", dtype]
    return shlex.join([*words, "--problem", spec, "--out", str(out)])


def _files(analysis: Analysis, paths: Sequence[Path]) -> list[str]:
    names = [str(path) for path in paths]
    return [names[0], "--toward", *names[1:]] if analysis.NAME == "asymmetry" and len(names) > 1 else names


def default_out(analysis: Analysis, paths: Sequence[Path]) -> Path:
    """The file of a result where the user names none: beside the first checkpoint, named after all of them."""
    stems = [path.stem or "checkpoint" for path in paths]
    name = "--".join(stems) if len(stems) <= 3 else f"{stems[0]}--and-{len(stems) - 1}-more"
    return paths[0].parent / f"{name}.{analysis.NAME}.h5"
