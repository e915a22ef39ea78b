"""Products of kept passes as CUDA graphs: one launch each, in the place of one for every kernel. Opt-in, unmeasured.

A product with a kept graph calls the same kernels on the same memory each time, hundreds of small ones; on a GPU the
calls can take longer than the kernels. A capture records them once. What is recorded reads its vector from one place
and writes its product to another, both shared by all passes. The rules are those of `torch.cuda.graph`: autograd runs
the backward of a node on the stream of its forward, so that passes are built, warmed up and captured on one stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from landscape.curvature.pieces import Linear, join, split
from landscape.errors import UsageError

Key = TypeVar("Key")

_WARM_UP = 3  # what PyTorch's own captures take: libraries choose their kernels and workspaces in the first calls
_UNITS = 256  # in the last place: replays call the same kernels, though sums by atomic addition vary
_CHECKS = 2  # the second tells whether a replay spoils what the next one reads


class CaptureError(Exception):
    """A product was not captured, or its replay is not the product."""


class Recorder(Protocol):
    """What captures work on a device."""

    def building(self) -> AbstractContextManager[None]:
        """The context in which what is captured later is built."""

    def record(self, run: Callable[[], None]) -> Callable[[], object]:
        """Capture some work.

        Args:
            run: Does it, on tensors that stay where they are.

        Returns:
            Does it again.
        """


class CudaRecorder:
    """Captures on a stream of its own; all captures share one memory pool.

    Sharing is safe as no two replays run at the same time, and nothing in the pool outlives one.
    """

    def __init__(self, device: torch.device) -> None:
        """Make the stream.

        Args:
            device: A GPU.
        """
        check_device(device)
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def building(self) -> Iterator[None]:
        """Run on the stream of the captures, behind the work before and before the work behind.

        Yields:
            Nothing.
        """
        here = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):  # sets the stream back also where a failed capture does not
            yield
        here.wait_stream(self._stream)

    def record(self, run: Callable[[], None]) -> Callable[[], object]:
        """Warm up and capture.

        Args:
            run: The work.

        Returns:
            Replays it on the current stream.
        """
        graph = torch.cuda.CUDAGraph()
        with self.building():
            for _ in range(_WARM_UP):
                run()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                run()
        return graph.replay


def check_device(device: torch.device) -> None:
    """Refuse what has no CUDA graphs.

    Args:
        device: Where the products are computed.

    Raises:
        UsageError: If it is no CUDA device.
    """
    if device.type != "cuda":
        raise UsageError(f"CUDA graphs need a CUDA device, got '{device}'", "leave out --cuda-graphs, or use a GPU")


def captured(
    kept: Mapping[Key, Linear | None], parameters: Sequence[Tensor], recorder: Recorder
) -> dict[Key, Linear | None]:
    """Capture the product with each kept pass, and compare replays with it.

    Args:
        kept: The map of each pass, built by `recorder.building()`; None where it is not kept.
        parameters: The parameters that form theta.
        recorder: What captures.

    Returns:
        The same maps for one vector at a time, each a replay, and None where there was None.

    Raises:
        CaptureError: If there is nothing to capture, a capture fails, or a replay is not the product to rounding.
    """
    if not any(kept.values()):
        raise CaptureError("no pass is kept in memory")
    vector, image = (torch.cat([torch.zeros_like(p).detach().reshape(-1) for p in parameters]) for _ in range(2))
    try:
        maps = {
            key: None if linear is None else _replayed(linear, parameters, vector, image, recorder)
            for key, linear in kept.items()
        }
        for check in range(_CHECKS):
            probe = torch.randn(len(vector), generator=torch.Generator().manual_seed(check)).to(vector)
            for key, linear in kept.items():
                _compare(linear, maps[key], probe, parameters)
    except RuntimeError as error:  # what CUDA and the allocator raise
        raise CaptureError(str(error).strip().partition("\n")[0]) from None
    return maps


def _replayed(
    linear: Linear, parameters: Sequence[Tensor], vector: Tensor, image: Tensor, recorder: Recorder
) -> Linear:
    """A map that copies its vector to one place, replays, and returns views of another: good until the next replay."""
    pieces, images = split(vector, parameters), split(image, parameters)

    def run() -> None:
        image.copy_(join(linear(pieces), parameters))

    replay = recorder.record(run)

    def product(along: Sequence[Tensor]) -> Sequence[Tensor | None]:
        torch.cat([piece.reshape(-1) for piece in along], out=vector)
        replay()
        return images

    return product


def _compare(linear: Linear | None, replayed: Linear | None, probe: Tensor, parameters: Sequence[Tensor]) -> None:
    if linear is None or replayed is None:
        return
    expected, found = (join(each(split(probe, parameters)), parameters) for each in (linear, replayed))
    apart, size = float((found - expected).double().norm()), float(expected.double().norm())
    if not apart <= _UNITS * torch.finfo(probe.dtype).eps * size:
        raise CaptureError(f"a replay is {apart:.1e} off a product of length {size:.1e}")
