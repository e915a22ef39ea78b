"""Networks for images, by name: one file for each family, definitions fixed by their parameter counts.

All of them are plain `nn.Module`s without dropout and without in-place operations, so second derivatives exist
and a forward pass is a pure function of weights, buffers and input. Importing this package does not import
torch; building does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from landscape.errors import UsageError
from landscape.models.names import known_names, parse

if TYPE_CHECKING:
    from torch import nn

__all__ = ["build", "known_names", "parse", "skeleton"]

SMALLEST = 8  # pixels: ResNet-18 halves three times


def build(name: str, shape: tuple[int, ...], classes: int, seed: int) -> nn.Module:
    """Build a network and draw its first weights from the seed alone.

    The global random state is neither read nor moved, so the same call gives the same weights anywhere.

    Args:
        name: Name of the network, see `known_names`.
        shape: Shape of one example; (channels, height, width) for all but `mlp`.
        classes: Number of outputs C.
        seed: Seed of the first weights.

    Returns:
        The network on the CPU, in training mode.
    """
    import torch

    from landscape.models.initialise import initialise

    return initialise(skeleton(name, shape, classes), torch.Generator().manual_seed(seed))


def skeleton(name: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Build a network without weights: shapes and parameter counts of the largest in milliseconds.

    Args:
        name: Name of the network, see `known_names`.
        shape: Shape of one example; (channels, height, width) for all but `mlp`.
        classes: Number of outputs C.

    Returns:
        The network on torch's meta device.

    Raises:
        UsageError: If there is no such network, or it cannot take examples of this shape.
    """
    family, numbers = parse(name)
    if family != "mlp" and (len(shape) != 3 or min(shape[1:]) < SMALLEST):
        raise UsageError(
            f"{name} takes images (channels, height, width) of {SMALLEST}×{SMALLEST} or more, got shape {tuple(shape)}",
            "use an mlp, or data of such a shape",
        )
    import torch

    with torch.device("meta"):
        return _makers()[family](shape, classes, *numbers)


def _makers() -> dict[str, Callable[..., nn.Module]]:
    """Constructors of the families, each called with (shape, classes, *numbers of the name)."""
    from landscape.models.mlp import MLP
    from landscape.models.preact import PreActResNet
    from landscape.models.pyramid import PyramidNet
    from landscape.models.resnet import ResNet
    from landscape.models.wrn import WideResNet

    return {"mlp": MLP, "resnet": ResNet, "preactresnet": PreActResNet, "wrn": WideResNet, "pyramidnet": PyramidNet}
