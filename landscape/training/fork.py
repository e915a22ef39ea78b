"""Forks: whether a run that starts from another run's checkpoint equals one that was never forked."""

from __future__ import annotations

from landscape.checkpoint import Checkpoint
from landscape.options import as_dict, differences
from landscape.training.methods import METHODS
from landscape.training.rates import learning_rate
from landscape.training.settings import Settings, complete, resolve

_ALWAYS = (
    "seed", "epochs", "batch_size", "lr", "momentum", "nesterov", "weight_decay", "m", "clip", "label_smoothing",
    "label_noise", "cutout", "precision", "compile", "channels_last",
)  # fmt: skip
"""Settings that steer every step."""

_LATE = (
    "method", "switch", "period", "evaluations", "lr_schedule", "average_every", "swa_lr", "validation", "patience",
    "tolerance", "ratio", "optimizer", "average",
)  # fmt: skip
"""Settings that steer no single step, or are compared in another way."""

_SAM = (
    "rho", "norm", "rho_schedule", "rho_min", "normalised", "scope", "decay_in_epsilon", "eta", "beta", "sparsity",
    "mask_every", "fisher_examples", "exchange", "gamma", "alpha", "variant",
)  # fmt: skip
"""Settings that steer SAM steps."""

_PARTS = ("adaptive", "mask", "select", "combine")


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
    known = bool(start.settings) and start.settings.get("method") in METHODS
    values = complete(start.settings)
    old, new = resolve(values) if known else settings, as_dict(settings)
    found = differences({k: values.get(k) if known else None for k in _ALWAYS}, {k: new[k] for k in _ALWAYS})
    if not start.exact:
        found.append("the checkpoint is itself no exact fork")
    if not known:
        return [*found, "how the checkpoint was made is unknown"]
    found += _parted(start, old, settings, n)
    return found


def _parted(start: Checkpoint, old: Settings, new: Settings, n: int) -> list[str]:
    """Where two methods, by their parts, differ in the steps made."""
    found, steps = [], range(start.step)
    words = f"{old.method} and {new.method} part before step {start.step}"
    before, after = old.schedule(n), new.schedule(n)
    if any(before(t) != after(t) for t in steps) or METHODS[old.method].gradient != METHODS[new.method].gradient:
        found.append(words)
    if old.part("optimizer") != new.part("optimizer"):
        found.append(f"optimizer ({old.part('optimizer')} → {new.part('optimizer')})")
    if (old.lr, old.epochs) == (new.lr, new.epochs) and any(
        learning_rate(old, n, t) != learning_rate(new, n, t) for t in steps
    ):
        found.append(f"the learning rates differ before step {start.step}")
    found += _averages_missing(start, old, new, n)
    if old.held_out(n) != new.held_out(n):
        found.append(f"validation ({old.held_out(n)} → {new.held_out(n)})")
    if METHODS[new.method].gradient != "sharpness":
        rest = [k for k in as_dict(new) if k not in {*_ALWAYS, *_LATE, *_SAM, *_PARTS}]
        found += differences({k: getattr(old, k) for k in rest}, {k: getattr(new, k) for k in rest})
    if any(after(t) for t in steps):
        keys = {*_SAM, *_PARTS}
        sides = ({k: s.part(k) if k in _PARTS else getattr(s, k) for k in keys} for s in (old, new))
        found += differences(*sides)
    return found


def _averages_missing(start: Checkpoint, old: Settings, new: Settings, n: int) -> list[str]:
    """Whether the run to come averages weights of steps that the run before did not keep."""
    kind = new.part("average")
    first = {"none": start.step + 1, "swa": new.switch_step(n), "swad": 1}[kind]
    keys = ("average_every",) if kind == "swa" else ("patience", "tolerance", "ratio")
    same = kind == old.part("average") and all(getattr(new, key) == getattr(old, key) for key in keys)
    same &= kind != "swa" or first == old.switch_step(n)
    return [] if start.step < first or same else [f"weights before step {start.step} are missing from the average"]
