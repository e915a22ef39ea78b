"""Opens checkpoints together with the one problem they share, and says what it guessed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from landscape import checkpoint as checkpoints
from landscape import problem as problems
from landscape.checkpoint import Checkpoint
from landscape.errors import DivergedError, InputError
from landscape.problem import Problem
from landscape.query import parse
from landscape.task import smoothing_of
from landscape.training.settings import trained_smoothing
from landscape.vector import Layout, layout_of
from landscape.weights import load_into, read_tensors, state_dict_of


def open_checkpoints(
    paths: Sequence[Path], spec: str | Problem | None, say: Callable[[str], None]
) -> tuple[Problem, list[Checkpoint]]:
    """Read checkpoints and the problem they belong to.

    Args:
        paths: Checkpoints of this toolkit, or weights from elsewhere.
        spec: The problem or its spec; None takes the one that the checkpoints name.
        say: Told of every guess made, and of what to be careful with.

    Returns:
        The problem and the checkpoints, which all fit its network.

    Raises:
        DivergedError: If weights are not finite.
        InputError: If a file cannot be used, no problem is named, or problems, networks or data differ.
        UsageError: If the spec is unknown.
    """
    contents = [read_tensors(path) for path in paths]
    ours = [
        checkpoints.from_content(content, path) if checkpoints.is_ours(content) else None
        for content, path in zip(contents, paths, strict=True)
    ]
    known = [c for c in ours if c is not None]
    named = sorted({c.problem for c in known})
    if spec is None and len(named) != 1:
        if named:
            raise InputError(f"the checkpoints are of different problems: {' and '.join(named)}", _ONE)
        raise InputError(f"{paths[0]} does not say which problem it belongs to", "name it with --problem SPEC")
    problem = spec if isinstance(spec, Problem) else problems.load(spec or named[0])
    found = [
        own or _foreign(content, path, problem, say) for own, content, path in zip(ours, contents, paths, strict=True)
    ]
    with torch.device("cpu"):
        network = problem.build(0)
    _check(found, problem, layout_of(network), paths)
    differing = _frozen_apart(found, network)
    if differing:
        what = f"frozen weights differ ({differing[0]}{', …' if len(differing) > 1 else ''})"
        say(f"{what}: lines move them, distances count trained weights only")
    _say_smoothing(found, problem, say)
    return problem, _distinct_names(found, paths)


def _say_smoothing(found: Sequence[Checkpoint], problem: Problem, say: Callable[[str], None]) -> None:
    """Tell of networks that were trained on another loss than the one that is measured."""
    measured = smoothing_of(problem.task)
    trained = trained_smoothing([c.settings for c in found])
    if set(trained) <= {measured}:
        return
    told = f"trained with label smoothing {' and '.join(f'{value:g}' for value in trained)}, measured with {measured:g}"
    if len(trained) == 1 and problem.spec:
        body, _, asked = problem.spec.partition("?")
        other = dataclasses.replace(parse(asked, problem.spec), label_smoothing=trained[0])
        told += f": --problem '{body}{other}' measures the loss that was trained on"
    say(told)


_ONE = "compare checkpoints of one problem, or name the problem that fits all with --problem SPEC"


def _foreign(content: object, path: Path, problem: Problem, say: Callable[[str], None]) -> Checkpoint:
    weights = state_dict_of(content, path, say)
    model = problem.build(0)
    load_into(model, weights, path, say)
    parameters = [p.detach().reshape(-1) for p in model.parameters() if p.requires_grad]
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    buffers = frozen | {name: b.clone() for name, b in model.named_buffers()}
    theta = torch.cat(parameters)
    digest = checkpoints.content_hash("", {"theta": theta, **buffers})
    return Checkpoint(theta, buffers, layout_of(model), problem=problem.spec, name=path.stem, sha256=digest)


def _check(found: Sequence[Checkpoint], problem: Problem, layout: Layout, paths: Sequence[Path]) -> None:
    fingerprint = problem.fingerprint()
    for checkpoint, path in zip(found, paths, strict=True):
        if checkpoint.layout != layout:
            differing = set(zip(checkpoint.layout.names, checkpoint.layout.shapes, strict=True)) ^ set(
                zip(layout.names, layout.shapes, strict=True)
            )
            name, shape = sorted(differing)[0]
            raise InputError(
                f"{path} does not fit the network of {problem.spec}: {len(differing)} names or shapes differ, "
                f"first {name} {shape}",
                _ONE,
            )
        if not bool(torch.isfinite(checkpoint.theta).all()):
            raise DivergedError(f"{path} holds weights that are not finite", "use an earlier checkpoint of that run")
        broken = [n for n, b in checkpoint.buffers.items() if b.is_floating_point() and bool(b.isnan().any())]
        if broken:
            raise DivergedError(f"{path} holds NaN in {broken[0]}", "use an earlier checkpoint of that run")
        if checkpoint.data not in {"", fingerprint}:
            raise InputError(
                f"{path} was trained on other data than {problem.spec} holds now",
                "bring back those data; if a function makes them, let it seed its random numbers",
            )


def _frozen_apart(found: Sequence[Checkpoint], network: nn.Module) -> list[str]:
    """Names of parameters that were not trained and are not the same in all checkpoints."""
    frozen = [name for name, p in network.named_parameters() if not p.requires_grad]
    first, *others = (c.buffers for c in found)
    return [name for name in frozen if any(not torch.equal(first[name], other[name]) for other in others)]


def _distinct_names(found: Sequence[Checkpoint], paths: Sequence[Path]) -> list[Checkpoint]:
    """Name checkpoints after their files; files of equal names take their directory's along, or the whole path."""
    stems = [path.stem for path in paths]
    longer = [f"{path.resolve().parent.name}/{path.stem}" for path in paths]
    return [
        dataclasses.replace(c, name=s if stems.count(s) == 1 else n if longer.count(n) == 1 else str(p))
        for c, s, n, p in zip(found, stems, longer, paths, strict=True)
    ]
