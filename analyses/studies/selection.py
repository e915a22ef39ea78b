"""What a quantity chooses: a repetition of an analysis by its settings, entries of a field by names or places."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np

from landscape.errors import UsageError, nearest
from landscape.result import Array, arrays
from landscape.types import Setting


class Varied(Protocol):
    """What was repeated, or will be."""

    @property
    def varied(self) -> Mapping[str, Setting]:
        """The settings over which it was, with their values here."""
        ...


V = TypeVar("V", bound=Varied)


def index_of(node: ast.expr) -> Setting | slice:
    """What stands between the brackets of a quantity: a name, a number, or a slice for all of a dimension.

    Args:
        node: Its tree.

    Returns:
        The index.

    Raises:
        UsageError: If it is something else.
    """
    if isinstance(node, ast.Slice):
        if node.lower or node.upper or node.step:
            raise UsageError("a part of a dimension was asked for", "write ':' for all of it, or one place")
        return slice(None)
    try:
        found: Setting = ast.literal_eval(node)
    except ValueError:
        found = None
    if not isinstance(found, (str, int, float)):
        raise UsageError(f"the index {ast.unparse(node)} is not understood", "write a name in quotes, a number or ':'")
    return found


def chosen_of(base: ast.expr) -> tuple[str, dict[str, Setting]]:
    """The analysis before the dot, and the settings that are chosen of those it was repeated over.

    Args:
        base: Its tree, a name or a call of one.

    Returns:
        The analysis's id, and settings by name.

    Raises:
        UsageError: If it is something else.
    """
    named = base.func if isinstance(base, ast.Call) else base
    words = base.keywords if isinstance(base, ast.Call) else []
    if not isinstance(named, ast.Name) or (isinstance(base, ast.Call) and base.args):
        raise UsageError(f"'{ast.unparse(base)}' is no analysis", "name one by its id, as a or a(rho=0.1)")
    try:
        return named.id, {str(word.arg): ast.literal_eval(word.value) for word in words}
    except ValueError as error:
        raise UsageError(f"'{ast.unparse(base)}' is not understood", "choose a value, as in a(rho=0.1)") from error


def kept(id: str, chosen: Mapping[str, Setting], instances: Sequence[V]) -> list[V]:
    """The instances of an analysis that have the chosen settings.

    Args:
        id: The analysis's id.
        chosen: Settings by name.
        instances: All that there are, or will be.

    Returns:
        At least one.

    Raises:
        UsageError: If there is none.
    """
    found = [each for each in instances if all(same(each.varied.get(k), v) for k, v in chosen.items())]
    if not found:
        told = ", ".join(f"{key}={value}" for key, value in chosen.items())
        raise UsageError(f"{id} is not asked with {told}", f"it is asked with {_runs(instances)}")
    return found


def _runs(instances: Sequence[Varied]) -> str:
    return "; ".join(
        ", ".join(f"{k}={v}" for k, v in each.varied.items()) or "nothing varied" for each in instances[:8]
    )


def same(one: Setting, other: Setting) -> bool:
    """Whether two settings are the same, numbers up to rounding."""
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return one == other


def select(result: object, field: str, index: Sequence[Setting | slice]) -> Array:
    """Entries of a field of a result.

    Args:
        result: The result.
        field: Name of the field.
        index: For each dimension, from the first: a name, a coordinate's value, a place, or a slice for all.

    Returns:
        The entries.

    Raises:
        UsageError: If there is no such field or entry.
    """
    fields = arrays(result)
    if field not in fields:
        plain = getattr(result, field, None)
        if isinstance(plain, (bool, int, float)) and not index:
            return np.asarray(plain, dtype=float)
        raise UsageError(f"{type(result).__name__} has no field '{field}'", nearest(field, fields))
    dims = fields[field].metadata["dims"]
    if len(index) > len(dims):
        raise UsageError(f"{field} has {len(dims)} dimensions, {len(index)} were given", f"they are {', '.join(dims)}")
    places = tuple(_place(result, dim, at) for dim, at in zip(dims, index, strict=False))
    chosen: Array = np.asarray(getattr(result, field))[places]
    return chosen


def _place(result: object, dim: str, at: Setting | slice) -> int | slice:
    """The place of an index along a dimension: by name, by the coordinate's value, else counted from 0."""
    if isinstance(at, slice):
        return at
    fields = arrays(result)
    labels = dict(getattr(result, "labelled", {}))
    known = getattr(result, labels[dim]) if dim in labels else getattr(result, dim) if dim in fields else None
    if known is None:
        if isinstance(at, int):
            return at
        raise UsageError(f"'{at}' is no place along {dim}", "it has no names: count from 0")
    values = list(np.asarray(known).tolist())
    found = [i for i, value in enumerate(values) if same(value, at)]
    if found:
        return found[0]
    if isinstance(at, int) and isinstance(values[0], str):
        return at
    raise UsageError(f"there is no {dim} '{at}'", f"there are {', '.join(map(str, values[:12]))}")
