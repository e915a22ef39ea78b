"""One optimizer step over flat buffers: gradient, perturbation, gradient there, exact way back, update.

Parameters, gradients and the saved copy are three vectors; perturbing and restoring are a kernel each, the storage
never moves and the restored weights are the saved ones bit for bit. Nothing here waits for the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from landscape.batchnorm import frozen_statistics
from landscape.task import Task
from landscape.training.perturbation import sam_perturbation
from landscape.vector import FlatModel


class Stepper:
    """Makes steps and counts passes.

    Attributes:
        flat: The network.
        optimizer: Any torch optimizer over the one flat parameter.
        forward: Forward passes made over a batch.
        backward: Backward passes made over a batch.
    """

    def __init__(
        self, flat: FlatModel, task: Task, optimizer: torch.optim.Optimizer, rho: float, norm: float = 2.0
    ) -> None:
        """Keep what a step needs.

        Args:
            flat: The network, flattened.
            task: Loss and error.
            optimizer: Optimizer whose parameter is `flat.theta` with the gradient `flat.gradient`.
            rho: SAM's radius, in the units of theta.
            norm: p of the norm in which it is measured.
        """
        self.flat = flat
        self.task = task
        self.optimizer = optimizer
        self.rho = rho
        self.norm = norm
        self.forward = 0
        self.backward = 0
        self._saved = torch.empty_like(flat.theta)

    def gradient(self, inputs: Tensor, targets: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Put the gradient of the batch's mean loss into the flat gradient.

        Args:
            inputs: Network input, shape (B, ...).
            targets: Targets, shape (B, ...).
            seed: Random state of the pass (dropout); equal seeds draw equally.

        Returns:
            Mean loss and mean error of the batch, 0-dimensional, on the device.
        """
        self.flat.gradient.zero_()
        seed_generator(self.flat.theta.device, seed)
        output = self.flat.model(inputs)
        loss = self.task.losses(output, targets).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        self.forward += 1
        self.backward += 1
        with torch.no_grad():
            return loss.detach(), self.task.errors(output, targets).mean()

    def base_step(self, inputs: Tensor, targets: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """One step of the base optimizer; arguments and return as of `gradient`."""
        result = self.gradient(inputs, targets, seed)
        self.optimizer.step()
        return result

    def sam_step(self, inputs: Tensor, targets: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """One step with the gradient at the perturbed weights.

        The second pass uses the same batch and random state; it uses batch statistics but leaves the running ones.

        Args:
            inputs: Network input, shape (B, ...).
            targets: Targets, shape (B, ...).
            seed: Random state of both passes.

        Returns:
            Mean loss and mean error of the batch at the unperturbed weights.
        """
        result = self.gradient(inputs, targets, seed)
        self._saved.copy_(self.flat.theta)
        with torch.no_grad():
            self.flat.theta.add_(sam_perturbation(self.flat.gradient, self.rho, self.norm))
        with frozen_statistics(self.flat.model):
            self.gradient(inputs, targets, seed)
        self.flat.theta.copy_(self._saved)
        self.optimizer.step()
        return result


def seed_generator(device: torch.device, seed: int) -> None:
    """Seed the device's default generator alone: `torch.manual_seed` also queues a call for every CUDA device."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.get_device_module(device).manual_seed(seed)
