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

from analyses.studies.selection import chosen_of, index_of, kept, select
from landscape.errors import UsageError, nearest
from landscape.result import Array
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


REDUCED: Mapping[str, Callable[..., Any]] = {name: _reduced(name) for name in ("mean", "median", "min", "max", "sum")}
"""One number along the last dimension."""
PAIRS: Mapping[str, Callable[..., Any]] = {
    "kendall": kendall, "pearson": _pearson, "spearman": _spearman, "slope": _slope,
}  # fmt: skip
"""One number of two vectors."""
LIMITS: Mapping[str, Callable[..., Any]] = {"atmost": np.minimum, "atleast": np.maximum}
"""The smaller or the larger of two numbers, entry by entry."""
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "abs": np.abs, "exp": np.exp, "log": np.log, "log10": np.log10, "sqrt": np.sqrt, **REDUCED, **PAIRS, **LIMITS,
}  # fmt: skip
"""Functions of a quantity."""

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
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:  # the last two: nested too deep
        raise UsageError(
            f"the quantity '{text[:60]}{'…' * (len(text) > 60)}' cannot be read",
            'write it like a.error["sgd", "test"] * 100',
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
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.asarray(_value(tree, find), dtype=float)
    except UsageError as error:
        raise UsageError(f"in the quantity '{text}': {error.cause}", error.remedy) from error
    except (ValueError, TypeError, IndexError) as error:
        raise UsageError(
            f"the quantity '{text}' cannot be computed: {error}", "check the shapes it puts together"
        ) from error


def constant(node: ast.expr) -> bool:
    """Whether a tree is arithmetic on numbers alone, which has to be finite.

    Args:
        node: The tree of a quantity, or a part of it.

    Returns:
        Whether it is.

    Raises:
        UsageError: If it is and its value is infinite or no number.
    """
    allowed = (ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Call, ast.Name, ast.Load)
    if not all(isinstance(part, allowed) for part in ast.walk(node)):
        return False
    try:
        with np.errstate(all="ignore"):
            value = np.asarray(_value(node, lambda name: ()), dtype=float)
    except (TypeError, ValueError, IndexError) as error:
        raise UsageError(
            f"'{ast.unparse(node)}' cannot be computed: {error}", "check what its functions take"
        ) from error
    if not np.isfinite(value).all():
        raise UsageError(f"'{ast.unparse(node)}' is not finite", "write numbers that a float can hold")
    return True


def _value(node: ast.expr, find: Find) -> Any:
    match node:
        case ast.Constant(value=int() | float() as number):
            return np.float64(number)  # an integer power would grow without end, or wrap around
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
            return _field(base, field, [index_of(item) for item in items], find)
        case ast.Attribute(value=base, attr=field):
            return _field(base, field, [], find)
    raise UsageError(f"'{ast.unparse(node)}' is not understood", 'write it like a.error["sgd", "test"] * 100')


def _field(base: ast.expr, field: str, index: Sequence[Setting | slice], find: Find) -> Any:
    """The field over all instances that are meant: a vector if the analysis was repeated and none was chosen."""
    id, chosen = chosen_of(base)
    found = kept(id, chosen, find(id))
    if field in found[0].varied:
        values: list[Any] = [each.varied[field] for each in found]
    else:
        values = _filled([None if e.result is None else select(e.result, field, index) for e in found])
    repeated = any(set(each.varied) - set(chosen) for each in found)
    return np.array(values, dtype=float) if repeated else np.asarray(values[0], dtype=float)


def _filled(found: Sequence[Array | None]) -> list[Any]:
    """NaN, in the shape of the others, where a result is missing."""
    shape = next((np.shape(value) for value in found if value is not None), ())
    return [np.full(shape, math.nan) if value is None else value for value in found]
