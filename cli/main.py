"""`landscape`: the command and its commands. Neither torch nor plotly is imported before a command needs it."""

from __future__ import annotations

import click

from analyses import REGISTRY
from cli import analyse, exchange, show, study
from cli.align import align
from cli.errors import Group
from cli.toy import toy
from cli.train import train
from landscape import __version__


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="\b\nFrom nothing to a report:\n"
    "  landscape demo --out demo/\n"
    "\b\nStep by step:\n"
    "  landscape train digits/resnet8 --method sgd --out sgd.pt\n"
    "  landscape train digits/resnet8 --method sgd-sam --out sgd-sam.pt\n"
    "  landscape compare sgd.pt sgd-sam.pt --out pair/\n"
    "\b\nExit codes: 0 done, 1 failed, 2 usage, 3 input unusable, 4 diverged, 5 out of memory or disk,\n"
    "75 interrupted and resumable, 130 Ctrl-C.",
)
@click.version_option(__version__, prog_name="landscape")
def landscape() -> None:
    """Where in the valley do two networks sit? Train pairs with SGD and SAM, measure them, show them."""


for _command in (
    train,
    *map(analyse.command, REGISTRY),
    align,
    show.compare,
    show.report,
    show.demo,
    study.study,
    study.merge,
    study.claims,
    toy,
    show.inspect,
    exchange.import_surface,
    exchange.export_surface,
    show.methods,
):
    landscape.add_command(_command)
