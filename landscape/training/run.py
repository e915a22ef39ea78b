"""Training runs: from a problem and settings to a checkpoint, stopped and resumed at any step, forked at any step.

The state of a run is weights, buffers, optimizer state and the step t; order, augmentation, dropout and schedule are
pure functions of (settings, t). So a resumed run is bit-identical to an uninterrupted one, and two methods that
agree up to step E can share the checkpoint made there.
"""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Callable, Collection

import torch
from torch import Tensor

import landscape
from landscape.checkpoint import Checkpoint
from landscape.errors import DivergedError, InputError, UsageError
from landscape.evaluate import evaluate
from landscape.options import as_dict, differences
from landscape.problem import Problem
from landscape.training.methods import METHODS
from landscape.training.order import crop_and_flip, crops, derive, permutation
from landscape.training.settings import Settings
from landscape.training.step import Stepper
from landscape.types import Progress, quiet
from landscape.vector import FlatModel, layout_of

EVALUATION_BATCH = 500


def train(
    problem: Problem,
    settings: Settings,
    *,
    start: Checkpoint | None = None,
    stop_at: int | None = None,
    save_at: Collection[int] = (),
    keep: Callable[[Checkpoint], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = quiet,
    device: torch.device | str = "cpu",
) -> Checkpoint:
    """Train, from the beginning or from a checkpoint.

    Args:
        problem: What to train.
        settings: How.
        start: A checkpoint to go on from: of this run (resume) or of another (fork), see `relation`.
        stop_at: Step to stop at before the end.
        save_at: Steps at which `keep` is given the state.
        keep: Told the state at each step of `save_at`, and the last good state before a divergence is raised.
        stop: Asked before every step; True ends the run there.
        progress: Told (steps done, T, loss and error) at the end of each epoch.
        device: Where to train.

    Returns:
        The state at the end, or where it was stopped (`step < steps`).

    Raises:
        DivergedError: If a loss or a weight is not finite.
        InputError: If `start` is of another network or other data.
        UsageError: If `start` is past the step where the two runs part.
    """
    device = torch.device(device)
    cuda = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        run = _Run(problem, settings, start, device)
        end = run.steps if stop_at is None else min(stop_at, run.steps)
        good = run.checkpoint()
        while run.step < end and not stop():
            run.advance(min(run.next_boundary(save_at), end), stop)
            if not run.finite():
                if keep:
                    keep(dataclasses.replace(good, diverged=True))
                raise DivergedError(
                    f"the loss was not finite between steps {good.step} and {run.step}",
                    f"lower lr ({settings.lr}) or rho ({settings.rho}); the last good state is step {good.step}",
                )
            good = run.checkpoint()
            if keep and run.step in save_at:
                keep(good)
            progress(run.step, run.steps, run.words())
        return good


def relation(start: Checkpoint, settings: Settings, n: int) -> list[str]:
    """What keeps a run forked from a checkpoint from being equal to an unforked one.

    The two are equal if every setting that steers the first steps is the same and both methods agree on them.

    Args:
        start: The checkpoint to go on from.
        settings: Settings of the run to come.
        n: Number of training examples.

    Returns:
        Differences in words; empty if the fork is exact.
    """
    old, new = dict(start.settings), as_dict(settings)
    steering = ("seed", "epochs", "batch_size", "lr", "momentum", "nesterov", "weight_decay")
    found = differences({k: old.get(k) for k in steering}, {k: new[k] for k in steering})
    if not start.exact:
        found.append("the checkpoint is itself no exact fork")
    if not old or old.get("method") not in METHODS:
        return [*found, "how the checkpoint was made is unknown"]
    before = METHODS[str(old["method"])].schedule(start_switch(start), int(old["period"] or 1))
    after = METHODS[settings.method].schedule(settings.switch_step(n), settings.period)
    if any(before(t) != after(t) for t in range(start.step)):
        found.append(f"{old['method']} and {settings.method} part before step {start.step}")
    if any(after(t) for t in range(start.step)):
        found += differences({k: old.get(k) for k in ("rho", "norm")}, {k: new[k] for k in ("rho", "norm")})
    return found


def start_switch(start: Checkpoint) -> int:
    """E of the run that made a checkpoint."""
    return round(float(start.settings.get("switch") or 0.0) * start.steps)


class _Run:
    """The state of a run and how it advances."""

    def __init__(self, problem: Problem, settings: Settings, start: Checkpoint | None, device: torch.device) -> None:
        self.fingerprint = problem.fingerprint()
        self.problem = problem.to(device)
        self.settings = settings
        self.device = device
        self.n = len(problem.train)
        self.steps = settings.steps(self.n)
        self.per_epoch = settings.steps_per_epoch(self.n)
        self.schedule = METHODS[settings.method].schedule(settings.switch_step(self.n), settings.period)
        self.flat = FlatModel(problem.build(settings.seed, device))
        parameter = torch.nn.Parameter(self.flat.theta)
        parameter.grad = self.flat.gradient
        self.optimizer = torch.optim.SGD(
            [parameter],
            lr=settings.lr,
            momentum=settings.momentum,
            nesterov=settings.nesterov and settings.momentum > 0,
            weight_decay=settings.weight_decay,
        )
        self.stepper = Stepper(self.flat, problem.task, self.optimizer, settings.rho, settings.norm)
        self.step = 0
        self.parent = ("", 0, True)
        blank = torch.full((self.steps,), math.nan, device=device)
        self.history = {key: blank.clone() for key in ("loss", "error")}
        evaluated = sorted({
            round((i + 1) * settings.epochs / settings.evaluations) for i in range(settings.evaluations)
        })
        self.evaluated = [epoch * self.per_epoch for epoch in evaluated if epoch > 0]  # steps
        for key in ("test_loss", "test_error"):
            self.history[key] = torch.full((len(self.evaluated),), math.nan, dtype=torch.float64, device=device)
        if start is not None:
            self._go_on_from(start)

    def _go_on_from(self, start: Checkpoint) -> None:
        if start.layout != layout_of(self.flat.model) or start.data not in {"", self.fingerprint}:
            what = "network" if start.layout != layout_of(self.flat.model) else "data"
            raise InputError(
                f"{start.name}.pt is of another {what} than {self.problem.spec}", "train both from one problem"
            )
        if start.step >= self.steps:
            raise UsageError(
                f"{start.name}.pt is at step {start.step}, the run to come has only {self.steps}",
                "fork from an earlier step: train with --save-at STEP to keep one",
            )
        self.flat.load(start.theta, start.buffers)
        if start.optimizer:
            state = {key: value.to(self.device).clone() for key, value in start.optimizer.items()}
            packed = self.optimizer.state_dict()
            self.optimizer.load_state_dict({**packed, "state": {0: state}})
        self.step = start.step
        self.stepper.forward, self.stepper.backward = start.forward, start.backward
        for key, values in self.history.items():
            old = start.history.get(key)
            if old is not None:
                common = min(len(old), len(values))
                values[:common] = old[:common]
        resumed = dict(start.settings) == as_dict(self.settings)
        exact = not relation(start, self.settings, self.n)
        self.parent = (start.parent, start.parent_step, start.exact) if resumed else (start.sha256, start.step, exact)

    def next_boundary(self, save_at: Collection[int]) -> int:
        """The next step at which the state is looked at: the end of the epoch or a step to be saved."""
        epoch_end = (self.step // self.per_epoch + 1) * self.per_epoch
        return min([epoch_end, *(s for s in save_at if s > self.step)])

    def advance(self, until: int, stop: Callable[[], bool]) -> None:
        """Make steps up to `until`, all within one epoch, without waiting for the device."""
        epoch, first = divmod(self.step, self.per_epoch)
        order = permutation(self.n, self.settings.seed, epoch).to(self.device)
        draws = (
            crops(self.n, self.problem.crop, self.settings.seed, epoch).to(self.device) if self.problem.crop else None
        )
        size = min(self.settings.batch_size, self.n)
        for k in range(first, first + until - self.step):
            if stop():
                break
            inputs, targets = self._batch(order[k * size : (k + 1) * size], draws)
            self._set_lr()
            make = self.stepper.sam_step if self.schedule(self.step) else self.stepper.base_step
            loss, error = make(inputs, targets, derive(self.settings.seed, "noise", self.step))
            self.history["loss"][self.step] = loss
            self.history["error"][self.step] = error
            self.step += 1
        if self.step in self.evaluated:
            score = evaluate(self.flat.model, self.problem.test, self.problem.task, EVALUATION_BATCH)
            place = self.evaluated.index(self.step)
            self.history["test_loss"][place] = score.loss
            self.history["test_error"][place] = score.error

    def _batch(self, index: Tensor, draws: Tensor | None) -> tuple[Tensor, Tensor]:
        train = self.problem.train
        raw = train.inputs[index]
        if draws is not None:
            raw = crop_and_flip(raw, draws[index], self.problem.crop)
        return train.prepare(raw), train.targets[index]

    def _set_lr(self) -> None:
        """Cosine per step without warm-up: η_t = η/2 (1 + cos πt/T)."""
        self.optimizer.param_groups[0]["lr"] = self.settings.lr / 2 * (1 + math.cos(math.pi * self.step / self.steps))

    def finite(self) -> bool:
        """Whether losses so far and weights are finite; the one place in an epoch that waits for the device."""
        losses = torch.isfinite(self.history["loss"][: self.step]).all()
        return bool(losses & torch.isfinite(self.flat.theta).all())

    def words(self) -> str:
        """Loss and error of the epoch so far, for progress."""
        first = (self.step - 1) // self.per_epoch * self.per_epoch
        loss, error = (float(self.history[k][first : self.step].mean()) for k in ("loss", "error"))
        kind = "SAM" if self.schedule(self.step - 1) else "SGD"
        return f"{self.settings.method} ({kind} step)  loss {loss:.4f}  error {error:.2%}"

    def checkpoint(self) -> Checkpoint:
        """The state as it is now, copied to the CPU."""
        state = self.optimizer.state_dict()["state"].get(0, {})
        copied = {key: value.detach().cpu().clone() for key, value in state.items() if isinstance(value, Tensor)}
        buffers = {key: value.detach().cpu().clone() for key, value in self.flat.buffers().items()}
        history = {key: value.cpu().clone() for key, value in self.history.items()}
        history["evaluated"] = torch.tensor(self.evaluated, dtype=torch.int64)
        parent, parent_step, exact = self.parent
        return Checkpoint(
            theta=self.flat.theta.detach().cpu().clone(),
            buffers=buffers,
            layout=self.flat.layout,
            problem=self.problem.spec,
            data=self.fingerprint,
            settings=as_dict(self.settings),
            step=self.step,
            steps=self.steps,
            forward=self.stepper.forward,
            backward=self.stepper.backward,
            optimizer=copied,
            history=history,
            parent=parent,
            parent_step=parent_step,
            exact=exact,
            versions=versions(),
        )


def versions() -> dict[str, str]:
    """Versions of what determines a result beside the settings."""
    return {"landscape": landscape.__version__, "torch": torch.__version__, "python": platform.python_version()}
