"""BatchNorm statistics away from a checkpoint, and modes that come back as they were.

Weights between two checkpoints have no running statistics of their own. `recalibrate` gives a network the
statistics of its training data at the weights it has now, from un-augmented data in a fixed order, so that the
result is deterministic. Its definition: mean and (biased) variance of each layer's input pooled over all
examples, every batch normalised by its own statistics on the way, dropout off. With one batch this makes eval mode
equal to the training-mode forward of the whole set.

Source: Izmailov et al. 2018, arXiv 1803.05407, section 3.2 (recomputing statistics); pooling keeps the variance
between batches that an average of batch variances drops.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.split import Split


def layers(model: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm layers that keep running statistics."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


@contextlib.contextmanager
def mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Put every module in one mode and bring each module's own back afterwards."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was in before:
            module.training = was


@contextlib.contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Let BatchNorm use the statistics of each batch while all else, dropout too, is in eval mode."""
    with mode(model, training=False):
        for layer in layers(model):
            layer.training = True
        yield


@contextlib.contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Use batch statistics but leave the running ones, and every other buffer, as they are.

    BatchNorm layers are told not to track; other buffers are copied back, whatever a forward pass did to them.
    """
    tracking = [(layer, layer.track_running_stats) for layer in layers(model)]
    theirs = {id(buffer) for layer, _ in tracking for buffer in layer.buffers(recurse=False)}
    others = [(buffer, buffer.clone()) for buffer in model.buffers() if id(buffer) not in theirs]
    for layer, _ in tracking:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer, was in tracking:
            layer.track_running_stats = was
        with torch.no_grad():
            for buffer, saved in others:
                buffer.copy_(saved)


@torch.no_grad()
def recalibrate(model: nn.Module, split: Split, batch_size: int) -> None:
    """Replace running means and variances by those of a data set at the weights the network has now.

    Args:
        model: The network; its BatchNorm buffers change, modes and random state do not.
        split: Training data, read front to back without augmentation.
        batch_size: Examples in a forward pass.
    """
    found = layers(model)
    if not found:
        return
    pools = [_Pool(layer) for layer in found]
    dtype = next(model.parameters()).dtype
    with batch_statistics(model), contextlib.ExitStack() as stack:
        for pool in pools:
            stack.enter_context(pool)
        for inputs, _ in split.batches(batch_size, dtype):
            model(inputs)
    for pool in pools:
        pool.write()


class _Pool:
    """Mean and mean square of one layer's input over all its uses, in float64, weighted by counts.

    The layer itself computes the statistics of a batch: with momentum 1 its running ones are the batch's. Torch
    stores the unbiased variance there, which the number of values per channel turns into the mean square.
    """

    def __init__(self, layer: _BatchNorm) -> None:
        assert layer.running_mean is not None
        self.layer = layer
        self.count = 0  # values per channel
        self.mean = torch.zeros_like(layer.running_mean, dtype=torch.float64)
        self.square = torch.zeros_like(self.mean)

    def __enter__(self) -> None:
        layer = self.layer
        self._momentum, self._tracking = layer.momentum, layer.track_running_stats
        self._batches = None if layer.num_batches_tracked is None else layer.num_batches_tracked.clone()
        layer.momentum, layer.track_running_stats = 1.0, True
        self._hook = layer.register_forward_hook(self._take)

    def _take(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        assert self.layer.running_mean is not None
        assert self.layer.running_var is not None
        n = inputs[0].numel() // inputs[0].shape[1]
        mean, unbiased = self.layer.running_mean.double(), self.layer.running_var.double()
        self.mean += n * mean
        self.square += n * (unbiased * ((n - 1) / n) + mean.square())
        self.count += n

    def __exit__(self, *exception: object) -> None:
        self._hook.remove()
        self.layer.momentum, self.layer.track_running_stats = self._momentum, self._tracking
        if self._batches is not None and self.layer.num_batches_tracked is not None:
            self.layer.num_batches_tracked.copy_(self._batches)

    def write(self) -> None:
        """Put the pooled statistics into the layer; a layer that was not used keeps its own."""
        if self.count == 0:
            return
        assert self.layer.running_mean is not None
        assert self.layer.running_var is not None
        mean = self.mean / self.count
        self.layer.running_mean.copy_(mean)
        self.layer.running_var.copy_((self.square / self.count - mean.square()).clamp_min(0))
