"""Surface files of tomgoldstein/loss-landscape: its order of filling is read on any grid, and a round trip is whole."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import Command

from analyses import plane
from analyses.pages import read
from landscape import store
from landscape.errors import InputError
from landscape.plane import Plane
from landscape.surface_file import read as read_surface

X, Y = np.linspace(-1, 1, 5), np.linspace(-0.5, 2, 3)


def loss(x: float, y: float) -> float:
    return 0.1 + x**2 + 3 * y**2 + x * y


def theirs(path: Path, *, done: int = 15, ycoordinates: bool = True) -> Path:
    """Write a file as its crunch() does: arrays of shape (X, Y), flat indices paired with a mesh of shape (Y, X)."""
    with h5py.File(path, "w") as file:
        file["dir_file"] = "directions.h5"
        file["xcoordinates"] = X
        if ycoordinates:
            file["ycoordinates"] = Y
        losses, accuracies = -np.ones((len(X), len(Y))), -np.ones((len(X), len(Y)))
        mesh_x, mesh_y = np.meshgrid(X, Y)
        for index in range(done):
            at = loss(mesh_x.ravel()[index], mesh_y.ravel()[index])
            losses.ravel()[index], accuracies.ravel()[index] = at, 100 - at
        file["train_loss"], file["train_acc"] = losses, accuracies
    return path


def test_their_grid_that_is_not_square_is_read_in_the_order_it_was_filled(run: Command, tmp_path: Path) -> None:
    out = tmp_path / "plane.h5"
    done = run("import-surface", theirs(tmp_path / "surface.h5", done=13), "--out", out)
    assert done.exit_code == 0, done.output
    assert "x running fastest" in done.stderr
    found = store.load(out, Plane)
    assert found.status.ravel().tolist() == [0] * 13 + [3] * 2
    for j, y in enumerate(Y):
        for i, x in enumerate(X):
            if found.status[j, i] == 0:
                assert found.loss[0, j, i] == loss(x, y)
                assert found.error[0, j, i] == pytest.approx(loss(x, y) / 100, abs=1e-15)
            else:
                assert np.isnan(found.loss[0, j, i])
    assert np.isnan(found.loss[1]).all()
    assert "2 of 15 points are missing" in done.stdout
    report = tmp_path / "report.html"
    assert run("report", out, "--out", report).exit_code == 0
    assert "surface.h5" in report.read_text()
    assert [button.label for button in plane.figure(found).layout.updatemenus[1].buttons] == [
        "train loss", "train error"
    ]  # fmt: skip
    assert json.loads(run("inspect", out, "--json").stdout)["kind"] == "result of plane"


def test_export_and_import_give_the_same_plane(run: Command, tmp_path: Path) -> None:
    first, surface, second = tmp_path / "first.h5", tmp_path / "surface.h5", tmp_path / "second.h5"
    assert run("import-surface", theirs(tmp_path / "theirs.h5", done=13), "--out", first, "-q").exit_code == 0
    told = json.loads(run("export-surface", first, "--out", surface, "--json").stdout)
    assert told == {"out": str(surface), "x": 5, "y": 3, "missing": 2}
    assert run("import-surface", surface, "--out", second, "-q").exit_code == 0
    one, other = (store.load(path, Plane) for path in (first, second))
    for name in ("x", "y", "loss", "status"):
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True), name
    assert other.error == pytest.approx(one.error, abs=1e-15, nan_ok=True)
    done = run("report", first, surface, "--out", tmp_path / "report.html")  # as `report *.h5` takes them
    assert done.exit_code == 0
    assert f"left out as surface files, no results: {surface}" in done.stderr
    assert run("report", surface, "--out", tmp_path / "other.html").exit_code == 3
    with h5py.File(surface, "r") as file:  # as plot_2D.py and scheduler.py read it
        mesh_x, mesh_y = np.meshgrid(file["xcoordinates"][:], file["ycoordinates"][:])
        z = file["train_loss"][:]
        assert z.shape == mesh_x.shape
        known = ~np.isnan(z)
        assert z[known] == pytest.approx(loss(mesh_x, mesh_y)[known])
        assert "test_loss" not in file
        assert not (z.ravel() <= 0).any()


def test_what_is_no_surface_is_refused_in_one_line(run: Command, tmp_path: Path) -> None:
    line = theirs(tmp_path / "line.h5", ycoordinates=False)
    with pytest.raises(InputError, match="a line"):
        read_surface(line)
    empty = tmp_path / "empty.h5"
    h5py.File(empty, "w").close()
    with pytest.raises(InputError, match="no xcoordinates"):
        read_surface(empty)
    wrong = theirs(tmp_path / "wrong.h5")
    with h5py.File(wrong, "r+") as file:
        del file["ycoordinates"]
        file["ycoordinates"] = np.arange(4.0)
    with pytest.raises(InputError, match="shape"):
        read_surface(wrong)
    text = tmp_path / "text.h5"
    text.write_text("no HDF5")
    for path in (text, tmp_path / "absent.h5"):
        done = run("import-surface", path, "--out", tmp_path / "out.h5")
        assert done.exit_code == 3
        assert len(done.stderr.splitlines()) == 2
    linked = theirs(tmp_path / "linked.h5")
    with h5py.File(linked, "r+") as file:
        del file["train_acc"]
        file["train_acc"] = h5py.ExternalLink("other.h5", "train_acc")
    with pytest.raises(InputError, match="not stored in the file"):
        read_surface(linked)
    assert not (tmp_path / "out.h5").exists()
    told = run("report", theirs(tmp_path / "surface.h5"), "--out", tmp_path / "r.html")
    assert told.exit_code == 3
    assert "landscape import-surface" in told.stderr


def test_only_planes_are_exported(run: Command, tmp_path: Path) -> None:
    first = tmp_path / "first.h5"
    assert run("import-surface", theirs(tmp_path / "theirs.h5"), "--out", first, "-q").exit_code == 0
    assert read(first).provenance.command.startswith("landscape import-surface")
    assert run("export-surface", first, "--out", first, "--force").exit_code == 2  # it is read
    assert run("export-surface", tmp_path / "theirs.h5", "--out", tmp_path / "s.h5").exit_code == 3


@pytest.mark.parametrize(("axis", "value", "told"), [
    ("x", np.nan, "hold nan at index 2"), ("y", np.inf, "hold inf at index 2"), ("x", -1.0, "hold -1 2 times"),
])  # fmt: skip
def test_a_coordinate_that_places_nothing_is_named(
    axis: str, value: float, told: str, run: Command, tmp_path: Path
) -> None:
    path = theirs(tmp_path / "surface.h5")
    with h5py.File(path, "r+") as file:
        file[f"{axis}coordinates"][2] = value
    done = run("import-surface", path, "--out", tmp_path / "plane.h5")
    assert done.exit_code == 3
    assert f"{axis}coordinates in {path} {told}" in done.stderr
    assert not (tmp_path / "plane.h5").exists()
