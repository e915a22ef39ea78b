"""`landscape import-surface` and `export-surface`: planes to and from another program's files."""

from __future__ import annotations

from pathlib import Path

import click

from cli import options
from cli.output import emit
from cli.progress import say

_FILE = click.Path(path_type=Path)
_OUT = click.Path(path_type=Path, dir_okay=False)


@click.command(
    name="import-surface", epilog="\b\nExample:\n  landscape import-surface resnet56_surface.h5 --out plane.h5"
)
@click.argument("file", type=_FILE)
@click.option("--out", required=True, type=_OUT, help="result to write (HDF5)")
@options.force
@options.common
def import_surface(file: Path, out: Path, force: bool, debug: bool, as_json: bool, quiet: bool) -> None:
    """Make a plane of a surface FILE (.h5) of tomgoldstein/loss-landscape, for `landscape report`.

    Its arrays are read in the order that program fills them in, which on a grid that is not square is not their shape.
    Points it has not computed (-1) stay missing. Coordinates are in units of its directions.
    """
    from analyses import exchange, plane

    result = exchange.import_surface(file, out, (lambda text: None) if quiet else say, force)
    answer, detail = plane.words(result)
    points = {"x": len(result.x), "y": len(result.y), "missing": result.missing}
    if as_json:
        emit({"out": str(out), "answer": answer, "detail": detail, **points})
    else:
        click.echo(f"{plane.label(result)}: {answer}\n" + (f"  {detail}\n" if detail else "") + f"  written to {out}")


@click.command(name="export-surface", epilog="\b\nExample:\n  landscape export-surface sgd.plane.h5 --out surface.h5")
@click.argument("file", type=_FILE)
@click.option("--out", required=True, type=_OUT, help="surface file to write (HDF5)")
@options.force
@options.common
def export_surface(file: Path, out: Path, force: bool, debug: bool, as_json: bool, quiet: bool) -> None:
    """Write a plane FILE (.h5) as a surface file that the scripts of tomgoldstein/loss-landscape read.

    Arrays have shape (y, x), which both its resuming and its plots read right; accuracies are in percent. A point
    without a value is NaN, and draws as a gap.
    """
    from analyses import exchange

    result = exchange.export_surface(file, out, force)
    points = {"x": len(result.x), "y": len(result.y), "missing": result.missing}
    if as_json:
        emit({"out": str(out), **points})
    else:
        click.echo(f"{out}: {len(result.x)} × {len(result.y)} points, {result.missing} missing")
