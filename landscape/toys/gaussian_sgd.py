"""Gaussian SGD on ½λw², and two readings of SAM on it: one step, and the distribution of where it lands.

w ← w − η(λw + ξ) with ξ ~ N(0, λ/B): the noise of equation 2.4, √(η/B)·N(0, ηC), with C = λ (assumption 2.2.3). SAM
with the gradient of all data perturbs by ρ·sign(w); SAM on one batch by ρ·sign(λw + ξ), with the ξ of its step.

Source: thesis, equations 2.1 and 2.4, theorem 2.2.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from landscape.result import Array


@dataclass(frozen=True)
class GaussianSGD:
    """A noisy walk in a quadratic valley; each field is a number or a tensor to be broadcast.

    Attributes:
        curvature: λ.
        lr: η.
        batch: B, which need not be an integer: only η/B counts.
        rho: ρ of SAM, in units of w; 0 is SGD.
        shared: Whether ascent and descent see the same noise, as on a batch; else the ascent sees none.
    """

    curvature: float | Tensor
    lr: float
    batch: float | Tensor
    rho: float | Tensor = 0.0
    shared: bool | Tensor = True

    def move(self, w: Tensor, noise: Tensor) -> Tensor:
        """One step of all walkers.

        Args:
            w: Where they are, shape (...).
            noise: Standard normal numbers, shape (...).

        Returns:
            Where they are next.
        """
        batch = torch.as_tensor(self.batch / self.curvature, dtype=w.dtype, device=w.device)
        gradient = self.curvature * w + noise / batch.sqrt()
        shared = torch.as_tensor(self.shared, device=w.device)
        ascent = torch.where(shared, gradient, w).sign()
        return w - self.lr * (gradient + self.curvature * self.rho * ascent)

    def below(self, after: Array, before: Array) -> Array:
        """Probability of landing at or below a place, for one setting of numbers.

        Args:
            after: Places a, to be broadcast with `before`.
            before: Places w.

        Returns:
            P(w' ≤ a | w).
        """
        from scipy.special import ndtr

        curvature, push = float(self.curvature), float(self.curvature * self.rho)
        needed = (before - after) / self.lr  # w' ≤ a where the whole step's gradient is at least this
        thresholded = np.sign(needed) * np.maximum(abs(needed) - push, 0)  # the inverse of g + λρ·sign(g)
        least = thresholded if self.shared else needed - push * np.sign(before)
        scale = np.sqrt(float(self.batch) / curvature)
        found: Array = ndtr((curvature * before - least) * scale)
        return found


def claimed_exponent(curvature: float, depth: float) -> float:
    """Theorem 2.2.5's limit of (η/B)·ln E[ν] for one parameter: 2ΔL·λ^(−1/2)."""
    return 2 * depth / math.sqrt(curvature)


def exact_exponent(curvature: float, depth: float) -> float:
    """The limit by the quasi-potential 2∫L'/C dw of dw = −L'dt + √(ηC/B) dW with C = λ: 2ΔL/λ."""
    return 2 * depth / curvature
