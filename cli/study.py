"""`landscape study`, `merge` and `claims`: experiments as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli import options
from cli.output import emit
from cli.progress import shown

_DIR = click.Path(path_type=Path, file_okay=False)
_EXAMPLE = """\b
A study of your own is a TOML file (docs/studies.md says all that it may hold):
  title = "SAM against SGD"
  text = "Does SAM err less?"
  reproduces = "nothing yet"
  [scales.cpu]
  text = "digits, ten epochs"
  seeds = 5
  problem = "digits/mlp"
  settings = { epochs = 10 }
  [[trainings]]
  id = "sgd"
  method = "sgd"
  [[trainings]]
  id = "sam"
  method = "sam"
  rho = [0.05, 0.1]
  [[analyses]]
  id = "errors"
  analysis = "evaluate"
  of = ["sgd", "sam"]
  [[claims]]
  id = "better"
  text = "SAM errs less than SGD"
  source = "me"
  place = "here"
  claimed = "below 0"
  quantity = 'errors(rho=0.1).error["sam", "test"] - errors(rho=0.1).error["sgd", "test"]'
  test = "less"
  unit = "points"

\b
Examples:
  landscape study --list
  landscape study switch --out switch/ --dry-run
  landscape study switch --out switch/ --seeds 8 --jobs 4
  landscape study mine.toml --out mine/ --set epochs=20
  landscape study psam --scale paper --set data=DIR --shard 2/8 --device cuda --out shard2/
"""


@click.command(epilog=_EXAMPLE)
@click.argument("name", required=False)
@click.option("--out", type=_DIR, help="directory for checkpoints, results, claims.json and report.html")
@click.option("--scale", default="cpu", show_default=True, help="cpu, or paper for the source's own settings")
@click.option("--seeds", type=click.IntRange(min=1), help="training seeds  [default: the scale's]")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE",
              help="data, problem, a value of the scale or a training setting; repeatable")  # fmt: skip
@click.option("--jobs", type=click.IntRange(min=1), help="worker processes  [default: one for each processor]")
@click.option("--shard", metavar="I/N", help="make the I-th of N parts only; landscape merge joins them")
@click.option("--dry-run", is_flag=True, help="print the graph with its cost, and make nothing")
@click.option("--list", "listed", is_flag=True, help="describe the studies that come along")
@options.device
@options.common
def study(
    name: str | None, out: Path | None, scale: str, seeds: int | None, pairs: tuple[str, ...], jobs: int | None,
    shard: str | None, dry_run: bool, listed: bool, device: str, debug: bool, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Run the study NAME, or one of your own from FILE.toml: train, measure, test its claims, write a report.

    What is there already is not made again: stop it at any time and run the same command, and it goes on.
    """
    if listed:
        _list(as_json)
        return
    name = _given(name, out is not None or dry_run)
    from analyses.studies.run import Order, resolve, run
    from landscape.device import choose

    order = Order(name, scale, seeds, options.layered(None, pairs, {}))  # type: ignore[arg-type]
    part = _shard(shard)
    graph = resolve(order)
    where = choose(device)
    if dry_run:
        _dry_run(graph, out or Path(), where, as_json)
        return
    assert out is not None
    with shown(f"study {graph.study.name}", silent=quiet) as progress:
        report = run(order, graph, out, jobs=jobs or _jobs(where), shard=part, device=where, progress=progress)
    if report is None:
        _say({"out": str(out)}, f"shard: {out}, join with landscape merge", as_json)
    else:
        _concluded(report, as_json)


def _given(name: str | None, place: bool) -> str:
    if name is None or not place:
        raise click.UsageError("which study, and where to?  landscape study NAME --out DIR, or --list")
    return name


def _jobs(device: str) -> int:
    from analyses.studies.execute import processors

    return processors() if device == "cpu" else 1


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise click.UsageError(f"--shard {text} is not understood: write 1/4 for the first of four")
    return int(number), int(count)


