"""The Hessian of a mean loss as a linear operator: products with vectors, never the matrix.

Convention: parameters with `requires_grad` in the order of `named_parameters` form one flat vector theta of shape (D,);
the objective is the mean loss over all N examples in nats, so the Hessian is in nats per unit of theta squared.
Source of the product by differentiating twice: Pearlmutter, Fast exact multiplication by the Hessian (1994).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call

from landscape.curvature.isolation import BatchNormMode, exact_arithmetic, forward_pass
from landscape.curvature.objective import Objective

Linear = Callable[[Sequence[Tensor]], Sequence[Tensor | None]]
"""A linear map from one tensor for each parameter to one tensor, or None for zero, for each parameter."""

_CPU_BUDGET = 4 << 30
_TRIAL = 4


class CurvatureOperator(ABC):
    """A symmetric operator that is a sum over chunks of the data; shape (D, D), in nats per unit of theta squared.

    It works on its own copy of the weights and buffers: the model lends its code and keeps its state. What training
    does to the model afterwards does not change the operator.

    Chunks whose graph fits in the memory budget are linearised once and kept, which saves the forward and
    the backward pass of every further product: of 9 matrix products for each layer 6 remain. The other chunks are
    linearised again in each product.

    Attributes:
        objective: What is differentiated.
        batchnorm: Whose statistics BatchNorm uses: "eval" or "train".
        weights: Copies of all parameters by name; those of theta require a gradient.
        buffers: Copies of all buffers by name.
        products: Products done so far.
        size: D.
        dtype: Floating point type of weights and products.
        device: Where they lie.
        seed: Seed of whatever randomness the forward pass has.
    """

    def __init__(
        self, objective: Objective, batchnorm: BatchNormMode = "eval", memory_budget: int | None = None, seed: int = 0
    ) -> None:
        """Copy the weights.

        Args:
            objective: What is differentiated.
            batchnorm: "eval" holds the running statistics fixed, so that the loss is a sum over examples and the chunk
                does not matter; "train" uses the statistics of each chunk, so that it does.
            memory_budget: Bytes that kept graphs may occupy. Default: 4 GiB on a CPU, half of what is free on a GPU.
            seed: Seed of whatever randomness the forward pass has.
        """
        self.objective = objective
        self.batchnorm: BatchNormMode = batchnorm
        self.products = 0
        self.device, self.dtype = objective.device, objective.dtype
        self.size = objective.size
        self.seed = seed
        self._budget = default_budget(self.device) if memory_budget is None else memory_budget
        chosen = set(objective.names)
        with torch.inference_mode(False):
            self.weights = {
                name: parameter.detach().clone().requires_grad_(name in chosen)
                for name, parameter in objective.model.named_parameters()
            }
            self.buffers = {name: buffer.detach().clone() for name, buffer in objective.model.named_buffers()}
        self._parameters = [self.weights[name] for name in objective.names]
        self._kept: dict[int, Linear] | None = None

    @abstractmethod
    def linearise(self, start: int, stop: int, keep: bool) -> Linear:
        """Prepare the product with the part of the operator that examples start to stop contribute.

        Args:
            start: First example.
            stop: One past the last example.
            keep: Whether the map will be used more than once.

        Returns:
            The product with this part, already divided by N.
        """

    def product(self, vector: Tensor) -> Tensor:
        """Multiply by a vector.

        Args:
            vector: Shape (D,), any floating point type, on the operator's device.

        Returns:
            The product, shape (D,), in the operator's dtype; the chunks were added up in float64.

        Raises:
            ValueError: If the vector does not have shape (D,).
        """
        if vector.shape != (self.size,):
            raise ValueError(f"expected a vector of shape ({self.size},), got {tuple(vector.shape)}")
        with exact_arithmetic(self.device):
            total = torch.zeros(self.size, dtype=accumulator(self.device), device=self.device)
            pieces = self._split(vector.detach().to(self.dtype))
            kept = self._keep_what_fits()
            for start, stop in self.objective.chunks():
                linear = kept.get(start) or self._linearised(start, stop, keep=False)
                total += self._join(linear(pieces))
        self.products += 1
        return total.to(self.dtype)

    def gradient(self) -> Tensor:
        """Differentiate the objective once.

        Returns:
            The gradient, shape (D,), in nats per unit of theta.
        """
        with exact_arithmetic(self.device):
            total = torch.zeros(self.size, dtype=accumulator(self.device), device=self.device)
            for start, stop in self.objective.chunks():
                with self._forward_pass():
                    loss = self.losses(start, stop).sum() / len(self.objective.data)
                if loss.requires_grad:
                    total += self._join(torch.autograd.grad(loss, self._parameters, allow_unused=True))
        return total.to(self.dtype)

    def outputs(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Run the network on some examples.

        Args:
            start: First example.
            stop: One past the last example.

        Returns:
            Outputs of shape (B, ...) that depend on the operator's weights, and targets (B, ...).
        """
        inputs, targets = self.objective.data.batch(start, stop, self.dtype)
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}  # BatchNorm would write into them
        return functional_call(self.objective.model, {**self.weights, **buffers}, (inputs,)), targets

    def losses(self, start: int, stop: int) -> Tensor:
        """Losses of some examples.

        Args:
            start: First example.
            stop: One past the last example.

        Returns:
            Losses in nats, shape (B,).
        """
        return self.objective.per_example(*self.outputs(start, stop))

    def _keep_what_fits(self) -> dict[int, Linear]:
        if self._kept is None:
            each = self._bytes_per_example() if self._budget > 0 else 0
            chunks = self.objective.chunks()
            fit = [(start, stop) for start, stop in chunks if each and stop * each <= self._budget]
            self._kept = {start: self._linearised(start, stop, keep=True) for start, stop in fit}
        return self._kept

    def _linearised(self, start: int, stop: int, keep: bool) -> Linear:
        with self._forward_pass():
            return self.linearise(start, stop, keep)

    def _forward_pass(self) -> AbstractContextManager[None]:
        return forward_pass(self.objective.model, self.device, self.batchnorm, self.seed)

    def _bytes_per_example(self) -> int:
        """Linearise a few examples and count what autograd saves; weights are shared by all chunks and do not count."""
        count = min(_TRIAL, len(self.objective.data), self.objective.chunk)
        saved: list[Tensor] = []

        def pack(tensor: Tensor) -> int:
            saved.append(tensor)
            return len(saved) - 1

        with saved_tensors_hooks(pack, saved.__getitem__):
            self._linearised(0, count, keep=True)
        sizes = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in saved}
        for parameter in self.weights.values():
            sizes.pop(parameter.untyped_storage().data_ptr(), None)
        saved.clear()  # an operation that saves its own output would keep itself alive
        return 1 + sum(sizes.values()) // count

    def _split(self, vector: Tensor) -> list[Tensor]:
        sizes = [parameter.numel() for parameter in self._parameters]
        return [piece.view_as(p) for piece, p in zip(torch.split(vector, sizes), self._parameters, strict=True)]

    def _join(self, pieces: Sequence[Tensor | None]) -> Tensor:
        filled = zip(pieces, self._parameters, strict=True)
        return torch.cat([
            (torch.zeros_like(p) if piece is None else piece.detach()).reshape(-1) for piece, p in filled
        ])


