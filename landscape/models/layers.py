"""The two pieces that the convolutional families share."""

from __future__ import annotations

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
