"""Refuse a network whose outputs are random: every product would belong to another matrix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from landscape.curvature.chunked import CurvatureOperator
from landscape.curvature.isolation import exact_arithmetic
from landscape.errors import UsageError

_UNITS = 1e4


def check_determinism(operator: CurvatureOperator) -> None:
    """Run a chunk of examples twice with different random numbers, and compare the losses.

    Args:
        operator: What is to be measured; its products are not used.

    Raises:
        UsageError: If the losses differ by more than rounding; it names the first module that gave
            different outputs for the same inputs.
    """
    runs = []
    with exact_arithmetic(operator.device), torch.no_grad():
        for seed in (operator.seed, operator.seed + 1):
            with operator.forward_pass(seed), _listening(operator.objective.model) as heard:
                losses = operator.losses(0, min(operator.objective.chunk, len(operator.objective.data)))
            runs.append((losses, heard))
    (first, heard), (second, heard_again) = runs
    if not _differ(first, second):
        return
    pairs = list(zip(heard, heard_again, strict=False))
    culprits = (name for (name, asked, a), (_, again, b) in pairs if _differ(a, b) and not _any_differ(asked, again))
    culprit = next(culprits, "the loss function")
    where = next((f", first what it gives {name}" for (name, a, _), (_, b, _) in pairs if _any_differ(a, b)), "")
    raise UsageError(
        f"the objective is random: {culprit} gave two different results for the same examples{where}",
        "make it deterministic in eval mode, for example F.dropout(x, p, training=self.training)",
    )


@contextmanager
def _listening(model: nn.Module) -> Iterator[list[tuple[str, list[Tensor], Tensor]]]:
    """Collect what each module is given and returns, in the order in which they return: inner ones first."""
    heard: list[tuple[str, list[Tensor], Tensor]] = []
    given: list[list[Tensor]] = []

    def listen(name: str, module: nn.Module) -> list[torch.utils.hooks.RemovableHandle]:
        label = f"module '{name}' ({type(module).__name__})" if name else f"the network ({type(module).__name__})"

        def before(_module: nn.Module, inputs: tuple[object, ...]) -> None:
            given.append([each.detach().clone() for each in inputs if isinstance(each, Tensor)])

        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            asked = given.pop()
            if isinstance(output, Tensor):
                heard.append((label, asked, output.detach().clone()))

        return [module.register_forward_pre_hook(before), module.register_forward_hook(hook)]

    handles = [handle for name, module in model.named_modules() for handle in listen(name, module)]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _any_differ(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) != len(other) or any(map(_differ, one, other))


def _differ(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape or not a.is_floating_point():
        return a.shape != b.shape or not torch.equal(a, b)
    tolerance = _UNITS * torch.finfo(a.dtype).eps * a.abs().max()
    return bool((a - b).abs().max() > tolerance)
