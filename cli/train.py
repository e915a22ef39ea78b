"""`landscape train`: make a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import options
from cli.output import emit
from cli.progress import say, shown
from landscape.training.methods import METHODS
from landscape.training.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

_METHODS = "\n".join(f"  {m.name:<13} {m.text}; cost {m.cost}" for m in METHODS.values())


@click.command(
    epilog="\b\nMethods (E = switch · T, n = period; formulas: landscape methods):\n" + _METHODS + "\n\n\b\nExamples:\n"
    "  landscape train digits/resnet8 --method sgd --save-at switch --out sgd.pt\n"
    "  landscape train digits/resnet8 --method sgd-sam --fork sgd@600.pt --out sgd-sam.pt\n"
    "  landscape train my_study.py:problem --method psam --epochs 40 --out mine.pt\n"
    "  landscape train digits/resnet8 --method psam --adaptive weights --rho 0.5 --out psam-asam.pt\n"
    "  landscape train cifar10:DIR/resnet18 --settings run.toml --set rho=0.2 --out a.pt --resume"
)
@click.argument("spec")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="checkpoint to write")
@click.option(
    "--fork",
    type=click.Path(path_type=Path),
    help="start from this checkpoint's weights, momentum and step instead of from the beginning; its settings hold",
)
@click.option("--resume", is_flag=True, help="go on with --out where it stopped; the result is the same bit for bit")
@click.option("--stop-at", type=click.IntRange(min=1), help="stop at this step; go on later with --resume")
@click.option("--save-at", multiple=True, metavar="STEP", help="keep OUT@STEP.pt; a step or 'switch'; repeatable")
@click.option("--save-every", type=click.IntRange(min=1), metavar="STEPS", help="keep OUT@STEP.pt every so many steps")
@click.option("--settings", type=click.Path(path_type=Path), help="TOML file of settings")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="a setting; repeatable, over the file")
@options.from_fields(Settings)
@options.device
@options.force
@options.common
def train(
    spec: str,
    out: Path,
    fork: Path | None,
    resume: bool,
    stop_at: int | None,
    save_at: tuple[str, ...],
    save_every: int | None,
    settings: Path | None,
    pairs: tuple[str, ...],
    device: str,
    force: bool,
    debug: bool,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> None:
    """Train SPEC with SGD, SAM or a method between, and write a checkpoint.

    SPEC names data and network: digits/resnet8, digits/mlp, mnist:DIR/mlp, fashion-mnist:DIR/resnet8,
    cifar10:DIR/resnet18, or your own FILE.py:NAME; ?train_size=N or ?label_smoothing=S may follow. Defaults in brackets
    are those where the problem names no other.
    """
    from landscape import problem as problems
    from landscape.device import choose
    from landscape.training.files import Order, train_to_file
    from landscape.wording import number

    wanted = options.layered(settings, pairs, flags)
    order = Order(out, fork, resume, stop_at, save_at, save_every or 0, force, choose(device))
    with shown(f"training {out.name}", silent=quiet) as progress:
        problem = problems.load(spec)
        made = train_to_file(problem, wanted, order, _silent if quiet else say, progress)
    loss, error = (_last(made.history[key]) for key in ("test_loss", "test_error"))
    told = {
        "out": str(out), "method": made.method, "step": made.step, "steps": made.steps, "test_error": error,
        "test_loss": loss, "cost": made.cost, "forward": made.forward, "backward": made.backward, "sha256": made.sha256,
    }  # fmt: skip
    if as_json:
        emit(told)
    else:
        part = f"{error:.2%}" if error <= 1 else number(error)
        what, value = ("error", part) if problem.classifies else ("loss", number(loss))
        value = "not evaluated yet" if loss != loss else f"{value} (running statistics)"
        state = "" if made.step == made.steps else f" (stopped at step {made.step} of {made.steps})"
        click.echo(f"{out}: {made.method}, test {what} {value}, cost {made.cost:.4g} × SGD{state}")


def _last(curve: Tensor) -> float:
    """The last value that was computed, NaN if none was."""
    known = curve[~curve.isnan()]
    return float(known[-1]) if len(known) else float("nan")


def _silent(text: str) -> None:
    del text