class HessianOperator(CurvatureOperator):
    """The Hessian of the objective, by differentiating the gradient along a vector.

    The second derivative of a loss with kinks (ReLU, max-pooling) is that of the smooth pieces; the kinks themselves
    are a set of measure zero and contribute nothing.

    Source: Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6 (1994).
    """

    def linearise(self, start: int, stop: int, keep: bool) -> Linear:
        """Build the graph of the gradient; its transposed Jacobian is the Hessian, which is symmetric.

        Args:
            start: First example.
            stop: One past the last example.
            keep: Whether the graph must survive a product.

        Returns:
            The product with the Hessian of these examples' losses divided by N.
        """
        loss = self.losses(start, stop).sum() / len(self.objective.data)
        nothing: list[Tensor | None] = [None] * len(self._parameters)
        if not loss.requires_grad:
            return lambda pieces: nothing
        gradient = torch.autograd.grad(loss, self._parameters, create_graph=True, allow_unused=True)
        curved = [(i, slope) for i, slope in enumerate(gradient) if slope is not None and slope.requires_grad]
        if not curved:  # a loss that is linear in the weights
            return lambda pieces: nothing
        order, slopes = [i for i, _ in curved], [slope for _, slope in curved]
        parameters = self._parameters  # not self, which holds this map: a cycle would keep the graph alive

        def product(pieces: Sequence[Tensor]) -> Sequence[Tensor | None]:
            along = [pieces[i] for i in order]
            return torch.autograd.grad(slopes, parameters, along, retain_graph=keep, allow_unused=True)

        return product


def default_budget(device: torch.device) -> int:
    """Bytes that kept graphs may occupy when the user did not say.

    Args:
        device: Where the graphs lie.

    Returns:
        Half of the free memory of a GPU, 4 GiB elsewhere.
    """
    return int(torch.cuda.mem_get_info(device)[0]) // 2 if device.type == "cuda" else _CPU_BUDGET


def accumulator(device: torch.device) -> torch.dtype:
    """The widest floating point type of a device, for sums over chunks and for certificates.

    Args:
        device: Where the sum is taken.

    Returns:
        float64, or float32 on Apple's GPUs, which have no float64.
    """
    return torch.float32 if device.type == "mps" else torch.float64
