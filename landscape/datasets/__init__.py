"""Labelled images, read from the files in which they are published; numpy only, and nothing is ever unpickled.

`digits` comes with the package, the others are read from a directory of the user's: `mnist`, `fashion-mnist`
(idx files), `cifar10`, `cifar100` (binary version). Every file may also be packed as .gz or .xz.

A smaller training set is a fixed one. Order the training images by (rank within their class in file order,
class); the first n of that order are the set of size n. So sets are nested, as class-balanced as the data allow
and the same everywhere; they keep the order of the file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from landscape.datasets import cifar, digits, idx
from landscape.errors import InputError, UsageError, nearest
from landscape.split import Split

__all__ = ["CLASSES", "load"]


@dataclass(frozen=True)
class _Published:
    """What is known of a data set before it is read.

    Attributes:
        classes: Number of classes C.
        train: Training images in it.
        mean: Mean of the training pixels divided by 255, for each channel.
        std: Their standard deviation.
    """

    classes: int
    train: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


_SETS = {  # the constants of cifar100 are those usually quoted, the others were measured on the files
    "digits": _Published(10, digits.TRAIN, (0.01916838,), (0.02355073,)),
    "mnist": _Published(10, 60_000, (0.13066048,), (0.30810780,)),
    "fashion-mnist": _Published(10, 60_000, (0.28604060,), (0.35302424,)),
    "cifar10": _Published(10, 50_000, (0.49139965, 0.48215826, 0.44653075), (0.24702968, 0.24348453, 0.26158680)),
    "cifar100": _Published(100, 50_000, (0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047)),
}

CLASSES = {name: published.classes for name, published in _SETS.items()}


def load(name: str, directory: Path | None, *, train_size: int | None = None) -> tuple[Split, Split]:
    """Read a data set.

    Args:
        name: One of `CLASSES`.
        directory: Where its files lie; None for `digits`, which needs none.
        train_size: How many training images to keep, see above; default all.

    Returns:
        Training and test split on the CPU: uint8 images (N, channels, height, width), int64 labels (N,), and the
        constants that normalise the whole training set, whatever `train_size` is.
    """
    _check_request(name, directory, train_size)
    published = _SETS[name]
    size = published.train if train_size is None else train_size
    if directory is None:
        train, test = digits.read(size)
    elif name in cifar.LAYOUTS:
        train, test = cifar.read(directory, cifar.LAYOUTS[name], size)
    else:
        train, test = idx.read(directory, name, size)
    return _split(*train, published), _split(*test, published)


def _check_request(name: str, directory: Path | None, train_size: int | None) -> None:
    """Check what the user asked for.

    Raises:
        UsageError: If the name, the size, or the presence of a directory is wrong.
        InputError: If the directory does not exist.
    """
    if name not in _SETS:
        raise UsageError(f"no data set is called {name!r}", nearest(name, _SETS))
    if name == "digits" and directory is not None:
        raise UsageError(f"digits comes with the package, got a directory: {directory}", "leave the directory out")
    if name != "digits" and directory is None:
        raise UsageError(f"{name} is not part of the package", f"name the directory of its files, {name}:DIR")
    if directory is not None and not os.path.isdir(directory):
        raise InputError(f"{directory} is not a directory", f"name the directory that holds the files of {name}")
    available = _SETS[name].train
    if train_size is not None and not 1 <= train_size <= available:
        raise UsageError(f"{name} has {available} training images, asked for {train_size}", f"ask for 1 to {available}")


def _split(images: NDArray[np.uint8], labels: NDArray[np.uint8], published: _Published) -> Split:
    """Hand arrays over to torch."""
    return Split(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)), published.mean, published.std)
