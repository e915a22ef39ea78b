"""Lengths of parameter vectors, and the families of unit directions that are drawn in them.

A metric is ‖v‖² = Σ_b ‖v_b‖² / s_b² over blocks b of theta: one block with s = 1 ("euclidean"), one block for each
filter with the filter's norm as s ("filter"), one for each tensor ("layer"). A tensor of one axis (bias, BatchNorm
scale) is one block. In "filter" and "layer" a rescaling of a ReLU layer that leaves the function alone leaves lengths
alone too.

Vectors are kept in the coordinates z = v / s, in which every metric is the Euclidean one.

Source: Li et al. 2018, arXiv 1712.09913, section 4 (filter normalisation); Li et al., NeurIPS 2024, "Exploring and
Exploiting the Asymmetric Valley of Deep Neural Networks" (sign consistency).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.errors import UsageError
from landscape.vector import Layout

METRICS = ("euclidean", "filter", "layer")
_PARALLEL = 1e-3  # part of a unit vector that must be left after the others are taken out


@dataclass(frozen=True, eq=False)
class Metric:
    """Blocks of theta and their lengths.

    Attributes:
        name: One of `METRICS`.
        block: Block of each entry, int64, shape (D,).
        scale: s of each entry's block, float64, shape (D,).
    """

    name: str
    block: Tensor
    scale: Tensor

    def norm(self, vector: Tensor) -> float:
        """‖v‖ of a vector in the units of theta, shape (D,)."""
        return float(torch.linalg.vector_norm(vector.double() / self.scale))

    def unit(self, vector: Tensor) -> Tensor:
        """A vector of length 1 along v, in the units of theta, float64, shape (D,)."""
        return vector.double() / self.norm(vector)

    def gaussian(self, generator: torch.Generator) -> Tensor:
        """A Gaussian direction whose blocks have the lengths of theta's, of length 1, float64, shape (D,)."""
        drawn = torch.randn(self.block.numel(), generator=generator, dtype=torch.float64)
        square = torch.zeros(int(self.block.max()) + 1, dtype=torch.float64).index_add_(0, self.block, drawn.square())
        lengths: Tensor = square.sqrt()[self.block]
        return self.unit(self.scale * drawn / lengths)

    def in_ball(self, radius: float, generator: torch.Generator) -> Tensor:
        """A point drawn evenly from the ball of a radius in this metric, in the units of theta, shape (D,)."""
        drawn = torch.randn(self.block.numel(), generator=generator, dtype=torch.float64)
        part = float(torch.rand((), generator=generator, dtype=torch.float64) ** (1 / drawn.numel()))
        return self.scale * drawn * (radius * part / float(drawn.norm()))

    def without(self, vector: Tensor, direction: Tensor) -> Tensor:
        """Take u out of v: v − ⟨v, u⟩ u for a unit vector u of this metric, both in the units of theta, shape (D,)."""
        inner = float((vector.double() / self.scale) @ (direction.double() / self.scale))
        return vector - inner * direction

    def orthonormal(self, vectors: list[Tensor]) -> list[Tensor]:
        """Gram–Schmidt in the order given, each vector projected twice.

        Twice is enough: what the first projection leaves by rounding the second removes, down to the unit roundoff.

        Args:
            vectors: Any number of vectors in the units of theta, shape (D,) each.

        Returns:
            As many unit vectors, ⟨uᵢ, uⱼ⟩ below 1e-6 in this metric.

        Raises:
            UsageError: If a vector lies in the span of those before it.

        Source: Parlett, The Symmetric Eigenvalue Problem, section 6-9 (Kahan's "twice is enough").
        """
        found: list[Tensor] = []
        for place, vector in enumerate(vectors, 1):
            left = self.unit(vector) / self.scale
            for _ in range(2):
                for other in found:
                    left = left - (left @ other) * other
            if float(left.norm()) < _PARALLEL:
                raise UsageError(f"direction {place} lies in the span of those before it", "ask for fewer directions")
            found.append(left / left.norm())
        return [self.scale * z for z in found]


def metric(name: str, theta: Tensor, layout: Layout) -> Metric:
    """A metric at a point.

    Args:
        name: One of `METRICS`.
        theta: The point, shape (D,); only its block norms matter, and none for "euclidean".
        layout: Where each tensor lies.

    Returns:
        The metric; a block of zeros takes the mean length of the others.

    Raises:
        UsageError: If theta is zero everywhere and the metric is not Euclidean.
    """
    if name == "euclidean":
        nothing = torch.zeros(theta.numel(), dtype=torch.int64)
        return Metric(name, nothing, torch.ones(theta.numel(), dtype=torch.float64))
    views = layout.filters(theta) if name == "filter" else [view.view(1, -1) for view in layout.views(theta).values()]
    sizes = torch.cat([torch.full((len(rows),), rows.shape[1]) for rows in views])
    block = torch.arange(len(sizes)).repeat_interleave(sizes)
    weights = theta.double().cpu()
    length = torch.zeros(int(block.max()) + 1, dtype=torch.float64).index_add_(0, block, weights.square()).sqrt()
    if not bool(length.any()):
        raise UsageError(f"all weights are zero: the metric '{name}' has no unit", "use --metric euclidean")
    length[length == 0] = length[length > 0].mean()
    return Metric(name, block, length[block])


def sign_matched(vector: Tensor, theta: Tensor) -> Tensor:
    """|v|·sign(w): the same sizes, every sign that of the weight; zero weights get none. Shape (D,)."""
    return vector.abs() * theta.double().sign()


def same_sign(vector: Tensor, theta: Tensor) -> float:
    """Part of the entries with the weight's sign, among those where neither is zero; ½ for a random direction."""
    product = vector.double() * theta.double()
    told = int((product != 0).sum())
    return float((product > 0).sum()) / told if told else math.nan


def shares(vector: Tensor, model: nn.Module) -> Tensor:
    """Parts of ‖v‖² (Euclidean) in weights, biases and BatchNorm, float64, shape (3,); they add up to 1."""
    norms = {id(p) for layer in model.modules() if isinstance(layer, _BatchNorm) for p in layer.parameters()}
    found, start = torch.zeros(3, dtype=torch.float64), 0
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kind = 2 if id(parameter) in norms else 1 if name.rpartition(".")[2] == "bias" else 0
            found[kind] += vector[start : start + parameter.numel()].double().square().sum()
            start += parameter.numel()
    return found / found.sum()
