"""First weights of a network, drawn from a generator.

Convolutions are normal with variance 2 / (k² · channels out), which keeps the variance of gradients through a
ReLU network (He et al. 2015, arXiv:1502.01852, section 2.2, backward case); BatchNorm starts as the identity;
linear layers are uniform within ±1/√(inputs), torch's own default.
"""

from __future__ import annotations

import math

import torch
from torch import nn


def initialise(net: nn.Module, generator: torch.Generator) -> nn.Module:
    """Give every layer its first weights, in the order in which the layers were registered.

    Args:
        net: A network, usually on the meta device; whatever its weights were is lost.
        generator: Source of all randomness; its device is where the weights will live.

    Returns:
        The same network, with weights.
    """
    net = net.to_empty(device=generator.device)
    with torch.no_grad():
        for module in net.modules():
            _fill(module, generator)
    return net


def _fill(module: nn.Module, generator: torch.Generator) -> None:
    """Initialise one layer.

    Raises:
        ValueError: If the layer has parameters and no rule is known for it.
    """
    if isinstance(module, nn.Conv2d):
        height, width = module.kernel_size
        std = math.sqrt(2 / (height * width * module.out_channels))
        module.weight.normal_(0, std, generator=generator)
    elif isinstance(module, nn.Linear):
        bound = 1 / math.sqrt(module.in_features)
        module.weight.uniform_(-bound, bound, generator=generator)
        module.bias.uniform_(-bound, bound, generator=generator)
    elif isinstance(module, nn.BatchNorm2d):
        module.reset_parameters()  # scale 1, shift 0, running mean 0 and variance 1; draws nothing
    elif any(True for _ in module.parameters(recurse=False)):
        raise ValueError(f"no rule for the first weights of {type(module).__name__}")
