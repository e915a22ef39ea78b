"""Forward and backward passes over a batch, counted, with the random state that a step names.

The count is in whole batches: a pass over a quarter of the examples counts a quarter. A backward pass that leaves out
the weight gradients of some tensors counts one half plus half the part kept, since gradients of weights and of
activations cost the same multiplications in every linear layer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from landscape.batchnorm import frozen_statistics
from landscape.task import Task
from landscape.training.scaler import Scaler
from landscape.vector import FlatModel

LOW = {"bf16": torch.bfloat16, "fp16": torch.float16}

UNIT = 1000
"""Passes are counted in whole thousandths of an example, so that no rounding ever enters."""


class Pass(NamedTuple):
    """What a pass over a batch found.

    Attributes:
        loss: Mean loss, 0-dimensional.
        error: Mean error, 0-dimensional.
        losses: Loss of each example, shape (B,).
    """

    loss: Tensor
    error: Tensor
    losses: Tensor


class Passes:
    """Makes passes and counts them.

    Attributes:
        flat: The network.
        task: Loss and error.
        parameters: The network's trainable tensors, in the order of theta.
        scaler: Scales losses in fp16, else None.
    """

    def __init__(
        self, flat: FlatModel, task: Task, batch_size: int, precision: str = "fp32", compiled: bool = False
    ) -> None:
        """Keep what a pass needs.

        Args:
            flat: The network, flattened.
            task: Loss and error.
            batch_size: B, the examples of a pass that counts 1.
            precision: "fp32", or "bf16" or "fp16" for autocast.
            compiled: Whether the network goes through torch.compile; on a GPU its passes are then CUDA graphs, one for
                each kind of pass, which stays valid since parameters never move.
        """
        self.flat = flat
        self.task = task
        self.parameters = [p for p in flat.model.parameters() if p.requires_grad]
        self._batch = batch_size
        self._low = LOW.get(precision)
        self._cuda = flat.theta.device.type == "cuda"
        self._graphs = compiled and self._cuda
        mode = "reduce-overhead" if self._graphs else "default"
        self._network = torch.compile(flat.model, dynamic=False, mode=mode) if compiled else flat.model
        self.scaler = Scaler(flat.theta.device) if precision == "fp16" else None
        self._weights = torch.empty(0)
        self._forward = self._backward = 0

    @property
    def forward(self) -> float:
        """Forward passes over a batch; an int if whole."""
        return _whole(self._forward, UNIT * self._batch)

    @property
    def backward(self) -> float:
        """Backward passes over a batch; an int if whole."""
        return _whole(self._backward, UNIT * self._batch)

    def go_on_from(self, forward: float, backward: float) -> None:
        """Count from here."""
        self._forward, self._backward = (round(UNIT * self._batch * count) for count in (forward, backward))

    def count(self, forward: int, backward: float = 0.0) -> None:
        """Count passes over some examples that were made elsewhere."""
        self._forward += UNIT * forward
        self._backward += round(UNIT * backward)

    def losses(self, inputs: Tensor, targets: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """One forward pass.

        Args:
            inputs: Network input, shape (B, ...).
            targets: Targets, shape (B, ...).
            seed: Random state of the pass (dropout); equal seeds draw equally.

        Returns:
            Loss of each example, shape (B,), and the network's output.
        """
        torch.default_generator.manual_seed(seed)
        if self._cuda:
            torch.cuda.manual_seed(seed)
        if self._graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        with torch.autocast(self.flat.theta.device.type, self._low, enabled=self._low is not None):
            output = self._network(inputs)
        output = output.to(self.flat.theta.dtype)
        self._forward += UNIT * targets.shape[0]
        return self.task.losses(output, targets), output

    def gradient(self, inputs: Tensor, targets: Tensor, seed: int, weights: Tensor | None = None) -> Pass:
        """Put the gradient of the batch's mean loss, or of a weighted sum, into the flat gradient.

        Args:
            inputs: Network input, shape (B, ...).
            targets: Targets, shape (B, ...).
            seed: Random state of the pass.
            weights: Weights of the examples' losses, shape (B,), default 1/B.

        Returns:
            Losses and mean error, detached, on the device.
        """
        self.flat.gradient.zero_()
        losses, output = self.losses(inputs, targets, seed)
        if losses.requires_grad:
            shares = self._even(losses) if weights is None else weights
            losses.backward(self.scaler.scaled(shares) if self.scaler else shares)  # type: ignore[no-untyped-call]
            if self.scaler:
                self.scaler.unscale(self.flat.gradient)
        self._backward += UNIT * targets.shape[0]
        with torch.no_grad():
            losses = losses.detach()
            return Pass(losses.mean(), self.task.errors(output, targets).mean(), losses)

    def _even(self, losses: Tensor) -> Tensor:
        """1/B for each example: what the mean hands back to the losses, without a node of its own."""
        if losses.shape != self._weights.shape:
            self._weights = torch.ones_like(losses, requires_grad=False) / losses.shape[0]
        return self._weights

    def partial_gradient(self, inputs: Tensor, targets: Tensor, seed: int, kept: list[bool], part: float) -> Pass:
        """The gradient with respect to some tensors alone; autograd computes no other, the rest is zero.

        Args:
            inputs: Network input, shape (B, ...).
            targets: Targets, shape (B, ...).
            seed: Random state of the pass.
            kept: For each tensor whether it is differentiated.
            part: Expected part of the weight gradients that is kept; what the pass is counted with.

        Returns:
            As of `gradient`.
        """
        with self._only(kept):
            found = self.gradient(inputs, targets, seed)
        self._backward -= round(UNIT * len(targets) * (1 - part) / 2)
        return found

    @contextlib.contextmanager
    def _only(self, kept: list[bool]) -> Iterator[None]:
        for parameter, keep in zip(self.parameters, kept, strict=True):
            parameter.requires_grad_(keep)
        try:
            yield
        finally:
            for parameter in self.parameters:
                parameter.requires_grad_(True)

    def elsewhere(self) -> contextlib.AbstractContextManager[None]:
        """Passes away from the weights: batch statistics are used, running ones stay as they are."""
        return frozen_statistics(self.flat.model)

    @property
    def model(self) -> nn.Module:
        """The network."""
        return self.flat.model


def _whole(count: int, unit: int) -> float:
    return count // unit if count % unit == 0 else count / unit
