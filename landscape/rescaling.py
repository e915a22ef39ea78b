"""A network rescaled from layer to layer: other weights, the same function.

ReLU, pooling and reshaping commute with a positive factor. So what a layer puts out may be multiplied by α, weights and
bias, where the next layer takes it back with 1/α in its weights, or where a BatchNorm divides it out (up to its eps).
Which layers may is read from the traced network.

Source: Dinh et al. 2017, arXiv 1703.04933, section 4.1.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.checkpoint import Checkpoint
from landscape.errors import UsageError
from landscape.problem import Problem

_LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_MODULES = (
    *(nn.ReLU, nn.LeakyReLU, nn.Identity, nn.Dropout, nn.Flatten),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
)
_FUNCTIONS = (
    *(F.relu, torch.relu, torch.flatten, F.leaky_relu, F.dropout),
    *(F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, torch.mean),
)
_METHODS = ("relu", "flatten", "view", "reshape", "mean", "contiguous")
_AGREE = 1e-3  # of the largest output: BatchNorm's eps does not scale along


def rescaled(problem: Problem, checkpoint: Checkpoint, factor: float) -> Checkpoint:
    """A checkpoint of the same function, every other layer scaled by a factor where the network permits it.

    Args:
        problem: What the checkpoint was trained on.
        checkpoint: The weights; not changed.
        factor: α, above 0.

    Returns:
        The copy, named after its factor.

    Raises:
        UsageError: If the network cannot be traced, no layer of it may be rescaled, or its outputs change.
    """
    model = problem.build(0)
    powers = _powers(model)
    if not powers:
        raise UsageError(
            f"no layer of {problem.spec} can be rescaled: none feeds one other layer through ReLU alone", _WITHOUT
        )
    theta = checkpoint.theta.clone()
    for name, view in checkpoint.layout.views(theta).items():
        view.mul_(factor ** powers.get(name, 0))
    buffers = {name: _scaled(value, factor, powers.get(name, 0)) for name, value in checkpoint.buffers.items()}
    copy = dataclasses.replace(checkpoint, theta=theta, buffers=buffers, name=f"{checkpoint.name} ×{factor:g}")
    _check(problem, checkpoint, copy)
    return copy


_WITHOUT = "measure without --rescale"


def _scaled(value: Tensor, factor: float, power: int) -> Tensor:
    return value * factor**power if power else value


def _powers(model: nn.Module) -> dict[str, int]:
    """The power of α that each parameter and statistic is multiplied by; those left alone are not named."""
    powers: dict[str, int] = {}
    taken: set[str] = set()
    for first, second in _pairs(model):
        if first in taken or second in taken:
            continue
        taken |= {first, second}
        powers |= {f"{first}.weight": 1, f"{first}.bias": 1}
        if isinstance(model.get_submodule(second), _BatchNorm):
            taken.discard(second)  # its own weight and bias are still free
            powers |= {f"{second}.running_mean": 1, f"{second}.running_var": 2}
        else:
            powers[f"{second}.weight"] = -1
    return powers


def _pairs(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of layers of which the first feeds the second and nothing else, through positive factors alone."""
    graph = _trace(model)
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    shared = {id(p) for p, n in Counter(_parameters(model)).items() if n > 1}

    def is_free(node: Any, kinds: tuple[type[nn.Module], ...]) -> bool:
        if node.op != "call_module" or calls[str(node.target)] != 1:
            return False
        layer = model.get_submodule(node.target)
        own = [p for p in layer.parameters(recurse=False) if p.requires_grad]
        return isinstance(layer, kinds) and bool(own) and not any(id(p) in shared for p in own)

    for node in graph.nodes:
        if is_free(node, (*_LINEAR, _BatchNorm)):
            end = _end(model, node)
            if end is not None and is_free(end, (*_LINEAR, _BatchNorm)):
                yield str(node.target), str(end.target)


def _parameters(model: nn.Module) -> list[nn.Parameter]:
    return [p for module in model.modules() for p in module.parameters(recurse=False)]


def _end(model: nn.Module, node: Any) -> Any:
    """The first node after this one that is more than a positive factor's way through, if the way does not fork."""
    while len(node.users) == 1:
        node = next(iter(node.users))
        module = model.get_submodule(node.target) if node.op == "call_module" else None
        through = isinstance(module, _MODULES) or (node.op == "call_function" and node.target in _FUNCTIONS)
        if not through and not (node.op == "call_method" and node.target in _METHODS):
            return node
    return None


def _trace(model: nn.Module) -> fx.Graph:
    try:
        return fx.Tracer().trace(model)
    except Exception as error:  # whatever the user's forward pass does with a symbol
        reason = " ".join(str(error).split())[:80]
        raise UsageError(f"the network cannot be traced, so its layers are not known: {reason}", _WITHOUT) from error


@torch.no_grad()
def _check(problem: Problem, one: Checkpoint, other: Checkpoint) -> None:
    """Compare the outputs for a few examples, in float64, with the statistics of the checkpoints."""
    from landscape.evaluate import predict
    from landscape.vector import FlatModel

    flat = FlatModel(problem.build(0, dtype=torch.float64))
    outputs = []
    for checkpoint in (one, other):
        flat.load(checkpoint.theta, checkpoint.buffers)
        outputs.append(predict(flat.model, problem.train.head(16), 16))
    apart = float((outputs[1] - outputs[0]).abs().max() / outputs[0].abs().max())
    if not apart <= _AGREE:
        raise UsageError(f"rescaling changes the network's outputs by {apart:.1%}", _WITHOUT)
