"""Training runs: from a problem and settings to a checkpoint, stopped and resumed at any step, forked at any step.

The state of a run is weights, buffers, optimizer state and the step t; order, augmentation, dropout and schedule are
pure functions of (settings, t). So a resumed run is bit-identical to an uninterrupted one, and two methods that
agree up to step E can share the checkpoint made there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection

import torch

from landscape.checkpoint import Checkpoint
from landscape.errors import DivergedError
from landscape.problem import Problem
from landscape.training.settings import Settings
from landscape.training.state import Run
from landscape.types import Progress, quiet


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
        run = Run(problem, settings, start, device)
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
