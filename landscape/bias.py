"""What was measured on the line from a solution to SAM's, and what theorems 3.3.2 and 3.3.3 say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from landscape.result import Array, quantity


@dataclass(frozen=True)
class Shift:
    """The line from a checkpoint to SAM's, its losses, and what theorems 3.3.2 and 3.3.3 say of it.

    Attributes:
        names: Labels of both checkpoints.
        methods: Their training methods.
        batchnorm: The rule for BatchNorm statistics.
        classifies: Whether errors are parts of one, and losses in nats.
        assumptions: What the theorems suppose, with the number that was measured.
        status: See `landscape.valley.STATUS`.
        rho: ρ; NaN where the second checkpoint's last steps were not SAM's and none was given.
        centre: ℓ₀, minimum of the training loss along the line, from the first checkpoint.
        radius: r of the strongest asymmetry on the map whose r is above ρ.
        zeta: Its ζ.
        p: Its p*.
        c: Its c*.
        c_low: What c* exceeds given rounding.
        displacement: Where the second checkpoint sits, from the minimum.
        bias_low: Lower end of theorem 3.3.2's interval; NaN for c < 1 or r ≤ ρ.
        bias_high: Its upper end.
        line_minimum: Minimum of max |ε| ≤ ρ of L(ℓ + ε) on this very line.
        reach: R, where the gap is taken: (c − 1)/(c + 1) ρ, or where the theorem is silent the displacement.
        shift: δ that leaves the smallest gap between test and training loss.
        shift_low: Smallest δ that may do so, given the error between points.
        shift_high: Largest such δ.
        minima_shift: Minimum of the test loss minus that of the training loss on the line.
        gap: ξ, the (δ, R)-shift gap at that δ.
        gap_low: What the smallest gap is at least, given the error between points.
        gap_high: What ξ is at most.
        bound: Theorem 3.3.3's lower bound of the gain in population loss; NaN for c ≤ 1 or r ≤ ρ.
        bound_low: The same from the lower bound of c and the upper one of ξ.
        gain: Test loss at the line's minimum minus that at the second checkpoint.
        gain_error: Its standard error over test examples.
        holds: Whether each assumption holds (1), fails (0), was not measured (−1), does not apply (−2) or is
            not decided (−3), shape (A,).
        number: The number behind it, shape (A,).
        offset: ℓ − ℓ₀, shape (P,).
        train: Training loss there, shape (P,).
        test: Test loss there, shape (P,).
    """

    labelled: ClassVar[Mapping[str, str]] = {"assumption": "assumptions"}

    names: tuple[str, ...]
    methods: tuple[str, ...]
    batchnorm: str
    classifies: bool
    assumptions: tuple[str, ...]
    status: Array = quantity("1", "0 measured, else see the documentation")
    rho: Array = quantity("theta", "radius of SAM's ball")
    centre: Array = quantity("theta", "minimum along the line, from the first checkpoint")
    radius: Array = quantity("theta", "outer radius of the asymmetry")
    zeta: Array = quantity("theta", "inner radius of the asymmetry")
    p: Array = quantity("nats / theta", "largest slope of the flat side")
    c: Array = quantity("1", "largest c of the direction")
    c_low: Array = quantity("1", "its lower bound")
    displacement: Array = quantity("theta", "second checkpoint, from the minimum")
    bias_low: Array = quantity("theta", "lower end of the predicted bias")
    bias_high: Array = quantity("theta", "upper end of the predicted bias")
    line_minimum: Array = quantity("theta", "minimum of SAM's loss on this line")
    reach: Array = quantity("theta", "radius of the shift gap")
    shift: Array = quantity("theta", "shift with the smallest gap")
    shift_low: Array = quantity("theta", "smallest shift that may have it")
    shift_high: Array = quantity("theta", "largest shift that may have it")
    minima_shift: Array = quantity("theta", "test minimum minus training minimum")
    gap: Array = quantity("nats", "shift gap")
    gap_low: Array = quantity("nats", "what the smallest gap is at least")
    gap_high: Array = quantity("nats", "what the gap is at most")
    bound: Array = quantity("nats", "predicted gain in population loss, at least")
    bound_low: Array = quantity("nats", "the same with all errors against it")
    gain: Array = quantity("nats", "measured gain in test loss")
    gain_error: Array = quantity("nats", "standard error of the gain")
    holds: Array = quantity("1", "1 holds, 0 fails, -1 not measured, -2 does not apply, -3 not decided", "assumption")
    number: Array = quantity("1", "number behind it, its unit in the name", "assumption")
    offset: Array = quantity("theta", "distance from the minimum along the line", "point")
    train: Array = quantity("nats", "training loss", "point")
    test: Array = quantity("nats", "test loss", "point")
