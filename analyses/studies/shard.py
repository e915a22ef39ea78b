"""Shards: a graph divided among machines that do not speak to each other.

What hangs together (usually one seed) stays together, so that shared steps are made once; where there are fewer such
parts than machines, final nodes are divided and a machine makes again what several of its nodes need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analyses.studies.node import Node


def share(nodes: Mapping[str, Node], number: int, count: int) -> set[str]:
    """The nodes of one shard; together the shards hold all.

    The division depends on the graph alone: parts, heaviest first, go to the shard that has least to do.

    Args:
        nodes: All nodes by key, each after those it needs.
        number: Which shard, from 1.
        count: Of how many.

    Returns:
        Keys, with all that each needs.
    """
    parts = together(nodes)
    if len(parts) < count:
        needed = {need for node in nodes.values() for need in node.needs}
        parts = [closure(nodes, [key]) for key in nodes if key not in needed]
    load = [0.0] * count
    mine: set[str] = set()
    for part in sorted(parts, key=lambda part: (-_weight(nodes, part), min(part))):
        lightest = load.index(min(load))
        load[lightest] += _weight(nodes, part)
        if lightest == number - 1:
            mine |= part
    return mine


def _weight(nodes: Mapping[str, Node], keys: set[str]) -> float:
    return sum(nodes[key].work for key in sorted(keys)) + len(keys)


def closure(nodes: Mapping[str, Node], keys: Sequence[str]) -> set[str]:
    """Some nodes with all that they need."""
    found: set[str] = set()
    waiting = list(keys)
    while waiting:
        key = waiting.pop()
        if key not in found:
            found.add(key)
            waiting += nodes[key].needs
    return found


def together(nodes: Mapping[str, Node]) -> list[set[str]]:
    """Parts of the graph that nothing joins."""
    part: dict[str, set[str]] = {}
    for key, node in nodes.items():
        joined = {key}
        for need in node.needs:
            joined |= part[need]
        for each in joined:
            part[each] = joined
    return list({id(keys): keys for keys in part.values()}.values())
