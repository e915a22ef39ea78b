"""Combinations of the gradient g at the weights with the gradient g_s at the perturbed weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from landscape.training.settings import Settings


def surrogate_gap_direction(g: Tensor, g_s: Tensor, alpha: float) -> Tensor:
    """GSAM's direction g_s − α·g_⊥, where g_⊥ is the part of g orthogonal to g_s.

    To first order a step along −g_⊥ leaves the perturbed loss alone and raises the loss at the weights, so that
    the gap between both shrinks. A zero g_s has no direction: all of g is then orthogonal to it.

    Source: Zhuang et al. 2022, arXiv 2203.08065, Algorithm 1.

    Args:
        g: Gradient at the weights, shape (D,).
        g_s: Gradient at the perturbed weights, shape (D,).
        alpha: Weight of the orthogonal part.

    Returns:
        Direction, shape (D,).
    """
    return g_s - alpha * (g - _share(g @ g_s, g_s @ g_s) * g_s)


def new_part(g: Tensor, g_s: Tensor) -> Tensor:
    """LookSAM's g_v, the part of g_s orthogonal to g: g_s − ⟨g_s,ĝ⟩ĝ, shape (D,)."""
    return g_s - _share(g_s @ g, g @ g) * g


def reuse_direction(g: Tensor, g_v: Tensor, alpha: float) -> Tensor:
    """LookSAM's direction between SAM steps, g + α·(‖g‖/‖g_v‖)·g_v, with norms over all tensors as in the paper.

    Args:
        g: Gradient at the weights, shape (D,).
        g_v: Part kept from the last SAM step, shape (D,); zero adds nothing.
        alpha: Weight of that part.

    Returns:
        Direction, shape (D,).
    """
    return g + alpha * _share(torch.linalg.vector_norm(g), torch.linalg.vector_norm(g_v)) * g_v


def _share(a: Tensor, b: Tensor) -> Tensor:
    """a/b, or 0 where b is 0; tested on the device."""
    return torch.where(b > 0, a / torch.where(b > 0, b, 1), 0)


class Combination(Protocol):
    """How a step's direction is made; both return a vector of shape (D,)."""

    def perturbed(self, g: Tensor, g_s: Tensor) -> Tensor:
        """Direction of a SAM step."""
        ...

    def unperturbed(self, g: Tensor) -> Tensor:
        """Direction of a step without SAM."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""


class Gap:
    """GSAM."""

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha

    def perturbed(self, g: Tensor, g_s: Tensor) -> Tensor:
        """g_s − α·g_⊥."""
        return surrogate_gap_direction(g, g_s, self._alpha)

    def unperturbed(self, g: Tensor) -> Tensor:
        """The gradient itself."""
        return g

    def state(self) -> dict[str, Tensor]:
        """No state."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """No state."""


class Look:
    """LookSAM (Liu et al. 2022, arXiv 2203.02714, Algorithm 1); its state is g_v."""

    def __init__(self, alpha: float, blank: Tensor) -> None:
        self._alpha = alpha
        self._kept = torch.zeros_like(blank)

    def perturbed(self, g: Tensor, g_s: Tensor) -> Tensor:
        """g_s; keeps its new part for the steps to come."""
        self._kept.copy_(new_part(g, g_s))
        return g_s

    def unperturbed(self, g: Tensor) -> Tensor:
        """The gradient with the kept part, see `reuse_direction`."""
        return reuse_direction(g, self._kept, self._alpha)

    def state(self) -> dict[str, Tensor]:
        """The part kept."""
        return {"kept": self._kept}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        self._kept.copy_(state["kept"])


def make_combination(settings: Settings, blank: Tensor) -> Combination | None:
    """The combination that the settings choose, None for g_s alone; `blank` has theta's shape and device."""
    choice = settings.part("combine")
    return Gap(settings.alpha) if choice == "gap" else Look(settings.alpha, blank) if choice == "look" else None
