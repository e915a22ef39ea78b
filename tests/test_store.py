"""A result's file explains itself, opens in xarray, comes back equal, and is trusted in nothing."""

from __future__ import annotations

import errno
import json
import os
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
import pytest

from landscape import store
from landscape.errors import InputError, UsageError
from landscape.files import atomic
from landscape.result import Array, Provenance, equal, quantity

ABOUT = Provenance(
    analysis="interpolate", command="landscape interpolate a.pt b.pt", options={"points": 3, "low": None},
    problem="digits/mlp", data="ab", inputs={"a": "1", "β": "2"}, trained={"a": {"seed": 0}},
    device="cpu", dtype="float32",
    versions={"torch": "2"}, created="2026-01-01T00:00:00+00:00", seconds=1.5,
)  # fmt: skip


@dataclass(frozen=True)
class Sample:
    labelled: ClassVar[dict[str, str]] = {"run": "runs"}

    runs: tuple[str, ...]
    names: tuple[str, ...]
    weight: float
    split: Array = quantity("1", "part of the data", "split")
    alpha: Array = quantity("1", "place", "alpha")
    loss: Array = quantity("nats", "mean loss", "split", "alpha")
    level: Array = quantity("nats", "level", "run")
    empty: Array = quantity("1", "nothing", "run", "none")


def sample() -> Sample:
    return Sample(
        ("a", "b", "c", "β"), ("SGD", "SGD→SAM"), float("nan"), np.array(["train", "test"]), np.array([0.0, 0.5, 1.0]),
        np.array([[1.0, np.nan, 3.0], [4, 5, 6]]), np.arange(4, dtype=np.int8), np.empty((4, 0), np.float32),
    )  # fmt: skip


def test_a_result_comes_back_equal(tmp_path: Path) -> None:
    store.save(tmp_path / "r.h5", sample(), ABOUT)
    read = store.load(tmp_path / "r.h5", Sample)
    assert np.isnan(read.weight)
    assert equal(replace(read, weight=0.0), replace(sample(), weight=0.0))
    assert not equal(replace(read, alpha=read.alpha + 1), sample())
    assert store.provenance(tmp_path / "r.h5") == ABOUT


def test_datasets_carry_units_long_names_and_scales(tmp_path: Path) -> None:
    store.save(tmp_path / "r.h5", sample(), ABOUT)
    with h5py.File(tmp_path / "r.h5") as file:
        assert file["loss"].attrs["units"] == b"nats"
        assert file["loss"].attrs["long_name"] == b"mean loss"
        assert file["loss"].fletcher32
        assert file["loss"].dims[1][0] == file["alpha"]
        assert file.attrs["command"] == b"landscape interpolate a.pt b.pt"


def test_xarray_opens_a_result_with_named_coordinates(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    store.save(tmp_path / "r.h5", sample(), ABOUT)
    with xarray.open_dataset(tmp_path / "r.h5", engine="h5netcdf") as data:
        assert data.loss.dims == ("split", "alpha")
        assert float(data.loss.sel(alpha=1.0)[1]) == 6.0
        assert float(data.loss.sel(split="test", alpha=0.5)) == 5.0
        assert data.level.coords["run"].values.tolist() == ["a", "b", "c", "β"]
        assert data.loss.attrs["units"] in {"nats", b"nats"}


def test_a_file_is_not_overwritten(tmp_path: Path) -> None:
    store.save(tmp_path / "r.h5", sample(), ABOUT)
    with pytest.raises(UsageError, match="exists already"):
        store.save(tmp_path / "r.h5", sample(), ABOUT)
    store.save(tmp_path / "r.h5", sample(), replace(ABOUT, device="cuda"), force=True)
    assert store.provenance(tmp_path / "r.h5").device == "cuda"


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="entries along alpha"):
        store.save(tmp_path / "r.h5", replace(sample(), loss=np.zeros((2, 5))), ABOUT)
    assert os.listdir(tmp_path) == []


def test_a_cut_or_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.h5"
    with pytest.raises(InputError, match="does not exist"):
        store.load(path, Sample)
    store.save(path, sample(), ABOUT)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cut short"):
        store.load(path, Sample)
    path.write_bytes(b"text")
    with pytest.raises(InputError, match="HDF5"):
        store.provenance(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(InputError, match="no result"):
        store.load(path, Sample)


@pytest.mark.parametrize("change", ["an array more", "an array less", "a value more", "a value less"])
def test_what_another_version_wrote_is_told(tmp_path: Path, change: str) -> None:
    path = tmp_path / "r.h5"
    store.save(path, sample(), ABOUT)
    with h5py.File(path, "r+") as file:
        plain = json.loads(file.attrs["values"].decode())
        name = next(iter(plain)) if change == "a value less" else "level" if change == "an array less" else "other"
        if change == "an array more":
            file.create_dataset("other", data=np.zeros(3))
        elif change == "an array less":
            del file["level"]
        else:
            changed = {**plain, "other": 1} if change == "a value more" else {k: plain[k] for k in plain if k != name}
            file.attrs["values"] = np.bytes_(json.dumps(changed).encode())
    with pytest.raises(InputError) as refused:
        store.load(path, Sample)
    assert refused.value.cause.endswith(f"by another version of landscape: it differs in {name}")


def test_provenance_of_before_a_field_was_known_is_read(tmp_path: Path) -> None:
    store.save(tmp_path / "r.h5", sample(), ABOUT)
    with h5py.File(tmp_path / "r.h5", "r+") as file:
        del file.attrs["smoothing"]
    assert store.provenance(tmp_path / "r.h5") == ABOUT


@pytest.mark.parametrize("attack", ["soft", "external link", "external storage", "huge", "missing", "group"])
def test_nothing_outside_the_schema_is_read(tmp_path: Path, attack: str) -> None:
    path, secret = tmp_path / "r.h5", tmp_path / "secret"
    secret.write_bytes(b"\0" * 800)
    store.save(path, sample(), ABOUT)
    with h5py.File(path, "r+") as file:
        del file["level"]
        if attack == "soft":
            file["level"] = h5py.SoftLink("/alpha")
        elif attack == "external link":
            file["level"] = h5py.ExternalLink(str(secret), "/x")
        elif attack == "external storage":
            file.create_dataset("level", shape=(100,), dtype="f8", external=[(str(secret), 0, 800)])
        elif attack == "huge":
            file.create_dataset("level", shape=(2**37,), dtype="f8", chunks=(2**20,))
        elif attack == "group":
            file.create_group("level")
    with pytest.raises(InputError, match="damaged"):
        store.load(path, Sample)


def test_flipped_bytes_end_in_an_error_or_in_the_same_values(tmp_path: Path) -> None:
    path = tmp_path / "r.h5"
    store.save(path, sample(), ABOUT)
    whole, draw, silent = path.read_bytes(), random.Random(0), 0
    for _ in range(200):
        place = draw.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :])
        try:
            read = store.load(path, Sample)
        except InputError:
            continue
        silent += not equal(replace(read, weight=0.0), replace(sample(), weight=0.0))
    assert silent == 0


def test_a_directory_that_takes_no_files_is_not_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*words: object, **settings: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr("landscape.files.tempfile.mkstemp", refuse)  # as the kernel does for /proc
    with pytest.raises(InputError, match=f"no file can be made in the directory {tmp_path}"), atomic(tmp_path / "x.h5"):
        pass
