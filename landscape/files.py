"""Files that are whole or absent: write beside the target, sync, rename; hash what was read."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from landscape.errors import InputError, ResourceError, UsageError


def refuse_existing(path: Path, force: bool) -> None:
    """Refuse to overwrite.

    Args:
        path: The file about to be written.
        force: Whether the user asked for it.

    Raises:
        UsageError: If the file exists and `force` is not set.
        InputError: If it is a directory.
    """
    if path.is_dir():
        raise InputError(f"{path} could not be written: it is a directory", "choose another --out")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is a device or a pipe, which a file would replace", "choose another --out")
    if os.path.lexists(path) and not force:
        raise UsageError(f"{path} exists already", "choose another --out, or add --force to overwrite it")


def check_target(path: Path, force: bool, inputs: Iterable[Path] = ()) -> None:
    """Refuse before the work what would be refused after it.

    Args:
        path: The file that will be written.
        force: Whether it may be replaced.
        inputs: Files that are read and must stay.

    Raises:
        UsageError: If the file exists and `force` is not set, or is one of the inputs.
        InputError: If its directory does not exist or its name is too long.
    """
    if any(path.resolve() == read.resolve() for read in inputs):
        raise UsageError(f"{path} is read by this command and would be overwritten", "choose another --out")
    if not path.resolve().parent.is_dir():
        raise InputError(f"the directory {path.parent} does not exist", "create it, or choose another --out")
    if len(os.fsencode(path.name)) > LONGEST:
        raise InputError(f"the file name {path.name[:40]}… is too long", f"choose an --out of at most {LONGEST} bytes")
    refuse_existing(path, force)


LONGEST = 200  # bytes of a file name, room for a temporary one beside it


@contextlib.contextmanager
def atomic(path: Path, force: bool = False) -> Iterator[Path]:
    """Give a temporary path beside the target that becomes the target when the block ends well.

    A reader sees the old file or the new one, never half of either; on any error the temporary file is removed
    and the old file stays.

    Args:
        path: The file to write.
        force: Whether an existing file may be replaced.

    Yields:
        The temporary path to write to.

    Raises:
        InputError: If the directory does not exist or cannot be written to.
        ResourceError: If the disk is full.
        UsageError: If the file exists and `force` is not set.
    """
    refuse_existing(path, force)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        _explain(error, path)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        _explain(error, path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _explain(error: OSError, path: Path) -> NoReturn:
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        remedy = "free disk space and run again"
        raise ResourceError(f"{path} could not be written: {error.strerror}", remedy) from error
    if error.errno == errno.ENOENT and not path.parent.is_dir():
        remedy = "create it, or choose another --out"
        raise InputError(f"the directory {path.parent} does not exist", remedy) from error
    if error.errno == errno.ENOENT:  # as in /proc, which takes no files
        cause = f"no file can be made in the directory {path.parent}"
        raise InputError(f"{path} could not be written: {cause}", "choose another --out") from error
    raise InputError(f"{path} could not be written: {error.strerror or error}", "choose another --out") from error
