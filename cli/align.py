"""`landscape align`: number the units of one checkpoint like those of another."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import options
from cli.output import emit
from cli.progress import say, shown

if TYPE_CHECKING:
    from landscape.alignment import Aligned
    from landscape.checkpoint import Checkpoint
    from landscape.problem import Problem

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(epilog="\b\nExample:\n  landscape align a.pt b.pt --out b-aligned.pt")
@click.argument("a", type=_FILE)
@click.argument("b", type=_FILE)
@click.option("--out", required=True, type=_FILE, help="checkpoint to write: B in the order of A")
@click.option(
    "--by",
    type=click.Choice(["weights", "activations"]),
    default="weights",
    show_default=True,
    help="what is brought together: weights, for the smallest distance, or units that respond alike to training data",
)
@click.option("--starts", default=5, show_default=True, type=click.IntRange(min=1), help="starts, by weights")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="seed of the starts")
@click.option(
    "--points", default=9, show_default=True, type=click.IntRange(min=0), help="points of the barriers; 0 for none"
)
@click.option("--batch-size", default=500, show_default=True, type=click.IntRange(min=2), help="examples in a pass")
@options.problem
@options.device
@options.force
@options.common
def align(
    a: Path, b: Path, out: Path, by: str, starts: int, seed: int, points: int, batch_size: int, problem: str | None,
    device: str, force: bool, debug: bool, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Permute the hidden units of B so that they are numbered like those of A.

    Two independent runs number their units differently, so that distance and barrier between them mostly measure
    that. The permuted network computes the same function; BatchNorm's statistics and the optimizer's state are permuted
    along, and every command takes the checkpoint. Which units belong together is found by tracing the network.
    """
    from landscape import checkpoint as checkpoints
    from landscape.alignment import align as run
    from landscape.device import choose
    from landscape.files import check_target
    from landscape.opening import open_checkpoints

    check_target(out, force, (a, b))
    found, (one, other) = open_checkpoints([a, b], problem, (lambda text: None) if quiet else say)
    with shown("align", silent=quiet) as progress:
        made = run(found, one, other, by=by, starts=starts, seed=seed, progress=progress)
    told = _distances(one, other, made)
    if points:
        told |= _barriers(found, (one, other, made.checkpoint), points, batch_size, choose(device))
    saved = checkpoints.save(made.checkpoint, out, force)
    if as_json:
        emit({"out": str(out), "sha256": saved.sha256, **told})
        return
    for line in _lines(out, one.name, other.name, told):
        click.echo(line)


def _distances(a: Checkpoint, b: Checkpoint, made: Aligned) -> dict[str, Any]:
    from landscape.similarity import apart

    pairs = [apart(a.theta.double(), c.theta.double(), a.layout) for c in (b, made.checkpoint)]
    return {
        "groups": made.groups, "units": made.units, "moved": made.moved, "reached": made.reached.tolist(),
        "l2": [float(pair["l2"]) for pair in pairs], "cosine": [float(pair["cosine"]) for pair in pairs],
    }  # fmt: skip


def _barriers(
    problem: Problem, trio: tuple[Checkpoint, ...], points: int, batch_size: int, device: str
) -> dict[str, Any]:
    """Barriers from A to B before and after, for loss and error, train and test."""
    import numpy as np

    from landscape import barrier
    from landscape.result import SPLITS
    from landscape.surface import Surface

    surface = Surface(problem, batch_size=batch_size, device=device)
    alpha = np.linspace(0, 1, points + 2)
    lines = [barrier.line(surface, trio[0], b, alpha) for b in trio[1:]]
    heights = np.array([barrier.height(alpha, values, surface.rounding) for values in lines])
    names = {"loss": 0, "error": 1} if surface.classifies else {"loss": 0}
    return {
        f"{split}_barrier_{name}": heights[:, q, s].tolist()
        for s, split in enumerate(SPLITS)
        for name, q in names.items()
    }


def _lines(out: Path, a: str, b: str, told: dict[str, Any]) -> list[str]:
    from landscape.wording import number

    def change(key: str) -> str:
        return f"{number(told[key][0])} → {number(told[key][1])}"

    least, worst, starts = min(told["reached"]), max(told["reached"]), len(told["reached"])
    reached = f"; {starts} starts reached L2 {number(least)} to {number(worst)}" if starts > 1 else ""
    lines = [
        f"{out}: {b} with {told['moved']} of {told['units']} units moved to be numbered like {a}",
        f"  L2 {change('l2')}, cosine {change('cosine')}{reached}",
    ]
    return lines + [_barrier(split, told) for split in ("train", "test") if f"{split}_barrier_loss" in told]


def _barrier(split: str, told: dict[str, Any]) -> str:
    """Barriers of one split before and after; nats and percent for a classifier."""
    from landscape.wording import percent, spread

    loss, error = told[f"{split}_barrier_loss"], told.get(f"{split}_barrier_error")
    unit = "" if error is None else "nats"
    text = f"  barrier in {split} {spread(loss[:1])} → {spread(loss[1:], unit)}"
    if any(map(math.isnan, loss)):
        return f"{text}: the loss is not finite everywhere between them"
    return text if error is None else f"{text}, error {percent(error[:1])} → {percent(error[1:])}"
