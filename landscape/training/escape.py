"""How many steps until training leaves a minimum: constant learning rate, from a checkpoint, until accuracy falls.

A walk is a training run of its own (order, augmentation and noise from its seed, momentum from zero, T large); after
every step it is asked whether the training accuracy, without augmentation, has fallen below the threshold.
Accuracy is measured with the running BatchNorm statistics of the walk, which lag behind the weights, or with
statistics recomputed on the training data at each step: the same walk gives both.

Source: thesis, section 5.2 and Table 5.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from landscape.batchnorm import batch_statistics, frozen_statistics, layers, mode
from landscape.checkpoint import Checkpoint
from landscape.errors import UsageError
from landscape.evaluate import BATCH, evaluate
from landscape.pooling import recalibrate
from landscape.problem import Problem
from landscape.screening import Answer, Screen
from landscape.training.batches import Batches
from landscape.training.order import generator
from landscape.training.passes import Passes
from landscape.training.settings import Settings, resolve
from landscape.training.step import Stepper
from landscape.types import Setting
from landscape.vector import FlatModel

KEPT = ("batch_size", "lr", "momentum", "nesterov", "weight_decay")
"""Settings of the checkpoint's run that a walk takes over."""

SHIFT = 977
"""How far apart in the shuffled order the examples begin that are looked at after one step and the next."""
_AGAIN = 0.05  # of the risk: what a second look may overlook


def walk_settings(base: Mapping[str, Setting], n: int, rho: float, budget: int, **own: Setting | None) -> Settings:
    """Settings of a walk: SGD where ρ is 0, else SAM, at a constant learning rate, for at least `budget` steps.

    Args:
        base: Settings of the checkpoint's run, or the problem's defaults.
        n: Training examples.
        rho: ρ.
        budget: Steps.
        **own: Settings that go over the base; None for those that do not.

    Returns:
        The settings.
    """
    values = {key: base[key] for key in KEPT if key in base} | {k: v for k, v in own.items() if v is not None}
    values |= {"method": "sam" if rho else "sgd", "rho": rho, "lr_schedule": "constant", "epochs": 1}
    per_epoch = resolve(values).steps_per_epoch(n)
    return resolve(values | {"epochs": math.ceil(budget / per_epoch)})


@dataclass(frozen=True)
class Escape:
    """One walk.

    Attributes:
        steps: For each definition of accuracy the first step after which it was below the threshold; inf if it
            was not within the budget.
        examples: For each definition the examples looked at to know.
        asked: For each definition the times it was asked.
    """

    steps: tuple[float, ...]
    examples: tuple[int, ...]
    asked: tuple[int, ...]

    def packed(self) -> tuple[float, ...]:
        """All numbers in one row."""
        return (*self.steps, *self.examples, *self.asked)

    @staticmethod
    def unpacked(values: tuple[float, ...]) -> Escape:
        """The walk that was `packed`."""
        k = len(values) // 3
        return Escape(values[:k], tuple(map(int, values[k : 2 * k])), tuple(map(int, values[2 * k :])))


