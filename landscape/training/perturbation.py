"""SAM's perturbation: the step of length ρ that raises the linearised loss most.

Source: Foret et al. 2021, arXiv 2010.01412, equation 2; thesis, equation 2.2, for general p.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sam_perturbation(gradient: Tensor, rho: float, norm: float = 2.0) -> Tensor:
    """The maximiser of ⟨ε, g⟩ over ‖ε‖_p ≤ ρ.

    By Hölder's inequality ε = ρ sign(g) |g|^(q−1) / ‖|g|^(q−1)‖_p with 1/p + 1/q = 1, for which ⟨ε, g⟩ = ρ‖g‖_q;
    p = 2 gives ρ g/‖g‖₂, p = ∞ gives ρ sign(g), p = 1 puts all on the largest entry. The gradient is scaled by its
    largest entry first, so that no power overflows. A zero gradient gives no perturbation; the test is made
    on the device.

    Args:
        gradient: g, shape (D,).
        rho: Radius, at least 0, in the units of theta.
        norm: p in [1, ∞].

    Returns:
        ε, shape (D,), ‖ε‖_p = ρ.
    """
    if norm == 2.0:
        length = torch.linalg.vector_norm(gradient)
        usable = torch.isfinite(length) & (length > 0)
        return gradient * torch.where(usable, rho / length, 0)
    size = gradient.abs()
    top = size.max()
    usable = torch.isfinite(top) & (top > 0)
    share = torch.where(usable, size / top, 0)
    if norm == 1.0:
        weight = torch.zeros_like(gradient).index_fill_(0, size.argmax(), 1.0)
    else:
        q = 1.0 if math.isinf(norm) else norm / (norm - 1)
        weight = share ** (q - 1)
        weight = weight / torch.linalg.vector_norm(weight, ord=norm)
    return torch.where(usable, rho * gradient.sign() * weight, 0)
