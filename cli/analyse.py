"""One command for each analysis in the registry, made from it."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from analyses import Analysis
from cli import options
from cli.progress import say, shown
from landscape.errors import UsageError
from landscape.wording import plural

_RESUME = "go on with a run that was stopped; the result is the same bit for bit"
_SMALL = 1000  # entries of an array that --json prints


def command(analysis: Analysis) -> click.Command:
    """The click command of an analysis.

    Args:
        analysis: A module of the registry.

    Returns:
        The command, named after it.
    """
    second = analysis.NAME == "asymmetry"  # its other checkpoint is an option

    @click.command(name=analysis.NAME, help=_help(analysis), epilog=f"\b\nExample:\n  {analysis.EXAMPLE}")
    @click.argument(
        "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE" if second else None
    )
    @click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="result to write (HDF5)")
    @options.from_fields(analysis.Options)
    @options.problem
    @click.option("--dry-run", is_flag=True, help="say what it will take, and compute nothing")
    @click.option("--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True)
    @options.device
    @options.force
    @options.common
    def run(
        files: tuple[Path, ...], out: Path | None, problem: str | None, dtype: str, device: str,
        toward: Path | None = None, **rest: Any,
    ) -> None:  # fmt: skip
        _check(analysis, files, second)
        _run(analysis, [*files, *([toward] if toward else [])], out, problem, dtype, device, **rest)

    if hasattr(analysis, "resumable"):
        run = click.option("--resume", is_flag=True, help=_RESUME)(run)
    if second:
        run = click.option("--toward", type=click.Path(path_type=Path), help="checkpoint to look toward")(run)
    return run


def _check(analysis: Analysis, files: Sequence[Path], second: bool) -> None:
    """Refuse more or fewer files than a question takes; `second` is whether the other one is named by an option."""
    least, most = analysis.TAKES
    if second and len(files) > 1:
        words = shlex.join(["landscape", analysis.NAME, str(files[0]), "--toward", str(files[1])])
        cause = f"{analysis.NAME} takes one file, and the one to look toward as --toward, got {len(files)} files"
        raise UsageError(cause, words)
    if not least <= len(files) <= most:
        wanted = plural(least, "checkpoint") if least == most else f"{least} or more checkpoints"
        raise click.UsageError(f"{analysis.NAME} takes {wanted}, got {len(files)}")


def _help(analysis: Analysis) -> str:
    text = analysis.TEXT[0].upper() + analysis.TEXT[1:]
    return f"{text}.\n\n{analysis.QUESTION} The result goes to --out, or beside the first checkpoint."


def _run(
    analysis: Analysis, paths: list[Path], out: Path | None, spec: str | None, dtype: str, device: str,
    force: bool, debug: bool, as_json: bool, quiet: bool, dry_run: bool, resume: bool = False, **flags: Any,
) -> None:  # fmt: skip
    from analyses.run import ask, beside, default_out, estimate
    from landscape.checkpoint import check_apart
    from landscape.device import choose
    from landscape.files import refuse_existing
    from landscape.opening import open_checkpoints
    from landscape.options import make

    chosen: object = make(analysis.Options, options.given(flags))
    out = out or default_out(analysis, paths)
    refuse_existing(out, force or dry_run or resume)
    told_of = (lambda text: None) if quiet else say
    problem, checkpoints = open_checkpoints(paths, spec, told_of)
    if analysis.TAKES == (2, 2):
        check_apart(*checkpoints)
    if dry_run:
        told = estimate(analysis, problem, checkpoints, chosen, choose(device), dtype)
        click.echo(json.dumps(told) if as_json else _told(told))
        return
    with shown(analysis.NAME, silent=quiet) as progress:
        result = ask(
            analysis, problem, checkpoints, paths, chosen, out,
            force=force, device=choose(device), dtype=dtype, progress=progress, resume=resume, say=told_of,
        )  # fmt: skip
    answer, detail = analysis.words(result)
    point = beside(analysis, chosen, out)
    if as_json:
        told = {"out": str(out), **({"checkpoint": str(point)} if point else {}), "answer": answer, "detail": detail}
        click.echo(json.dumps(told | {"result": _plain(result)}))
    else:
        click.echo(f"{analysis.label(result)}: {answer}")
        if detail:
            click.echo(f"  {detail}")
        for line in getattr(analysis, "listing", lambda result: [])(result):
            click.echo(f"  {line}")
        click.echo(f"  written to {out}" + (f" and {point}" if point else ""))


def _told(work: dict[str, Any]) -> str:
    passes = f"{work['train_passes']} passes over the training data, {work['test_passes']} over the test data"
    memory = f"{work['bytes'] / 1e6:.3g} MB"
    if work["graph_bytes"]:
        memory += f" of vectors and {work['graph_bytes'] / 1e6:.3g} MB of kept gradient graphs"
    return f"{work['work']}: {passes}\nabout {work['seconds']:.3g} s, {memory} beside data and network"


def _plain(result: Any) -> dict[str, Any]:
    """Fields of a result that are small enough to print; NaN becomes null."""

    def clean(value: Any) -> Any:
        if isinstance(value, list):
            return [clean(v) for v in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    found = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    return {
        key: clean(value.tolist() if isinstance(value, np.ndarray) else value)
        for key, value in found.items()
        if not isinstance(value, np.ndarray) or value.size <= _SMALL
    }
