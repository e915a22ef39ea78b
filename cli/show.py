"""`landscape compare`, `report`, `demo`, `inspect` and `methods`: what puts results before the eye."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from cli import options
from cli.output import emit
from cli.progress import say, shown

_FILE = click.Path(path_type=Path)


@click.command(epilog="\b\nExample:\n  landscape compare sgd.pt sgd-sam.pt --out pair/")
@click.argument("a", type=_FILE)
@click.argument("b", type=_FILE)
@click.option("--out", required=True, type=_FILE, help="directory for the results and report.html")
@click.option("--batch-size", default=500, show_default=True, type=click.IntRange(min=2), help="examples in a pass")
@options.problem
@click.option("--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True)
@options.device
@options.force
@options.common
def compare(
    a: Path, b: Path, out: Path, batch_size: int, problem: str | None, dtype: str, device: str,
    force: bool, debug: bool, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Ask every question of the pair A and B and write one report."""
    from analyses.compare import REPORT
    from analyses.compare import compare as run
    from landscape.device import choose
    from landscape.errors import InterruptedRun
    from landscape.files import refuse_existing
    from landscape.opening import open_checkpoints

    refuse_existing(out / REPORT, force)
    told_of = (lambda text: None) if quiet else say
    found, pair = open_checkpoints([a, b], problem, told_of)
    try:
        with shown("compare", silent=quiet) as progress:
            made = run(
                found, pair, [a, b], out, batch_size=batch_size, force=force, device=choose(device), dtype=dtype,
                progress=progress, say=told_of,
            )  # fmt: skip
    except KeyboardInterrupt:
        again = f"run the same command again{'' if force else ' to go on'}"
        raise InterruptedRun(f"stopped; what was answered until then is in {out}", again) from None
    if as_json:
        emit({"out": str(made.report), "verdict": made.verdict.answer, "detail": made.verdict.detail})
    else:
        click.echo(f"{made.verdict.answer}.\n{made.verdict.detail}\nreport: {made.report}")


@click.command(epilog="\b\nExample:\n  landscape report pair/*.h5 --out report.html")
@click.argument("files", nargs=-1, required=True, type=_FILE)
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="HTML file to write")
@click.option("--title", default="", help="title of the page")
@options.force
@options.common
def report(
    files: tuple[Path, ...], out: Path, title: str, force: bool, debug: bool, as_json: bool, quiet: bool
) -> None:
    """Put stored results FILES (.h5) into one offline HTML page; runs of one experiment share a figure."""
    from analyses.pages import page, read
    from landscape.files import check_target
    from landscape.report import write
    from landscape.store import is_surface

    check_target(out, force, files)
    chosen = [path for path in files if not is_surface(path)] or list(files)
    if not quiet and len(chosen) < len(files):
        say(f"left out as surface files, no results: {', '.join(str(p) for p in files if p not in chosen)}")
    write(page([read(path) for path in chosen], title), out, force)
    _told(out, as_json)


@click.command(epilog="\b\nExample:\n  landscape demo --out demo/")
@click.option("--out", required=True, type=_FILE, help="directory for checkpoints, results and report.html")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(min=1), help="runs of each method")
@click.option("--jobs", type=click.IntRange(min=1), help="worker processes  [default: one for each processor]")
@options.force
@options.common
def demo(out: Path, seeds: int, jobs: int | None, force: bool, debug: bool, as_json: bool, quiet: bool) -> None:
    """Train SGD, SAM, PSAM and the runs that switch on handwritten digits, study the pairs, write a report.

    Takes about a minute on two processors, offline. What is there already is not made again.
    """
    from analyses.demo import run

    with shown("demo", silent=quiet) as progress:
        made = run(out, seeds, jobs=jobs, force=force, progress=progress)
    _told(made, as_json)


def _told(path: Path, as_json: bool) -> None:
    if as_json:
        emit({"out": str(path)})
    else:
        click.echo(f"report: {path}")


