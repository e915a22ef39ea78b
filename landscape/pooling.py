"""One forward pass of a large block in chunks, with the BatchNorm statistics of the whole block.

Chunks keep to the size that suits the machine's cache, but every BatchNorm layer waits until all chunks have
reached it and then normalises each with the mean and variance of them all: the training-mode forward of one huge
batch, whatever the network does between its layers. Each chunk runs in a thread of its own and only one of them at a
time, in fixed order, so results are deterministic. What is kept in memory is the block's activations at one layer;
with gradients its whole graph, which can be differentiated through the statistics.

`recalibrate` gives a network the statistics of its training data at the weights it has now: weights between two
checkpoints have none of their own.

Source: Ioffe and Szegedy 2015, arXiv 1502.03167 (statistics of the training set); Izmailov et al. 2018,
arXiv 1803.05407, section 3.2 (recomputing them).
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.batchnorm import layers, mode
from landscape.split import Split

BLOCK = 2000
"""Most examples that are normalised together: on trained networks their loss is within 0.3 % of that of one block."""


class Moments(torch.autograd.Function):
    """Σx and Σx² for each channel, summed in float64 over rows that are summed in the input's own type."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reduce.

        Args:
            ctx: What backward needs.
            x: Input of a layer, shape (B, C, ...).

        Returns:
            Both sums, float64, shape (C,).
        """
        ctx.save_for_backward(x)
        rows, space = _rows(x)
        if space == 2 and x.dtype != torch.float64:  # one pass, where it runs along memory
            second = torch.linalg.vector_norm(rows, dim=space).double().square_()
        else:
            second = rows.square().sum(space).double()
        return rows.sum(space).double().sum(0), second.sum(0)

    @staticmethod
    def backward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        """∂/∂x = first + 2 x second, channel by channel."""
        (x,) = ctx.saved_tensors
        shape = (1, -1, *(1,) * (x.dim() - 2))
        return torch.addcmul(first.to(x.dtype).view(shape), (2 * second).to(x.dtype).view(shape), x)


def _rows(x: Tensor) -> tuple[Tensor, int]:
    """A view of (B, C, ...) with one axis for space, and which one that is: reduced in the order of memory."""
    x = x if x.dtype == torch.float64 else x.float()
    if x.dim() == 2:
        return x[:, :, None], 2
    if x.is_contiguous():
        return x.flatten(2), 2
    return x.movedim(1, -1).flatten(1, -2), 1


class Normalise(torch.autograd.Function):
    """Eval-mode BatchNorm, y = w (x − μ) / √(v + ε) + b, differentiable in μ and v too.

    ∂L/∂μ and ∂L/∂v follow from the gradients of b and w: −s ∂L/∂b and −½ s/√(v + ε) ∂L/∂w with s = w / √(v + ε).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        """Normalise, by the very kernel that eval mode uses.

        Args:
            ctx: What backward needs.
            x: Input, shape (B, C, ...).
            mean: μ, shape (C,).
            var: v, shape (C,).
            weight: w, shape (C,), or None for 1.
            bias: b, shape (C,), or None for 0.
            eps: ε.

        Returns:
            y, same shape as x.
        """
        ctx.save_for_backward(x, mean, var, weight)
        ctx.eps, ctx.shifted = eps, bias is not None
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, μ, v, w and b."""
        x, mean, var, weight = ctx.saved_tensors
        gain = torch.ones_like(mean) if weight is None else weight
        dx, dw, db = torch.ops.aten.native_batch_norm_backward(
            dy, x, gain, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        slope = torch.rsqrt(var + ctx.eps)
        dvar = -0.5 * gain * slope.square() * dw
        return dx, -gain * slope * db, dvar, None if weight is None else dw, db if ctx.shifted else None, None


@dataclass
class Pool:
    """Statistics of one layer, in float64: over one block while it runs, over all blocks afterwards.

    Attributes:
        count: Values of each channel.
        first: Σx, shape (C,).
        second: Σx², shape (C,).
    """

    count: int
    first: Tensor
    second: Tensor

    def __add__(self, other: Pool) -> Pool:
        return Pool(self.count + other.count, self.first + other.first, self.second + other.second)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and biased variance, float64, shape (C,)."""
        mean = self.first / self.count
        return mean, (self.second / self.count - mean.square()).clamp_min(0)


