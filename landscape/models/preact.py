"""Pre-activation residual networks of bottlenecks (He et al. 2016, arXiv:1603.05027).

Depth 9n+2: three stages of n bottlenecks with inner widths 16, 32, 64 and outputs four times as wide, a 1×1
convolution without BatchNorm where the shortcut changes shape, BatchNorm and ReLU before the pool. Depth 164 has
1,703,258 parameters for 10 classes; a BatchNorm in the shortcuts, which some versions have, would add 896.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from landscape.models.layers import PreActivated, convolution

EXPANSION = 4


class Bottleneck(nn.Module):
    """BatchNorm, ReLU, convolution, three times (1×1, 3×3, 1×1), beside a shortcut of the raw input."""

    def __init__(self, before: int, inner: int, stride: int) -> None:
        super().__init__()
        after = EXPANSION * inner
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = convolution(before, inner, 1)
        self.norm2 = nn.BatchNorm2d(inner)
        self.conv2 = convolution(inner, inner, stride=stride)
        self.norm3 = nn.BatchNorm2d(inner)
        self.conv3 = convolution(inner, after, 1)
        self.shortcut = None if before == after else convolution(before, after, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, before, H, W) to (B, 4·inner, ⌈H/stride⌉, ⌈W/stride⌉)."""
        y: Tensor = self.conv1(F.relu(self.norm1(x)))
        y = self.conv2(F.relu(self.norm2(y)))
        y = self.conv3(F.relu(self.norm3(y)))
        return y + (x if self.shortcut is None else self.shortcut(x))


class PreActResNet(PreActivated):
    """Three stages of bottlenecks."""

    def __init__(self, shape: tuple[int, ...], classes: int, depth: int) -> None:
        super().__init__(shape, classes, Bottleneck, (16, 32, 64), (depth - 2) // 9, EXPANSION)