def _list(as_json: bool) -> None:
    from analyses.studies import reading

    found = [reading.read(*reading.find(name)) for name in reading.shipped()]
    if as_json:
        emit({"studies": [{"name": s.name, "text": s.text, "reproduces": s.reproduces, "claims": len(s.claims),
                           "scales": {x.name: x.text for x in s.scales}} for s in found]})  # fmt: skip
        return
    width = max(len(s.name) for s in found)
    for s in found:
        click.echo(f"{s.name:<{width}}  {s.text}")
        click.echo(f"{'':{width}}  re-runs {s.reproduces}; {len(s.claims)} claims")
        for scale in s.scales:
            click.echo(f"{'':{width}}  {scale.name}: {scale.text}")


def _dry_run(graph: Any, out: Path, device: str, as_json: bool) -> None:
    from analyses.studies.cost import lines, total
    from analyses.studies.execute import present
    from landscape.wording import duration

    made = present(graph.nodes, out)
    told = lines(graph, made, device)
    units, seconds = total(told)
    if as_json:
        emit({"nodes": len(graph.nodes), "made": len(made.files), "sgd_runs": units, "seconds": seconds,
              "graph": [vars(line) for line in told]})  # fmt: skip
        return
    width = max(len(line.name) for line in told)
    click.echo(f"{'node':<{width}}  {'made':>9}  SGD runs     time each")
    for line in told:
        source = f"  from {line.source}" if line.source else ""
        time = f"{duration(line.seconds):>12}" if line.seconds == line.seconds else f"{'not timed':>12}"
        click.echo(f"{line.name:<{width}}  {f'{line.made}/{line.count}':>9}  {line.units:8.3f}  {time}{source}")
    left = len(graph.nodes) - len(made.files) - len(made.failed)
    click.echo(
        f"{left} of {len(graph.nodes)} nodes to make over {graph.seeds} seeds: "
        f"{units:.3g} SGD runs, about {duration(seconds)} of one thread"
    )


@click.command(epilog="\b\nExample:\n  landscape merge shard1/ shard2/ --out whole/")
@click.argument("directories", nargs=-1, required=True, type=_DIR)
@click.option("--out", required=True, type=_DIR, help="directory for the whole study")
@options.common
def merge(directories: tuple[Path, ...], out: Path, debug: bool, as_json: bool, quiet: bool) -> None:
    """Join what shards of one study made in DIRECTORIES, test the claims and write the report."""
    from analyses.studies.run import merge as join

    _concluded(join(directories, out), as_json)


def _concluded(report: Path, as_json: bool) -> None:
    """Print each claim with its verdict, or all that was found as one object."""
    import json

    from analyses.studies.run import CLAIMS

    told = json.loads((report.parent / CLAIMS).read_text(encoding="utf-8"))
    if as_json:
        emit(told | {"out": str(report)})
        return
    for claim in told["claims"]:
        click.echo(f"{claim['text']}: {claim['verdict']}")
        click.echo(f"  claimed {claim['claimed']}; found {claim['found']}")
    click.echo(f"report: {report}")


@click.command(epilog="\b\nExample:\n  landscape claims switch/ psam/ --write docs/claims.md")
@click.argument("directories", nargs=-1, required=True, type=_DIR)
@click.option("--write", "target", type=click.Path(path_type=Path, dir_okay=False), help="file, instead of stdout")
@options.common
def claims(directories: tuple[Path, ...], target: Path | None, debug: bool, as_json: bool, quiet: bool) -> None:
    """Put the claims of studies that were run in DIRECTORIES on one Markdown page."""
    from analyses.studies.listing import document
    from analyses.studies.run import CLAIMS
    from landscape.files import atomic

    text = document([directory / CLAIMS for directory in directories])
    if target is None:
        click.echo(text, nl=False)
        return
    with atomic(target, force=True) as draft:
        draft.write_text(text, encoding="utf-8")
    _say({"out": str(target)}, f"claims: {target}", as_json)


def _say(told: dict[str, Any], line: str, as_json: bool) -> None:
    if as_json:
        emit(told)
    else:
        click.echo(line)
