"""Theta: all trainable parameters of a network as one flat vector that the network's tensors view.

Parameters and gradients are two contiguous vectors of shape (D,). Moving to another point of parameter space
is one copy, and the storage never moves. The order is that of `named_parameters()`, tied weights counted once;
frozen parameters and buffers are no part of theta and travel beside it by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Layout:
    """Where each named tensor lies in theta.

    Attributes:
        names: Parameter names in order.
        shapes: Their shapes in the same order.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """D, the number of trainable parameters."""
        return sum(math.prod(shape) for shape in self.shapes)

    def slices(self) -> Iterator[tuple[str, tuple[int, ...], slice]]:
        """Name, shape and place of each tensor in theta."""
        start = 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            stop = start + math.prod(shape)
            yield name, shape, slice(start, stop)
            start = stop

    def views(self, theta: Tensor) -> dict[str, Tensor]:
        """The tensors of a flat vector by name, as views.

        Args:
            theta: Flat vector, shape (D,).

        Returns:
            One view for each name, in order.
        """
        return {name: theta[place].view(shape) for name, shape, place in self.slices()}

    def filters(self, vector: Tensor, singly: bool = False) -> list[Tensor]:
        """The filters of a flat vector, as views: for each tensor a matrix with a row for each of its filters.

        A filter is all that makes one output of a layer: a slice along a tensor's first axis. A tensor of one axis
        (biases, scales and shifts of normalisation) has no such slices.

        Args:
            vector: Flat vector, shape (D,).
            singly: Whether each entry of a tensor of one axis counts as a filter, or the tensor as a whole.

        Returns:
            One view for each name, in order, shape (filters, entries of each).
        """
        alone = (-1, 1) if singly else (1, -1)
        return [view.flatten(1) if view.dim() > 1 else view.view(alone) for view in self.views(vector).values()]


def layout_of(model: nn.Module) -> Layout:
    """The layout of a network's trainable parameters."""
    named = [(name, tuple(p.shape)) for name, p in model.named_parameters() if p.requires_grad]
    return Layout(tuple(name for name, _ in named), tuple(shape for _, shape in named))


class FlatModel:
    """A network whose trainable parameters and gradients are views of two flat vectors.

    Attributes:
        model: The network; its parameters are re-pointed at `theta`, its gradients at `gradient`.
        layout: Where each parameter lies.
        theta: Parameters, shape (D,).
        gradient: Gradient of whatever was last differentiated backward, shape (D,); accumulates as torch does.
    """

    def __init__(self, model: nn.Module) -> None:
        """Flatten a network in place.

        Args:
            model: The network; all its trainable parameters on one device and of one floating point type.

        Raises:
            ValueError: If nothing is trainable or devices or types are mixed.
        """
        parameters = [p for p in model.parameters() if p.requires_grad]
        kinds = {(p.device, p.dtype) for p in parameters}
        if len(kinds) != 1:
            raise ValueError(f"expected trainable parameters of one device and dtype, got {sorted(map(str, kinds))}")
        self.model = model
        self.layout = layout_of(model)
        with torch.no_grad():
            self.theta = torch.cat([p.detach().reshape(-1) for p in parameters])
        self.gradient = torch.zeros_like(self.theta)
        for parameter, (_, shape, place) in zip(parameters, self.layout.slices(), strict=True):
            parameter.data = self.theta[place].view(shape)
            parameter.grad = self.gradient[place].view(shape)

    def buffers(self) -> dict[str, Tensor]:
        """Everything beside theta by name: buffers and frozen parameters, as they lie in the network."""
        frozen = {name: p.detach() for name, p in self.model.named_parameters() if not p.requires_grad}
        return frozen | dict(self.model.named_buffers())

    def load(self, theta: Tensor, buffers: Mapping[str, Tensor] | None = None) -> None:
        """Move the network to a point of parameter space.

        Args:
            theta: Parameters, shape (D,); copied.
            buffers: What travels beside them; copied; None leaves the network's own.

        Raises:
            ValueError: If the names of the buffers are not the network's.
        """
        with torch.no_grad():
            self.theta.copy_(theta)
            if buffers is None:
                return
            own = self.buffers()
            if own.keys() != buffers.keys():
                raise ValueError(f"expected buffers {sorted(own)}, got {sorted(buffers)}")
            for name, value in buffers.items():
                own[name].copy_(value)


def lerp(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    """(1 − α) a + α b: exactly a at α = 0 and exactly b at α = 1."""
    if alpha == 0:
        return a
    return b if alpha == 1 else (1 - alpha) * a + alpha * b
