"""Where a chain of eigenvalue searches rests: what is found so far and the search under way, in one HDF5 file.

The file is written now and then, whole or not at all, so that a search that is killed goes on at the Lanczos step of
the last writing and ends bitwise as if nothing had happened.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.curvature.lanczos import Search
from landscape.errors import InputError, InterruptedRun, UsageError
from landscape.files import atomic
from landscape.options import differences
from landscape.types import Setting

Arrays = Mapping[str, NDArray[Any]]

SCHEMA = "landscape/rest/1"
_BROKEN = (KeyError, ValueError, TypeError, OSError, RuntimeError, AttributeError)  # what h5py raises on damaged files
_SHARE = 20.0  # writing takes one part in so many of the time
_LEAST = 0.01  # seconds that a writing is taken to last
_BEGIN = "leave out --resume and add --force to begin again"
_LOG = logging.getLogger(__name__)


class Rest:
    """A chain of searches that can be stopped after any product; without a path it keeps nothing.

    Attributes:
        path: The file.
        about: What determines the result, by name; another chain's file is refused.
        stopped: Signals received so far, see `landscape.interruption`.
        found: What the finished searches of the chain found.
        search: State of the search to go on with, None to begin one.
        before: Seconds spent before this process.
    """

    def __init__(
        self,
        path: Path | None = None,
        about: Mapping[str, Setting] | None = None,
        stopped: Sequence[int] = (),
        resume: bool = False,
    ) -> None:
        """Begin a chain, or go on with that of the file.

        Args:
            path: The file.
            about: What determines the result, by name.
            stopped: A list that signals are added to.
            resume: Whether to go on from the file.
        """
        self.path, self.about, self.stopped = path, dict(about or {}), stopped
        self.found: list[dict[str, NDArray[Any]]] = []
        self.search: Arrays | None = None
        self.before = 0.0
        self._began = self._written = time.monotonic()
        self._cost = _LEAST
        if resume:
            self.load()

    @property
    def seconds(self) -> float:
        """Seconds spent on the chain, in all processes."""
        return self.before + time.monotonic() - self._began

    def load(self) -> None:
        """Go on from the file.

        Raises:
            InputError: If the file is damaged or none of this kind.
            UsageError: If the chain in it is another one.
        """
        assert self.path is not None
        about, arrays = _read(self.path)
        changed = differences(about["about"], self.about)
        if changed:
            raise UsageError(f"{self.path} was begun with other settings: {', '.join(changed)}", _BEGIN)
        if about["machine"] != machine():
            _LOG.warning(
                "%s was begun on %s, this is %s: the last bits may differ", self.path, about["machine"], machine()
            )
        self.before = float(about["seconds"])
        self.found = [_below(arrays, f"{i}.") for i in range(about["found"])]
        self.search = _below(arrays, "search.") or None

    def step(self, search: Search) -> None:
        """Write if it is time; stop if that was asked for.

        Args:
            search: The search under way, between two products.

        Raises:
            InterruptedRun: If a signal has come; the state is in the file.
        """
        if self.path is None:
            return
        stop = bool(self.stopped)
        if stop or time.monotonic() - self._written >= _SHARE * self._cost:
            self._write(search.arrays())
        if stop:
            raise InterruptedRun(
                f"stopped after {search.krylov.products} products of search {len(self.found) + 1}; "
                f"the state is in {self.path}",
                "run the same command again with --resume",
            )

    def add(self, record: object) -> None:
        """End the search under way.

        Args:
            record: What it found, a dataclass, see `packed`.
        """
        self.search = None
        if self.path is not None:
            self.found.append(packed(record))

    def discard(self) -> None:
        """Remove the file: the result is written."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _write(self, search: Arrays) -> None:
        assert self.path is not None
        began = time.monotonic()
        parts = [(f"{i}.", found) for i, found in enumerate(self.found)] + [("search.", search)]
        arrays = {prefix + name: values for prefix, part in parts for name, values in part.items()}
        about = {"about": self.about, "machine": machine(), "seconds": self.seconds, "found": len(self.found)}
        with atomic(self.path, force=True) as temporary:
            _image(temporary, json.dumps(about), arrays)
        self._written = time.monotonic()
        self._cost = max(_LEAST, self._written - began)


