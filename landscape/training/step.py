"""One optimizer step over flat buffers: a direction from passes, clipped if asked, and the base optimizer.

Parameters, gradients and the saved copy are three vectors; perturbing and restoring are a kernel each, the storage
never moves and the restored weights are the saved ones bit for bit. Nothing here waits for the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from landscape.errors import UsageError
from landscape.training.batches import Batches
from landscape.training.entropy import Entropy
from landscape.training.methods import CHOICES, METHODS
from landscape.training.noise import GaussianNoise, Smoothing
from landscape.training.optimizers import make_optimizer
from landscape.training.passes import Passes
from landscape.training.settings import Settings
from landscape.training.sharpness import Sharpness, Told


class Gradient(Protocol):
    """Where the direction of a step comes from."""

    def __call__(self, t: int) -> Told:
        """Put the direction of step t into the flat gradient, the weights as they were; tell what was seen."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs, by dotted names."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""


def make_gradient(settings: Settings, n: int, passes: Passes, batches: Batches) -> Gradient:
    """Choose where gradients come from.

    Args:
        settings: The method and its parts.
        n: Number of training examples, held-out ones included.
        passes: Makes passes.
        batches: Makes batches.

    Returns:
        What the method names.

    Raises:
        UsageError: If a part of SAM is asked of a method that has none.
    """
    kind = METHODS[settings.method].gradient
    if kind == "sharpness":
        return Sharpness(settings, n, passes, batches)
    foreign = [part for part in ("adaptive", "mask", "select", "combine") if settings.part(part) != CHOICES[part][0]]
    if foreign or settings.m:
        raise UsageError(
            f"{settings.method} has no {(*foreign, 'm')[0]}: it perturbs in its own way", "leave that setting out"
        )
    if kind == "entropy":
        return Entropy(settings, passes, batches)
    if kind == "noise":
        return GaussianNoise(settings, passes, batches)
    return Smoothing(settings, passes, batches)


class Stepper:
    """Makes steps.

    Attributes:
        optimizer: The base optimizer.
    """

    def __init__(self, settings: Settings, n: int, passes: Passes, batches: Batches) -> None:
        """Make what a step needs.

        Args:
            settings: The method and its parts.
            n: Number of training examples, held-out ones included.
            passes: Makes passes.
            batches: Makes batches.
        """
        self.optimizer = make_optimizer(passes.flat, settings)
        self._gradient = make_gradient(settings, n, passes, batches)
        self._flat = passes.flat
        self._clip = settings.clip
        self._scaler = passes.scaler

    def step(self, t: int, lr: float) -> Told:
        """Make step t with learning rate lr.

        Args:
            t: Step, counted from 0.
            lr: Learning rate.

        Returns:
            What was seen, 0-dimensional on the device: loss and error of the batch at the weights before the step, norm
            of the gradient there, and where weights were perturbed the length of the perturbation.
        """
        before = {key: value.clone() for key, value in self._live().items()} if self._scaler else {}
        told = self._gradient(t)
        if self._clip:
            length = torch.linalg.vector_norm(self._flat.gradient)
            self._flat.gradient.mul_((self._clip / length).clamp(max=1.0).nan_to_num(1.0))
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        if self._scaler:
            self._scaler.settle(self._live, before)
        return told

    def _live(self) -> dict[str, Tensor]:
        """What a step changes, by name: the tensors themselves."""
        return {"theta": self._flat.theta} | self._tensors()

    def _tensors(self) -> dict[str, Tensor]:
        own = self.optimizer.state_dict()["state"].get(0, {})
        return {key: value for key, value in own.items() if isinstance(value, Tensor)} | self._gradient.state()

    def state(self) -> dict[str, Tensor]:
        """State of the optimizer under torch's names, and of the parts under dotted ones, on the CPU."""
        scaler = self._scaler.state() if self._scaler else {}
        tensors = self._tensors() | {f"scaler.{key}": value for key, value in scaler.items()}
        return {key: value.detach().cpu().clone() for key, value in tensors.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state; what belongs to another optimizer is left out.

        Args:
            state: As `state` returned it.
        """
        own = {key: value.clone() for key, value in state.items() if "." not in key}
        if own:
            self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": {0: own}})
        self._gradient.load({key: value for key, value in state.items() if "." in key})
        scaler = {key.removeprefix("scaler."): v for key, v in state.items() if key.startswith("scaler.")}
        if self._scaler and scaler:
            self._scaler.load(scaler)
