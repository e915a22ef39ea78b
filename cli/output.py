"""What goes to stdout: one line, or one JSON object in which what is not finite is null."""

from __future__ import annotations

import json
import math
from typing import Any

import click


def emit(told: dict[str, Any]) -> None:
    """Print one JSON object."""
    click.echo(json.dumps(clean(told)))


def clean(value: Any) -> Any:
    """The same value with null for numbers that JSON cannot hold."""
    if isinstance(value, dict):
        return {key: clean(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
