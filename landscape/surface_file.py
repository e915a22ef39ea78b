"""Surface files of tomgoldstein/loss-landscape: read and written, so that its surfaces and its users' scripts go on.

A file holds `xcoordinates` (X,), `ycoordinates` (Y,) and `train_loss`, `train_acc`, `test_loss`, `test_acc` as far as
they were computed; accuracies are in percent, −1 marks a point that was not computed. That program makes its arrays
of shape (X, Y) but fills them in the order of a mesh of shape (Y, X): entry k of the flattened array belongs to
x[k mod X], y[k div X]. So the flattened order tells the point, whatever the shape; on a square grid both agree. Files
are written with shape (Y, X), which its resuming and its plotting both read right.

Source: Li et al. 2018, arXiv 1712.09913, and its code: plot_surface.py, scheduler.py, plot_2D.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from landscape.errors import InputError
from landscape.files import atomic
from landscape.result import Array

KEYS = ("train_loss", "test_loss", "train_acc", "test_acc")
_LARGEST = 100_000_000  # entries of one array that reading accepts
_BROKEN = (KeyError, ValueError, TypeError, OSError, RuntimeError, AttributeError)


@dataclass(frozen=True)
class SurfaceFile:
    """What such a file says.

    Attributes:
        x: Coordinates along the first direction, shape (X,), in units of that direction.
        y: Coordinates along the second, shape (Y,).
        values: Those of `KEYS` that are there, each of shape (Y, X); NaN where a point was not computed.
        transposed: Whether the arrays were stored with shape (X, Y), X ≠ Y, and read in the order they were filled in.
    """

    x: Array
    y: Array
    values: dict[str, Array]
    transposed: bool = False


def read(path: Path) -> SurfaceFile:
    """Read a surface file.

    Args:
        path: The file.

    Returns:
        Coordinates, ascending or not as stored, and values.

    Raises:
        InputError: If it is missing, damaged, one-dimensional or no surface file, or a coordinate is not finite or
            occurs twice.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist" if not path.exists() else f"{path} is a directory", "check the path")
    try:
        with h5py.File(path, "r") as file:
            stored = {key: _array(file, key) for key in ("xcoordinates", "ycoordinates", *KEYS) if key in file}
    except _BROKEN as error:
        raise InputError(
            f"{path} cannot be read as a surface file: {error}", "give a .h5 of plot_surface.py"
        ) from error
    values = {key: stored[key] for key in KEYS if key in stored}
    if "xcoordinates" not in stored or not values:
        raise InputError(f"{path} holds no xcoordinates or no losses", "give the surface .h5 of plot_surface.py")
    if "ycoordinates" not in stored:
        raise InputError(f"{path} holds a line, not a plane: it has no ycoordinates", "give a surface made with --y")
    x, y = (_coordinates(stored[f"{axis}coordinates"].ravel(), f"{axis}coordinates in {path}") for axis in "xy")
    for key, value in values.items():
        if value.shape not in {(len(x), len(y)), (len(y), len(x))}:
            raise InputError(
                f"{key} in {path} has shape {value.shape}, but there are {len(x)} × {len(y)} coordinates",
                "give an undamaged file",
            )
    transposed = any(value.shape != (len(y), len(x)) for value in values.values())
    meshed = {key: value.reshape(len(y), len(x)) for key, value in values.items()}
    return SurfaceFile(x, y, {key: np.where(value == -1, np.nan, value) for key, value in meshed.items()}, transposed)


def _coordinates(values: Array, where: str) -> Array:
    """Coordinates that place each row or column once; others are refused."""
    for index, value in enumerate(values):
        if not np.isfinite(value):
            raise InputError(f"{where} hold {value} at index {index}", "give a surface with finite coordinates")
    found, times = np.unique(values, return_counts=True)
    if (times > 1).any():
        raise InputError(
            f"{where} hold {found[times > 1][0]:g} {times.max()} times", "give a surface that has each coordinate once"
        )
    return values


def _array(file: h5py.File, key: str) -> Array:
    if not isinstance(file.get(key, getlink=True), h5py.HardLink) or not isinstance(file[key], h5py.Dataset):
        raise ValueError(f"{key} is not stored in the file")
    dataset = file[key]
    if dataset.is_virtual or dataset.external or dataset.dtype.kind not in "fiu" or dataset.size > _LARGEST:
        raise ValueError(f"{key} is no plain array of numbers")
    values: Array = dataset[()].astype(np.float64)
    return values


def write(path: Path, surface: SurfaceFile, source: str, force: bool = False) -> None:
    """Write a surface file.

    Args:
        path: Where to.
        surface: Coordinates and values; NaN stays NaN, which draws as a gap where −1 would draw as a pit.
        source: What made the values; kept as an attribute.
        force: Whether an existing file may be replaced.

    Raises:
        UsageError: If the file exists and `force` is not set.
        InputError: If the place cannot be written to.
        ResourceError: If the disk is full.
    """
    with h5py.File("surface", "w", driver="core", backing_store=False) as file:
        file.attrs["source"] = source
        file["xcoordinates"], file["ycoordinates"] = surface.x, surface.y
        for key, value in surface.values.items():
            file[key] = value
        file.flush()
        image = bytes(file.id.get_file_image())
    with atomic(path, force) as temporary:
        temporary.write_bytes(image)
