"""Finds the units of any network by following them through one forward pass.

Every operation that the pass comes down to is seen as it runs, so that no architecture has to be known: residual
streams share their units because they are added, BatchNorm's buffers belong to the units that they normalise, and the
zero channels of a shortcut without parameters split a wider stream into those that go on and those that are new.
What is found is put to the test: a random permutation of all units must leave the outputs as they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from landscape.batchnorm import mode
from landscape.errors import InputError
from landscape.problem import Problem
from landscape.symmetry.permutation import permuted, shuffled
from landscape.symmetry.rules import COMPUTED, RULES, still
from landscape.symmetry.units import Group, Ids, Label, Units

_EXAMPLES = 4
_ROUNDING = 1e-9  # of the largest output: 1e7 times the unit roundoff of float64


@dataclass(frozen=True)
class Probe:
    """Where activations of a group's units are seen in a forward pass.

    Attributes:
        call: Which operation of the pass, counted from 0, has them in its result.
        axis: In which axis.
        group: Which group.
        positions: Entries of each unit there, shape (n, occurrences).
    """

    call: int
    axis: int
    group: int
    positions: Ids


@dataclass(frozen=True)
class Traced:
    """What one forward pass tells of a network's units.

    Attributes:
        groups: Units that can change places, in the order of the pass.
        probes: Nonlinearities that each group passes; where it passes none, all that is computed of it.
    """

    groups: tuple[Group, ...]
    probes: tuple[Probe, ...]


def traced(problem: Problem) -> Traced:
    """Find which units of a problem's network can change places.

    Args:
        problem: Its network is traced and tested in float64 on the first training examples, in eval mode.

    Returns:
        Groups of units over weights and buffers, and where they are seen.

    Raises:
        InputError: If units cannot be followed through an operation, or the test fails.
    """
    problem = problem.to("cpu", torch.float64)
    model = _perturbed(problem.build(0, dtype=torch.float64))
    inputs, _ = problem.train.batch(0, _EXAMPLES, torch.float64)
    with torch.no_grad(), mode(model, training=False):
        found = trace(model, inputs)
        _test(model, inputs, found.groups)
    return found


def _perturbed(model: nn.Module) -> nn.Module:
    """A network in general position: no unit equals another, in weights or in BatchNorm statistics."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in _state(model).values():
            if tensor.is_floating_point():
                tensor.mul_(1 + 0.1 * torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype))
                tensor.add_(0.01 * torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype))
    return model


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in model.named_parameters()} | dict(model.named_buffers())


def trace(model: nn.Module, inputs: Tensor) -> Traced:
    """Follow units through one forward pass.

    Args:
        model: The network, left as it is.
        inputs: A few examples, shape (B, ...).

    Returns:
        Groups in the order of the pass, and their probes.

    Raises:
        InputError: If units cannot be followed through an operation.
    """
    units = Units()
    weights = dict(model.named_parameters()) | dict(model.named_buffers())
    with _modules(model) as current, unfused(), _Follow(units, weights, current) as follow:
        output = model(inputs)
    for label in (follow.look(output), *(label for name, label in follow.weights.items() if name not in follow.used)):
        for ids in label:
            units.pin(ids)
    labels = {name: follow.weights[name] for name in follow.used}
    groups = units.groups(labels)
    return Traced(groups, _probes(units, groups, labels, follow.seen))


def _probes(
    units: Units, groups: Sequence[Group], labels: Mapping[str, Label], seen: Sequence[tuple[int, bool, Label]]
) -> tuple[Probe, ...]:
    """Where groups are seen: at nonlinearities if there are any, else wherever something is computed."""
    known: dict[int, tuple[int, int]] = {}  # unit -> (group, number in it)
    for g, group in enumerate(groups):
        place = group.places[0]
        roots = (units.root(i) for i in labels[place.name][place.axis][place.positions[:, 0]].tolist())
        known.update({root: (g, number) for number, root in enumerate(roots)})
    found: dict[tuple[int, bool], list[Probe]] = {}
    for call, nonlinear, label in seen:
        for axis, ids in enumerate(label):
            where: dict[int, list[list[int]]] = {}
            for position, i in enumerate(ids.tolist()):
                g, number = known.get(units.root(i), (-1, 0))
                if g >= 0:
                    where.setdefault(g, [[] for _ in range(len(groups[g]))])[number].append(position)
            for g, positions in where.items():
                if len({len(each) for each in positions}) == 1:  # all units of the group, equally often
                    found.setdefault((g, nonlinear), []).append(Probe(call, axis, g, np.array(positions)))
    return tuple(p for g in range(len(groups)) for p in found.get((g, True)) or found.get((g, False), []))


