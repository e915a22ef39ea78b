"""Which steps do trainings have in common? Those are made once.

Order, augmentation and noise are functions of (seed, step) and the schedule is a function of the step, so two runs
whose settings agree on the first t steps pass through the same state at t, bit for bit: SGD, SGD→SAM with any ρ and
SGD→SAM that switches later all share SGD's first E steps. `landscape.training.fork.relation` is the judge.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from landscape.options import as_dict

if TYPE_CHECKING:
    from landscape.checkpoint import Checkpoint
    from landscape.training.settings import Settings


@dataclass(frozen=True)
class Stem:
    """Where a run begins.

    Attributes:
        run: Number of the run whose state it starts from.
        step: That state's step, at least 1.
    """

    run: int
    step: int


def stems(runs: Sequence[Settings], forced: Sequence[Stem | None], train: int) -> list[Stem | None]:
    """Find for each run the longest part that another one makes for it.

    Runs are looked at in an order of their own (fewest SAM steps first), so that the answer does not depend on how the
    study was written.

    Args:
        runs: Settings of runs of one seed on one problem.
        forced: Where a run has to start; None to find out.
        train: Training examples N.

    Returns:
        Each run's stem; None where it starts from initial weights.
    """
    found: list[Stem | None] = list(forced)
    free = sorted((i for i, stem in enumerate(forced) if stem is None), key=lambda i: _rank(runs[i], train))
    for place, i in enumerate(free):
        for j in free[:place]:
            step = common(runs[j], runs[i], train)
            best = found[i]
            if step and (best is None or step > best.step):
                found[i] = Stem(j, step)
    return [owner(found, stem) for stem in found]


def owner(found: Sequence[Stem | None], stem: Stem | None) -> Stem | None:
    """The run that makes a state: the stem of a stem where the state lies before they part."""
    while stem is not None:
        above = found[stem.run]
        if above is None or above.step < stem.step:
            return stem
        stem = Stem(above.run, stem.step)
    return None


def _rank(settings: Settings, train: int) -> tuple[int, str]:
    schedule = settings.schedule(train)
    return sum(schedule(t) for t in range(settings.steps(train))), json.dumps(as_dict(settings), sort_keys=True)


def common(one: Settings, other: Settings, train: int) -> int:
    """How many steps two runs share: up to the end or a switch of either, 0 for none.

    Args:
        one: Settings of the run that is there.
        other: Settings of the run to come.
        train: Training examples N.

    Returns:
        The largest of those steps at which the state of `one` is that of `other`.
    """
    from landscape.training.fork import relation

    if (one.seed, one.epochs, one.batch_size) != (other.seed, other.epochs, other.batch_size):
        return 0
    end = one.steps(train)
    first, second = one.schedule(train), other.schedule(train)
    apart = next((t for t in range(end) if first(t) != second(t)), end)
    tried = {end, one.switch_step(train), other.switch_step(train)}
    for step in sorted((t for t in tried if 0 < t <= apart), reverse=True):
        if not relation(_state(one, step, train), other, train):
            return step
    return 0


def _state(settings: Settings, step: int, train: int) -> Checkpoint:
    """What `relation` asks of a checkpoint, without weights."""
    import torch

    from landscape.checkpoint import Checkpoint
    from landscape.vector import Layout

    return Checkpoint(
        torch.empty(0), {}, Layout((), ()), settings=as_dict(settings), step=step, steps=settings.steps(train)
    )