class Pooled:
    """Runs a network on blocks of examples with the statistics of each block.

    Attributes:
        pools: What was pooled over the blocks so far, by layer.
        shared: Whether a layer was met more than once in a block: then eval mode, which knows one statistic for it,
            is another function.
    """

    def __init__(self, model: nn.Module) -> None:
        """Remember the network.

        Args:
            model: The network; nothing about it is changed but by `write`.
        """
        self.model = model
        self.layers = [m for m in model.modules() if isinstance(m, _BatchNorm)]
        self.pools: dict[_BatchNorm, Pool] = {}
        self.shared = False
        self._met: set[_BatchNorm] = set()
        self._here = threading.local()

    def block(self, chunks: Sequence[Callable[[], Tensor]]) -> list[Tensor]:
        """Run all chunks of a block, in eval mode but for the statistics.

        Args:
            chunks: For each chunk a function that runs the network on it; called one at a time.

        Returns:
            What the functions return.

        Raises:
            RuntimeError: If the network does not use the same layers in the same order for every chunk.
        """
        self._met.clear()
        with mode(self.model, training=False), self._patched():
            if len(chunks) == 1 or not self.layers:
                self._here.part = None
                return [chunk() for chunk in chunks]
            parts = [_Part(chunk) for chunk in chunks]
            try:
                while not parts[0].finished:
                    self._round(parts)
                return [part.result for part in parts]
            finally:
                for part in parts:
                    part.cancel()

    def _round(self, parts: list[_Part]) -> None:
        """Bring every chunk to its next layer, and pool what they bring there."""
        for part in parts:
            part.go_on(self._here)
        layers = {part.layer for part in parts}
        if len(layers) > 1:
            raise RuntimeError("the network uses different BatchNorm layers for different examples")
        layer = layers.pop()
        if layer is not None:
            pool = parts[0].pool
            for part in parts[1:]:
                pool = pool + part.pool
            self._keep(layer, pool)
            for part in parts:
                part.statistics = pool.statistics()

    def _keep(self, layer: _BatchNorm, pool: Pool) -> None:
        self.shared |= layer in self._met
        self._met.add(layer)
        with torch.no_grad():
            pool = Pool(pool.count, pool.first.detach(), pool.second.detach())
            self.pools[layer] = self.pools[layer] + pool if layer in self.pools else pool

    @contextlib.contextmanager
    def _patched(self) -> Iterator[None]:
        for layer in self.layers:
            layer.forward = partial(self._normalise, layer)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for layer in self.layers:
                del layer.forward

    def _normalise(self, layer: _BatchNorm, x: Tensor) -> Tensor:
        pool = Pool(x.numel() // x.shape[1], *Moments.apply(x))  # type: ignore[no-untyped-call]
        part: _Part | None = self._here.part
        if part is None:
            self._keep(layer, pool)
        mean, var = pool.statistics() if part is None else part.meet(layer, pool)
        kind = (layer.weight if layer.affine else x).dtype
        y: Tensor = Normalise.apply(x, mean.to(kind), var.to(kind), layer.weight, layer.bias, layer.eps)  # type: ignore[no-untyped-call]
        return y

    @torch.no_grad()
    def write(self) -> None:
        """Put the pooled statistics into the layers; a layer that was not used keeps its own."""
        for layer, pool in self.pools.items():
            if layer.running_mean is not None and layer.running_var is not None:
                mean, var = pool.statistics()
                layer.running_mean.copy_(mean)
                layer.running_var.copy_(var)


@torch.no_grad()
def recalibrate(model: nn.Module, split: Split, batch_size: int, block: int = BLOCK) -> None:
    """Replace running means and variances by those of a data set at the weights the network has now.

    Mean and (biased) variance of each layer's input are pooled over all examples, which keeps the variance between
    blocks that an average of variances drops. Data are read front to back without augmentation, dropout off; every
    block is normalised by its own statistics on the way. With one block, eval mode then equals the training-mode
    forward of the whole set. Whatever the batch size, the result is the same but for rounding.

    Args:
        model: The network; its BatchNorm buffers change, modes and random state do not.
        split: Training data.
        batch_size: Examples in a forward pass.
        block: Most examples that are normalised together.
    """
    if not layers(model):
        return
    pooled, dtype = Pooled(model), next(model.parameters()).dtype
    for inside in blocks(split, even(len(split), block), batch_size):
        pooled.block([partial(_forward, model, split, start, stop, dtype) for start, stop in inside])
    pooled.write()


def blocks(split: Split, size: int, batch_size: int) -> Iterator[list[tuple[int, int]]]:
    """Where the batches of each block begin and end.

    Args:
        split: The data, cut front to back.
        size: Examples in a block.
        batch_size: Examples in a forward pass.

    Yields:
        For a block the first example of each batch, and one past its last.
    """
    for low, high in split.places(size):
        yield [(low + i, low + j) for i, j in split.between(low, high).places(batch_size)]


def even(count: int, most: int) -> int:
    """The size of equal blocks, the last one a little smaller, none above `most`.

    Args:
        count: Examples.
        most: Most examples in a block.

    Returns:
        Examples in a block.
    """
    return math.ceil(count / math.ceil(count / most))


def _forward(model: nn.Module, split: Split, start: int, stop: int, dtype: torch.dtype) -> Tensor:
    output: Tensor = model(split.batch(start, stop, dtype)[0])
    return output


class _Cancelled(BaseException):
    """Ends a chunk whose block will not be finished."""


class _Part:
    """One chunk on its way: a thread that runs only while `go_on` waits for it."""

    layer: _BatchNorm | None
    pool: Pool
    statistics: tuple[Tensor, Tensor]
    result: Tensor

    def __init__(self, chunk: Callable[[], Tensor]) -> None:
        self.finished = False
        self._chunk, self._stop = chunk, False
        self._error: BaseException | None = None
        self._mine, self._theirs = threading.Semaphore(0), threading.Semaphore(0)
        self._grad = torch.is_grad_enabled()  # which, like autocast, belongs to a thread
        device = "cuda" if torch.is_autocast_enabled("cuda") else "cpu"
        self._cast = torch.autocast(device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        self._thread: threading.Thread | None = None

    def go_on(self, here: threading.local) -> None:
        """Run until the next layer or the end."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(here,), daemon=True)
            self._thread.start()
        else:
            self._mine.release()
        self._theirs.acquire()
        if self._error is not None:
            raise self._error

    def _run(self, here: threading.local) -> None:
        here.part = self
        try:
            with torch.set_grad_enabled(self._grad), self._cast:
                self.result = self._chunk()
        except _Cancelled:
            pass
        except BaseException as error:
            self._error = error
        self.layer, self.finished = None, True
        self._theirs.release()

    def meet(self, layer: _BatchNorm, pool: Pool) -> tuple[Tensor, Tensor]:
        """Wait at a layer for the statistics of the block; called in the chunk's thread."""
        self.layer, self.pool = layer, pool
        self._theirs.release()
        self._mine.acquire()
        if self._stop:
            raise _Cancelled
        return self.statistics

    def cancel(self) -> None:
        """End the thread, wherever it is."""
        if self._thread is not None and not self.finished:
            self._stop = True
            self._mine.release()
        if self._thread is not None:
            self._thread.join()
