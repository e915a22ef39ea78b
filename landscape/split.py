"""A split of a data set, resident on one device: raw examples, targets, and how raw becomes network input.

Images stay uint8 and are scaled and normalised batch by batch, on the device; an epoch never passes
through a loader. Order is the order of the arrays: evaluation reads a split front to back, always.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from landscape.errors import UsageError
from landscape.wording import plural

_SAME = 1e-4


@dataclass(frozen=True)
class Split:
    """Examples and targets.

    Attributes:
        inputs: Raw examples, shape (N, ...). Floating point and integer inputs reach the network as they are,
            uint8 inputs are divided by 255 first.
        targets: Targets, shape (N, ...); class indices are int64.
        mean: Subtracted after scaling; one number, or one per channel of (N, channel, ...) inputs.
        std: Divided by after subtraction; as many numbers as `mean`.
    """

    inputs: Tensor
    targets: Tensor
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        """Check that there are tensors, one target for each example, at least one example, and usable constants.

        Raises:
            ValueError: If not.
        """
        for name, given in (("inputs", self.inputs), ("targets", self.targets)):
            if not isinstance(given, Tensor):
                raise ValueError(
                    f"expected a tensor as {name}, got {type(given).__name__}; use torch.as_tensor({name})"
                )
        if len(self.inputs) != len(self.targets) or len(self.inputs) == 0:
            raise ValueError(
                f"expected as many targets as inputs, at least 1; got {len(self.targets)}, {len(self.inputs)}"
            )
        if len(self.mean) != len(self.std) or not all(s > 0 for s in self.std):
            raise ValueError(f"expected one positive std for each mean; got {self.mean} and {self.std}")

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.inputs.shape[1:])

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Split:
        """Move to a device, and floating point inputs to a dtype.

        Args:
            device: Where to.
            dtype: Floating point type of the network's weights; uint8 inputs stay uint8 until a batch is made.

        Returns:
            A split that shares nothing with a device it left.
        """
        inputs = self.inputs.to(device)
        if dtype is not None and inputs.is_floating_point():
            inputs = inputs.to(dtype)
        return replace(self, inputs=inputs, targets=self.targets.to(device))

    def prepare(self, raw: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Turn raw examples into network input.

        Args:
            raw: Examples as stored, shape (B, ...).
            dtype: Floating point type of the result; default float32 for uint8, else as stored.

        Returns:
            Scaled and normalised examples, shape (B, ...); token ids and other integers come back untouched.
        """
        if raw.dtype == torch.uint8:
            raw = raw.to(dtype or torch.float32) / 255
        elif not raw.is_floating_point():
            return raw
        elif dtype is not None:
            raw = raw.to(dtype)
        if self.mean == (0.0,) and self.std == (1.0,):
            return raw
        view = (-1, *(1,) * (raw.dim() - 2)) if len(self.mean) > 1 else ()
        mean = torch.tensor(self.mean, dtype=raw.dtype, device=raw.device).reshape(view)
        std = torch.tensor(self.std, dtype=raw.dtype, device=raw.device).reshape(view)
        return (raw - mean) / std

    def batch(self, start: int, stop: int, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """Examples start to stop (exclusive), ready for the network.

        Args:
            start: First example.
            stop: One past the last example.
            dtype: Floating point type of the inputs, see `prepare`.

        Returns:
            Inputs (B, ...) and targets (B, ...).
        """
        return self.prepare(self.inputs[start:stop], dtype), self.targets[start:stop]

    def batches(self, size: int, dtype: torch.dtype | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """All examples front to back, the last batch possibly smaller.

        A remainder of one example joins the batch before it: BatchNorm has no variance of one value.

        Args:
            size: Examples in a batch.
            dtype: Floating point type of the inputs, see `prepare`.

        Yields:
            Inputs (B, ...) and targets (B, ...).
        """
        for start, stop in self.places(size):
            yield self.batch(start, stop, dtype)

    def places(self, size: int) -> list[tuple[int, int]]:
        """Where `batches` begin and end: first example, and one past the last."""
        starts = list(range(0, len(self), size))
        if len(starts) > 1 and size > 1 and len(self) - starts[-1] == 1:
            starts.pop()
        return list(zip(starts, [*starts[1:], len(self)], strict=True))

    def between(self, start: int, stop: int) -> Split:
        """Examples start to stop (exclusive), as a view of this split."""
        return replace(self, inputs=self.inputs[start:stop], targets=self.targets[start:stop])

    def head(self, n: int) -> Split:
        """The first n examples.

        Args:
            n: How many, at least 1.

        Returns:
            A view of this split.
        """
        return replace(self, inputs=self.inputs[:n], targets=self.targets[:n])

    def sample(self, n: int, seed: int) -> Split:
        """Some examples drawn without replacement, in random order.

        Args:
            n: How many, from 1 to all of them.
            seed: Seed of the draw.

        Returns:
            A split of n examples.

        Raises:
            UsageError: If there are not that many.
        """
        if not 1 <= n <= len(self):
            raise UsageError(f"expected 1 to {plural(len(self), 'example')}, got {n}", "ask for no more than there are")
        drawn = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:n].to(self.inputs.device)
        return replace(self, inputs=self.inputs[drawn], targets=self.targets[drawn])

    def fingerprint(self) -> str:
        """SHA-256 over inputs, targets and constants, in hexadecimal; the same on every device."""
        digest = hashlib.sha256(repr((self.mean, self.std)).encode())
        for tensor in (self.inputs, self.targets):
            host = tensor.detach().cpu().contiguous()
            digest.update(f"{host.dtype}{tuple(host.shape)}".encode())
            digest.update(host.view(torch.uint8).numpy().tobytes() if host.dim() else b"")
        return digest.hexdigest()


def channels_last(images: Tensor) -> Tensor:
    """Put the channels of each pixel side by side in memory; convolutions take that order over, most are faster in it.

    Args:
        images: Shape (B, channel, height, width).

    Returns:
        A copy, of the same shape and values; also for one channel, where `Tensor.to` sees nothing to do and
        convolutions would go on in the order they found.
    """
    return torch.empty_like(images, memory_format=torch.channels_last).copy_(images)


def takes_channels_last(network: Callable[[Tensor], object], images: Tensor) -> bool:
    """Whether a network computes the same in that order; one that asks for strides, as `view` does, may not.

    Args:
        network: Outputs of images, without randomness.
        images: A few, shape (B, channel, height, width).

    Returns:
        True if the outputs are one tensor, and equal to 1e-4 of the largest.
    """
    with torch.no_grad():
        plain = network(images.clone())
        try:
            last = network(channels_last(images))
        except RuntimeError:
            return False
    if not isinstance(plain, Tensor) or not isinstance(last, Tensor):
        return False
    return torch.allclose(plain, last, rtol=_SAME, atol=_SAME * float(plain.abs().max()))
