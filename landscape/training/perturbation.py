"""SAM's perturbation: the step of length ρ that raises the linearised loss most.

Source: Foret et al. 2021, arXiv 2010.01412, equation 2; thesis, equation 2.2, for general p.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from landscape.training.mask import Mask
from landscape.training.rates import radius
from landscape.training.settings import Settings
from landscape.vector import FlatModel, Layout


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


def per_tensor_perturbation(gradient: Tensor, rho: float, norm: float, layout: Layout) -> Tensor:
    """The maximiser of ⟨ε, g⟩ over ‖ε_l‖_p ≤ ρ/L^(1/p) for each of L tensors, so that ‖ε‖_p ≤ ρ in all.

    Args:
        gradient: g, shape (D,).
        rho: Radius of the whole.
        norm: p in [1, ∞].
        layout: Where each tensor lies.

    Returns:
        ε, shape (D,); ‖ε‖_p = ρ if no tensor's gradient is zero.
    """
    share = rho / len(layout.names) ** (1 / norm)
    return torch.cat([sam_perturbation(gradient[place], share, norm) for _, _, place in layout.slices()])


def scaled_entries(layout: Layout, rule: str, device: torch.device) -> Tensor:
    """Which weights ASAM scales by |w|, the others having T = 1.

    Args:
        layout: Names and places of the tensors.
        rule: "weights" (the authors' code: tensors whose name holds "weight", BatchNorm's scale among them) or "all".
        device: Where the mask goes.

    Returns:
        Boolean mask, shape (D,).
    """
    entries = torch.zeros(layout.size, dtype=torch.bool, device=device)
    for name, _, place in layout.slices():
        entries[place] = rule == "all" or "weight" in name
    return entries


class Perturbation:
    """ε̂ of weights, gradient and step: SAM's rule, seen through a scaling of the weights and a mask.

    With T the scaling and M the mask, ε̂ = T·argmax ⟨·, Tg⟩ (Kwon et al. 2021, arXiv 2102.11600, equation 5: the
    maximiser over ‖T⁻¹ε‖_p ≤ ρ). A mask is applied to g where its method takes the norm over what is kept, else to ε̂.

    Attributes:
        mask: Which entries are perturbed; None for all.
    """

    def __init__(self, flat: FlatModel, settings: Settings, n: int, mask: Mask | None) -> None:
        """Keep the rule.

        Args:
            flat: The network.
            settings: ρ and its schedule, p, scope, scaling.
            n: Number of training examples, which fixes the schedule.
            mask: Which entries are perturbed.
        """
        self.mask = mask
        self._settings = settings
        self._n = n
        self._layout = flat.layout
        rule = settings.part("adaptive")
        self._scaled = None if rule == "none" else scaled_entries(flat.layout, rule, flat.theta.device)

    def __call__(self, theta: Tensor, gradient: Tensor, t: int) -> Tensor:
        """ε̂ at weights theta with the gradient there, shape (D,); neither argument is changed."""
        s, mask = self._settings, self.mask
        if s.decay_in_epsilon:
            gradient = gradient + s.weight_decay * theta
        scale = None if self._scaled is None else torch.where(self._scaled, theta.abs() + s.eta, 1.0)
        if scale is not None:
            gradient = gradient * scale
        kept = mask(t, gradient) if mask else None
        if kept is not None and mask and mask.inside:
            gradient = gradient * kept
        epsilon = self._unmasked(gradient, radius(s, self._n, t) * (mask.factor if mask else 1.0))
        if scale is not None:
            epsilon = epsilon * scale
        return epsilon if kept is None or (mask and mask.inside) else epsilon * kept

    def _unmasked(self, gradient: Tensor, rho: float) -> Tensor:
        if not self._settings.normalised:
            return rho * gradient
        if self._settings.scope == "layer":
            return per_tensor_perturbation(gradient, rho, self._settings.norm, self._layout)
        return sam_perturbation(gradient, rho, self._settings.norm)
