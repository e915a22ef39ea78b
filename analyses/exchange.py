"""Planes to and from the surface files of tomgoldstein/loss-landscape."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from analyses import plane
from analyses.pages import read
from landscape import __version__, store, surface_file
from landscape.errors import InputError
from landscape.files import check_target, sha256
from landscape.plane import Plane
from landscape.result import SPLITS, Array, Provenance
from landscape.sheet import ABSENT, NOT_FINITE, OK
from landscape.surface_file import SurfaceFile


def import_surface(path: Path, out: Path, say: Callable[[str], None], force: bool = False) -> Plane:
    """Read a surface file and store it as a plane.

    Args:
        path: The surface file.
        out: Result to write.
        say: Told what had to be decided.
        force: Whether `out` may be replaced.

    Returns:
        The plane; it has no checkpoints, and says where it comes from.

    Raises:
        InputError: If the file cannot be used.
        UsageError: If `out` exists and `force` is not set.
    """
    check_target(out, force, [path])
    found = surface_file.read(path)
    if found.transposed:
        say(f"{path} has arrays of shape ({len(found.x)}, {len(found.y)}): read as filled in, x running fastest")
    result = _plane(found, path)
    command = shlex.join(["landscape", "import-surface", str(path), "--out", str(out)])
    about = Provenance(
        analysis=plane.NAME, command=command, options={}, problem=path.name, data="", inputs={path.stem: sha256(path)},
        trained={}, device="", dtype="float64", versions={"landscape": __version__},
        created=datetime.now(UTC).isoformat(timespec="seconds"), seconds=0.0,
    )  # fmt: skip
    store.save(out, result, about, force)
    return result


def _plane(found: SurfaceFile, path: Path) -> Plane:
    """The plane of a surface file; axes in ascending order."""
    columns, rows = np.argsort(found.x, kind="stable"), np.argsort(found.y, kind="stable")
    blank = np.full((len(rows), len(columns)), np.nan)
    values = {key: value[np.ix_(rows, columns)] for key, value in found.values.items()}
    loss = np.stack([values.get(f"{split}_loss", blank) for split in SPLITS])
    error = np.stack([1 - values.get(f"{split}_acc", blank) / 100 for split in SPLITS])
    given = np.stack(list(values.values()))
    status = np.select([np.isnan(given).any(0), ~np.isfinite(given).all(0)], [ABSENT, NOT_FINITE], OK)
    nothing, none = np.full(2, np.nan), np.zeros((2, 0))
    return Plane(
        names=(), methods=(), axes="imported", titles=("x", "y"), origin=-1, after=(), batchnorm="", biases="",
        classifies=True, converged=True, source=path.name, split=np.array(SPLITS), x=found.x[columns], y=found.y[rows],
        loss=_finite(loss), error=_finite(error), status=status.astype(np.int8),
        examples=np.zeros(2, dtype=int), place=none.T, off_plane=np.zeros(0), own_loss=none, own_error=none,
        length=nothing, share=nothing, eigenvalue=nothing,
    )  # fmt: skip


def _finite(values: Array) -> Array:
    return np.where(np.isfinite(values), values, np.nan)


def export_surface(path: Path, out: Path, force: bool = False) -> Plane:
    """Write a stored plane as a surface file.

    Args:
        path: A result of `landscape plane`.
        out: Surface file to write.
        force: Whether `out` may be replaced.

    Returns:
        The plane.

    Raises:
        InputError: If the file is no plane.
        UsageError: If `out` exists and `force` is not set.
    """
    check_target(out, force, [path])
    stored = read(path)
    if not isinstance(stored.result, Plane):
        raise InputError(f"{path} is a result of {stored.provenance.analysis}, not of plane", "run landscape plane")
    result = stored.result
    values = {}
    for s, split in enumerate(SPLITS):
        values[f"{split}_loss"] = result.loss[s]
        if result.classifies:
            values[f"{split}_acc"] = 100 * (1 - result.error[s])
    kept = {key: value for key, value in values.items() if not np.isnan(value).all()}
    surface_file.write(out, SurfaceFile(result.x, result.y, kept), stored.provenance.command, force)
    return result
