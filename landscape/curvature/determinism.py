"""Refuse a network whose outputs are random: every product would belong to another matrix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from landscape.curvature.chunked import CurvatureOperator
from landscape.curvature.isolation import exact_arithmetic
from landscape.errors import UsageError

_EXAMPLES = 16
_UNITS = 1e4


def check_determinism(operator: CurvatureOperator) -> None:
    """Run a few examples twice with different random numbers, and compare the losses.

    Args:
        operator: What is to be measured; its products are not used.

    Raises:
        UsageError: If the losses differ by more than rounding; it names the first module that did.
    """
    runs = []
    with exact_arithmetic(operator.device), torch.no_grad():
        for seed in (operator.seed, operator.seed + 1):
            with operator.forward_pass(seed), _listening(operator.objective.model) as heard:
                losses = operator.losses(0, min(_EXAMPLES, operator.objective.chunk, len(operator.objective.data)))
            runs.append((losses, heard))
    (first, heard), (second, heard_again) = runs
    if not _differ(first, second):
        return
    pairs = zip(heard, heard_again, strict=False)
    culprit = next((name for (name, a), (_, b) in pairs if _differ(a, b)), "the loss function")
    raise UsageError(
        f"the objective is random: {culprit} gave two different results for the same examples",
        "make it deterministic in eval mode, for example F.dropout(x, p, training=self.training)",
    )


@contextmanager
def _listening(model: nn.Module) -> Iterator[list[tuple[str, Tensor]]]:
    """Collect what each module returns, in the order in which they return, inner ones before outer ones."""
    heard: list[tuple[str, Tensor]] = []

    def listen(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        label = f"module '{name}' ({type(module).__name__})" if name else f"the network ({type(module).__name__})"

        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                heard.append((label, output.detach()))

        return module.register_forward_hook(hook)

    handles = [listen(name, module) for name, module in model.named_modules()]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _differ(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape or not a.is_floating_point():
        return a.shape != b.shape or not torch.equal(a, b)
    tolerance = _UNITS * torch.finfo(a.dtype).eps * a.abs().max()
    return bool((a - b).abs().max() > tolerance)
