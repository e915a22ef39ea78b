"""Finding and unpacking the files of a data set; what is wrong with one is told in a line."""

from __future__ import annotations

import gzip
import lzma
import os
import zlib
from io import BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landscape.errors import InputError

Examples = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Images (N, channels, height, width) and labels (N,), as stored."""


def find(name: str, *places: Path) -> Path | None:
    """Look for a file, plain or packed.

    Args:
        name: File name without .gz or .xz.
        places: Directories to look in.

    Returns:
        The first that exists, plain before packed; None if none does.
    """
    candidates = (place / f"{name}{suffix}" for place in places for suffix in ("", ".gz", ".xz"))
    return next((path for path in candidates if os.path.isfile(path)), None)  # where Path.is_file may raise


def read_bytes(path: Path, size: int, remedy: str) -> bytes:
    """Read a whole file, unpacked; packed ones are read to their end, where the checksum is.

    Args:
        path: A file; .gz and .xz are unpacked.
        size: The size it should have, in bytes; of a longer one, one byte more is read and the rest left.
        remedy: What to tell the user to do about an unreadable file.

    Returns:
        Up to size + 1 bytes; whether that is right, the caller knows best.

    Raises:
        InputError: If the file cannot be opened, is damaged or was cut short.
    """
    try:
        with _open(path) as stream:
            return stream.read(size + 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{path} cannot be read: {error}", remedy) from error


def check_size(path: Path, content: bytes, size: int, remedy: str) -> None:
    """Check that a file has the size that its format says.

    Args:
        path: The file, for the message.
        content: What `read` returned.
        size: Expected size in bytes.
        remedy: What to tell the user to do.

    Raises:
        InputError: If it has another.
    """
    if len(content) != size:
        got = f"got {len(content):,}" if len(content) < size else "got more"
        raise InputError(f"{path}: expected {size:,} bytes unpacked, {got}", remedy)


def _open(path: Path) -> BufferedReader | gzip.GzipFile | lzma.LZMAFile:
    """Open for reading, by suffix."""
    if path.suffix == ".gz":
        return gzip.open(path)
    return lzma.open(path) if path.suffix == ".xz" else path.open("rb")
