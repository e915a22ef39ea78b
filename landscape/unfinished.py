"""The state of a long computation of numbered points: what is finished survives a kill, and is never mixed.

A directory beside the result holds the frame (what was decided before the first point) and one record for each
finished point, appended as soon as it is known. A record carries a checksum: one that was cut short by a kill is left
out and computed again. The directory says which job it belongs to, and another job is refused.
"""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from landscape.errors import InputError, InterruptedRun, UsageError
from landscape.files import atomic
from landscape.options import differences
from landscape.result import Array
from landscape.types import Setting

Job = Mapping[str, Setting]
"""All that must agree for two runs to be one: options, hashes of inputs, data, dtype, device, versions."""


class Unfinished:
    """State beside the result of a run that may be killed.

    Attributes:
        path: The directory; it exists from `begin` to `discard`.
        frame: What was decided before the first point by an earlier run; None where there was none.
        points: Values of the points finished so far, by number.
    """

    def __init__(self, path: Path, job: Job, stops: Collection[int] = (), resume: bool = False) -> None:
        """Find what an earlier run left, or throw it away.

        Args:
            path: The directory.
            job: What is computed.
            stops: Filled from outside when the run is to stop.
            resume: Whether to go on with what is there.

        Raises:
            UsageError: If the state is another job's.
            InputError: If the state cannot be read.
        """
        self.path, self._job, self._stops = path, dict(job), stops
        self._began = time.monotonic()
        self.frame: dict[str, Array] | None = None
        self.points: dict[int, tuple[float, ...]] = {}
        if resume and self._frame.exists():
            self._read()
        else:
            self.discard()

    @property
    def seconds(self) -> float:
        """Seconds spent in this process."""
        return time.monotonic() - self._began

    @property
    def _frame(self) -> Path:
        return self.path / "frame.npz"

    @property
    def _records(self) -> Path:
        return self.path / "points.bin"

    def _read(self) -> None:
        try:
            with np.load(self._frame, allow_pickle=False) as stored:
                frame = {name: stored[name] for name in stored.files}
            job = json.loads(str(frame.pop("job")))
        except (OSError, ValueError, KeyError, zlib.error) as error:
            raise InputError(f"{self._frame} cannot be read: {error}", "begin anew with --force") from error
        changed = differences(job, self._job)
        if changed:
            raise UsageError(
                f"{self.path} belongs to another run: {', '.join(changed)}",
                "resume with its own settings, or begin anew with --force",
            )
        self.frame = frame
        content = self._records.read_bytes() if self._records.exists() else b""
        self.points, whole = records(content)
        if len(content) != whole:
            with self._records.open("r+b") as file:
                file.truncate(whole)

    def begin(self, frame: Mapping[str, Array]) -> None:
        """Keep what was decided before the first point.

        Args:
            frame: Arrays by name.

        Raises:
            InputError: If the place cannot be written to.
            ResourceError: If the disk is full.
        """
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.path} could not be made: {error.strerror}", "choose another --out") from error
        with atomic(self._frame, force=True) as temporary, temporary.open("wb") as file:
            arrays: dict[str, Any] = {**frame, "job": np.array(json.dumps(self._job))}
            np.savez(file, **arrays)

    def keep(self, number: int, values: tuple[float, ...]) -> None:
        """Keep a finished point."""
        with self._records.open("ab") as file:
            file.write(record(number, values))
        self.points[number] = values

    def check(self, total: int | str) -> None:
        """Stop here if a signal came.

        Args:
            total: Points in all, or "at most" so many.

        Raises:
            InterruptedRun: If a signal asked the run to stop.
        """
        if self._stops:
            done = f"stopped after {len(self.points)} of {total} points; they are in {self.path}"
            cause = done if self.points else "stopped before the first point was finished"
            raise InterruptedRun(cause, "run the same command again with --resume")

    def discard(self) -> None:
        """Remove the directory and what is in it."""
        for file in (self._records, self._frame):
            file.unlink(missing_ok=True)
        if self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()


def record(number: int, values: tuple[float, ...]) -> bytes:
    """One finished point as bytes: number, count, values as float64, checksum."""
    body = struct.pack(f"<qq{len(values)}d", number, len(values), *values)
    return body + struct.pack("<I", zlib.crc32(body))


def records(content: bytes) -> tuple[dict[int, tuple[float, ...]], int]:
    """Read records up to the first that is not whole.

    Args:
        content: Bytes of records, perhaps cut short.

    Returns:
        Values by number, and how many bytes hold whole records.
    """
    found: dict[int, tuple[float, ...]] = {}
    at = 0
    while at + 16 <= len(content):
        number, count = struct.unpack_from("<qq", content, at)
        end = at + 16 + 8 * count
        if not 0 <= count <= (len(content) - at) // 8 or end + 4 > len(content):
            break
        if struct.unpack_from("<I", content, end)[0] != zlib.crc32(content[at:end]):
            break
        found[number] = struct.unpack_from(f"<{count}d", content, at + 16)
        at = end + 4
    return found, at
