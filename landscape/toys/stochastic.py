"""SAM with falling η and ρ on a smooth function that is not convex, with noisy gradients.

Source: Mi et al. 2022, arXiv 2210.05177, theorem on SAM with η₀/√t and ρ₀/√t, as told by the review of SAM, theorem 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from landscape.toys.descent import perturbation
from landscape.toys.functions import BOWL


def squared_gradients(
    start: Tensor, steps: Sequence[int], lr: float, rho: Tensor, noise: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Run x ← x − (η₀/√t)·g(x + (ρ₀/√t)·g/‖g‖) on the saturating bowl, the noise of both g being the same.

    Args:
        start: Where to begin, shape (..., d).
        steps: After how many steps to write down, ascending from 1.
        lr: η₀.
        rho: ρ₀, to be broadcast with shape (..., 1).
        noise: σ, where E‖g − ∇f‖² = σ².
        generator: Where random numbers come from.

    Returns:
        Mean of ‖∇f(x_t)‖² over the steps before each of `steps`, shape (T, ...), and f at the end, shape (...).
    """
    x, total, kept = start, torch.zeros_like(start[..., 0]), []
    scale = noise / math.sqrt(start.shape[-1])
    marks = set(steps)
    for t in range(1, max(steps) + 1):
        gradient = BOWL.gradient(x)
        total = total + gradient.square().sum(-1)
        xi = scale * torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        near = x + perturbation(gradient + xi, rho / math.sqrt(t), normalised=True)
        x = x - lr / math.sqrt(t) * (BOWL.gradient(near) + xi)
        if t in marks:
            kept.append(total / t)
    return torch.stack(kept), BOWL.value(x)


SMOOTHNESS = 2.0
"""L of the saturating bowl: its second derivative lies in [−1/2, 2]."""


def steepest(size: int) -> float:
    """G, the largest norm of the saturating bowl's gradient in d parameters: 3√3/8 for each, at ±1/√3."""
    return 3 * math.sqrt(3) / 8 * math.sqrt(size)


def bound(step: Tensor, fall: float, lr: float, rho: float, noise: float, size: int) -> Tensor:
    """The theorem's C₁/√T + C₂ ln T/√T.

    Args:
        step: T, shape (T,).
        fall: f(x₀) − E f(x_T).
        lr: η₀.
        rho: ρ₀, at most Gη₀.
        noise: σ.
        size: d.

    Returns:
        The bound, shape (T,).
    """
    first = 2 / lr * fall
    second = 2 * (SMOOTHNESS * noise**2 * lr + SMOOTHNESS * steepest(size) * rho)
    return (first + second * step.log()) / step.sqrt()
