"""Averages of the weights over steps; at the end the average takes their place and BatchNorm is recomputed there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from landscape.training.settings import Settings


class Average(Protocol):
    """An average of weights."""

    def take(self, theta: Tensor, done: int) -> None:
        """See the weights after `done` steps."""

    def result(self) -> Tensor | None:
        """The average, shape (D,); None if there is none and the weights stay."""

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""


class SWA:
    """w̄ ← (k·w̄ + w)/(k + 1) at step E and every c epochs after it.

    Source: Izmailov et al. 2018, arXiv 1803.05407, Algorithm 1.
    """

    def __init__(self, blank: Tensor, start: int, every: int) -> None:
        """Begin without weights.

        Args:
            blank: Has theta's shape and device.
            start: E, the first step after which weights are taken.
            every: Steps between weights that are taken.
        """
        self._mean, self._count = torch.zeros_like(blank), 0
        self._start, self._every = start, every

    def take(self, theta: Tensor, done: int) -> None:
        """See the weights after `done` steps."""
        if done >= self._start and (done - self._start) % self._every == 0:
            self._count += 1
            self._mean.add_(theta - self._mean, alpha=1 / self._count)

    def result(self) -> Tensor | None:
        """The average."""
        return self._mean if self._count else None

    def state(self) -> dict[str, Tensor]:
        """Average and count."""
        return {"mean": self._mean, "count": torch.tensor(self._count)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        self._mean.copy_(state["mean"])
        self._count = int(state["count"])


class SWAD:
    """The mean of the weights of every step from t_s to t_e, both found on the loss of held-out examples.

    At the end of each epoch that loss is evaluated. Averaging begins with the first of N_s epochs after which it did
    not improve; with l = r times their mean loss, it ends before the N_e epochs whose losses all exceed l. Weights
    of an epoch are averaged first, so that the N_e last means are all that is kept. If the loss improves to the end
    there is no average and the last weights stay, as in the authors' code.

    Source: Cha et al. 2021, arXiv 2102.08604, Algorithm 1.
    """

    def __init__(self, blank: Tensor, settings: Settings, per_epoch: int, loss: Callable[[], Tensor]) -> None:
        """Begin without weights.

        Args:
            blank: Has theta's shape and device.
            settings: N_s, N_e and r.
            per_epoch: Steps in an epoch.
            loss: Evaluates the loss on the examples held out, at the weights of the moment.
        """
        self._loss, self._per_epoch = loss, per_epoch
        self._patience, self._ratio = settings.patience, settings.ratio
        self._window = max(settings.tolerance, settings.patience)
        self._tolerance = settings.tolerance
        self._epoch, self._total = torch.zeros_like(blank), torch.zeros_like(blank)
        self._means: list[Tensor] = []
        self._losses: list[float] = []
        self._taken, self._limit, self._over = 0, float("nan"), False

    def take(self, theta: Tensor, done: int) -> None:
        """See the weights after `done` steps; at the end of an epoch this waits for the device."""
        if self._over:
            return
        place = (done - 1) % self._per_epoch
        self._epoch.mul_(place / (place + 1)).add_(theta, alpha=1 / (place + 1))
        if place + 1 == self._per_epoch:
            self._means.append(self._epoch.clone())
            self._losses.append(float(self._loss()))
            self._decide()

    def _decide(self) -> None:
        losses = self._losses
        if self._limit != self._limit:  # not begun: NaN
            if len(losses) >= self._patience and losses[-self._patience] == min(losses[-self._patience :]):
                self._limit = self._ratio * sum(losses[-self._patience :]) / self._patience
            else:
                del self._means[: -self._patience + 1 or None], losses[: -self._patience + 1 or None]
        elif len(losses) >= self._tolerance and min(losses[-self._tolerance :]) > self._limit:
            self._over = True
            self._drop(len(losses) - self._tolerance)
            self._means.clear()
            losses.clear()
        self._drop(len(losses) - self._window)

    def _drop(self, count: int) -> None:
        """Move the oldest epochs from the window into the average."""
        for _ in range(max(0, count)):
            self._total += self._means.pop(0)
            self._losses.pop(0)
            self._taken += 1

    def result(self) -> Tensor | None:
        """The average, what is still in the window included."""
        if self._limit != self._limit:
            return None
        return torch.stack([self._total, *self._means]).sum(0) / (self._taken + len(self._means))

    def state(self) -> dict[str, Tensor]:
        """Sums, window and decisions."""
        window = torch.stack(self._means) if self._means else torch.empty(0, len(self._total))
        numbers = torch.tensor([self._taken, self._limit, self._over, *self._losses], dtype=torch.float64)
        return {"epoch": self._epoch, "total": self._total, "window": window, "numbers": numbers}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        self._epoch.copy_(state["epoch"])
        self._total.copy_(state["total"])
        self._means = [row.to(self._total.device).clone() for row in state["window"]]
        taken, self._limit, over, *self._losses = state["numbers"].tolist()
        self._taken, self._over = int(taken), bool(over)
