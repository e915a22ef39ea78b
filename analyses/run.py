"""Asks one question of checkpoints and keeps the answer: compute, provenance, file."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscape import store
from landscape.files import check_target
from landscape.options import as_dict
from landscape.result import Provenance
from landscape.signals import collected
from landscape.types import Progress, quiet
from landscape.unfinished import Unfinished

if TYPE_CHECKING:
    from analyses import Analysis
    from landscape.checkpoint import Checkpoint
    from landscape.problem import Problem
    from landscape.surface import Surface


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
        resume: Whether to go on with the points of a run that was stopped; None keeps no points on the way.

    Returns:
        The result.

    Raises:
        UsageError: If the file exists and `force` is not set, an option is wrong, or the points are of another run.
        InterruptedRun: If a signal stopped it; the points are kept beside `out`.
        InputError: If the place cannot be written to.
        ResourceError: If the disk is full.
    """
    from landscape.training.state import versions

    check_target(out, force, paths)
    began = time.monotonic()
    asked: dict[str, Any] = {"options": options, "progress": progress, "device": device, "dtype": dtype}
    about: dict[str, Any] = {
        "options": as_dict(options),
        "data": next((c.data for c in checkpoints if c.data), "") or problem.fingerprint(),
        "inputs": {c.name: c.sha256 for c in checkpoints},
        "versions": versions(),
    }
    with contextlib.ExitStack() as stack:
        state = None
        if resume is not None:
            stops = stack.enter_context(collected())
            terms: dict[str, Any] = {"problem": problem.spec, "device": device, "dtype": dtype, "data": about["data"]}
            terms |= about["options"] | {"checkpoints": ", ".join(about["inputs"])}
            terms |= {f"SHA-256 of {name}": digest for name, digest in about["inputs"].items()}
            terms |= {f"version of {name}": version for name, version in about["versions"].items()}
            state = Unfinished(out.with_name(f"{out.name}.part"), terms, resume, force, stops)
            asked["state"] = state
        result = analysis.compute(problem, *checkpoints, **asked)
    provenance = Provenance(
        analysis=analysis.NAME,
        command=command(analysis, paths, options, out, problem.spec, dtype),
        problem=problem.spec,
        trained={c.name: dict(c.settings) for c in checkpoints},
        device=device,
        dtype=dtype,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - began, 3),
        **about,
    )
    store.save(out, result, provenance, force)
    if state:
        state.discard()
    return result


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
    import torch

    from landscape.surface import Surface

    surface = Surface(problem, batch_size=options.batch_size, device=device, dtype=getattr(torch, dtype))
    surface.at(checkpoints[0])
    began = time.perf_counter()
    float(surface.score("test").loss)
    per_example = (time.perf_counter() - began) / len(problem.test)
    work = analysis.work(options, len(checkpoints))
    theta = surface.flat.theta
    return {
        "work": work.text,
        "train_passes": work.train,
        "test_passes": work.test,
        "seconds": per_example * (work.train * len(problem.train) + work.test * len(problem.test)),
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
    words = ["landscape", analysis.NAME, *_files(analysis, paths)]
    for field in dataclasses.fields(options):
        value, name = getattr(options, field.name), field.name.replace("_", "-")
        if value != field.default:
            words += [f"--{'' if value else 'no-'}{name}"] if isinstance(value, bool) else [f"--{name}", str(value)]
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
