"""`landscape toy`: one command for each experiment that needs no checkpoint, made from their tuple."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from analyses.experiments import EXPERIMENTS, Experiment
from cli import options
from cli.errors import Group
from cli.progress import shown


@click.group(
    cls=Group, epilog="\b\nExample:\n  landscape toy perturbed-loss --out a.h5\n  landscape report a.h5 --out r.html"
)
def toy() -> None:
    """Experiments on toy losses: what is claimed of SAM beside what is found, without data or checkpoints."""


def command(experiment: Experiment) -> click.Command:
    """The click command of an experiment.

    Args:
        experiment: A module of the tuple.

    Returns:
        The command, named after it.
    """
    text = f"{experiment.TEXT[0].upper()}{experiment.TEXT[1:]}.\n\n{experiment.QUESTION}"

    @click.command(name=experiment.NAME, help=text, epilog=f"\b\nExample:\n  {experiment.EXAMPLE}")
    @click.option(
        "--out", type=click.Path(path_type=Path, dir_okay=False), help="result to write (HDF5)  [default: NAME.h5]"
    )
    @options.from_fields(experiment.Options)
    @click.option("--dtype", type=click.Choice(["float32", "float64"]), default="float64", show_default=True)
    @options.device
    @options.force
    @options.common
    def run(
        out: Path | None, dtype: str, device: str, force: bool, debug: bool, as_json: bool, quiet: bool, **flags: Any
    ) -> None:
        from analyses.experiments.run import ask
        from landscape.device import choose
        from landscape.options import make

        chosen: object = make(experiment.Options, options.given(flags))
        out = out or Path(f"{experiment.NAME}.h5")
        with shown(experiment.NAME, silent=quiet) as progress:
            result = ask(
                experiment, chosen, out, force=force, device=choose(device), dtype=dtype, progress=progress
            )  # fmt: skip
        _tell(experiment, result, out, as_json)

    return run


def _tell(experiment: Experiment, result: Any, out: Path, as_json: bool) -> None:
    answer, detail = experiment.words(result)
    claims = experiment.claims(result)
    if as_json:
        told = [{key: value for key, value in vars(claim).items() if value} for claim in claims]
        click.echo(json.dumps({"out": str(out), "answer": answer, "detail": detail, "claims": told}))
        return
    click.echo(f"{experiment.label(result)}: {answer}")
    for claim in claims:
        click.echo(f"  {claim.verdict}: {claim.text} ({claim.place})\n    claimed {claim.claimed}; found {claim.found}")
    click.echo(f"  written to {out}")


for _experiment in EXPERIMENTS:
    toy.add_command(command(_experiment))
