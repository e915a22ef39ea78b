"""Progress on stderr: a bar with the time left on a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

import click

from landscape.types import Progress, quiet

EVERY = 10.0  # seconds


@contextlib.contextmanager
def shown(title: str, silent: bool = False) -> Iterator[Progress]:
    """Show progress while a block runs.

    Args:
        title: What is being done.
        silent: Show nothing.

    Yields:
        The function to tell.
    """
    if silent:
        yield quiet
    elif sys.stderr.isatty():
        yield from _bar(title)
    else:
        yield _Lines(title).tell


def _bar(title: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"))
    with Progress(
        *columns, TimeRemainingColumn(), TextColumn("{task.fields[text]}"), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task(title, total=None, text="", count="")

        def tell(done: int, total: int, text: str) -> None:
            bar.update(task, completed=done, total=total, text=text, count=f"{done}/{total}")

        yield tell


class _Lines:
    """Plain lines, at most one every ten seconds."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.began = self.last = time.monotonic()
        self.first: int | None = None  # what was done before this run

    def tell(self, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first, self.began = done, now
        if now - self.last < EVERY or done == self.first:
            return
        self.last = now
        left = (now - self.began) * (total - done) / (done - self.first)
        click.echo(f"{self.title}: {done}/{total}, {left:.0f} s left  {text}", err=True)


def say(text: str) -> None:
    """A note on stderr."""
    click.echo(f"note: {text}", err=True)
