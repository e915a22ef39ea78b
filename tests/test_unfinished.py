"""What is stopped or killed keeps its points and comes to the same arrays; points of two jobs never mix."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import curvature_nets as nets
import numpy as np
import pytest
from conftest import Command

from analyses import interpolate
from analyses.escape import Escapes
from landscape import store
from landscape.errors import InputError, InterruptedRun, UsageError
from landscape.interpolation import Interpolation
from landscape.plane import Plane
from landscape.result import equal
from landscape.unfinished import Unfinished, record, records

JOB = {"grid": "3x2", "SHA-256 of a": "0123"}


def test_points_come_back_bit_for_bit(tmp_path: Path) -> None:
    state = Unfinished(tmp_path / "s", JOB)
    assert state.frame is None
    assert not state.path.exists()
    state.begin({"x": np.array([0.1, 0.2])})
    values = (0.0, 0.1 + 0.2, float("nan"), 1e-300)
    state.keep(4, values)
    again = Unfinished(tmp_path / "s", JOB, resume=True)
    assert np.array(again.points[4]).tobytes() == np.array(values).tobytes()
    assert again.frame is not None
    assert again.frame["x"].tolist() == [0.1, 0.2]
    again.discard()
    assert not state.path.exists()


@pytest.mark.parametrize("cut", range(1, len(record(1, (2.0,)))))
def test_a_record_cut_short_or_changed_is_left_out(tmp_path: Path, cut: int) -> None:
    one, two = record(0, (1.0,)), record(1, (2.0,))
    assert records(one + two[:-cut]) == ({0: (1.0,)}, len(one))
    broken = bytearray(one + two)
    broken[len(one) + cut - 1] ^= 1
    assert records(bytes(broken)) == ({0: (1.0,)}, len(one))


def test_a_record_after_one_cut_short_is_kept(tmp_path: Path) -> None:
    state = Unfinished(tmp_path / "s", JOB)
    state.begin({})
    (tmp_path / "s" / "points.bin").write_bytes(record(0, (1.0,)) + record(1, (2.0,))[:-3])
    again = Unfinished(tmp_path / "s", JOB, resume=True)
    again.keep(2, (3.0,))
    assert Unfinished(tmp_path / "s", JOB, resume=True).points == {0: (1.0,), 2: (3.0,)}


def test_points_of_another_job_are_refused(tmp_path: Path) -> None:
    Unfinished(tmp_path / "s", JOB).begin({})
    with pytest.raises(UsageError, match="grid"):
        Unfinished(tmp_path / "s", JOB | {"grid": "4x2"}, resume=True)
    assert Unfinished(tmp_path / "s", JOB).points == {}
    assert not (tmp_path / "s").exists()
    Unfinished(tmp_path / "s", JOB).begin({})
    (tmp_path / "s" / "frame.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="cannot be read"):
        Unfinished(tmp_path / "s", JOB, resume=True)


def test_a_signal_is_said_with_what_is_kept(tmp_path: Path) -> None:
    stops: list[int] = []
    state = Unfinished(tmp_path / "s", JOB, stops)
    state.check(6)
    stops.append(signal.SIGTERM)
    with pytest.raises(InterruptedRun, match="before the first point"):
        state.check(6)
    state.begin({})
    state.keep(0, (1.0,))
    with pytest.raises(InterruptedRun, match="after 1 of 6 points"):
        state.check(6)


@pytest.fixture(scope="module")
def networks(run: Command, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("networks")
    made = place / "a.pt", place / "b.pt"
    for seed, out in enumerate(made):
        done = run("train", "digits/mlp", "--epochs", "3", "--set", f"seed={seed}", "--out", out, "-q")
        assert done.exit_code == 0, done.output
    return made


POINTS = {"plane": 450, "interpolate": 90, "escape": 60}
KINDS = {"plane": Plane, "interpolate": Interpolation, "escape": Escapes}


def words(kind: str, networks: tuple[Path, Path], out: Path) -> list[str]:
    if kind == "plane":
        return ["plane", str(networks[0]), "--axes", "eigenvectors", "--grid", "30x15", "--out", str(out), "-q"]
    if kind == "escape":
        walks = ["--rho", "0,0.5", "--walks", "30", "--lr", "0.1", "--budget", "60", "--threshold", "0.5"]
        return ["escape", str(networks[0]), *walks, "--out", str(out), "-q"]
    fine = ["--tolerance", "1e-6", "--most", str(POINTS[kind])]
    return ["interpolate", *map(str, networks), *fine, "--out", str(out), "-q"]


@pytest.fixture(scope="module")
def whole(run: Command, networks: tuple[Path, Path]) -> dict[str, Any]:
    found = {}
    for kind, result in KINDS.items():
        out = networks[0].with_name(f"whole.{kind}.h5")
        assert run(*words(kind, networks, out)).exit_code == 0
        found[kind] = store.load(out, result)
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_resumes_to_the_same_arrays(
    run: Command, networks: tuple[Path, Path], whole: dict[str, Any], tmp_path: Path, kind: str,
    number: signal.Signals,
) -> None:  # fmt: skip
    out = tmp_path / "result.h5"
    code = "import sys; from cli.main import landscape; sys.argv[0] = 'landscape'; landscape()"
    running = subprocess.Popen(
        [sys.executable, "-c", code, *words(kind, networks, out)],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    points = tmp_path / "result.h5.state" / "points.bin"
    deadline = time.monotonic() + 200
    while not points.exists():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    running.send_signal(number)
    _, told = running.communicate(timeout=200)
    if number == signal.SIGKILL:
        assert running.returncode == -9
    else:
        assert running.returncode == 75, told
        assert "--resume" in told
    assert not out.exists()
    kept = points.read_bytes()
    found, _ = records(kept)
    assert 0 < len(found) < POINTS[kind]
    if number == signal.SIGTERM:
        done = run(*words(kind, networks, out))
        assert done.exit_code == 2
        assert "--resume" in done.stderr
        assert points.read_bytes() == kept
        changed = {"plane": ("--grid", "3x3"), "interpolate": ("--points", "7"), "escape": ("--seed", "7")}[kind]
        assert changed[0].removeprefix("--") in run(*words(kind, networks, out), "--resume", *changed).stderr
    done = run(*words(kind, networks, out), "--resume")
    assert done.exit_code == 0, done.output
    assert equal(store.load(out, KINDS[kind]), whole[kind])
    assert [path.name for path in tmp_path.iterdir()] == ["result.h5"]


@pytest.mark.parametrize("options", [{}, {"slopes": False}, {"points": 9}, {"precision": "bf16", "tolerance": 0.5}])
def test_a_line_stopped_after_any_number_of_points_chooses_the_same_ones(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    problem = nets.problem()
    ends = nets.point(problem, 0), nets.point(problem, 1)
    chosen = interpolate.Options(**({"most": 22, "tolerance": 1e-6, "high": 1.5} | options))
    whole = interpolate.compute(problem, *ends, options=chosen)
    last = 0
    for turn in range(30):
        stops: list[int] = []

        def after_five(done: int, most: int, text: str, stops: list[int] = stops, turn: int = turn) -> None:
            stops.extend([signal.SIGTERM] * (done > 5 * turn + 4))

        state = Unfinished(tmp_path / "s", JOB, stops, resume=True)
        try:
            found = interpolate.compute(problem, *ends, options=chosen, progress=after_five, rest=state)
        except InterruptedRun:
            assert len(state.points) > last
            last = len(state.points)
            continue
        assert turn > 0
        assert equal(found, whole)
        return
    raise AssertionError("it never ended")
