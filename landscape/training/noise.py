"""Gradients with Gaussian randomness: the noise of SGD modelled as a Gaussian, and the loss convolved with one."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from landscape.training.batches import Batches
from landscape.training.order import derive, generator
from landscape.training.passes import Passes
from landscape.training.settings import Settings
from landscape.training.sharpness import Told


def noisy_weights(n: int, batch: int, source: torch.Generator) -> Tensor:
    """Weights a_i of the examples' losses for which Σ a_i ∇ℓ_i is the mean gradient plus noise of covariance C/B.

    a_i = 1/n + (z_i − z̄)/√(nB) with z ~ N(0, I). Since E[(z_i − z̄)(z_j − z̄)] = δ_ij − 1/n, the covariance of
    n^(−1/2) Σ(z_i − z̄)∇ℓ_i given the examples is exactly C = (1/n)Σ∇ℓ_i∇ℓ_iᵀ − gḡᵀ, their covariance. So
    gradient and noise together cost one backward pass.

    Args:
        n: Examples.
        batch: B of the noise.
        source: Source of z.

    Returns:
        Weights, shape (n,), of sum 1.
    """
    z = torch.randn(n, generator=source, device=source.device)
    return 1 / n + (z - z.mean()) / math.sqrt(n * batch)


class _Stateless:
    """Gradients that depend on the step and the weights alone."""

    def __init__(self, settings: Settings, passes: Passes, batches: Batches) -> None:
        self._settings, self._passes, self._batches, self._flat = settings, passes, batches, passes.flat

    def state(self) -> dict[str, Tensor]:
        """No state."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """No state."""


class GaussianNoise(_Stateless):
    """w ← w − η∇L(w) + √(η/B)·ω with ω ~ N(0, ηC(w)): the gradient plus noise of covariance C/B.

    L and C are those of the step's batch; with a batch of all examples and `noise_batch` B this is the equation itself,
    with a smaller one the noise of sampling comes on top. In a network with BatchNorm an example's loss depends on
    the others, and C is the covariance of the gradients taken with the batch's statistics held as functions of w.

    Source: thesis, equation 2.4.
    """

    def __call__(self, t: int) -> Told:
        """Put the direction of step t into the flat gradient."""
        s, (inputs, targets) = self._settings, self._batches(t)
        weights = noisy_weights(
            len(targets), s.noise_batch or self._batches.size, generator(s.seed, "gaussian", t, targets.device)
        ).to(self._flat.theta.dtype)
        found = self._passes.gradient(inputs, targets, derive(s.seed, "noise", t), weights)
        length = torch.linalg.vector_norm(self._flat.gradient)
        return {"loss": found.loss, "error": found.error, "gradient": length}


class Smoothing(_Stateless):
    """∇E L(w + σ_t z), z ~ N(0, I), from K samples, with σ_t = σ(1 − t/T) falling to 0.

    Optimization by diffusion solves a series of problems, each less smoothed than the one before; here the smoothed
    gradient is a mean over samples and the smoothing narrows at every step. There is no clean pass: the loss told is
    the smoothed one, and the first sample moves the running BatchNorm statistics.

    Source: Mobahi 2016, arXiv 1601.04114 (which smooths in closed form; ours is the Monte-Carlo estimate).
    """

    def __call__(self, t: int) -> Told:
        """Put the direction of step t into the flat gradient."""
        s, flat = self._settings, self._flat
        inputs, targets = self._batches(t)
        sigma = s.sigma * (1 - t / (s.epochs * self._batches.per_epoch))
        saved, total = flat.theta.clone(), torch.zeros_like(flat.theta)
        told: Told = {}
        for k in range(s.samples):
            source = generator(s.seed, f"smoothing {k}", t, flat.theta.device)
            z = torch.randn(len(saved), generator=source, device=saved.device, dtype=saved.dtype)
            flat.theta.copy_(saved).add_(z, alpha=sigma)
            seed = derive(s.seed, "noise", t)
            if k == 0:
                found = self._passes.gradient(inputs, targets, seed)
                told = {"perturbation": sigma * torch.linalg.vector_norm(z)}
            else:
                with self._passes.elsewhere():
                    found = self._passes.gradient(inputs, targets, seed)
            total.add_(flat.gradient, alpha=1 / s.samples)
            for key, value in (("loss", found.loss), ("error", found.error)):
                told[key] = told.get(key, 0) + value / s.samples
        flat.theta.copy_(saved)
        flat.gradient.copy_(total)
        return told | {"gradient": torch.linalg.vector_norm(total)}