def machine() -> str:
    """What decides the last bits of a product beside the settings."""
    kind = torch.cuda.get_device_name() if torch.cuda.is_available() else torch.backends.cpu.get_cpu_capability()
    return f"torch {torch.__version__}, {kind}, {torch.get_num_threads()} threads"


def packed(record: object) -> dict[str, NDArray[Any]]:
    """A dataclass as arrays: texts are their bytes, a field that is None is left out.

    Args:
        record: Its fields are arrays, tensors, numbers, texts, None or such dataclasses.

    Returns:
        Arrays by name, those of an inner dataclass behind its name and a dot.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for field in fields(record):  # type: ignore[arg-type]
        value = getattr(record, field.name)
        if is_dataclass(value):
            arrays |= {f"{field.name}.{name}": inner for name, inner in packed(value).items()}
        elif isinstance(value, str):
            arrays[field.name] = np.frombuffer(value.encode(), np.uint8)
        elif value is not None:
            arrays[field.name] = value.cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    return arrays


def unpacked(kind: type, arrays: Arrays, tensors: Sequence[str] = (), **inner: object) -> Any:
    """Undo `packed`.

    Args:
        kind: The dataclass.
        arrays: What `packed` returned.
        tensors: Names of the fields that are tensors.
        **inner: Fields that are dataclasses.

    Returns:
        The record, tensors on the CPU.
    """

    def value(name: str) -> Any:
        stored = arrays.get(name)
        if stored is None or name in tensors:
            return None if stored is None else torch.from_numpy(stored.copy())
        if stored.dtype == np.uint8:
            return stored.tobytes().decode()
        return stored if stored.ndim else stored.item()

    return kind(**inner, **{field.name: value(field.name) for field in fields(kind) if field.name not in inner})


def _below(arrays: Arrays, prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}


def _image(path: Path, about: str, arrays: Arrays) -> None:
    """Write the file, on room that is taken beforehand: HDF5 does not tell a full disk from other failures."""
    room = len(about) + sum(values.nbytes + 4096 for values in arrays.values()) + (1 << 16)
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, room)
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["schema"], file.attrs["about"] = np.bytes_(SCHEMA), np.bytes_(about.encode())
        file.attrs["sha256"] = np.bytes_(_digest(about, arrays))
        for name, values in arrays.items():
            file.create_dataset(name, data=values)


def _digest(about: str, arrays: Arrays) -> str:
    digest = hashlib.sha256(about.encode())
    for name in sorted(arrays):
        values = arrays[name]
        digest.update(f"{name}{values.dtype}{values.shape}".encode())
        digest.update(np.ascontiguousarray(values).data if values.size else b"")
    return digest.hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], Arrays]:
    try:
        with h5py.File(path, "r") as file:
            if file.attrs["schema"] != SCHEMA.encode():
                raise ValueError(f"the schema is not {SCHEMA}")
            about, digest = file.attrs["about"].decode(), file.attrs["sha256"].decode()
            arrays = {name: _array(file, name, path.stat().st_size) for name in file}
    except _BROKEN as error:
        raise InputError(f"{path} is no state that can be resumed: {' '.join(str(error).split())}", _BEGIN) from error
    if _digest(about, arrays) != digest:
        raise InputError(f"{path} is damaged: its content does not match its SHA-256", _BEGIN)
    return json.loads(about), arrays


def _array(file: h5py.File, name: str, most: int) -> NDArray[Any]:
    """Read a dataset that lies whole in the file and takes as much of it as it declares."""
    dataset = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external or dataset.chunks:
        raise ValueError(f"{name} is not stored in the file")
    if dataset.dtype.kind not in "fiub" or dataset.nbytes > most:
        raise ValueError(f"{name} is not what it says")
    values: NDArray[Any] = dataset[()] if dataset.ndim else np.asarray(dataset[()])
    return values