class _Follow(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees each operation as it runs and gives its results their labels.

    Attributes:
        weights: Labels of weights and buffers by name.
        used: Their names in the order in which they were used first.
        seen: Place in the pass, whether it is a nonlinearity, and label of each result that is computed.
    """

    def __init__(self, units: Units, weights: Mapping[str, Tensor], current: Callable[[], str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._units = units
        self._current = current
        self._kept: list[Tensor] = list(weights.values())  # so that no id is used twice
        self._names = {id(tensor): name for name, tensor in weights.items()}
        self.weights = {name: [units.fresh(n) for n in tensor.shape] for name, tensor in weights.items()}
        self._labels = {id(tensor): self.weights[name] for name, tensor in weights.items()}
        self.used: dict[str, None] = {}
        self.seen: list[tuple[int, bool, Label]] = []
        self._calls = 0

    def look(self, tensor: Tensor) -> Label:
        """The label of a tensor."""
        if name := self._names.get(id(tensor)):
            self.used[name] = None
        return self._labels.get(id(tensor), still(tensor))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        rule = RULES.get(name.removesuffix("_") if name.endswith("_") else name)
        made = [r for r in (result if isinstance(result, (tuple, list)) else [result]) if isinstance(r, Tensor)]
        given = list(_tensors([*args, *(kwargs or {}).values()]))
        if rule is not None:
            labels = rule(self._units, self.look, args, result)
            several = isinstance(result, (tuple, list))
            self._give(made, labels if several else [labels])  # type: ignore[list-item, arg-type]
            if rule in COMPUTED and isinstance(result, Tensor):
                self.seen.append((self._calls, rule is COMPUTED[0] and len(given) == 1, list(self.look(result))))
        elif any(self._units.movable(self.look(tensor)) for tensor in given) and made:
            raise InputError(
                f"units cannot be followed through {name} in {self._current()}",
                "align networks made of linear, convolution, normalisation, pooling and pointwise operations",
            )
        self._calls += 1
        return result

    def _give(self, made: Sequence[Tensor], labels: Sequence[Label]) -> None:
        for tensor, label in zip(made, labels, strict=False):
            self._labels[id(tensor)] = label
            self._kept.append(tensor)


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)


@contextlib.contextmanager
def _modules(model: nn.Module) -> Iterator[Callable[[], str]]:
    """Know which module runs.

    Args:
        model: The network.

    Yields:
        A function that names the module that runs now.
    """
    running: list[str] = []
    names = {module: f"{name or 'the network'} ({type(module).__name__})" for name, module in model.named_modules()}

    def enter(module: nn.Module, inputs: Any) -> None:
        running.append(names[module])

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        running.pop()

    hooks = [m.register_forward_pre_hook(enter) for m in names] + [m.register_forward_hook(leave) for m in names]
    try:
        yield lambda: running[-1]
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def unfused() -> Iterator[None]:
    """Let attention run as the operations it is made of, not as one."""
    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was)


def _test(model: nn.Module, inputs: Tensor, groups: Sequence[Group]) -> None:
    """Move all units at random and compare the outputs.

    Raises:
        InputError: If they differ by more than rounding.
    """
    expected = model(inputs)
    state = _state(model)
    moved = permuted(groups, shuffled(groups, seed=0), state)
    output = torch.func.functional_call(model, moved, (inputs,))
    apart = float((output - expected).abs().max())
    if not apart <= _ROUNDING * float(expected.abs().max()):
        raise InputError(
            f"the units of {type(model).__name__} cannot be followed: permuting them changed outputs by {apart:.1e}",
            "align networks whose units are told apart by their weights alone",
        )
