"""Which examples a step sees and how they are augmented: a pure function of (seed, epoch, index).

Nothing is carried from step to step, so a run resumed at any step sees what the uninterrupted run saw.
"""

from __future__ import annotations

import hashlib

import torch
import torch.nn.functional as F
from torch import Tensor


def derive(seed: int, purpose: str, number: int) -> int:
    """A seed of 63 bits for one purpose and number, independent of all others."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{number}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, purpose: str, number: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A source of random numbers for one purpose and number, on a device."""
    return torch.Generator(device).manual_seed(derive(seed, purpose, number))


def permutation(n: int, seed: int, epoch: int) -> Tensor:
    """The order of n examples in an epoch, shape (n,), int64, on the CPU."""
    return torch.randperm(n, generator=generator(seed, "order", epoch))


def crops(n: int, pad: int, seed: int, epoch: int) -> Tensor:
    """Row offset, column offset and flip of each of n examples in an epoch, shape (n, 3), int64, on the CPU."""
    source = generator(seed, "augment", epoch)
    offsets = torch.randint(0, 2 * pad + 1, (n, 2), generator=source)
    return torch.cat([offsets, torch.randint(0, 2, (n, 1), generator=source)], 1)


def holes(n: int, shape: tuple[int, ...], seed: int, epoch: int) -> Tensor:
    """Row and column of the centre of each example's cutout, anywhere in the image, shape (n, 2), int64, on the CPU."""
    source = generator(seed, "cutout", epoch)
    return torch.cat([torch.randint(0, side, (n, 1), generator=source) for side in shape], 1)


def window(centres: Tensor, side: int, shape: tuple[int, ...]) -> Tensor:
    """0 in a square around each centre, 1 elsewhere; what falls outside the image is lost.

    Source: DeVries and Taylor 2017, arXiv 1708.04552 (cutout).

    Args:
        centres: Rows and columns, shape (B, 2).
        side: Side of the square in pixels.
        shape: Height and width.

    Returns:
        Float mask, shape (B, 1, height, width).
    """
    inside = []
    for axis, length in enumerate(shape):
        first = centres[:, axis : axis + 1] - side // 2
        place = torch.arange(length, device=centres.device)
        inside.append((place >= first) & (place < first + side))  # (B, length)
    return (~(inside[0][:, None, :, None] & inside[1][:, None, None, :])).float()


def crop_and_flip(images: Tensor, draws: Tensor, pad: int) -> Tensor:
    """Pad with zeros, cut out the original size at the drawn offset, mirror where drawn: one gather for a batch.

    Args:
        images: Raw images, shape (B, channels, height, width).
        draws: Row offset and column offset in [0, 2·pad], flip in {0, 1}, shape (B, 3).
        pad: Pixels of padding on each side.

    Returns:
        Images of the same shape and type.
    """
    batch, _, height, width = images.shape
    padded = F.pad(images, (pad, pad, pad, pad))
    column = torch.arange(width, device=images.device).expand(batch, width)
    column = torch.where(draws[:, 2:] == 1, column.flip(1), column) + draws[:, 1:2]  # (B, width)
    row = torch.arange(height, device=images.device) + draws[:, :1]  # (B, height)
    example = torch.arange(batch, device=images.device).view(-1, 1, 1)
    return padded.permute(0, 2, 3, 1)[example, row[:, :, None], column[:, None, :]].permute(0, 3, 1, 2)