@click.command(epilog="\b\nExample:\n  landscape inspect sgd.pt")
@click.argument("file", type=_FILE)
@options.common
def inspect(file: Path, debug: bool, as_json: bool, quiet: bool) -> None:
    """Print what a checkpoint (.pt) or a result (.h5) holds and how it was made."""
    told = _result(file) if _is_hdf5(file) else _checkpoint(file, (lambda text: None) if quiet else say)
    if as_json:
        emit(told)
        return
    width = max(len(key) for key in told)
    for key, value in told.items():
        click.echo(f"{key:<{width}}  {_line(value)}")


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={v}" for key, v in value.items())
    return "\n".join(str(v) for v in value) if isinstance(value, list) else str(value)


def _is_hdf5(file: Path) -> bool:
    """Whether a file is a result, by its first bytes, or by its name where it cannot be read."""
    if not file.is_file():
        return file.suffix in {".h5", ".hdf5"}
    with file.open("rb") as start:
        return start.read(8) == b"\x89HDF\r\n\x1a\n" or file.suffix in {".h5", ".hdf5"}


def _checkpoint(file: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    from landscape import checkpoint as checkpoints
    from landscape.weights import read_tensors, state_dict_of

    content = read_tensors(file)
    if not checkpoints.is_ours(content):
        weights = state_dict_of(content, file, tell)
        shapes = {name: "×".join(map(str, value.shape)) or "scalar" for name, value in weights.items()}
        return {"kind": "weights from elsewhere", "tensors": len(weights), "shapes": shapes}
    c = checkpoints.from_content(content, file)
    return {
        "kind": "checkpoint", "state": c.state, "problem": c.problem, "method": c.method, "step": c.step,
        "steps": c.steps, "parameters": c.layout.size, "tensors": len(c.layout.names), "buffers": len(c.buffers),
        "cost": round(c.cost, 6), "forward": c.forward, "backward": c.backward, "settings": dict(c.settings),
        "parent": f"{c.parent[:16]} at step {c.parent_step}" if c.parent else "none", "exact": c.exact,
        **({"aligned": f"to {c.aligned[:16]}"} if c.aligned else {}),
        **({"origin": c.origin} if c.origin else {}),
        "versions": dict(c.versions), "data_sha256": c.data, "sha256": c.sha256,
    }  # fmt: skip


def _result(file: Path) -> dict[str, Any]:
    from analyses.pages import read
    from landscape.result import arrays

    stored = read(file)
    answer, detail = stored.analysis.words(stored.result)
    fields = arrays(stored.result)
    shapes = {
        f"{name} ({field.metadata['unit']})": _shape(field.metadata["dims"], getattr(stored.result, name).shape)
        for name, field in fields.items()
    }
    p = stored.provenance
    return {
        "kind": f"result of {p.analysis}", "of": stored.analysis.label(stored.result), "answer": answer,
        "detail": detail, "problem": p.problem, "options": p.options, "arrays": shapes, "device": p.device,
        "dtype": p.dtype, "created": p.created, "seconds": p.seconds, "inputs": p.inputs, "versions": p.versions,
        "command": p.command,
    }  # fmt: skip


def _shape(dims: Sequence[str], lengths: Sequence[int]) -> str:
    """The dimensions of an array by name, as a quantity of a study indexes them: [checkpoint 2 × split 2]."""
    return f"[{' × '.join(f'{dim} {length}' for dim, length in zip(dims, lengths, strict=True))}]"


@click.command()
@options.common
def methods(debug: bool, as_json: bool, quiet: bool) -> None:
    """List the training methods with formula, cost and source."""
    from landscape.training.methods import LETTERS, METHODS

    rows = [
        {"name": m.name, "what": m.text, "formula": m.formula, "cost": m.cost, "source": m.source,
         "parts": dict(m.parts), "defaults": dict(m.defaults)}
        for m in METHODS.values()
    ]  # fmt: skip
    if as_json:
        emit({"methods": rows})
        return
    for row in rows:
        click.echo(f"{row['name']:<13}  {row['what']}")
        for line in (row["formula"], f"cost {row['cost']}; {row['source']}"):
            click.echo(f"{'':13}  {line}")
    click.echo(f"\n{LETTERS}")
