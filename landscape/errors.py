"""What a user can mend, said in two lines: the cause and the remedy.

Every error a user may meet is a `LandscapeError`; the command line catches it at one place and turns it
into one line of cause, one line of remedy and the exit code of its kind. `ValueError` stays for a
programmer's slip.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LandscapeError(Exception):
    """Something the user can mend.

    Attributes:
        cause: One line that says what was expected and what came.
        remedy: One line that says what to do.
    """

    exit_code = 1

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause}\n{remedy}")
        self.cause = cause
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[LandscapeError], tuple[str, str]]:
        """Pickle as (cause, remedy), so that an error crosses from a worker process unharmed."""
        return type(self), (self.cause, self.remedy)


class UsageError(LandscapeError):
    """The command, a setting or a name is wrong (exit code 2)."""

    exit_code = 2


class InputError(LandscapeError):
    """A file or directory cannot be used: missing, corrupt, unsafe or mismatched (exit code 3)."""

    exit_code = 3


class DivergedError(LandscapeError):
    """The numbers became NaN or infinite (exit code 4)."""

    exit_code = 4


class ResourceError(LandscapeError):
    """Memory or disk ran out (exit code 5)."""

    exit_code = 5


class InterruptedRun(LandscapeError):  # noqa: N818  (an interruption is not an error)
    """The run was stopped on request and can be resumed (exit code 75)."""

    exit_code = 75


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant.

    Args:
        name: What the user typed.
        known: The names that exist.

    Returns:
        A remedy: "did you mean 'sgd-sam'?" followed by the list of known names.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}known: {', '.join(names)}"
