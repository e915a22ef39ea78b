"""Shared type aliases."""

from __future__ import annotations

from collections.abc import Callable

Setting = str | int | float | bool | None
"""A value that a user may set, and that JSON can hold."""

Progress = Callable[[int, int, str], None]
"""Told (units done, units in all, what is going on) now and then; decides itself what to show."""


def quiet(done: int, total: int, text: str) -> None:
    """Progress shown to nobody."""
    del done, total, text
