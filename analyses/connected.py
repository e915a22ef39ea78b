"""What a line says of two networks: whether one valley holds both, what decided it, and how sure the numbers are.

Two networks count as linearly connected if the training error rises by less than 2 points anywhere between them
(Frankle et al. 2020, arXiv 1912.05671, section 3); regressions if the training loss nowhere exceeds that of the worse
end. A rise of the error that may be the sample's, see `within_sampling`, decides nothing, and neither does a line whose
loss was not computed everywhere, unless what was measured is a barrier already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from landscape.interpolation import NEGATIVE_VARIANCE, OK, STATUS, Interpolation
from landscape.training.methods import labels
from landscape.wording import nats, number, percent, seeds, spread

CONNECTED = 0.02
"""Rise of the training error from which on two networks lie in two valleys, as a proportion."""
ROUNDING = 1e-6
"""Part of a loss that may be rounding."""
HIGH = 0.1
"""Barrier of the loss, in nats, that is worth a word where the error has none."""


def words(*results: Interpolation) -> tuple[str, str]:
    """The answer and its numbers, over the seeds of one pair.

    Args:
        *results: One line for each seed.

    Returns:
        The verdict with what decided it, and barriers in nats and percent.
    """
    lost = [name for r in results for name in _lost_ends(r)]
    if lost:
        return "Not measured: the loss of an end could not be computed", f"No finite loss: {', '.join(lost)}"
    apart = [r for r in results if is_barrier(r)]
    holed, unsure = (_first(test, results) for test in (has_hole, within_sampling))
    if apart:
        return _barrier(apart, len(results)), _heights(results)
    if holed:
        missing = _between(holed)
        told = f"the loss was not computed at {int(missing.sum())} of {len(missing)} points between them"
        return f"Not decided: {told}", _heights(results)
    if unsure:
        return "Not decided: the error between them rises by no more than its sampling error", _heights(results)
    return _none(results), _heights(results)


def _first(test: Callable[[Interpolation], bool], results: Sequence[Interpolation]) -> Interpolation | None:
    return next((r for r in results if test(r)), None)


def _barrier(apart: Sequence[Interpolation], runs: int) -> str:
    """The verdict where the lines `apart` have a barrier."""
    where = "in the error" if apart[0].classifies else "above the worse end"
    if len(apart) < runs:
        return f"A barrier {where} in {len(apart)} of {runs} seeds"
    if apart[0].classifies and all(float(r.barrier_loss[0]) <= uncertain(r) for r in apart):
        none = "none" if not any(float(r.barrier_loss[0]) for r in apart) else "no sure one"
        return f"A barrier in the error (2 points or more), {none} in the loss"
    return f"A barrier {where}{' (2 points or more)' if apart[0].classifies else ''}: two valleys"


def _none(results: Sequence[Interpolation]) -> str:
    """The verdict where no line has a barrier."""
    if not results[0].classifies:
        return "No barrier above the worse end: one valley"
    high = [float(r.barrier_loss[0]) for r in results if float(r.barrier_loss[0]) > max(HIGH, uncertain(r))]
    if not high:
        return "No barrier in the error (below 2 points): one valley"
    of = "" if len(high) == len(results) else f" in {len(high)} of {len(results)} seeds"
    return f"No barrier in the error, one of {number(float(np.mean(high)))} nats in the loss{of}"


def _heights(results: Sequence[Interpolation]) -> str:
    """Barriers in nats and percent, of the points measured."""
    train, test = (np.array([r.barrier_loss[i] for r in results]) for i in (0, 1))
    if not np.isfinite([train, test]).all():
        return "Fewer than three points were measured: no barrier is told"
    measured = " on the points measured" if any(map(has_hole, results)) else ""
    detail = f"Largest rise above the chord{measured} in training{seeds(len(results))}"
    if not results[0].classifies:
        return f"{detail}: {spread(train)}; in test: {spread(test)}"
    errors, test_errors = (percent(r.barrier_error[i] for r in results) for i in (0, 1))
    return f"{detail}: {spread(train, 'nats')}, {errors}; in test: {spread(test, 'nats')}, {test_errors}"


def _between(r: Interpolation) -> np.ndarray:
    """Whether a point strictly between both networks was not computed, of each such point."""
    missing: np.ndarray = (r.status != OK)[(r.alpha > 0) & (r.alpha < 1)]
    return missing


def has_hole(r: Interpolation) -> bool:
    """Whether the loss was not computed at some point between the two."""
    return bool(_between(r).any())


def _lost_ends(r: Interpolation) -> list[str]:
    """The ends without a finite loss."""
    names = labels(r.names, r.methods)
    return [
        name for name, end in zip(names, (0.0, 1.0), strict=True) if not np.isfinite(r.loss[0, r.alpha == end]).all()
    ]


def uncertain(r: Interpolation) -> float:
    """What the barrier of the training loss may be by sampling (95 %) and between the points, in nats."""
    return float(1.96 * r.barrier_loss_sampling[0] + np.nan_to_num(r.barrier_loss_between[0]))


def is_barrier(r: Interpolation) -> bool:
    """Whether what was measured is a barrier."""
    if r.classifies:
        return float(r.barrier_error[0]) >= CONNECTED and not within_sampling(r)
    higher = max(float(r.loss[0, r.alpha == end].item()) for end in (0, 1))
    above = float(np.nanmax(r.loss[0, (r.alpha >= 0) & (r.alpha <= 1)])) - higher
    return above > max(float(np.nan_to_num(r.barrier_loss_between[0])), ROUNDING * abs(higher))


def within_sampling(r: Interpolation) -> bool:
    """Whether the error rises by 2 points or more, yet by no more than its sampling error, and the loss does not."""
    rise, sampling = float(r.barrier_error[0]), float(r.barrier_error_sampling[0])
    flat = float(r.barrier_loss[0]) <= 1.96 * float(r.barrier_loss_sampling[0])
    return r.classifies and rise >= CONNECTED and flat and rise <= 1.96 * sampling


def listing(result: Interpolation) -> list[str]:
    """How sure the barrier and the curve are, the slopes at both ends, and what is missing."""
    lines = [*_uncertainty(result), *_slopes(result)]
    if np.isfinite(result.precision_gap) or result.precision_gap == float("inf"):
        kept = "used" if result.precision == "bf16" else "refused, fp32 used"
        lines.append(f"bf16 {kept}: it moves the training loss by {number(100 * result.precision_gap)} % of its range")
    return [*lines, *_missing(result)]


def _uncertainty(r: Interpolation) -> list[str]:
    """How sure the barrier is, and the curve between its points."""
    unit = nats(r, " {}")
    between, sampling, halves = r.barrier_loss_between[0], 1.96 * r.barrier_loss_sampling[1], r.barrier_loss_halves[1]
    lines = []
    if np.isfinite(r.barrier_loss[0]):
        told = f"{number(float(between))}{unit} between points" if np.isfinite(between) else "what was not computed"
        tested = (
            f"by {number(float(sampling))}{unit} of sampling (95 %); {number(float(halves))}{unit} with α chosen on "
        )
        tested += "the other half"
        if not np.isfinite([sampling, halves]).all():
            tested = "by sampling: not measured"  # a single example
        lines.append(f"barrier in training uncertain by {told}, in test {tested}")
    points, known = f"{len(r.alpha)} points", r.status == OK
    if not np.isfinite(r.between[0]):
        return [*lines, points]
    width = float(np.ptp(r.loss[0, known]))
    part = f" ({r.between[0] / width:.2%} of the range)".replace("%", " %") if width else ""
    where = "them" if known.all() else "neighbours that were computed"
    return [*lines, f"{points}, training loss between {where} within {number(float(r.between[0]))}{unit}{part}"]


def _slopes(r: Interpolation) -> list[str]:
    """The slopes of the training loss at both ends, where they were measured."""
    ends = [float(r.slope[r.alpha == end].item()) for end in (0.0, 1.0)]
    if r.mixed and np.isnan(r.slope).all():
        more = f" and {len(r.mixed) - 1} more" if len(r.mixed) > 1 else ""
        return [
            f"no slopes: {r.mixed[0]}{more} differ between the two and are mixed like weights, which no slope follows"
        ]
    if r.shared and np.isnan(r.slope).all():
        return [
            "no slopes: a BatchNorm layer is used more than once, and its statistics are recomputed for all its uses"
        ]
    if not np.isfinite(ends).all():
        return []
    told = ", ".join(f"{name} {number(v)}" for name, v in zip(labels(r.names, r.methods), ends, strict=True))
    return [f"slope dL/dα of the training loss{nats(r, ', in {}')}: {told}"]


def _missing(r: Interpolation) -> list[str]:
    """Which points were not computed, and why."""
    variances = [name for name in r.mixed if name.endswith("running_var")]
    cause = {NEGATIVE_VARIANCE: f": no rule recomputes {', '.join(variances)}"} if variances else {}
    return [
        f"α = {', '.join(f'{x:.3g}'.replace('-', '−') for x in r.alpha[r.status == s])} not computed, "
        f"as {STATUS[s]}{cause.get(s, '')}"
        for s in (1, 2)
        if (r.status == s).any()
    ]
