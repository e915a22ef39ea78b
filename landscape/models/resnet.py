"""Residual networks for small images (He et al. 2016, arXiv:1512.03385, section 4.2).

Depth 6n+2 is the paper's CIFAR form: three stages of n basic blocks, each twice as wide as the one before, and
shortcuts without parameters (its option A). Depth 18 is the ImageNet network as the SAM literature uses it on
CIFAR: a 3×3 stem, no max-pooling, four stages of two blocks, 1×1 convolution with BatchNorm in the shortcuts;
11,173,962 parameters for 10 classes.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from landscape.models.layers import convolution, pad_channels


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut, ReLU after the sum."""

    def __init__(self, before: int, after: int, stride: int, *, project: bool) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = convolution(before, after, stride=stride)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = convolution(after, after)
        self.norm2 = nn.BatchNorm2d(after)
        self.project = (
            nn.Sequential(convolution(before, after, 1, stride), nn.BatchNorm2d(after))
            if project and before != after
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, before, H, W) to (B, after, ⌈H/stride⌉, ⌈W/stride⌉)."""
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.project is not None:
            return F.relu(y + self.project(x))
        return F.relu(y + pad_channels(x[:, :, :: self.stride, :: self.stride], y.shape[1]))


class ResNet(nn.Module):
    """Stem, stages of basic blocks, global average pool, linear layer."""

    def __init__(self, shape: tuple[int, ...], classes: int, depth: int, width: int) -> None:
        super().__init__()
        stages, repeats = (4, 2) if depth == 18 else (3, (depth - 2) // 6)
        self.stem = convolution(shape[0], width)
        self.norm = nn.BatchNorm2d(width)
        blocks, before = [], width
        for stage in range(stages):
            for repeat in range(repeats):
                stride = 2 if stage > 0 and repeat == 0 else 1
                blocks.append(BasicBlock(before, width * 2**stage, stride, project=depth == 18))
                before = width * 2**stage
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of images (B, channels, H, W)."""
        x = self.blocks(F.relu(self.norm(self.stem(x))))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits
