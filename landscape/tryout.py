"""A user's problem is tried on two examples of each split when it is read, so that what cannot work is said at once.

Otherwise a wrong shape or a label that the network has no output for would come up in the middle of a command, in
torch's words.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from landscape.batchnorm import mode
from landscape.errors import InputError, UsageError
from landscape.split import Split
from landscape.wording import plural

if TYPE_CHECKING:
    from landscape.problem import Problem


def try_out(problem: Problem, where: str) -> None:
    """Let the network see two examples of each split and hold the targets against its outputs.

    Args:
        problem: The problem; random state, data and weights are left alone.
        where: What to call it.

    Raises:
        InputError: If network, inputs, targets and task do not fit each other.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad(), contextlib.redirect_stdout(sys.stderr):
        model = problem.build(0)
        for name, split in (("training", problem.train), ("test", problem.test)):
            inputs, targets = split.batch(0, 2, next(model.parameters()).dtype)
            with mode(model, training=False):
                what = f"{where}: the network does not take a {name} input of shape {split.shape}"
                output = _understood(partial(model, inputs), what)
            _in_range(split, output, f"{where}: {name} target")
            for rule in (problem.task.losses, problem.task.errors):
                what = (
                    f"{where}: the task does not take outputs {tuple(output.shape)} and targets {tuple(targets.shape)}"
                )
                values = _understood(partial(rule, output, targets), what)
                if tuple(values.shape) != (len(targets),):
                    shape, wanted = tuple(values.shape), plural(len(targets), "example")
                    raise InputError(
                        f"{where}: the task gave values of shape {shape} for {wanted}",
                        "let it give one value for each example, shape (B,)",
                    )
        _repeats(problem, model, where)


def _understood(call: Callable[[], object], otherwise: str) -> Tensor:
    try:
        found = call()
    except Exception as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{otherwise} ({cause})", "mend model, data or task so that they fit") from error
    if not isinstance(found, Tensor):
        raise InputError(f"{otherwise}: it gave a {type(found).__name__}, not a tensor", "let it give a tensor")
    return found


def _repeats(problem: Problem, model: nn.Module, where: str) -> None:
    """The network depends on nothing but weights and inputs: not on random numbers, not on how often it was asked."""
    from landscape.curvature import HessianOperator, Objective, check_determinism

    try:
        check_determinism(HessianOperator(Objective(model, problem.task.losses, problem.train, 2)))
    except UsageError as error:
        raise InputError(f"{where}: {error.cause}", error.remedy) from error
    inputs, _ = problem.train.batch(0, 2, next(model.parameters()).dtype)
    with mode(model, training=False):
        first, again = model(inputs), model(inputs)
    if not torch.allclose(first, again, rtol=1e-3, atol=1e-6, equal_nan=True):
        raise InputError(
            f"{where}: the network gives other outputs for the same input when it is asked again in eval mode",
            "let it count nothing in eval mode",
        )


def _in_range(split: Split, output: Tensor, what: str) -> None:
    """Class indices lie among the outputs; all of them are looked at."""
    if split.targets.is_floating_point() or split.targets.dim() != 1 or output.dim() != 2 or output.shape[1] < 2:
        return
    low, high = int(split.targets.min()), int(split.targets.max())
    if low < 0 or high >= output.shape[1]:
        wrong = low if low < 0 else high
        raise InputError(
            f"{what} {wrong} is no class: the network has {output.shape[1]} outputs",
            f"number classes from 0 to {output.shape[1] - 1}, or give the network more outputs",
        )
