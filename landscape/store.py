"""One result, one HDF5 file that explains itself.

An array is a dataset with `units` and `long_name` and dimension scales, so that xarray (through h5netcdf) opens it
with named coordinates; plain values and provenance are attributes of the root. Texts are of fixed length, every
dataset carries a checksum, and a file appears whole or not at all. Reading trusts nothing: no links, no storage
outside the file, no dataset that is not in the schema.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import h5py
import numpy as np

from landscape.errors import InputError
from landscape.files import atomic
from landscape.result import Array, Provenance, arrays, unit_of

SCHEMA = "landscape/result/1"
_LARGEST = 2**31  # bytes of one dataset that reading accepts
_BROKEN = (KeyError, ValueError, TypeError, OSError, RuntimeError, AttributeError)  # what h5py raises on damaged files
_AGAIN = "compute it again"
R = TypeVar("R")


def save(path: Path, result: object, provenance: Provenance, force: bool = False) -> None:
    """Write a result.

    Args:
        path: Where to; conventionally `NAME.h5`.
        result: A result dataclass.
        provenance: Where it comes from.
        force: Whether an existing file may be replaced.

    Raises:
        UsageError: If the file exists and `force` is not set.
        InputError: If the place cannot be written to.
        ResourceError: If the disk is full.
    """
    image = _image(result, provenance)  # in memory: HDF5 does not survive a disk that is full
    with atomic(path, force) as temporary:
        temporary.write_bytes(image)


def _image(result: object, provenance: Provenance) -> bytes:
    """The bytes of a result's file."""
    with h5py.File("result", "w", libver="latest", driver="core", backing_store=False) as file:
        file.attrs["schema"] = np.bytes_(SCHEMA)
        for key, value in dataclasses.asdict(provenance).items():
            file.attrs[key] = value if isinstance(value, float) else _encoded(value)
        fields = arrays(result)
        file.attrs["values"] = _encoded(
            {f.name: getattr(result, f.name) for f in dataclasses.fields(result) if f.name not in fields}  # type: ignore[arg-type]
        )
        names = {dim: np.array(getattr(result, field)) for dim, field in getattr(result, "labelled", {}).items()}
        for name in sorted(fields, key=lambda name: fields[name].metadata["dims"] != (name,)):  # coordinates first
            about = {**fields[name].metadata, "unit": unit_of(result, name)}
            _write(file, name, np.asarray(getattr(result, name)), about, names)
        file.attrs["sha256"] = np.bytes_(_digest(file, fields))
        file.flush()
        return bytes(file.id.get_file_image())


