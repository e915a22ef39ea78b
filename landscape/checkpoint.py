"""Checkpoint: theta, buffers, and everything needed to know how they were made.

A file holds plain tensors and one JSON text, written by `torch.save` and read with `weights_only=True`, so that
nothing in it can run. A SHA-256 over all of its content is stored inside and checked on reading: neither torch
nor zip does that, and a flipped bit would otherwise load as a different weight.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from landscape.errors import InputError, UsageError
from landscape.files import atomic
from landscape.types import Setting
from landscape.vector import Layout
from landscape.weights import read_tensors

FORMAT = "landscape/checkpoint/1"


@dataclass(frozen=True)
class Checkpoint:
    """A point in the landscape that explains itself.

    Attributes:
        theta: Trainable parameters, shape (D,), float, on the CPU.
        buffers: What travels beside them by name: BatchNorm statistics, frozen parameters.
        layout: Names and shapes of the parameters in theta.
        problem: Spec of the problem it was trained on; empty when unknown.
        data: Fingerprint of the training and test data; empty when unknown.
        settings: Resolved training settings; empty for weights from elsewhere.
        step: Optimizer steps made.
        steps: Optimizer steps the run was meant to make, T.
        forward: Forward passes made over a batch, those of shared prefixes included; part of a batch counts its part.
        backward: Backward passes likewise.
        optimizer: The optimizer's state by name, tensors of shape (D,) or ().
        history: What was recorded on the way by name: `loss` (T,), `error` (T,), ... (see `training`).
        parent: SHA-256 of the checkpoint it was forked from; empty when it was not.
        parent_step: The step at which it was forked.
        exact: Whether the run equals an unforked one with its settings, bit for bit.
        aligned: SHA-256 of the checkpoint like whose its units were renumbered after the run; empty when they were not.
        origin: Where it comes from if no training made it, in words; empty otherwise.
        diverged: Whether the run broke off because a loss was not finite; this is then the last good state.
        versions: Versions of what made it.
        name: What it is called in figures: the file's stem.
        path: The file it was read from.
        sha256: Hash of the content, filled in on reading and saving.
    """

    theta: Tensor
    buffers: Mapping[str, Tensor]
    layout: Layout
    problem: str = ""
    data: str = ""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    step: int = 0
    steps: int = 0
    forward: float = 0
    backward: float = 0
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    history: Mapping[str, Tensor] = field(default_factory=dict)
    parent: str = ""
    parent_step: int = 0
    exact: bool = True
    aligned: str = ""
    origin: str = ""
    diverged: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    path: Path | None = None
    sha256: str = ""

    @property
    def method(self) -> str:
        """The training method, or "unknown" for weights from elsewhere."""
        return str(self.settings.get("method", "unknown"))

    @property
    def cost(self) -> float:
        """Cost relative to SGD over the same steps; a forward is 1/3 of a step, a backward 2/3. NaN at step 0."""
        return (self.forward + 2 * self.backward) / (3 * self.step) if self.step else float("nan")

    @property
    def state(self) -> str:
        """One of complete, unfinished, diverged, or weights (for weights from elsewhere)."""
        if not self.steps:
            return "weights"
        return "diverged" if self.diverged else "complete" if self.step == self.steps else "unfinished"


_TENSORS = ("buffers", "optimizer", "history")
_RUN = ("step", "steps", "forward", "backward", "parent", "parent_step", "exact", "aligned", "origin", "diverged")
_META = ("problem", "data", "settings", "versions", *_RUN)


def save(checkpoint: Checkpoint, path: Path, force: bool = False) -> Checkpoint:
    """Write a checkpoint; it appears whole or not at all.

    Args:
        checkpoint: What to write.
        path: Where to; conventionally `NAME.pt`.
        force: Whether an existing file may be replaced.

    Returns:
        The checkpoint with its `name` and `sha256`.

    Raises:
        UsageError: If the file exists and `force` is not set.
        InputError: If the place cannot be written to.
        ResourceError: If the disk is full.
    """
    meta = {key: getattr(checkpoint, key) for key in _META}
    meta["layout"] = [[name, list(shape)] for name, shape, _ in checkpoint.layout.slices()]
    text = json.dumps({key: dict(v) if isinstance(v, Mapping) else v for key, v in meta.items()}, sort_keys=True)
    tensors = {"theta": checkpoint.theta.detach().cpu().clone()}
    for group in _TENSORS:
        for name, value in getattr(checkpoint, group).items():
            tensors[f"{group}/{name}"] = value.detach().cpu().clone()
    digest = content_hash(text, tensors)
    with atomic(path, force) as temporary:
        _torch_save({"format": FORMAT, "meta": text, "sha256": digest, "tensors": tensors}, temporary)
    return dataclasses.replace(checkpoint, name=path.stem, path=path, sha256=digest)


def content_hash(text: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over a text and named tensors: names in order, dtype, shape and little-endian bytes.

    Args:
        text: The JSON text.
        tensors: CPU tensors by name.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        digest.update(f"\0{name}\0{value.dtype}{tuple(value.shape)}\0".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load(path: Path) -> Checkpoint:
    """Read a checkpoint that this toolkit wrote.

    Args:
        path: The file.

    Returns:
        The checkpoint, on the CPU, named after the file.

    Raises:
        InputError: If the file is missing, no checkpoint of this toolkit, damaged or unsafe.
    """
    content = read_tensors(path)
    if not is_ours(content):
        raise InputError(f"{path} is not a checkpoint of this toolkit", "name one that landscape train wrote")
    return from_content(content, path)


def check_apart(*checkpoints: Checkpoint) -> None:
    """Refuse checkpoints between which there is nothing to measure.

    Args:
        *checkpoints: Checkpoints of one network.

    Raises:
        UsageError: If the trained weights of two of them are equal.
    """
    for a, b in combinations(checkpoints, 2):
        if torch.equal(a.theta, b.theta):
            raise UsageError(f"{a.name} and {b.name} hold the same weights", "name different checkpoints")


def is_ours(content: object) -> bool:
    """Whether a file's content is a checkpoint of this toolkit, of any version."""
    return isinstance(content, dict) and str(content.get("format", "")).startswith("landscape/checkpoint/")


