"""Wide residual networks (Zagoruyko, Komodakis 2016, arXiv:1605.07146), without dropout.

Depth 6n+4 and widening factor k: three stages of n pre-activated basic blocks with 16k, 32k, 64k channels, no
biases in convolutions, and where a block changes shape a 1×1 convolution of the pre-activated input as shortcut.
WRN-28-10 has 36,479,194 parameters for 10 classes.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from landscape.models.layers import PreActivated, convolution


class WideBlock(nn.Module):
    """BatchNorm, ReLU, 3×3 convolution, twice, beside a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = convolution(before, after, stride=stride)
        self.norm2 = nn.BatchNorm2d(after)
        self.conv2 = convolution(after, after)
        self.shortcut = None if before == after else convolution(before, after, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, before, H, W) to (B, after, ⌈H/stride⌉, ⌈W/stride⌉)."""
        active = F.relu(self.norm1(x))
        y: Tensor = self.conv2(F.relu(self.norm2(self.conv1(active))))
        return y + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(PreActivated):
    """Three stages of wide blocks."""

    def __init__(self, shape: tuple[int, ...], classes: int, depth: int, factor: int) -> None:
        super().__init__(shape, classes, WideBlock, (16 * factor, 32 * factor, 64 * factor), (depth - 4) // 6)
