"""The gradient of a step of the SAM family: at the weights, and where the schedule says so at the perturbed weights.

With m-sharpness the batch is cut into chunks of m examples that go through all of this one after the other, each with
its own ε̂ and its own BatchNorm statistics, and their gradients are averaged; so only m examples are in memory at once
(gradient accumulation), also in steps without SAM. Running statistics take up the clean pass of every chunk in
turn, as they do under gradient accumulation.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from landscape.errors import UsageError
from landscape.training.batches import Batches
from landscape.training.combination import make_combination
from landscape.training.mask import make_mask
from landscape.training.order import derive
from landscape.training.passes import Pass, Passes
from landscape.training.perturbation import Perturbation
from landscape.training.settings import Settings

Told = dict[str, Tensor]
"""What a step tells, 0-dimensional tensors by the names of the history."""

Chunk = tuple[Tensor, Tensor, int]
"""Inputs, targets and random state."""


class Sharpness:
    """Schedule × perturbation × selection × combination: leaves a direction in the flat gradient."""

    def __init__(self, settings: Settings, n: int, passes: Passes, batches: Batches) -> None:
        """Choose the parts.

        Args:
            settings: The choices.
            n: Number of training examples, which fixes the schedules.
            passes: Makes passes.
            batches: Makes batches.

        Raises:
            UsageError: If two choices exclude each other.
        """
        self._settings, self._passes, self._batches, self._flat = settings, passes, batches, passes.flat
        self._schedule = settings.schedule(n)
        self._mask = make_mask(settings, passes, batches)
        self._perturb = Perturbation(passes.flat, settings, n, self._mask)
        self._combine = make_combination(settings, passes.flat.theta)
        if self._combine and settings.part("mask") == "swp" and settings.variant == "code":
            raise UsageError(
                f"combine={settings.part('combine')} needs the whole gradient, ESAM's code computes a part of it",
                "add --variant paper",
            )
        if settings.compile and settings.part("mask") == "swp" and settings.variant == "code":
            raise UsageError(
                f"{settings.method} leaves out other tensors at every step, and each choice would be compiled anew",
                "leave out --compile, or add --variant paper",
            )
        self._selective = settings.part("select") == "sds" and settings.gamma < 1
        self._saved = torch.empty_like(self._flat.theta)
        self._clean = torch.empty_like(self._flat.theta) if self._combine else None

    def __call__(self, t: int) -> Told:
        """Put the direction of step t into the flat gradient."""
        sam = self._schedule(t)
        if sam and self._mask:
            self._mask.prepare(t)
        chunks = self._chunks(t)
        told = self._chunk(t, sam, chunks[0]) if len(chunks) == 1 else self._mean(t, sam, chunks)
        if self._combine and self._clean is not None:
            g = self._flat.gradient
            g.copy_(self._combine.perturbed(self._clean, g) if sam else self._combine.unperturbed(g))
        return told

    def _chunks(self, t: int) -> list[Chunk]:
        """The batch of step t in parts of m examples; the first has the random state of an uncut batch."""
        inputs, targets = self._batches(t)
        seed = derive(self._settings.seed, "noise", t)
        m = self._settings.m
        if not 0 < m < targets.shape[0]:
            return [(inputs, targets, seed)]
        parts = zip(torch.split(inputs, m), torch.split(targets, m), strict=True)
        return [(x, y, derive(seed, "chunk", k) if k else seed) for k, (x, y) in enumerate(parts)]

    def _mean(self, t: int, sam: bool, chunks: list[Chunk]) -> Told:
        """Average gradients, and what is told, over chunks by their numbers of examples."""
        total, clean = torch.zeros_like(self._flat.theta), torch.zeros_like(self._flat.theta)
        told: Told = {}
        size = sum(len(targets) for _, targets, _ in chunks)
        for chunk in chunks:
            share = len(chunk[1]) / size
            found = self._chunk(t, sam, chunk)
            told = {key: told.get(key, 0) + share * value for key, value in found.items()}
            total.add_(self._flat.gradient, alpha=share)
            if self._clean is not None and sam:
                clean.add_(self._clean, alpha=share)
        self._flat.gradient.copy_(total)
        if self._clean is not None:
            self._clean.copy_(clean)
        return told

    def _chunk(self, t: int, sam: bool, chunk: Chunk) -> Told:
        tensors = self._mask.tensors(t) if sam and self._mask else None
        if tensors is None:
            first = self._passes.gradient(*chunk)
        else:
            first = self._passes.partial_gradient(*chunk, tensors, self._settings.beta)
        told = {"loss": first.loss, "error": first.error, "gradient": torch.linalg.vector_norm(self._flat.gradient)}
        return told | self._perturbed(t, first, chunk) if sam else told

    def _perturbed(self, t: int, first: Pass, chunk: Chunk) -> Told:
        """Replace the gradient by that at w + ε̂, on the selected examples, and come back exactly.

        The passes use the same random state as the first; they use batch statistics but leave the running ones.

        Args:
            t: Step.
            first: What the pass at the weights found.
            chunk: Inputs, targets, random state.

        Returns:
            ‖ε̂‖₂, and the surrogate gap L(w + ε̂) − L(w).
        """
        flat = self._flat
        self._saved.copy_(flat.theta)
        if self._clean is not None:
            self._clean.copy_(flat.gradient)
        epsilon = self._perturb(flat.theta, flat.gradient, t)
        flat.theta.add_(epsilon)
        with self._passes.elsewhere():
            gap = self._selected(first, chunk) if self._selective else self._passes.gradient(*chunk).loss - first.loss
        flat.theta.copy_(self._saved)
        return {"perturbation": torch.linalg.vector_norm(epsilon), "gap": gap}

    def _selected(self, first: Pass, chunk: Chunk) -> Tensor:
        """Take the gradient over the round(γB) examples whose loss rises most.

        The number is fixed, where the authors' code takes those above the k-th value, one fewer.
        Source: Du et al. 2022, arXiv 2110.03141, section 3.2.

        Args:
            first: What the pass at the weights found.
            chunk: Inputs, targets, random state.

        Returns:
            Mean rise of the loss over all examples.
        """
        inputs, targets, seed = chunk
        with torch.no_grad():
            rise = self._passes.losses(inputs, targets, seed)[0] - first.losses
        kept = rise.topk(max(1, round(self._settings.gamma * len(targets)))).indices
        self._passes.gradient(inputs[kept], targets[kept], seed)
        return rise.mean()

    def state(self) -> dict[str, Tensor]:
        """What mask and combination need to go on, by name."""
        parts = {"mask": self._mask, "combine": self._combine}
        return {f"{name}.{key}": v for name, part in parts.items() if part for key, v in part.state().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state; a part that the state does not know starts afresh."""
        for name, part in (("mask", self._mask), ("combine", self._combine)):
            own = {key.partition(".")[2]: value for key, value in state.items() if key.startswith(f"{name}.")}
            if part and own:
                part.load(own)