def from_content(content: Mapping[str, Any], path: Path) -> Checkpoint:
    """Make a checkpoint from a file's content.

    Args:
        content: What the file holds.
        path: Where it came from; names the checkpoint.

    Returns:
        The checkpoint.

    Raises:
        InputError: If it is of a newer format or damaged.
    """
    if content["format"] != FORMAT:
        raise InputError(
            f"{path} has the format {content['format']}, this version reads {FORMAT}", "update the toolkit"
        )
    try:
        text, tensors, expected = content["meta"], content["tensors"], content["sha256"]
        damaged = content_hash(text, tensors) != expected
        meta = json.loads(text)
        layout = Layout(
            *(tuple(column) for column in zip(*((n, tuple(s)) for n, s in meta.pop("layout")), strict=True))
        )
        groups: dict[str, Any] = {group: {} for group in _TENSORS}
        for name, value in tensors.items():
            group, _, key = name.partition("/")
            if key:
                groups[group][key] = value
        damaged = damaged or layout.size != tensors["theta"].numel()
        made = Checkpoint(
            theta=tensors["theta"], layout=layout, name=path.stem, path=path, sha256=expected, **(groups | meta)
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged: {type(error).__name__}: {error}", "restore it from a copy") from error
    if damaged:
        raise InputError(f"{path} is damaged: its content does not match its SHA-256", "restore it from a copy")
    return made


def _torch_save(content: dict[str, object], path: Path) -> None:
    try:
        torch.save(content, path)
    except RuntimeError as error:  # how torch reports a full disk
        if "unexpected pos" in str(error) or "write" in str(error):
            raise OSError(28, f"no space left on device ({error})") from error
        raise
