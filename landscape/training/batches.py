"""The batches of a run: batch k is a pure function of (settings, k), made once and used by every pass of a step.

Augmentation (crop, flip, cutout) and label noise happen here, on the device, for the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from landscape.errors import UsageError
from landscape.problem import Problem
from landscape.split import Split, channels_last
from landscape.training.order import crop_and_flip, crops, generator, holes, permutation, window
from landscape.training.settings import Settings


class Batches:
    """Training batches by number.

    Attributes:
        train: The examples trained on, with label noise.
        validation: The examples held out, None if there are none.
        size: B.
        per_epoch: Batches in an epoch.
    """

    def __init__(self, problem: Problem, settings: Settings) -> None:
        """Split the training data and draw the label noise.

        Args:
            problem: The problem, its data where training happens.
            settings: Batch size, seed and what is done to examples.

        Raises:
            UsageError: If label noise is asked for targets that are no classes, cutout for inputs that are no images.
        """
        whole, held = problem.train, settings.held_out(len(problem.train))
        self.train = whole.head(len(whole) - held)
        self.validation = Split(whole.inputs[-held:], whole.targets[-held:], whole.mean, whole.std) if held else None
        self.size = min(settings.batch_size, len(self.train))
        self.per_epoch = settings.steps_per_epoch(len(whole))
        self._seed, self._crop, self._cutout = settings.seed, problem.crop, settings.cutout
        self._channels_last = settings.channels_last
        self._epoch, self._order = -1, torch.empty(0)
        self._draws: Tensor | None = None
        self._holes: Tensor | None = None
        if settings.cutout and len(self.train.shape) != 3:
            raise UsageError("cutout needs images (channels, height, width)", "leave out --cutout")
        if settings.channels_last and len(self.train.shape) != 3:
            raise UsageError("channels_last needs images (channels, height, width)", "leave out --channels-last")
        self._targets = self.train.targets
        if settings.label_noise:
            self._targets = noisy_labels(self._targets, settings.label_noise, settings.seed)

    def __call__(self, number: int) -> tuple[Tensor, Tensor]:
        """Inputs (B, ...) and targets (B, ...) of a batch; batch 0 is the first of the first epoch."""
        epoch, k = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            self._draw(epoch)
        index = self._order[k * self.size : (k + 1) * self.size]
        raw = self.train.inputs[index]
        if self._draws is not None:
            raw = crop_and_flip(raw, self._draws[index], self._crop)
        inputs = self.train.prepare(raw)
        if self._holes is not None:
            inputs = inputs * window(self._holes[index], self._cutout, raw.shape[2:])
        return channels_last(inputs) if self._channels_last else inputs, self._targets[index]

    def plain(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Examples without augmentation, with the labels trained on."""
        index = index.to(self._targets.device)
        return self.train.prepare(self.train.inputs[index]), self._targets[index]

    def _draw(self, epoch: int) -> None:
        n, device = len(self.train), self.train.inputs.device
        self._epoch = epoch
        self._order = permutation(n, self._seed, epoch).to(device)
        if self._crop:
            self._draws = crops(n, self._crop, self._seed, epoch).to(device)
        if self._cutout:
            self._holes = holes(n, self.train.shape[1:], self._seed, epoch).to(device)


def noisy_labels(targets: Tensor, part: float, seed: int) -> Tensor:
    """Replace the labels of exactly round(part · N) examples by another class, each other class equally likely.

    Args:
        targets: Class indices, shape (N,), int64.
        part: Part of the labels in [0, 1].
        seed: The run's seed.

    Returns:
        New targets.

    Raises:
        UsageError: If the targets are no class indices.
    """
    if targets.is_floating_point() or targets.dim() != 1:
        raise UsageError("label noise needs targets that are class indices", "leave out --label-noise")
    classes, n = int(targets.max()) + 1, len(targets)
    source = generator(seed, "labels", 0)
    index = torch.randperm(n, generator=source)[: round(part * n)]
    shift = torch.randint(1, max(2, classes), (len(index),), generator=source)
    noisy = targets.cpu().clone()
    noisy[index] = (noisy[index] + shift) % classes
    return noisy.to(targets.device)
