"""The state of a training run and how it advances.

The state is weights, buffers, the optimizer's and the parts' tensors and the step t; all else is a pure function of
(settings, t).
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Collection
from dataclasses import replace

import torch
from torch import nn

import landscape
from landscape.batchnorm import layers, mode
from landscape.checkpoint import Checkpoint
from landscape.errors import InputError, UsageError
from landscape.evaluate import BATCH, evaluate
from landscape.options import as_dict
from landscape.pooling import recalibrate
from landscape.problem import Problem
from landscape.split import Split, takes_channels_last
from landscape.task import smoothed, smoothing_of
from landscape.training.averaging import SWA, SWAD, Average
from landscape.training.batches import Batches
from landscape.training.fork import relation
from landscape.training.passes import Passes
from landscape.training.rates import learning_rate, radius
from landscape.training.settings import Settings, complete, resolve
from landscape.training.sharpness import Told
from landscape.training.step import Stepper
from landscape.vector import FlatModel, layout_of

PER_STEP = ("loss", "error", "gradient", "perturbation", "gap")
"""What is recorded at each step: the batch's mean loss and error at the weights before the step, ‖g‖₂ there, ‖ε̂‖₂ and
L(w + ε̂) − L(w) where weights were perturbed."""

PER_EPOCH = ("relative_radius", "forward", "backward")
"""What is recorded at the end of each epoch: ρ/‖w‖₂, and the passes over a batch made so far."""

TESTED = ("test_loss", "test_error")
"""What is recorded whenever the test data are evaluated."""


class Run:
    """A run at some step.

    Attributes:
        step: Steps made.
        steps: T.
    """

    def __init__(self, problem: Problem, settings: Settings, start: Checkpoint | None, device: torch.device) -> None:
        """Set up a run, or go on from a checkpoint.

        Args:
            problem: What to train.
            settings: How.
            start: The checkpoint, if any.
            device: Where.
        """
        self._fingerprint = problem.fingerprint()
        self._n = len(problem.train)
        self._problem = problem.to(device)
        self._settings = settings = of_problem(settings, problem)
        self._device = device
        self._schedule = settings.schedule(self._n)
        self._flat = FlatModel(problem.build(settings.seed, device))
        self._batches = Batches(self._problem, settings)
        if settings.channels_last:
            _check_order(self._flat.model, self._problem.train)
        task = smoothed(problem.task, settings.label_smoothing or 0.0)
        self._passes = Passes(self._flat, task, self._batches.size, settings.precision, settings.compile)
        self._stepper = Stepper(settings, self._n, self._passes, self._batches)
        self._per_epoch = self._batches.per_epoch
        self._average = self._make_average()
        self.step = 0
        self.steps = settings.steps(self._n)
        self._parent = ("", 0, True)
        self._aligned = "" if start is None else start.aligned
        self._told: list[Told] = []  # what the steps since the last write told
        evaluated = {round((i + 1) * settings.epochs / settings.evaluations) for i in range(settings.evaluations)}
        self._evaluated = [epoch * self._per_epoch for epoch in sorted(evaluated) if epoch > 0]  # steps
        self._history = {key: torch.full((self.steps,), math.nan, device=device) for key in PER_STEP}
        rare = dict.fromkeys(PER_EPOCH, settings.epochs) | dict.fromkeys(TESTED, len(self._evaluated))
        for key, length in rare.items():
            self._history[key] = torch.full((length,), math.nan, dtype=torch.float64, device=device)
        if start is not None:
            self._go_on_from(start)

    def _make_average(self) -> Average | None:
        s, theta, held = self._settings, self._flat.theta, self._batches.validation
        kind = s.part("average")
        if kind == "swa":
            return SWA(theta, s.switch_step(self._n), s.average_every * self._per_epoch)
        if kind == "none":
            return None
        if held is None:
            raise UsageError("SWAD needs examples held out of training", "give --validation N with N at least 1")

        def loss() -> torch.Tensor:
            self._passes.count(len(held))
            return evaluate(self._flat.model, held, self._problem.task, BATCH).loss

        return SWAD(theta, s, self._per_epoch, loss)

    def _go_on_from(self, start: Checkpoint) -> None:
        if start.layout != layout_of(self._flat.model) or start.data not in {"", self._fingerprint}:
            what = "network" if start.layout != layout_of(self._flat.model) else "data"
            raise InputError(
                f"{start.name}.pt is of another {what} than {self._problem.spec}", "train both from one problem"
            )
        if start.step >= self.steps:
            raise UsageError(
                f"{start.name}.pt is at step {start.step}, the run to come has only {self.steps}",
                "fork from an earlier step: train with --save-at STEP to keep one",
            )
        self._flat.load(start.theta, start.buffers)
        before = complete(start.settings)
        self._load(start, resolve(before) if start.settings else None)
        self.step = start.step
        self._passes.go_on_from(start.forward, start.backward)
        for key, values in self._history.items():
            old = start.history.get(key)
            if old is not None and key in TESTED:
                self._take_over(values, old, start)
            elif old is not None:
                common = min(len(old), len(values))
                values[:common] = old[:common]
        resumed = before == as_dict(self._settings)
        exact = not relation(start, self._settings, self._n)
        self._parent = (start.parent, start.parent_step, start.exact) if resumed else (start.sha256, start.step, exact)

    def _take_over(self, values: torch.Tensor, old: torch.Tensor, start: Checkpoint) -> None:
        """Test values of the steps at which both runs evaluate."""
        known = {int(step): old[i] for i, step in enumerate(start.history.get("evaluated", ())) if step <= start.step}
        for i, step in enumerate(self._evaluated):
            if step in known:
                values[i] = known[step]

    def _load(self, start: Checkpoint, before: Settings | None) -> None:
        """Take over the state of the parts that both runs have."""
        s, state = self._settings, dict(start.optimizer)
        if before and before.part("optimizer") != s.part("optimizer"):
            state = {key: value for key, value in state.items() if "." in key}
        for name in ("mask", "combine", "average"):
            if before and before.part(name) != s.part(name):
                state = {key: value for key, value in state.items() if not key.startswith(f"{name}.")}
        self._stepper.load({key: value for key, value in state.items() if not key.startswith("average.")})
        average = {key.removeprefix("average."): v for key, v in state.items() if key.startswith("average.")}
        if self._average and average:
            self._average.load(average)

    def next_boundary(self, save_at: Collection[int]) -> int:
        """The next step at which the state is looked at: the end of the epoch or a step to be saved."""
        epoch_end = (self.step // self._per_epoch + 1) * self._per_epoch
        return min([epoch_end, *(s for s in save_at if s > self.step)])

    def advance(self, until: int, stop: Callable[[], bool]) -> None:
        """Make steps up to `until`, all within one epoch, without waiting for the device."""
        first = self.step
        while self.step < until and not stop():
            self._told.append(self._stepper.step(self.step, learning_rate(self._settings, self._n, self.step)))
            self.step += 1
            if self._average:
                self._average.take(self._flat.theta, self.step)
        self._write(first)
        if self.step == first or self.step % self._per_epoch:
            return
        relative = radius(self._settings, self._n, self.step - 1) / torch.linalg.vector_norm(self._flat.theta)
        if self.step == self.steps:
            self._finish()
        ended = self.step // self._per_epoch - 1
        for key, value in zip(PER_EPOCH, (relative, self._passes.forward, self._passes.backward), strict=True):
            self._history[key][ended] = value
        if self.step in self._evaluated:
            score = evaluate(self._flat.model, self._problem.test, self._problem.task, BATCH)
            place = self._evaluated.index(self.step)
            self._history["test_loss"][place] = score.loss
            self._history["test_error"][place] = score.error

    def _finish(self) -> None:
        """Put the average in the place of the weights and recompute BatchNorm statistics there, on training data."""
        mean = self._average.result() if self._average else None
        if mean is None:
            return
        self._flat.theta.copy_(mean)
        if layers(self._flat.model):
            recalibrate(self._flat.model, self._batches.train, BATCH)
            self._passes.count(len(self._batches.train))

    def _write(self, first: int) -> None:
        """Move what the last steps told into the history, in one piece for each quantity."""
        missing = torch.full((), math.nan, device=self._device)
        for key in {key for told in self._told for key in told}:
            values = [told.get(key, missing) for told in self._told]
            self._history[key][first : first + len(values)] = torch.stack(values)
        self._told = []

    def finite(self) -> bool:
        """Whether losses so far and weights are finite; the one place in an epoch that waits for the device."""
        losses = torch.isfinite(self._history["loss"][: self.step]).all()
        return bool(losses & torch.isfinite(self._flat.theta).all())

    def words(self) -> str:
        """Method in use, loss and error of the epoch so far, and learning rate, for progress."""
        first = (self.step - 1) // self._per_epoch * self._per_epoch
        loss, error = (float(self._history[k][first : self.step].mean()) for k in ("loss", "error"))
        kind = "SAM" if self._schedule(self.step - 1) else self._settings.part("optimizer")
        lr = learning_rate(self._settings, self._n, self.step - 1)
        wrong = f"  error {error:.2%}" if self._problem.classifies else ""
        return f"{self._settings.method} ({kind} step)  loss {loss:.4f}{wrong}  lr {lr:.3g}"

    def checkpoint(self) -> Checkpoint:
        """The state as it is now, copied to the CPU."""
        average = self._average.state() if self._average else {}
        parts = {f"average.{key}": value.detach().cpu().clone() for key, value in average.items()}
        buffers = {key: value.detach().cpu().clone() for key, value in self._flat.buffers().items()}
        history = {key: value.cpu().clone() for key, value in self._history.items()}
        history["evaluated"] = torch.tensor(self._evaluated, dtype=torch.int64)
        parent, parent_step, exact = self._parent
        return Checkpoint(
            theta=self._flat.theta.detach().cpu().clone(),
            buffers=buffers,
            layout=self._flat.layout,
            problem=self._problem.spec,
            data=self._fingerprint,
            settings=as_dict(self._settings),
            step=self.step,
            steps=self.steps,
            forward=self._passes.forward,
            backward=self._passes.backward,
            optimizer=self._stepper.state() | parts,
            history=history,
            parent=parent,
            parent_step=parent_step,
            exact=exact,
            aligned=self._aligned,
            versions=versions(),
        )


def of_problem(settings: Settings, problem: Problem) -> Settings:
    """Settings with what is the problem's where they leave it open: its label smoothing."""
    if settings.label_smoothing is not None:
        return settings
    return replace(settings, label_smoothing=smoothing_of(problem.task))


def versions() -> dict[str, str]:
    """Versions of what determines a result beside the settings."""
    return {"landscape": landscape.__version__, "torch": torch.__version__, "python": platform.python_version()}


def _check_order(model: nn.Module, data: Split) -> None:
    """Refuse a network that takes images in the other order in memory only."""
    images = data.batch(0, 2, next(model.parameters()).dtype)[0]
    with mode(model, training=False):
        same = takes_channels_last(model, images)
    if not same:
        raise UsageError(
            "the network does not compute the same on images whose channels lie side by side; `view` is one reason",
            "leave out --channels-last, or flatten by `reshape`",
        )