class Walker:
    """Makes walks from one checkpoint.

    Attributes:
        definitions: "running" and "recalibrated", or "plain" for a network without BatchNorm.
    """

    def __init__(
        self, problem: Problem, start: Checkpoint, device: torch.device | str, threshold: float, batch_size: int = BATCH
    ) -> None:
        """Build the network and shuffle the examples that are looked at.

        Args:
            problem: What the checkpoint was trained on.
            start: The minimum.
            device: Where to walk.
            threshold: Accuracy in (0, 1] below which it is left.
            batch_size: Examples in a forward pass where all are looked at.
        """
        self._problem, self._start, self._device = problem.to(device), start, torch.device(device)
        self._flat = FlatModel(problem.build(0, device))
        self._train = self._problem.train
        order = torch.randperm(len(self._train), generator=generator(0, "screening", 0))
        self._order = torch.cat([order, order]).to(self._device)  # a look may run over the end
        self._batchnorm = layers(self._flat.model)
        self.definitions = ("running", "recalibrated") if self._batchnorm else ("plain",)
        self._threshold, self._batch = threshold, batch_size

    def check(self, name: str) -> None:
        """Refuse a start that is below the threshold already by any definition."""
        self._flat.load(self._start.theta, self._start.buffers)
        for k, definition in enumerate(self.definitions):
            accuracy = self.all_right(k == 1) / len(self._train)
            if accuracy < self._threshold:
                raise UsageError(
                    f"{name} classifies only {accuracy:.1%} of the training data ({definition} statistics)",
                    f"train longer, or lower --threshold ({self._threshold:g})",
                )

    def walk(self, settings: Settings, budget: int, risk: float, check: Callable[[], object] | None = None) -> Escape:
        """Walk until the accuracy is below the threshold by every definition, or the budget is spent.

        Args:
            settings: Of the walk, see `walk_settings`.
            budget: Most steps.
            risk: Of overlooking at one step that it is below, see `Screen`; 0 looks at all examples. Once it is seen to
                be below, the step before is looked at again, so that the step it took is later than it should be only
                where both looks fail, or where the accuracy had come back in between.
            check: Called after every step; it may raise to stop.

        Returns:
            The steps it took.
        """
        screen, strict = (Screen(len(self._train), self._threshold, r) for r in (risk, risk * _AGAIN))
        cuda = [self._device.index or 0] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            self._flat.load(self._start.theta, self._start.buffers)
            batches = Batches(self._problem, settings)
            passes = Passes(self._flat, self._problem.task, batches.size)
            stepper = Stepper(settings, len(self._train), passes, batches)
            found = [math.inf] * len(self.definitions)
            examples, asked = [0] * len(found), [0] * len(found)
            for t in range(budget):
                before = self._state() if risk else None
                stepper.step(t, settings.lr)
                for k in [k for k, step in enumerate(found) if math.isinf(step)]:
                    recalibrated = self.definitions[k] == "recalibrated"
                    answer = self._ask(screen, SHIFT * t, recalibrated)
                    examples[k] += answer.examples
                    asked[k] += 1
                    if not answer.fewer:
                        continue
                    found[k] = t + 1
                    if before and t:
                        now = self._state()
                        self._flat.load(*before)
                        answer = self._ask(strict, SHIFT * (t - 1) + len(self._train) // 2, recalibrated)
                        self._flat.load(*now)
                        examples[k] += answer.examples
                        found[k] -= answer.fewer
                if not any(math.isinf(step) for step in found):
                    break
                if check:
                    check()
        return Escape(tuple(found), tuple(examples), tuple(asked))

    def _state(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Copies of what the network is at this step."""
        return self._flat.theta.clone(), {name: value.clone() for name, value in self._flat.buffers().items()}

    def _ask(self, screen: Screen, first: int, recalibrated: bool) -> Answer:
        right = partial(self.right, first, by_batch=recalibrated)
        return screen.ask(right, partial(self.all_right, True) if recalibrated else None)

    @torch.no_grad()
    def right(self, first: int, start: int, stop: int, by_batch: bool) -> int:
        """How many of the examples start to stop of the shuffled order that begins at `first` are right."""
        index = self._order[(first + start) % len(self._train) :][: stop - start]
        inputs = self._train.prepare(self._train.inputs[index])
        model = self._flat.model
        statistics = batch_statistics(model) if by_batch else mode(model, training=False)
        with statistics, frozen_statistics(model):
            output = model(inputs)
        errors: Tensor = self._problem.task.errors(output, self._train.targets[index])
        return stop - start - round(float(errors.sum()))

    def all_right(self, recalibrated: bool) -> int:
        """How many of all training examples are right; the walk's running statistics stay as they are."""
        model, kept = self._flat.model, {}
        if recalibrated:
            kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
            recalibrate(model, self._train, self._batch)
        error = float(evaluate(model, self._train, self._problem.task, self._batch).error)
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in kept:
                    buffer.copy_(kept[name])
        return round((1 - error) * len(self._train))
