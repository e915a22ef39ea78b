"""Whether several vectors are multiplied together: decided by a measurement on the very vectors that are asked for.

Together, each operation of the network is called once for all vectors. That saves calls, not arithmetic, and
costs the memory of as many tangents: it pays for small networks and many passes, and large ones lose by it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import torch
from torch import Tensor

from landscape.curvature.memory import is_out_of_memory

Block = Callable[[Tensor], Tensor]
"""A symmetric operator on several vectors: (M, D) -> (M, D)."""

BLOCK = 8  # vectors that are worked on at once, at most: it bounds the memory
_TRIED = 4  # multiplied together in the trial: two are faster only where four are much faster
_LEAST = 8  # vectors in a block that is worth a trial
_FASTER = 1.5  # far enough from 1 that the choice, and with it the last bits, seldom changes from run to run
_WORTH = 0.02  # seconds of a single product: below there is little to gain, and a clock tells it badly
_LOG = logging.getLogger(__name__)


class Choice:
    """The choice of one operator, made at its first block that is large enough.

    The first block is cut in the same way whatever the choice turns out to be, or already was: a search that goes on
    from a state with the choice in it repeats it to the bit.

    Attributes:
        together: Whether vectors are multiplied together; None as long as that is not measured.
    """

    def __init__(self, device: torch.device) -> None:
        """Choose nothing yet.

        Args:
            device: Where the products are computed.
        """
        self.device = device
        self.together: bool | None = None
        self._tried = False

    def images(self, vectors: Tensor, singly: Block, together: Block, most: int) -> Tensor:
        """Multiply several vectors in the faster way.

        Args:
            vectors: Shape (M, D).
            singly: Multiplies one after the other, at most `BLOCK`.
            together: Multiplies all at once.
            most: Vectors whose tangents fit into memory.

        Returns:
            The products, shape (M, D).
        """
        if most < _TRIED or torch.are_deterministic_algorithms_enabled():  # bits that hang on a clock may differ
            return _cat(map(singly, torch.split(vectors, BLOCK)))
        done: list[Tensor] = []
        if not self._tried and len(vectors) >= _LEAST:
            done.append(self._first(vectors[: _TRIED + 2], singly, together))
            vectors = vectors[_TRIED + 2 :]
        if not self.together:
            return _cat([*done, *map(singly, torch.split(vectors, BLOCK))])
        return _cat([
            *done,
            *(self._tolerant(part, singly, together) for part in torch.split(vectors, min(most, BLOCK))),
        ])

    def _first(self, vectors: Tensor, singly: Block, together: Block) -> Tensor:
        """One vector, four together, one vector: the shorter time of the two is that of a warm operator."""
        self._tried = True
        times, images = [], []
        for part in torch.split(vectors, [1, _TRIED, 1]):
            began = clock(self.device)
            images.append(singly(part) if len(part) == 1 else self._tolerant(part, singly, together))
            times.append((clock(self.device) - began) / len(part))
        if self.together is None:
            alone = min(times[0], times[2])
            self.together = alone >= _WORTH and times[1] * _FASTER <= alone
        return _cat(images)

    def _tolerant(self, vectors: Tensor, singly: Block, together: Block) -> Tensor:
        try:
            return together(vectors)
        except RuntimeError as error:  # what fails for a single vector too is raised by that
            full = is_out_of_memory(error)
            what = "memory ran out on" if full else "PyTorch cannot differentiate the network along"
        level = logging.WARNING if full else logging.INFO
        _LOG.log(level, "%s %d vectors at once: going on with one after the other", what, len(vectors))
        self.together = False
        torch.cuda.empty_cache()  # out here, where the traceback no longer holds the tangents
        return singly(vectors)


def one_by_one(product: Callable[[Tensor], Tensor]) -> Block:
    """A product as a block.

    Args:
        product: The operator, (D,) -> (D,).

    Returns:
        Calls it for each vector.
    """
    return lambda vectors: torch.stack([product(vector) for vector in vectors])


def clock(device: torch.device) -> float:
    """Seconds to compare: of work on a CPU, where other processes take turns; by the wall on a GPU that has caught up.

    Args:
        device: Where the work is done.

    Returns:
        Seconds since some moment.
    """
    if device.type == "cpu":
        return time.process_time()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _cat(parts: object) -> Tensor:
    found = [part for part in parts if len(part)]  # type: ignore[attr-defined]
    return found[0] if len(found) == 1 else torch.cat(found)
