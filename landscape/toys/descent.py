"""Gradient descent and SAM on a toy function, from many starts at once.

SAM's step goes along ∇L(w + ε); ε = ρ∇L/‖∇L‖ as in Foret et al. 2021 (normalised), or ε = ρ∇L as in the stability
analysis of Kim et al. 2023, arXiv 2301.06308. A zero gradient is not perturbed; ρ = 0 is gradient descent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Field = Callable[[Tensor], Tensor]
"""From points (..., d) to vectors (..., d)."""


def perturbation(gradient: Tensor, rho: Tensor | float, normalised: Tensor | bool) -> Tensor:
    """SAM's ε.

    Args:
        gradient: Gradients, shape (..., d).
        rho: Radius, or factor of the gradient, to be broadcast with shape (..., 1).
        normalised: Whether ‖ε‖₂ = ρ, to be broadcast with shape (..., 1); else ε = ρ∇L.

    Returns:
        ε, shape (..., d); 0 where the gradient is 0.
    """
    norm = gradient.norm(dim=-1, keepdim=True)
    return rho * gradient / torch.where((norm > 0) & normalised, norm, 1.0)


def sam_gradient(gradient: Field, w: Tensor, rho: Tensor | float, normalised: Tensor | bool) -> Tensor:
    """∇L(w + ε), the direction of SAM's step, shape (..., d)."""
    return gradient(w + perturbation(gradient(w), rho, normalised))


def descend(
    gradient: Field,
    start: Tensor,
    steps: Sequence[int],
    *,
    lr: Tensor | float,
    rho: Tensor | float,
    normalised: Tensor | bool,
) -> Tensor:
    """Follow w ← w − η∇L(w + ε).

    Args:
        gradient: ∇L.
        start: Where to begin, shape (..., d).
        steps: After how many steps to write down where they are, ascending.
        lr: η, to be broadcast with shape (..., 1).
        rho: ρ, to be broadcast with shape (..., 1); 0 is gradient descent.
        normalised: Whether ε has length ρ, to be broadcast likewise.

    Returns:
        The path, shape (T, ..., d), infinite or NaN where it diverged.
    """
    w, done, path = start, 0, []
    for until in steps:
        for _ in range(until - done):
            w = w - lr * sam_gradient(gradient, w, rho, normalised)
        done = until
        path.append(w)
    return torch.stack(path)


def growth(eigenvalue: float, lr: float, rho: float) -> float:
    """Factor by which one step of SAM with ε = ρ∇L moves away from a critical point along an eigenvector.

    The step is w ← (1 − ηλ(1 + ρλ))·w on a quadratic, so a direction of negative curvature attracts exactly if
    ρ > 1/|λ| and ηλ(1 + ρλ) < 2.

    Args:
        eigenvalue: λ of the Hessian there.
        lr: η.
        rho: ρ.

    Returns:
        1 − ηλ(1 + ρλ).
    """
    return 1 - lr * eigenvalue * (1 + rho * eigenvalue)


def heavy_ball(
    state: Tensor,
    gradient: Field,
    *,
    lr: float,
    momentum: Tensor | float,
    rho: Tensor | float,
    normalised: Tensor | bool,
) -> Tensor:
    """One step of SAM with momentum: v ← βv + ∇L(w + ε), w ← w − ηv.

    Args:
        state: w and v, stacked, shape (2, ..., d).
        gradient: ∇L of this step's batch, the same in both passes.
        lr: η.
        momentum: β, to be broadcast with shape (..., 1).
        rho: ρ, likewise.
        normalised: Whether ε has length ρ, likewise.

    Returns:
        The next state.
    """
    w, v = state[0], state[1]
    v = momentum * v + sam_gradient(gradient, w, rho, normalised)
    return torch.stack([w - lr * v, v])