def _digest(file: h5py.File, names: Iterable[str]) -> str:
    """SHA-256 over a result's arrays and values as stored; HDF5's own checksums miss some flipped bits."""
    digest = hashlib.sha256(bytes(file.attrs["values"]))
    for name in sorted(names):
        values = file[name][()]
        digest.update(f"{name}{values.dtype}{values.shape}".encode() + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _encoded(value: object) -> np.bytes_:
    return np.bytes_((value if isinstance(value, str) else json.dumps(value)).encode() or b" ")


def _write(file: h5py.File, name: str, values: Array, about: Mapping[str, Any], names: Mapping[str, Array]) -> None:
    dims = about["dims"]
    if values.ndim != len(dims):
        raise ValueError(f"{name} has {values.ndim} dimensions, its schema says {dims}")
    if values.dtype.kind == "U":
        values = np.char.encode(values, "utf-8")
    options = {"chunks": True, "fletcher32": True} if values.size and dims else {}
    dataset = file.create_dataset(name, data=values, **options)
    if values.dtype.kind == "S":
        dataset.attrs["_Encoding"] = np.bytes_(b"utf-8")  # how xarray knows that bytes are text
    dataset.attrs["units"] = np.bytes_(about["unit"].encode())
    dataset.attrs["long_name"] = np.bytes_(about["text"].encode())
    if dims == (name,):
        dataset.make_scale(name)
        return
    for axis, (dim, length) in enumerate(zip(dims, values.shape, strict=True)):
        if dim not in file:
            _scale(file, dim, names.get(dim, np.arange(length)))
        if file[dim].shape != (length,):
            raise ValueError(f"{name} has {length} entries along {dim}, the coordinate has {file[dim].shape}")
        dataset.dims[axis].attach_scale(file[dim])


def _scale(file: h5py.File, dim: str, values: Array) -> None:
    """The coordinate of a dimension that has no field of its own: names where there are any, else numbers from 0."""
    text = values.dtype.kind == "U"
    scale = file.create_dataset(dim, data=np.char.encode(values, "utf-8") if text else values)
    if text:
        scale.attrs["_Encoding"] = np.bytes_(b"utf-8")
    scale.make_scale(dim)


def provenance(path: Path) -> Provenance:
    """Read where a result comes from.

    Args:
        path: The file.

    Returns:
        Its provenance; `analysis` names the question.

    Raises:
        InputError: If the file is missing, damaged or no result of this toolkit.
    """
    with _open(path) as file:
        try:
            known = [
                f for f in dataclasses.fields(Provenance) if f.name in file.attrs or f.default is dataclasses.MISSING
            ]
            return Provenance(**{f.name: _decoded(file.attrs[f.name], text=f.type == "str") for f in known})
        except _BROKEN as error:
            _damaged(path, error)


def _decoded(value: Any, text: bool) -> Any:
    if not isinstance(value, bytes):
        return float(value)
    return value.decode().strip() if text else json.loads(value.decode())


def load(path: Path, kind: type[R]) -> R:
    """Read a result.

    Args:
        path: The file.
        kind: The dataclass it was written from.

    Returns:
        The result, equal to what was written.

    Raises:
        InputError: If the file is missing, damaged, unsafe or of another kind.
    """
    with _open(path) as file:
        try:
            fields = {f.name: f for f in dataclasses.fields(kind) if "dims" in f.metadata}  # type: ignore[arg-type]
            plain = json.loads(file.attrs["values"].decode())
            others = _unlike(file, set(fields), set(plain) ^ ({f.name for f in dataclasses.fields(kind)} - set(fields)))  # type: ignore[arg-type]
            if not others:
                values = {name: _read(file, name, fields[name].metadata) for name in fields}
                same = file.attrs["sha256"].decode() == _digest(file, fields)
                result = kind(**values, **{k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()})
        except _BROKEN as error:
            _damaged(path, error)
    if others:
        named = f"it differs in {', '.join(others)}"
        raise InputError(f"{path} is damaged or was written by another version of landscape: {named}", _AGAIN)
    if not same:
        raise InputError(f"{path} is damaged: its content does not match its SHA-256", _AGAIN)
    return result


def _unlike(file: h5py.File, fields: set[str], plain: set[str]) -> list[str]:
    """Names that only one of a file and its kind of result has, of arrays and of other values.

    Args:
        file: The file.
        fields: Names of the arrays of that kind of result.
        plain: Names of the other values in which both differ.

    Returns:
        All in order.
    """
    own = (name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink))  # follows no link away
    stored = {name for name in own if isinstance(file[name], h5py.Dataset) and not file[name].is_scale}
    return sorted((stored - fields) | (fields - set(file)) | plain)


def _read(file: h5py.File, name: str, about: Mapping[str, Any]) -> Array:
    if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
        raise ValueError(f"{name} is not stored in the file")
    dataset = file[name]
    if (
        dataset.is_virtual
        or dataset.external
        or dataset.ndim != len(about["dims"])
        or dataset.dtype.kind not in "fiubS"
    ):
        raise ValueError(f"{name} is not stored as the schema says")
    if dataset.nbytes > _LARGEST or dataset.nbytes > 1000 * max(dataset.id.get_storage_size(), 1000):
        raise ValueError(f"{name} declares {dataset.nbytes} bytes")
    values: Array = dataset[()]
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    return values


def is_surface(path: Path) -> bool:
    """Whether a file is a surface as tomgoldstein/loss-landscape writes it, and no result."""
    try:
        with h5py.File(path, "r") as file:
            return "xcoordinates" in file and "schema" not in file.attrs
    except _BROKEN:
        return False


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise InputError(f"{path} does not exist" if not path.exists() else f"{path} is a directory", "check the path")
    try:
        file = h5py.File(path, "r")
    except _BROKEN as error:
        raise InputError(f"{path} cannot be read as HDF5; it is cut short or of another kind", _AGAIN) from error
    try:
        schema = file.attrs.get("schema", b"")
    except _BROKEN as error:
        file.close()
        _damaged(path, error)
    if schema != SCHEMA.encode():
        file.close()
        if is_surface(path):
            raise InputError(f"{path} is a surface file, no result", "make it one with landscape import-surface")
        what = f"has the schema {schema.decode()}" if isinstance(schema, bytes) and schema else "is HDF5, but no result"
        raise InputError(f"{path} {what}, expected {SCHEMA}", "compute it again with this version")
    return file


def _damaged(path: Path, error: Exception) -> NoReturn:
    raise InputError(f"{path} is damaged: {' '.join(str(error).split())}", _AGAIN) from error
