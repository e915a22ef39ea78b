"""When a step uses the perturbed gradient: pure functions of the step t, so that a resumed run needs only t.

Source of the composition: thesis, Algorithm 1 (PSAM) and section 5.3 (SGD→SAM, SAM→SGD).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Schedule(Protocol):
    """Whether step t, counted from 0, is a SAM step."""

    def __call__(self, t: int) -> bool:
        """True where step t uses the perturbed gradient."""
        ...


@dataclass(frozen=True)
class Always:
    """SAM at every step."""

    def __call__(self, t: int) -> bool:
        """True."""
        return True


@dataclass(frozen=True)
class Never:
    """SAM at no step: the base optimizer alone."""

    def __call__(self, t: int) -> bool:
        """False."""
        return False


@dataclass(frozen=True)
class Every:
    """SAM where (t + phase) mod n = 0.

    Attributes:
        period: n, at least 1.
        phase: 0 begins with a SAM step, 1 ends each period with one.
    """

    period: int
    phase: int = 0

    def __call__(self, t: int) -> bool:
        """True where the period divides t + phase."""
        return (t + self.phase) % self.period == 0


@dataclass(frozen=True)
class Until:
    """One schedule before step E, another from step E on.

    Attributes:
        switch: E; E = 0 is `after` throughout.
        before: Schedule of the steps t < E.
        after: Schedule of the steps t >= E.
    """

    switch: int
    before: Schedule
    after: Schedule

    def __call__(self, t: int) -> bool:
        """What the schedule in force says."""
        return self.before(t) if t < self.switch else self.after(t)


def count(schedule: Schedule, steps: int) -> int:
    """How many of the first `steps` steps are SAM steps."""
    return sum(schedule(t) for t in range(steps))
