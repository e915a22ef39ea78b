"""What can be known of a study's quantities before there are results: that they make sense, and their dimensions.

The tree of a quantity is walked as in evaluation, with the number of dimensions in place of values. A claim whose
quantity has too many of them would fail only after all training.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from analyses import experiments, named
from analyses.studies.plan import Graph
from analyses.studies.quantity import FUNCTIONS, LIMITS, PAIRS, REDUCED, constant, parse, references
from analyses.studies.selection import chosen_of, index_of, kept
from analyses.studies.table import Hypothesis, Question
from landscape.errors import UsageError, nearest
from landscape.result import SPLITS, arrays
from landscape.types import Setting

_NUMBERS = ("bool", "int", "float")


def check(graph: Graph) -> None:
    """Refuse quantities that no results could give a number.

    Args:
        graph: What will be made.

    Raises:
        UsageError: If a quantity names what will not be there, or has more dimensions than its test takes.
    """
    for claim in graph.study.claims:
        for text in filter(None, (claim.quantity, claim.other)):
            _check_claim(graph, claim, text)
    for drawing in graph.study.figures:
        x = list(drawing.x.values()) if isinstance(drawing.x, Mapping) else [drawing.x] if drawing.x else []
        for text in (*x, *drawing.y.values(), *drawing.level.values()):
            rank(graph, text)


def _check_claim(graph: Graph, claim: Hypothesis, text: str) -> None:
    found = rank(graph, text)
    if not any(True for _ in references(parse(text))):
        raise UsageError(f"the quantity '{text}' of the claim '{claim.id}' names no result", "name a field of one")
    wanted = 1 if claim.test in {"increasing", "decreasing"} else 0
    if found != wanted and not claim.entries:
        needs = "one dimension, the one it is a trend over" if wanted else "one number for each seed"
        raise UsageError(
            f"the claim '{claim.id}' takes {needs}; '{text}' has {found or 'no'} dimension{'s' * (found > 1)}",
            'choose entries, as in a.error["sgd", "test"], one value of a setting, as in a(rho=0.1), or reduce with '
            "mean, min or max",
        )


def rank(graph: Graph, text: str) -> int:
    """How many dimensions a quantity will have.

    Args:
        graph: What will be made.
        text: The quantity.

    Returns:
        0 for a number, 1 for a vector, and so on.

    Raises:
        UsageError: If it is not understood, is not finite whatever is found, or names what will not be there.
    """
    try:
        return _rank(parse(text), graph)
    except UsageError as error:
        raise UsageError(f"in the quantity '{text}': {error.cause}", error.remedy) from error


def _rank(node: ast.expr, graph: Graph) -> int:
    if constant(node):
        return 0
    match node:
        case ast.BinOp(left=left, right=right):
            return max(_rank(left, graph), _rank(right, graph))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _rank(operand, graph)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            return _called(name, [_rank(arg, graph) for arg in args])
        case ast.Subscript(value=ast.Attribute(value=base, attr=field), slice=index):
            items = index.elts if isinstance(index, ast.Tuple) else [index]
            return _field(base, field, [index_of(item) for item in items], graph)
        case ast.Attribute(value=base, attr=field):
            return _field(base, field, [], graph)
    raise UsageError(f"'{ast.unparse(node)}' is not understood", 'write it like a.error["sgd", "test"] * 100')


def _called(name: str, ranks: Sequence[int]) -> int:
    if name not in FUNCTIONS:
        raise UsageError(f"there is no function '{name}'", nearest(name, FUNCTIONS))
    takes = 2 if name in PAIRS or name in LIMITS else 1
    if len(ranks) != takes:
        raise UsageError(f"{name} takes {takes}, {len(ranks)} were given", "separate quantities by commas")
    if name in PAIRS:
        return 0
    if name in LIMITS:
        return max(ranks)
    return max(ranks[0] - 1, 0) if name in REDUCED else ranks[0]


def _field(base: ast.expr, field: str, index: Sequence[Setting | slice], graph: Graph) -> int:
    id, chosen = chosen_of(base)
    asked = [each for each in graph.asked if each.id == id and each.network in {graph.networks[0], ""}]
    found = kept(id, chosen, asked)
    repeated = int(any(set(each.varied) - set(chosen) for each in found))
    if field in found[0].varied:
        return repeated
    question = next(each for each in graph.study.questions if each.id == id)
    analysis: Any = named(question.analysis) or experiments.named(question.analysis)
    return repeated + _entries(question, analysis.Result, field, index)


def _entries(question: Question, result: Any, field: str, index: Sequence[Setting | slice]) -> int:
    fields = arrays(result)
    if field not in fields:
        kinds = {f.name: str(f.type) for f in dataclasses.fields(result)}
        if kinds.get(field) in _NUMBERS and not index:
            return 0
        raise UsageError(f"{question.id}.{field} is no number", nearest(field, fields))
    dims = fields[field].metadata["dims"]
    if len(index) > len(dims):
        raise UsageError(f"{field} has {len(dims)} dimensions, {len(index)} were given", f"they are {', '.join(dims)}")
    for dim, at in zip(dims, index, strict=False):
        _check_name(question, result, dim, at)
    return len(dims) - sum(not isinstance(at, slice) for at in index)


def _check_name(question: Question, result: Any, dim: str, at: Setting | slice) -> None:
    """Refuse the name of a training or part of the data that the question is not asked of."""
    known = question.of if getattr(result, "labelled", {}).get(dim) == "names" else SPLITS if dim == "split" else ()
    if known and isinstance(at, str) and at not in known:
        raise UsageError(f"there is no {dim} '{at}'", nearest(at, known))
