"""BatchNorm layers, and modes that come back as they were; see `landscape.pooling` for recomputed statistics."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


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
