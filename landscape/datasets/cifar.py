"""CIFAR-10 and CIFAR-100 in their binary version.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009).

A file is a row of records: one label byte (two for CIFAR-100: coarse, then fine; the fine one is the target),
then 1,024 red, 1,024 green and 1,024 blue bytes, row by row. There is no header, so the size is the check.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landscape.datasets.balance import balanced_subset, is_settled
from landscape.datasets.files import Examples, check_size, find, read_bytes
from landscape.errors import InputError

PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Layout:
    """How one of the two sets is laid out.

    Attributes:
        folder: Folder into which the published archive unpacks.
        pickled: The same of the Python version.
        train: Training files, without .bin.
        test: Test file, without .bin.
        train_count: Records in each training file.
        labels: Number of values of each label byte; the last byte is the target.
    """

    folder: str
    pickled: str
    train: tuple[str, ...]
    test: str
    train_count: int
    labels: tuple[int, ...]


LAYOUTS = {
    "cifar10": Layout(
        "cifar-10-batches-bin",
        "cifar-10-batches-py",
        tuple(f"data_batch_{n}" for n in range(1, 6)),
        "test_batch",
        10_000,
        (10,),
    ),
    "cifar100": Layout("cifar-100-binary", "cifar-100-python", ("train",), "test", 50_000, (20, 100)),
}


def read(directory: Path, layout: Layout, train_size: int) -> tuple[Examples, Examples]:
    """Read training and test images with their labels; of the training files only as many as are needed.

    Unpacking is slow and frees the interpreter, so the files that are certain to be needed go to threads.

    Args:
        directory: Holds the files, or the folder of the published archive.
        layout: Which set.
        train_size: How many training images to keep.

    Returns:
        Training and test examples: images (N, 3, 32, 32) and labels (N,).
    """
    certain = -(-train_size // layout.train_count)
    with ThreadPoolExecutor() as pool:
        pending = pool.submit(_read_file, directory, layout, layout.test, 10_000)
        parts = list(pool.map(lambda name: _read_file(directory, layout, name), layout.train[:certain]))
        test = pending.result()
    for name in layout.train[certain:]:
        if is_settled(_labels(parts), train_size, layout.labels[-1]):
            break
        parts.append(_read_file(directory, layout, name))
    chosen = balanced_subset(_labels(parts), train_size)
    return (np.concatenate([images for images, _ in parts])[chosen], _labels(parts)[chosen]), test


def _labels(parts: Sequence[Examples]) -> NDArray[np.uint8]:
    """Labels of several files, one after the other."""
    return np.concatenate([labels for _, labels in parts])


def _read_file(directory: Path, layout: Layout, name: str, count: int | None = None) -> Examples:
    """Read one file.

    Args:
        directory: Holds the file, or the folder of the published archive.
        layout: Which set.
        name: Name of the file without .bin.
        count: Records in it; default as many as in a training file.

    Returns:
        Images (count, 3, 32, 32) and labels (count,).

    Raises:
        InputError: If the file is missing, has another size, or a label is out of range.
    """
    count = count or layout.train_count
    size = count * (len(layout.labels) + PIXELS)
    remedy = f"expected the published {name}.bin (plain, .gz or .xz): {count:,} records, {size:,} bytes unpacked"
    path = find(f"{name}.bin", directory, directory / layout.folder)
    if path is None:
        raise InputError(*_why_missing(directory, layout, name, remedy))
    content = read_bytes(path, size, remedy)
    check_size(path, content, size, remedy)
    records = np.frombuffer(content, np.uint8).reshape(count, -1)
    for column, values in enumerate(layout.labels):
        at = int(records[:, column].argmax())
        if records[at, column] >= values:
            cause = f"{path}: label {records[at, column]} in record {at}, expected 0 to {values - 1}"
            raise InputError(cause, remedy)
    labels = len(layout.labels)
    return records[:, labels:].reshape(count, 3, 32, 32).copy(), records[:, labels - 1].copy()


def _why_missing(directory: Path, layout: Layout, name: str, remedy: str) -> tuple[str, str]:
    """Cause and remedy for a missing file, which differ where the Python version is there in its stead."""
    if any(os.path.isfile(place / name) for place in (directory, directory / layout.pickled)):
        cause = (
            f"{directory} holds the Python version of the data; it is pickled, so it could run code, and is not opened"
        )
        return cause, f"get the binary version instead, the archive with {name}.bin in it"
    return f"{directory} has no {name}.bin", remedy
