"""MNIST and the sets made in its likeness: idx files of 28×28 grey images (LeCun, Cortes, Burges 1998).

An idx file is a big-endian header of 32-bit integers (magic, count, and for images height and width), then raw
bytes. MNIST and Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747) share names and sizes.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landscape.datasets.balance import balanced_subset
from landscape.datasets.files import Examples, check_size, find, read_bytes
from landscape.errors import InputError

SIDE = 28
IMAGES, LABELS = 2051, 2049  # magic: unsigned bytes in three dimensions, in one
_FIRST = {
    "mnist": (5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 5, 3, 6, 1, 7, 2, 8, 6, 9),
    "fashion-mnist": (9, 0, 0, 3, 0, 2, 7, 2, 5, 5, 0, 9, 5, 5, 7, 9, 1, 0, 6, 4),
}
"""The first training labels, by which sets of the same names and sizes are told apart."""


def read(directory: Path, name: str, train_size: int) -> tuple[Examples, Examples]:
    """Read training and test images with their labels.

    Args:
        directory: Holds the four files under their published names.
        name: "mnist" or "fashion-mnist".
        train_size: How many training images to keep.

    Returns:
        Training and test examples: images (N, 1, 28, 28) and labels (N,).

    Raises:
        InputError: If the files are those of the other set.
    """
    images, labels = _read_pair(directory, "train", 60_000)
    first = tuple(int(label) for label in labels[: len(_FIRST[name])])
    for other in _FIRST.keys() - {name}:
        if first == _FIRST[other]:
            raise InputError(f"{directory} holds {other}, not {name}", f"write {other}:{directory}, or name another")
    chosen = balanced_subset(labels, train_size)
    return (images[chosen], labels[chosen]), _read_pair(directory, "t10k", 10_000)


def _read_pair(directory: Path, part: str, count: int) -> Examples:
    """Read the images and labels of one part.

    Args:
        directory: Holds the files.
        part: `train` or `t10k`.
        count: Images in it.

    Returns:
        Images (count, 1, 28, 28) and labels (count,).

    Raises:
        InputError: If a label is no digit, or a file is unusable.
    """
    path, labels = _read_array(directory, f"{part}-labels-idx1-ubyte", (LABELS, count))
    if labels.max() > 9:
        at = int(labels.argmax())
        raise InputError(
            f"{path}: label {labels[at]} at position {at}, expected 0 to 9", "get the published file again"
        )
    _, images = _read_array(directory, f"{part}-images-idx3-ubyte", (IMAGES, count, SIDE, SIDE))
    return images.reshape(-1, 1, SIDE, SIDE), labels  # [:, None] would give strides that PyTorch takes for NHWC


def _read_array(directory: Path, name: str, header: tuple[int, ...]) -> tuple[Path, NDArray[np.uint8]]:
    """Read one idx file.

    Args:
        directory: Holds the file.
        name: Its published name.
        header: Magic number and shape that it must have.

    Returns:
        Where it was found and what it holds.

    Raises:
        InputError: If it is missing, or header or size are not those expected.
    """
    magic, *shape = header
    form = " × ".join(str(n) for n in shape)
    remedy = f"expected the published {name} (plain, .gz or .xz): magic {magic}, then {form} bytes"
    path = find(name, directory)
    if path is None:
        raise InputError(f"{directory} has no {name}", remedy)
    start = struct.pack(f">{len(header)}I", *header)
    size = len(start) + int(np.prod(shape))
    content = read_bytes(path, size, remedy)
    if len(content) >= len(start) and not content.startswith(start):
        got = struct.unpack_from(f">{len(header)}I", content)
        raise InputError(f"{path}: expected the header {header}, got {got}", remedy)
    check_size(path, content, size, remedy)
    return path, np.frombuffer(content, np.uint8, offset=len(start)).reshape(shape).copy()
