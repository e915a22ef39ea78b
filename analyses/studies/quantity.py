"""Quantities: what a claim or a figure is about, written as arithmetic on the fields of stored results.

`errors.error["sam", "test"] - errors.error["sgd", "test"]` is read with Python's own parser and evaluated by hand; only
what is listed here exists. `errors` is an analysis of the study and `error` a field of its result; an index is a name
along its dimension (a checkpoint, "test"), the value of its coordinate, or a place counted from 0; `:` or nothing keeps
the whole dimension. Where the analysis was repeated over a setting the values are a vector over it: `pairs.rho` is the
setting, `pairs(rho=0.1).l2["sgd", "fork"]` one of them.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from landscape.errors import UsageError, nearest
from landscape.result import Array, arrays
from landscape.statistics.trend import kendall
from landscape.types import Setting


@dataclass(frozen=True)
class Instance:
    """One result of an analysis of the study, for one seed.

    Attributes:
        varied: The settings over which the analysis was repeated, with their values here.
        result: The result; None where it could not be computed.
    """

    varied: Mapping[str, Setting]
    result: Any


Find = Callable[[str], Sequence[Instance]]
"""Gives the instances of an analysis by its id."""


def _reduced(name: str) -> Callable[[Any], Any]:
    return lambda values: getattr(np, name)(np.atleast_1d(values), axis=-1)


def _slope(x: Array, y: Array) -> float:
    return float(np.polyfit(x, y, 1)[0])


def _pearson(x: Array, y: Array) -> float:
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) and np.ptp(y) else 0.0


def _spearman(x: Array, y: Array) -> float:
    from scipy import stats

    return _pearson(stats.rankdata(x), stats.rankdata(y))


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "abs": np.abs, "exp": np.exp, "log": np.log, "log10": np.log10, "sqrt": np.sqrt,
    **{name: _reduced(name) for name in ("mean", "median", "min", "max", "sum")},
    "kendall": kendall, "pearson": _pearson, "spearman": _spearman, "slope": _slope,
}  # fmt: skip
"""Functions of a quantity; the second row takes one number along the last dimension, the third one of two vectors."""

_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide, ast.Pow: np.power,
}  # fmt: skip


def parse(text: str) -> ast.expr:
    """Read a quantity.

    Args:
        text: What the study says.

    Returns:
        Its tree.

    Raises:
        UsageError: If it is no expression.
    """
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise UsageError(
            f"the quantity '{text}' cannot be read", 'write it like a.error["sgd", "test"] * 100'
        ) from error


def references(tree: ast.expr) -> Iterator[tuple[str, str]]:
    """The (analysis, field) pairs that a quantity names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            base = node.value.func if isinstance(node.value, ast.Call) else node.value
            if isinstance(base, ast.Name):
                yield base.id, node.attr


def evaluate(text: str, find: Find) -> Array:
    """Compute a quantity.

    Args:
        text: The quantity.
        find: Gives the results of an analysis.

    Returns:
        A number (shape ()) or a vector; NaN where a result is missing.

    Raises:
        UsageError: If it names what is not there.
    """
    tree = parse(text)
    try:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(_value(tree, find), dtype=float)
    except UsageError as error:
        raise UsageError(f"in the quantity '{text}': {error.cause}", error.remedy) from error
    except (ValueError, TypeError, IndexError) as error:
        raise UsageError(
            f"the quantity '{text}' cannot be computed: {error}", "check the shapes it puts together"
        ) from error


def _value(node: ast.expr, find: Find) -> Any:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_value(left, find), _value(right, find))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, find)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            if name not in FUNCTIONS:
                raise UsageError(f"there is no function '{name}'", nearest(name, FUNCTIONS))
            return FUNCTIONS[name](*(_value(arg, find) for arg in args))
        case ast.Subscript(value=ast.Attribute(value=base, attr=field), slice=index):
            items = index.elts if isinstance(index, ast.Tuple) else [index]
            return _field(base, field, [_index(item) for item in items], find)
        case ast.Attribute(value=base, attr=field):
            return _field(base, field, [], find)
    raise UsageError(f"'{ast.unparse(node)}' is not understood", 'write it like a.error["sgd", "test"] * 100')


def _index(node: ast.expr) -> Setting | slice:
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


def _field(base: ast.expr, field: str, index: Sequence[Setting | slice], find: Find) -> Any:
    """The field over all instances that are meant: a vector if the analysis was repeated and none was chosen."""
    chosen: dict[str, Setting] = {}
    if isinstance(base, ast.Call):
        chosen = {str(word.arg): ast.literal_eval(word.value) for word in base.keywords}
        base = base.func
    if not isinstance(base, ast.Name):
        raise UsageError(f"'{ast.unparse(base)}' is no analysis", "name one by its id")
    instances = find(base.id)
    kept = [each for each in instances if all(_same(each.varied.get(k), v) for k, v in chosen.items())]
    if not kept:
        raise UsageError(f"{base.id} was not run with {chosen}", f"it was run with {_runs(instances)}")
    if field in kept[0].varied:
        values: list[Any] = [each.varied[field] for each in kept]
    else:
        values = _filled([None if e.result is None else select(e.result, field, index) for e in kept])
    repeated = any(set(each.varied) - set(chosen) for each in kept)
    return np.array(values, dtype=float) if repeated else np.asarray(values[0], dtype=float)


def _filled(found: Sequence[Array | None]) -> list[Any]:
    """NaN, in the shape of the others, where a result is missing."""
    shape = next((np.shape(value) for value in found if value is not None), ())
    return [np.full(shape, math.nan) if value is None else value for value in found]


def _runs(instances: Sequence[Instance]) -> str:
    return "; ".join(
        ", ".join(f"{k}={v}" for k, v in each.varied.items()) or "nothing varied" for each in instances[:8]
    )


def _same(one: Setting, other: Setting) -> bool:
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
    found = [i for i, value in enumerate(values) if _same(value, at)]
    if found:
        return found[0]
    if isinstance(at, int) and isinstance(values[0], str):
        return at
    raise UsageError(f"there is no {dim} '{at}'", f"there are {', '.join(map(str, values[:12]))}")
