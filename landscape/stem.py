"""The stem of two checkpoints: the steps that their runs have in common, and the weights where they part.

Weights of runs that share a stem can be subtracted from each other; those of independent runs number their units
differently. Runs are a pure function of settings and step, so that two with bitwise equal losses up to step t had
equal weights up to step t; what a fork takes over from its parent is part of its history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from landscape import checkpoint as checkpoints
from landscape.checkpoint import Checkpoint
from landscape.errors import InputError
from landscape.problem import Problem
from landscape.result import Array


def shared_steps(a: Checkpoint, b: Checkpoint) -> int | None:
    """The last step at which two runs are known to have had the same weights.

    Args:
        a: A checkpoint.
        b: Another.

    Returns:
        The step, 0 where they share no more than their first weights; None where no common stem is known.
    """
    if a.aligned or b.aligned or a.data != b.data or "loss" not in a.history or "loss" not in b.history:
        return None
    equal = _common(a.history["loss"][: a.step], b.history["loss"][: b.step])
    if equal == 0:
        same = a.settings.get("seed") == b.settings.get("seed") and not a.parent and not b.parent
        return 0 if same else None
    ends = {a.step, b.step} | {c.parent_step for c in (a, b) if c.parent}
    return equal if equal in ends else equal - 1  # the loss of a step is that before it


def _common(one: Tensor, other: Tensor) -> int:
    """Entries before the first that differ; NaN differs from everything."""
    n = min(len(one), len(other))
    differing = (one[:n] != other[:n]).nonzero()
    return int(differing[0]) if len(differing) else n


def passed(stem: Checkpoint, run: Checkpoint) -> bool | None:
    """Whether a run went through a checkpoint, by both histories.

    Args:
        stem: The checkpoint.
        run: Where the run came to.

    Returns:
        None where that is not known, as for weights of a user's own.
    """
    if "loss" not in stem.history or "loss" not in run.history:
        return None
    if stem.step == 0:
        return bool(stem.settings.get("seed") == run.settings.get("seed")) if not run.parent else None
    return stem.step <= run.step and _common(stem.history["loss"][: stem.step], run.history["loss"]) == stem.step


def renumbered(a: Checkpoint, b: Checkpoint) -> bool:
    """Whether one was aligned to the other, or both to a third."""
    return bool(a.aligned or b.aligned) and (a.aligned or a.sha256) == (b.aligned or b.sha256)


@dataclass(frozen=True)
class Stems:
    """Where weights of stems may be found.

    Attributes:
        given: The stem of all, if the user names one.
        first: The first weights of a run by its seed, a function that gives theta, shape (D,).
        known: Checkpoints that may be stems themselves.
    """

    given: Checkpoint | None
    first: Callable[[int], Tensor]
    known: Sequence[Checkpoint]

    def of(self, a: Checkpoint, b: Checkpoint) -> Tensor | None:
        """The weights where two runs part, shape (D,); None where they are not at hand.

        Args:
            a: A checkpoint.
            b: Another.

        Returns:
            Theta of the stem named unless a run is known not to have passed it, of a checkpoint that is known, or of
            the first weights.
        """
        if self.given is not None:
            return None if False in (passed(self.given, a), passed(self.given, b)) else self.given.theta
        step = shared_steps(a, b)
        if step is None:
            return None
        if step == 0 and not a.parent and not b.parent:
            return self.first(int(a.settings["seed"] or 0))
        return next((c.theta for c in self.known if _is_stem(c, a, b, step)), None)


def _is_stem(candidate: Checkpoint, a: Checkpoint, b: Checkpoint, step: int) -> bool:
    return candidate.step == step and step == shared_steps(candidate, a) == shared_steps(candidate, b)


def beside(found: Iterable[Checkpoint]) -> list[Checkpoint]:
    """Checkpoints that training kept on the way, `NAME@STEP.pt`, in the directories of others.

    Args:
        found: Checkpoints that were read from files.

    Returns:
        Those that can be read and are of the same network; others are no candidates.
    """
    found = list(found)
    steps = {step for a in found for b in found if (step := shared_steps(a, b)) is not None}
    places = {c.path.parent for c in found if c.path is not None}
    files = sorted(path for place in places for step in steps for path in place.glob(f"*@{step}.pt"))
    return [c for path in files if (c := _read(path)) is not None and c.layout == found[0].layout]


def _read(path: Path) -> Checkpoint | None:
    try:
        return checkpoints.load(path)
    except InputError:
        return None


def stems(problem: Problem, found: Sequence[Checkpoint], path: str | None) -> Stems:
    """Say where stems of some checkpoints may be found.

    Args:
        problem: What they were trained on; its network's first weights are the stem of runs that part at step 0.
        found: The checkpoints.
        path: The stem that a user names, if any.

    Returns:
        The one named, or all that are candidates.

    Raises:
        InputError: If the one named cannot be read or is of another network.
    """

    def first(seed: int) -> Tensor:
        return torch.cat([p.detach().reshape(-1) for p in problem.build(seed).parameters() if p.requires_grad])

    given = None if path is None else named(path, found[0])
    return Stems(given, first, () if given else (*found, *beside(found)))


def origins(found: Sequence[Checkpoint], sources: Stems) -> dict[str, Array]:
    """Where the runs of each pair part, and in which directions they went from there.

    Args:
        found: M checkpoints.
        sources: Where stems may be found.

    Returns:
        `stem`, the step, NaN where none is known; `travel`, the cosine seen from there, NaN where the stem's weights
        are not at hand; `aligned`, whether units were numbered alike; each of shape (M, M).
    """
    m = len(found)
    steps, travel, aligned = np.full((m, m), np.nan), np.full((m, m), np.nan), np.zeros((m, m), dtype=bool)
    for i, a in enumerate(found):
        for j, b in enumerate(found):
            step = a.step if i == j else shared_steps(a, b)
            steps[i, j] = np.nan if step is None else step
            stem = None if i == j else sources.of(a, b)
            travel[i, j] = np.nan if stem is None else cosine_from(stem, a.theta, b.theta)
            aligned[i, j] = i == j or renumbered(a, b)
    return {"stem": steps, "travel": travel, "aligned": aligned}


def named(path: str, like: Checkpoint) -> Checkpoint:
    """Read the stem that a user names.

    Args:
        path: Its file.
        like: A checkpoint of the same network.

    Returns:
        The checkpoint.

    Raises:
        InputError: If it cannot be read or is of another network.
    """
    stem = checkpoints.load(Path(path))
    if stem.layout != like.layout:
        raise InputError(f"{path} is of another network than {like.name}", "name the checkpoint where the runs part")
    return stem


def cosine_from(stem: Tensor, one: Tensor, other: Tensor) -> float:
    """Cosine of the angle between two displacements from a stem, in [-1, 1].

    Args:
        stem: Where both come from, shape (D,).
        one: Where one went, shape (D,).
        other: Where the other went, shape (D,).

    Returns:
        The cosine in float64; NaN if either has not moved.
    """
    x, y = one.double() - stem.double(), other.double() - stem.double()
    lengths = torch.linalg.vector_norm(x) * torch.linalg.vector_norm(y)
    return float((x @ y / lengths).clamp(-1, 1)) if lengths > 0 else float("nan")
