"""A network at one moment: its own copy of weights and buffers, run by the code of a model that keeps its state."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.func import functional_call

from landscape.curvature.isolation import BatchNormMode, forward_pass, seeded
from landscape.curvature.objective import Objective
from landscape.split import channels_last, takes_channels_last

_TRIED = 4


class Snapshot:
    """The network of an objective with copies of its weights; what happens to the model later changes nothing here.

    Attributes:
        objective: What is differentiated; its chunk is smaller than the caller's if memory ran out.
        batchnorm: Whose statistics BatchNorm uses: "eval" or "train".
        weights: Copies of all parameters by name; those of theta require a gradient.
        buffers: Copies of all buffers by name.
        size: D.
        dtype: Floating point type of weights and products.
        device: Where they lie.
        seed: Seed of whatever randomness the forward pass has.
    """

    def __init__(self, objective: Objective, batchnorm: BatchNormMode, seed: int) -> None:
        """Copy the weights.

        Args:
            objective: What is differentiated.
            batchnorm: Whose statistics BatchNorm uses.
            seed: Seed of whatever randomness the forward pass has.
        """
        self.objective = objective
        self.batchnorm: BatchNormMode = batchnorm
        self.device, self.dtype = objective.device, objective.dtype
        self.size = objective.size
        self.seed = seed
        chosen = set(objective.names)
        with torch.inference_mode(False):
            self.weights = {
                name: parameter.detach().clone().requires_grad_(name in chosen)
                for name, parameter in objective.model.named_parameters()
            }
            self.buffers = {name: buffer.detach().clone() for name, buffer in objective.model.named_buffers()}
        self._parameters = [self.weights[name] for name in objective.names]
        here = self.device.type == "cpu" and self.dtype == torch.float32
        self._channels_last: bool | None = None if here else False  # None until the network has been tried

    def outputs(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Run the network on some examples, inside `forward_pass`.

        Args:
            start: First example.
            stop: One past the last example.

        Returns:
            Outputs of shape (B, ...) that depend on the operator's weights, and targets (B, ...).
        """
        inputs, targets = self.objective.data.batch(start, stop, self.dtype)
        if inputs.dim() == 4:
            if self._channels_last is None:
                with seeded(self.device, self.seed):
                    self._channels_last = takes_channels_last(self._run, inputs[:_TRIED])
            inputs = channels_last(inputs) if self._channels_last else inputs
        return self._run(inputs), targets

    def losses(self, start: int, stop: int) -> Tensor:
        """Losses of some examples, inside `forward_pass`.

        Args:
            start: First example.
            stop: One past the last example.

        Returns:
            Losses in nats, shape (B,).
        """
        return self.objective.per_example(*self.outputs(start, stop))

    def forward_pass(self, seed: int | None = None) -> AbstractContextManager[None]:
        """The context in which the network runs.

        Args:
            seed: Instead of the operator's own.

        Returns:
            A context manager that leaves no trace.
        """
        seed = self.seed if seed is None else seed
        return forward_pass(self.objective.model, self.device, self.batchnorm, seed)

    def _run(self, inputs: Tensor) -> Tensor:
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}  # BatchNorm would write into them
        outputs: Tensor = functional_call(self.objective.model, {**self.weights, **buffers}, (inputs,))
        return outputs
