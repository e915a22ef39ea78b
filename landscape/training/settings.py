"""Settings of a training run: everything that, with the problem, determines its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from landscape.options import make, option
from landscape.training.methods import METHODS
from landscape.types import Setting


@dataclass(frozen=True)
class Settings:
    """Training settings; defaults are the thesis's (section 5.1) where the problem does not say otherwise."""

    method: str = option("sgd", "training method", choices=tuple(METHODS))
    epochs: int = option(80, "passes over the training data", low=1)
    batch_size: int = option(50, "examples in a step; the last, smaller batch of an epoch is left out", low=1)
    lr: float = option(0.1, "learning rate at step 0; falls to 0 along half a cosine", low=0.0)
    momentum: float = option(0.9, "momentum of SGD", low=0.0, high=1.0)
    nesterov: bool = option(True, "Nesterov's form of momentum")
    weight_decay: float = option(5e-4, "weight decay, in the step and not in the perturbation", low=0.0)
    rho: float = option(0.15, "radius ρ of SAM's perturbation", low=0.0)
    norm: float = option(2.0, "p of the p-norm in which ρ is measured, in [1, inf]", low=1.0)
    switch: float = option(0.75, "part E/T of the steps after which a method switches", low=0.0, high=1.0)
    period: int = option(20, "n: PSAM uses SAM every n-th step before E", low=1)
    seed: int = option(0, "seed of initial weights, order and augmentation", low=0)
    evaluations: int = option(10, "how often the test data are evaluated on the way", low=1)

    def steps_per_epoch(self, n: int) -> int:
        """Steps in an epoch over n examples; a batch larger than the data is the data."""
        return max(1, n // self.batch_size)

    def steps(self, n: int) -> int:
        """T, the steps of the run over n examples."""
        return self.epochs * self.steps_per_epoch(n)

    def switch_step(self, n: int) -> int:
        """E, the step at which a method switches, over n examples."""
        return round(self.switch * self.steps(n))


def resolve(*layers: Mapping[str, Setting]) -> Settings:
    """Settings from layers of named values, later ones over earlier ones.

    Args:
        *layers: For instance the problem's defaults, a file's values, the command line's.

    Returns:
        The checked settings.

    Raises:
        UsageError: If a name is unknown or a value cannot be.
    """
    merged: dict[str, Setting] = {}
    for layer in layers:
        merged |= layer
    return make(Settings, merged)
