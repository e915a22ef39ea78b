"""Toy functions with their exact gradients and Hessians; tests hold both against float64 autograd.

Source: thesis, section 3.1 (sextic, LINEX); Varian 1975 (LINEX); Beale 1958; review of SAM, figures 1 and 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Toy:
    """A function of d parameters.

    Attributes:
        name: What it is called.
        formula: How it is written.
        value: From points (..., d) to values (...,).
        gradient: From points (..., d) to gradients (..., d).
        hessian: From points (..., d) to Hessians (..., d, d).
    """

    name: str
    formula: str
    value: Callable[[Tensor], Tensor]
    gradient: Callable[[Tensor], Tensor]
    hessian: Callable[[Tensor], Tensor]


def _matrix(xx: Tensor, xy: Tensor, yy: Tensor) -> Tensor:
    return torch.stack([torch.stack([xx, xy], -1), torch.stack([xy, yy], -1)], -2)


def quadratic(*eigenvalues: float, name: str = "quadratic") -> Toy:
    """½ Σ λᵢ wᵢ², a saddle where an eigenvalue is negative."""

    def spectrum(w: Tensor) -> Tensor:
        return w.new_tensor(eigenvalues)

    return Toy(
        name,
        " + ".join(f"½·{v:g}·w{i}²" for i, v in enumerate(eigenvalues, 1)),
        lambda w: (0.5 * spectrum(w) * w**2).sum(-1),
        lambda w: spectrum(w) * w,
        lambda w: torch.diag(spectrum(w)).expand(*w.shape, w.shape[-1]),
    )


SADDLE = quadratic(2.0, -2.0, name="x² − y²")


def linex(*a: float) -> Toy:
    """Σ exp(aᵢwᵢ) − aᵢwᵢ − 1: exponential on one side of 0, nearly linear on the other.

    Args:
        *a: One coefficient for each parameter; the flat side lies where aᵢwᵢ < 0.

    Returns:
        The function, with its minimum at 0.
    """

    def inside(w: Tensor) -> tuple[Tensor, Tensor]:
        slope = w.new_tensor(a)
        return slope, slope * w

    def value(w: Tensor) -> Tensor:
        _, x = inside(w)
        return (torch.expm1(x) - x).sum(-1)

    def gradient(w: Tensor) -> Tensor:
        slope, x = inside(w)
        return slope * torch.expm1(x)

    def hessian(w: Tensor) -> Tensor:
        slope, x = inside(w)
        return torch.diag_embed(slope**2 * x.exp())

    return Toy("LINEX", f"Σ exp(aw) − aw − 1, a = {', '.join(f'{v:g}' for v in a)}", value, gradient, hessian)


def kink(c: float) -> Toy:
    """max(w, −c·w) on one parameter: slope 1 on the right, c on the left.

    The limit case of an (r, 1, c, 0)-asymmetric direction (thesis, definition 2.3.1), which no smooth function is.

    Args:
        c: How much steeper the left side is.

    Returns:
        The function, with its minimum at 0.
    """
    return Toy(
        "kinked valley",
        f"max(w, −{c:g}·w)",
        lambda w: torch.maximum(w, -c * w).sum(-1),
        lambda w: torch.where(w > 0, 1.0, torch.where(w < 0, -c, 0.0)).to(w.dtype),
        lambda w: torch.zeros(*w.shape, w.shape[-1], dtype=w.dtype, device=w.device),
    )


def _sextic(w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The factor p = w(w − 1)(w − 2) and its first two derivatives."""
    return w * (w - 1) * (w - 2), 3 * w**2 - 6 * w + 2, 6 * w - 6


def _sextic_hessian(w: Tensor) -> Tensor:
    p, d, dd = _sextic(w)
    return (2 * d**2 + 2 * p * dd).unsqueeze(-1)


SEXTIC = Toy(
    "sextic",
    "w²(w − 1)²(w − 2)²",
    lambda w: (_sextic(w)[0] ** 2).sum(-1),
    lambda w: 2 * _sextic(w)[0] * _sextic(w)[1],
    _sextic_hessian,
)


def _beale(w: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Terms cᵢ − x + xyⁱ for i = 1, 2, 3 with their derivatives by x, y, xy and yy, each (..., 3)."""
    x, y = w[..., :1], w[..., 1:]
    powers = torch.cat([torch.ones_like(y), y, y**2, y**3], -1)
    i = w.new_tensor([1.0, 2.0, 3.0])
    terms = w.new_tensor([1.5, 2.25, 2.625]) - x + x * powers[..., 1:]
    bend = torch.cat([torch.zeros_like(y), 2 * powers[..., :1], 6 * y], -1)
    return terms, powers[..., 1:] - 1, i * x * powers[..., :3], i * powers[..., :3], x * bend


def _beale_gradient(w: Tensor) -> Tensor:
    t, dx, dy, _, _ = _beale(w)
    return 2 * torch.stack([(t * dx).sum(-1), (t * dy).sum(-1)], -1)


def _beale_hessian(w: Tensor) -> Tensor:
    t, dx, dy, dxy, dyy = _beale(w)
    return _matrix(
        2 * (dx * dx).sum(-1), 2 * (dx * dy + t * dxy).sum(-1), 2 * (dy * dy + t * dyy).sum(-1)
    )  # the terms are linear in x


BEALE = Toy(
    "Beale",
    "(1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)²",
    lambda w: (_beale(w)[0] ** 2).sum(-1),
    _beale_gradient,
    _beale_hessian,
)
BEALE_SADDLE = (0.0, 1.0)
BEALE_MINIMUM = (3.0, 0.5)

CROSS = Toy(
    "crossing valleys",
    "(x − 1)²y²",
    lambda w: (w[..., 0] - 1) ** 2 * w[..., 1] ** 2,
    lambda w: 2 * (w[..., 0] - 1).unsqueeze(-1) * w[..., 1:] * torch.stack([w[..., 1], w[..., 0] - 1], -1),
    lambda w: _matrix(2 * w[..., 1] ** 2, 4 * (w[..., 0] - 1) * w[..., 1], 2 * (w[..., 0] - 1) ** 2),
)


def _slit(w: Tensor, c: float = 1e-4) -> tuple[Tensor, Tensor, Tensor]:
    """The factor q = w²/(w² + c) and its first two derivatives."""
    below = w**2 + c
    return w**2 / below, 2 * c * w / below**2, 2 * c * (c - 3 * w**2) / below**3


def _slit_gradient(w: Tensor) -> Tensor:
    q, d, _ = _slit(w)
    return 2 * (w - 1) * q + (w - 1) ** 2 * d


def _slit_hessian(w: Tensor) -> Tensor:
    q, d, dd = _slit(w)
    return (2 * q + 4 * (w - 1) * d + (w - 1) ** 2 * dd).unsqueeze(-1)


SLIT = Toy(
    "slit",
    "x²(x − 1)²/(x² + 1e-4)",
    lambda w: ((w - 1) ** 2 * _slit(w)[0]).sum(-1),
    _slit_gradient,
    _slit_hessian,
)

BOWL = Toy(
    "saturating bowl",
    "Σ x²/(1 + x²)",
    lambda w: (w**2 / (1 + w**2)).sum(-1),
    lambda w: 2 * w / (1 + w**2) ** 2,
    lambda w: torch.diag_embed((2 - 6 * w**2) / (1 + w**2) ** 3),
)
