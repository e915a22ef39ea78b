"""Pyramidal residual networks of basic blocks (Han, Kim, Kim 2017, arXiv:1610.02915).

Depth 6n+2 and widening α: N = 3n blocks, the k-th 16 + αk/N channels wide, rounded to the nearest (half up) as the
authors' own program rounds; the paper's equation 3 rounds down, which differs unless N divides α. Shortcuts have
no parameters: average pool where the image shrinks, zeros for the new channels. Depth 110 with α = 270 has
28,485,477 parameters for 10 classes.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from landscape.models.layers import convolution, pad_channels


class PyramidBlock(nn.Module):
    """BatchNorm, convolution, BatchNorm, ReLU, convolution, BatchNorm beside a shortcut; no ReLU comes first."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = convolution(before, after, stride=stride)
        self.norm2 = nn.BatchNorm2d(after)
        self.conv2 = convolution(after, after)
        self.norm3 = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, before, H, W) to (B, after, ⌈H/stride⌉, ⌈W/stride⌉)."""
        y: Tensor = F.relu(self.norm2(self.conv1(self.norm1(x))))
        y = self.norm3(self.conv2(y))
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)  # ceil: odd images shrink as the convolution does
        return y + pad_channels(x, y.shape[1])


class PyramidNet(nn.Module):
    """Stem, three stages of ever wider blocks, BatchNorm and ReLU, global average pool, linear layer."""

    def __init__(self, shape: tuple[int, ...], classes: int, depth: int, alpha: int) -> None:
        super().__init__()
        repeats = (depth - 2) // 6
        total = 3 * repeats
        self.stem = convolution(shape[0], 16)
        self.norm1 = nn.BatchNorm2d(16)
        blocks, before = [], 16
        for k in range(total):
            after = 16 + (2 * alpha * (k + 1) + total) // (2 * total)  # in integers: no tie falls to float error
            blocks.append(PyramidBlock(before, after, 2 if k in {repeats, 2 * repeats} else 1))
            before = after
        self.blocks = nn.Sequential(*blocks)
        self.norm2 = nn.BatchNorm2d(before)
        self.head = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of images (B, channels, H, W)."""
        x = F.relu(self.norm2(self.blocks(self.norm1(self.stem(x)))))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits
