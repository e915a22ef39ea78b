"""A curvature matrix as a linear operator that is a sum over chunks of the data.

Convention: parameters with `requires_grad` in the order of `named_parameters` form one flat vector theta of shape (D,);
the objective is the mean loss over all N examples in nats, so the matrix is in nats per unit of theta squared.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from landscape.curvature.blocks import Choice
from landscape.curvature.graphs import CaptureError, Recorder, captured
from landscape.curvature.isolation import BatchNormMode, exact_arithmetic
from landscape.curvature.memory import default_budget, is_out_of_memory, saved_bytes
from landscape.curvature.objective import Objective
from landscape.curvature.pieces import Linear, add_up, join, split
from landscape.curvature.snapshot import Snapshot
from landscape.errors import ResourceError

_T = TypeVar("_T")
_Passes = Mapping[tuple[int, int], Linear | None]

_TRIAL = 4
_ROWS = 6  # vectors of the operator's type that one more vector in a block takes: itself, its part, its sums
_PASS = 8 << 20  # bytes of graph up to which a larger pass is faster: beyond, caches overflow
_LOG = logging.getLogger(__name__)


class CurvatureOperator(Snapshot, ABC):
    """A symmetric operator of shape (D, D), in nats per unit of theta squared.

    What training does to the model afterwards does not change the operator, see `Snapshot`.

    Chunks whose graph fits in the memory budget are linearised once and kept, which saves the forward and
    the backward pass of every further product: of 9 matrix products for each layer 6 remain. The other chunks are
    linearised again in each product. Small chunks are put together, where that changes nothing but rounding: calls of a
    few examples each cost more than the arithmetic in them.

    Attributes:
        products: Products done so far.
        choice: Whether `block` multiplies vectors together.
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
        super().__init__(objective, batchnorm, seed)
        self.products = 0
        self._budget = default_budget(self.device) if memory_budget is None else memory_budget
        self._bytes_per_example, self._pass = 0, _PASS
        self._kept: _Passes | None = None
        self._captured: _Passes | None = None
        self._recorder: Recorder | None = None
        self.choice = Choice(self.device)

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
            The product, shape (D,), in the operator's dtype; many chunks are added up in float64.
        """
        total = self._reduce_parts(
            vector[None], lambda parts: add_up(parts, self._zeros(vector[None])), self._as_replays
        )
        self.products += 1
        return total[0]

    def record(self, recorder: Recorder) -> None:
        """Replay `product` from now on, where its passes are kept; `block` never does, and can judge it.

        If that fails, one line is logged and products go on as they were.

        Args:
            recorder: What captures the work of a product.
        """
        self._kept, self._captured, self._recorder = None, None, recorder

    def block(self, vectors: Tensor) -> Tensor:
        """Multiply by several vectors, by all in each pass over the data.

        A graph that is not kept is built once for all of them. Whether they are also multiplied together, which changes
        results by rounding, is measured, see `Choice`.

        Args:
            vectors: Shape (M, D), any floating point type, on the operator's device.

        Returns:
            The products, shape (M, D), in the operator's dtype.
        """
        most = self._within_memory(self._at_once)
        images = self.choice.images(vectors, self._singly, self._together, most)
        self.products += len(vectors)
        return images

    @property
    def replays(self) -> bool:
        """Whether `product` replays what a recorder captured."""
        return self._captured is not None

    def quotients(self, vector: Tensor) -> list[float]:
        """The quadratic form of each chunk's part.

        Args:
            vector: v, shape (D,).

        Returns:
            v^T A_chunk v for each chunk; they add up to v^T A v.
        """
        self.products += 1
        chunks: dict[tuple[int, int], Linear | None] = dict.fromkeys(self.objective.chunks())
        return self._reduce_parts(
            vector[None], lambda parts: [float(vector.to(part) @ part) for (part,) in parts], lambda: chunks
        )

    def gradient(self) -> Tensor:
        """Differentiate the objective once.

        Returns:
            The gradient, shape (D,), in nats per unit of theta.
        """

        def whole() -> Tensor:
            with exact_arithmetic(self.device), self.forward_pass():
                zeros = torch.zeros(self.size, dtype=self.dtype, device=self.device)
                return add_up((self._slope(start, stop) for start, stop in self.objective.chunks()), zeros)

        return self._within_memory(whole)

    def graph_bytes(self) -> int:
        """Measure on a few examples what the graphs of all of them take.

        Returns:
            Bytes that are held where the memory budget allows it.
        """
        with exact_arithmetic(self.device), self.forward_pass():
            return self._weigh() * len(self.objective.data)

    def _singly(self, vectors: Tensor) -> Tensor:
        """Products with vectors (M, D), one after the other in each pass."""
        return self._reduce_parts(vectors, lambda parts: add_up(parts, self._zeros(vectors)), self._keep_what_fits)

    def _together(self, vectors: Tensor) -> Tensor:
        """Products with vectors (M, D), all at once in each pass; without a second try if memory runs out."""
        return self._reduced([vectors], lambda parts: add_up(parts, self._zeros(vectors)), self._keep_what_fits)

    def _zeros(self, like: Tensor) -> Tensor:
        return torch.zeros(like.shape, dtype=self.dtype, device=self.device)

    def _at_once(self) -> int:
        """Vectors whose tangents, about the size of the graph of a pass, fit beside the kept graphs; at least one."""
        with exact_arithmetic(self.device):
            kept = self._keep_what_fits()
        held = sum(stop - start for (start, stop), linear in kept.items() if linear) * self._bytes_per_example
        widest = max(stop - start for start, stop in kept) * self._bytes_per_example
        return 1 + max(0, self._budget - held) // (widest + _ROWS * self.size * self.dtype.itemsize)

    def _reduce_parts(
        self, vectors: Tensor, reduce: Callable[[Iterable[Tensor]], _T], passes: Callable[[], _Passes]
    ) -> _T:
        """Multiply each pass's part by vectors (M, D), one by one, and reduce the products, of shape (M, D) each."""
        if vectors.shape[1:] != (self.size,):
            raise ValueError(f"expected vectors of shape ({self.size},), got {tuple(vectors.shape[1:])}")
        return self._within_memory(lambda: self._reduced(list(vectors), reduce, passes))

    def _reduced(
        self, rows: Sequence[Tensor], reduce: Callable[[Iterable[Tensor]], _T], passes: Callable[[], _Passes]
    ) -> _T:
        """Multiply each pass's part by each row, a vector (D,) or several (M, D), and reduce the products, (M, D)."""
        with exact_arithmetic(self.device):
            split_up = [split(row.detach().to(self.dtype), self._parameters) for row in rows]
            lead = rows[0].shape[:-1]

            def multiplied(linear: Linear) -> Tensor:
                images = [join(linear(pieces), self._parameters, lead).view(-1, self.size) for pieces in split_up]
                return torch.cat(images) if len(images) > 1 else images[0]

            kept = passes()
            with nullcontext() if all(kept.values()) else self.forward_pass():
                maps = (linear or self.linearise(*ends, keep=len(rows) > 1) for ends, linear in kept.items())
                return reduce(multiplied(linear) for linear in maps)

    def _slope(self, start: int, stop: int) -> Tensor:
        loss = self.losses(start, stop).sum() / len(self.objective.data)
        if not loss.requires_grad:
            return join([None] * len(self._parameters), self._parameters)
        return join(torch.autograd.grad(loss, self._parameters, allow_unused=True), self._parameters)

    def _keep_what_fits(self) -> _Passes:
        """The map of each pass over the data, None where it does not fit."""
        if self._kept is None:
            with nullcontext() if self._recorder is None else self._recorder.building(), self.forward_pass():
                self._bytes_per_example = self._bytes_per_example or self._weigh()
                kept: dict[tuple[int, int], Linear | None] = {}
                for start, stop in self._passes():
                    fits = stop * self._bytes_per_example < self._budget
                    kept[start, stop] = self.linearise(start, stop, keep=True) if fits else None
                self._kept = kept
        return self._kept

    def _as_replays(self) -> _Passes:
        """What `_keep_what_fits` returns, as replays if these were asked for and are right."""
        if self._recorder is not None and self._captured is None:
            try:
                self._captured = captured(self._keep_what_fits(), self._parameters, self._recorder)
            except CaptureError as error:
                _LOG.warning("CUDA graphs are not used: %s", error)
                self._kept = self._recorder = None  # to be built on the ordinary stream
        return self._captured or self._keep_what_fits()

    def _passes(self) -> list[tuple[int, int]]:
        """What runs through the network at once: chunks, small ones together unless they define the result."""
        size = self._pass // self._bytes_per_example if self.batchnorm == "eval" else 0
        return replace(self.objective, chunk=max(size, self.objective.chunk)).chunks()

    def _weigh(self) -> int:
        """Bytes that the graph of one example takes; what all chunks share does not count."""
        count = min(_TRIAL, len(self.objective.data), self.objective.chunk)
        shared = (*self.weights.values(), self.objective.data.inputs, self.objective.data.targets)
        return 1 + saved_bytes(lambda: self.linearise(0, count, keep=True), shared) // count

    def _within_memory(self, task: Callable[[], _T]) -> _T:
        while True:
            try:
                return task()
            except RuntimeError as error:
                full = is_out_of_memory(error)
                if not full and not self._channels_last:
                    raise
            if full:
                self._use_less_memory()  # out here, where the traceback no longer holds the graphs
            else:  # perhaps a backward pass that takes one order in memory only
                self._channels_last, self._kept, self._captured = False, None, None

    def _use_less_memory(self) -> None:
        """Keep fewer graphs; if none is kept, work on smaller chunks, unless the chunks define the result."""
        self._kept, self._captured, self._pass = None, None, 0
        chunk = self.objective.chunk
        if self._budget > chunk * self._bytes_per_example:
            self._budget //= 4
            _LOG.warning("memory ran out: kept graphs may now take %d MiB", self._budget >> 20)
        elif chunk == 1 or self.batchnorm == "train":
            reason = "with batch statistics its size defines the result" if chunk > 1 else "it cannot be smaller"
            raise ResourceError(
                f"memory ran out on a chunk of {chunk} examples, and {reason}",
                "choose a smaller chunk, or a device with more memory",
            )
        else:
            self.objective = replace(self.objective, chunk=chunk // 2)
            _LOG.warning("memory ran out: the chunk is now %d examples", chunk // 2)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
