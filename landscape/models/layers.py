"""The pieces that the convolutional families share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn


def convolution(before: int, after: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    """Convolution that keeps the image size at stride 1; no bias, since a BatchNorm follows or precedes.

    Args:
        before: Channels in.
        after: Channels out.
        size: Side of the kernel, odd.
        stride: Step; the image shrinks to ⌈side / stride⌉.

    Returns:
        The layer.
    """
    return nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False)


def pad_channels(x: Tensor, channels: int) -> Tensor:
    """Append zero channels: the shortcut without parameters where a block widens.

    Args:
        x: Images, shape (B, channels before, height, width).
        channels: Channels after, no fewer.

    Returns:
        Images, shape (B, channels, height, width).
    """
    return F.pad(x, (0, 0, 0, 0, 0, channels - x.shape[1]))


class PreActivated(nn.Module):
    """Stem, stages of pre-activated blocks, BatchNorm and ReLU, global average pool, linear layer.

    A block is made from channels before, width and stride, and has expansion·width channels after it; every stage but
    the first halves the image.
    """

    def __init__(
        self, shape: tuple[int, ...], classes: int, block: Callable[[int, int, int], nn.Module], widths: Sequence[int],
        repeats: int, expansion: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stem = convolution(shape[0], 16)
        blocks, before = [], 16
        for stage, width in enumerate(widths):
            for repeat in range(repeats):
                blocks.append(block(before, width, 2 if stage > 0 and repeat == 0 else 1))
                before = expansion * width
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(before)
        self.head = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of images (B, channels, H, W)."""
        x = F.relu(self.norm(self.blocks(self.stem(x))))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits
