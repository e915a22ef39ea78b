"""Masks of the perturbation: which entries of ε̂ a step keeps.

A mask is applied to g before the norm is taken ("inside") or to ε̂ after it. Masks drawn anew at each step are pure
functions of (seed, t); the two of SSAM last for epochs and are part of the state of a run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from landscape.batchnorm import mode
from landscape.errors import UsageError
from landscape.training.batches import Batches
from landscape.training.order import derive, generator
from landscape.training.passes import Passes
from landscape.training.settings import Settings

NORMALISATION = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class Mask(Protocol):
    """Entries of ε̂ that are kept.

    Attributes:
        inside: Whether the norm is taken over the entries kept alone.
        factor: What ρ is multiplied by.
    """

    inside: bool
    factor: float

    def prepare(self, t: int) -> None:
        """Do what must be done before the first pass of a SAM step."""

    def tensors(self, t: int) -> list[bool] | None:
        """For each tensor whether the first pass of step t differentiates it; None for all."""

    def __call__(self, t: int, gradient: Tensor) -> Tensor | None:
        """Boolean mask, shape (D,); None if the gradient is masked already."""

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""


class _Stateless:
    """What a mask without state and preparation has in common with others of its kind."""

    def prepare(self, t: int) -> None:
        """Nothing to do."""

    def tensors(self, t: int) -> list[bool] | None:
        """All tensors are differentiated."""
        return None

    def state(self) -> dict[str, Tensor]:
        """No state."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """No state."""


class TensorMask(_Stateless):
    """ESAM's stochastic weight perturbation as in its code: each tensor is kept with probability β.

    ε̂ = (ρ/β)·M⊙g/‖M⊙g‖, so that ‖ε̂‖ = ρ/β. A dropped tensor needs no gradient, which saves its part of the pass.

    Source: Du et al. 2022, arXiv 2110.03141; their code, where the tensors are drawn after the step before.
    """

    inside = True

    def __init__(self, settings: Settings, sizes: list[int]) -> None:
        self.factor = 1 / settings.beta
        self._beta, self._seed, self._sizes = settings.beta, settings.seed, sizes
        self._decayed = settings.decay_in_epsilon

    def tensors(self, t: int) -> list[bool]:
        """Each tensor with probability β."""
        chance = torch.rand(len(self._sizes), generator=generator(self._seed, "swp", t))
        drawn: list[bool] = (chance < self._beta).tolist()
        return drawn

    def __call__(self, t: int, gradient: Tensor) -> Tensor | None:
        """The gradient has been masked by not being computed, but weight decay may have been added to it."""
        if not self._decayed:
            return None
        pieces = [torch.full((n,), kept) for n, kept in zip(self._sizes, self.tensors(t), strict=True)]
        return torch.cat(pieces).to(gradient.device)


class WeightMask(_Stateless):
    """ESAM's stochastic weight perturbation as in its paper: each weight is kept with probability β.

    ε̂ = (1/β)·M⊙ρĝ, whose expectation is SAM's.

    Source: Du et al. 2022, arXiv 2110.03141, section 3.1.
    """

    inside = False

    def __init__(self, settings: Settings) -> None:
        self.factor = 1 / settings.beta
        self._beta, self._seed = settings.beta, settings.seed

    def __call__(self, t: int, gradient: Tensor) -> Tensor:
        """Each weight with probability β."""
        source = generator(self._seed, "swp", t, gradient.device)
        return torch.rand(len(gradient), generator=source, device=gradient.device) < self._beta


class NormMask(_Stateless):
    """SAM-ON: only scales and shifts of normalisation layers are perturbed; the norm is over them alone.

    Source: Mueller et al. 2023, arXiv 2306.04226; the norm's scope: the authors in issue 1 of mueller-mp/SAM-ON.
    """

    inside = True
    factor = 1.0

    def __init__(self, passes: Passes) -> None:
        """Find the layers.

        Args:
            passes: Knows the network.

        Raises:
            UsageError: If there is no such parameter.
        """
        layers = (m for m in passes.model.modules() if isinstance(m, NORMALISATION))
        theirs = {id(p) for layer in layers for p in layer.parameters(recurse=False)}
        pieces = [torch.full((p.numel(),), id(p) in theirs) for p in passes.parameters]
        self._kept = torch.cat(pieces).to(passes.flat.theta.device)
        if not bool(self._kept.any()):
            raise UsageError("sam-on perturbs normalisation layers, and the network has none", "choose another method")

    def __call__(self, t: int, gradient: Tensor) -> Tensor:
        """The same at every step."""
        return self._kept


class _Lasting:
    """A mask that is renewed every few epochs; its state is the mask and the epoch it was made for."""

    inside = False
    factor = 1.0

    def __init__(self, settings: Settings, passes: Passes, batches: Batches) -> None:
        self._settings, self._passes, self._batches = settings, passes, batches
        self._interval = settings.mask_every * batches.per_epoch
        self._size = passes.flat.layout.size
        self._density = max(1, round((1 - settings.sparsity) * self._size))
        self._kept = torch.ones(self._size, dtype=torch.bool, device=passes.flat.theta.device)
        self._last = -1

    def _due(self, t: int) -> bool:
        due = t // self._interval > self._last
        self._last = t // self._interval
        return due

    def tensors(self, t: int) -> list[bool] | None:
        """All tensors are differentiated."""
        return None

    def state(self) -> dict[str, Tensor]:
        """Mask and interval."""
        return {"kept": self._kept, "last": torch.tensor(self._last)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        self._kept.copy_(state["kept"])
        self._last = int(state["last"])


class FisherMask(_Lasting):
    """SSAM-F: the weights of largest empirical Fisher information Σ(∂ℓ_i/∂w)² over F examples.

    The examples are drawn without augmentation and differentiated one by one with running BatchNorm statistics,
    where the authors' code draws augmented ones and lets them move the statistics. ε̂ = ρ·M⊙ĝ, the norm over all of g.

    Source: Mi et al. 2022, arXiv 2210.05177, Algorithm 2.
    """

    def prepare(self, t: int) -> None:
        """Renew the mask if it is time."""
        if not self._due(t):
            return
        seed, n = self._settings.seed, len(self._batches.train)
        drawn = torch.randperm(n, generator=generator(seed, "fisher", t))[: self._settings.fisher_examples]
        total = torch.zeros_like(self._passes.flat.gradient)
        with mode(self._passes.model, training=False):
            for example in torch.split(drawn, 1):
                self._passes.gradient(*self._batches.plain(example), derive(seed, "fisher", t))
                total += self._passes.flat.gradient.square()
        self._kept.zero_()
        self._kept[total.topk(self._density).indices] = True

    def __call__(self, t: int, gradient: Tensor) -> Tensor:
        """The weights in force."""
        return self._kept


class DynamicMask(_Lasting):
    """SSAM-D: a random mask from which weights of small gradient are dropped and others grown at random.

    At a refresh ½d(1 + cos πt/T) of the mask goes, by smallest |g|, and as many others come.

    Source: Mi et al. 2022, arXiv 2210.05177, Algorithm 3.
    """

    def prepare(self, t: int) -> None:
        """Nothing to do before the gradient is known."""

    def __call__(self, t: int, gradient: Tensor) -> Tensor:
        """The weights in force, some exchanged if it is time."""
        first = self._last < 0
        if not self._due(t):
            return self._kept
        chance = torch.rand(
            self._size, generator=generator(self._settings.seed, "dynamic", t, gradient.device), device=gradient.device
        )
        if first:
            self._kept.zero_()
            self._kept[chance.topk(self._density).indices] = True
            return self._kept
        total = self._settings.epochs * self._batches.per_epoch
        part = self._settings.exchange / 2 * (1 + math.cos(math.pi * t / total))
        exchanged = min(round(part * self._density), self._size - self._density)
        weak = torch.where(self._kept, gradient.abs(), math.inf).topk(exchanged, largest=False).indices
        fresh = torch.where(self._kept, -1.0, chance).topk(exchanged).indices
        self._kept[weak] = False
        self._kept[fresh] = True
        return self._kept


def make_mask(settings: Settings, passes: Passes, batches: Batches) -> Mask | None:
    """The mask that the settings choose, None for all entries."""
    choice = settings.part("mask")
    if choice == "swp":
        sizes = [p.numel() for p in passes.parameters]
        return TensorMask(settings, sizes) if settings.variant == "code" else WeightMask(settings)
    if choice == "norms":
        return NormMask(passes)
    if choice == "fisher":
        return FisherMask(settings, passes, batches)
    return DynamicMask(settings, passes, batches) if choice == "dynamic" else None
