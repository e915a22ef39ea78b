"""The one place where errors become two lines and an exit code."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from landscape.errors import LandscapeError, nearest

INTERRUPTED = 130
_SINGLE = (
    "BatchNorm was given a batch of a single example, which has no variance",
    "choose a --batch-size of at least 2 that leaves no single example for the last batch",
    2,
)


class Group(click.Group):
    """A click group with the exit codes and error lines of this toolkit."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Run the command and leave the process with the documented exit code.

        Args:
            args: Words of the command line; those of the process if None.
            *rest: See `click.Group.main`.
            **extra: See `click.Group.main`.

        Raises:
            Exception: Whatever went wrong, with --debug.
            SystemExit: Always.
        """
        words = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        try:
            code = super().main(words, *rest, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.ctx.get_help() if error.ctx else str(error))
            code = 2
        except BrokenPipeError:
            code = 0  # whoever read has seen enough
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (until the process ends)
        except Exception as error:
            if "--debug" in words:
                raise
            cause, remedy, code = explain(error)
            tell(cause, remedy, code, as_json="--json" in words)
        except KeyboardInterrupt:
            code = INTERRUPTED
            tell("interrupted", "nothing half-written was left", code, as_json="--json" in words)
        sys.exit(code if isinstance(code, int) else 0)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which was probably meant.

        Args:
            ctx: Click's context.
            args: Words from the command's name on.

        Returns:
            Name, command and remaining words.

        Raises:
            UsageError: If there is no such command.
        """
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            from landscape.errors import UsageError

            raise UsageError(f"there is no command '{args[0]}'", nearest(args[0], self.commands))
        return super().resolve_command(ctx, args)


def explain(error: Exception) -> tuple[str, str, int]:
    """Cause, remedy and exit code of an error.

    Args:
        error: What was raised.

    Returns:
        One line of cause, one line of remedy, and the exit code.
    """
    if isinstance(error, LandscapeError):
        return error.cause, error.remedy, error.exit_code
    if isinstance(error, click.exceptions.Abort):
        return "interrupted", "nothing half-written was left", INTERRUPTED
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "landscape"
        return " ".join(error.format_message().split()), f"see: {path} --help", 2
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return "no space left where the output goes", "free disk space and run again", 5
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"the file name {Path(str(error.filename)).name[:40]}… is too long", "name a shorter one with --out", 3
    if isinstance(error, ValueError) and "more than 1 value per channel" in str(error):
        return _SINGLE
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out of memory", "lower --batch-size, or use a device with more memory", 5
    if isinstance(error, RuntimeError) and "alloc" in str(error).lower() and "memory" in str(error).lower():
        return "out of memory", "lower --batch-size, or use a device with more memory", 5
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}", "run again with --debug to see where, and report it if it is not yours", 1


def tell(cause: str, remedy: str, code: int, as_json: bool) -> None:
    """Write an error: two lines on stderr, or one object on stdout."""
    if as_json:
        click.echo(json.dumps({"error": {"code": code, "message": cause, "hint": remedy}}))
    else:
        click.echo(f"error: {cause}\n  try: {remedy}", err=True)
