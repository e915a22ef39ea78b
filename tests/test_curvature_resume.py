"""A search that is stopped after any product goes on from its file and ends in the same bits."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from conftest import Command, Pair
from curvature_nets import point, problem
from stopping import stop

from analyses import along, hessian
from analyses.pages import read
from landscape.curvature import Eigenpairs, Rest, top_eigenpairs
from landscape.curvature.blocks import Choice
from landscape.curvature.lanczos import Search
from landscape.errors import InputError, InterruptedRun, ResourceError, UsageError
from landscape.interruption import signals
from landscape.result import equal

ABOUT: dict[str, Any] = {"tol": 1e-3, "problem": "stripes", "layer": None}


class After(list[int]):
    """Signals, of which the first comes after so many questions whether there is one."""

    def __init__(self, questions: int) -> None:
        super().__init__()
        self.left = questions

    def __bool__(self) -> bool:
        self.left -= 1
        return self.left < 0


def chain(analysis: Any, options: Any, rest: Rest | None = None) -> Any:
    stripes = problem()
    ends = [point(stripes, seed) for seed in (0, 1)]
    return analysis.compute(stripes, *ends, options=options, dtype="float64", rest=rest)


@pytest.mark.parametrize("capacity", [16, 60])
def test_a_search_that_is_stopped_after_any_product_ends_in_the_same_bits(tmp_path: Path, capacity: int) -> None:
    entries = torch.linspace(-1, 1, 300, dtype=torch.float64) ** 3
    entries[:4] = torch.tensor([9.0, 9.0, 5.0, 4.0])

    def search(rest: Rest) -> Eigenpairs:
        return top_eigenpairs(
            lambda v: entries * v, 300, 2, dtype=torch.float64, capacity=capacity, state=rest.search, save=rest.step
        )

    whole = search(Rest())
    for products in range(whole.products):
        with pytest.raises(InterruptedRun):
            search(Rest(tmp_path / "s", ABOUT, After(products)))
        rest = Rest(tmp_path / "s", ABOUT)
        rest.load()
        again = search(rest)
        assert again.values.tobytes() == whole.values.tobytes()
        assert again.residuals.tobytes() == whole.residuals.tobytes()
        assert torch.equal(again.vectors, whole.vectors)
        assert again.products == whole.products


@pytest.mark.parametrize(
    ("analysis", "options"),
    [(hessian, hessian.Options(top=3)), (along, along.Options(top=1, points=3))],
    ids=["hessian", "along"],
)
def test_a_chain_that_is_stopped_again_and_again_ends_in_the_same_bits(
    tmp_path: Path, analysis: Any, options: Any
) -> None:
    whole = chain(analysis, options)
    path, stops, result = tmp_path / "r.h5.state", 0, None
    while result is None:
        rest = Rest(path, ABOUT, After(7))  # more than a certificate takes
        if stops:
            rest.load()
        try:
            result = chain(analysis, options, rest)
        except InterruptedRun:
            stops += 1
    assert equal(result, whole)
    questions = whole.products - options.top  # a certificate is one block
    assert stops >= int(np.sum(questions)) // 8


def test_a_state_is_written_now_and_then_and_takes_a_twentieth_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, written = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    rest = Rest(tmp_path / "s", ABOUT)

    def save(search: Search) -> None:
        clock[0] += 0.125
        rest.step(search)
        if (tmp_path / "s").exists():
            written.append(clock[0])
            (tmp_path / "s").unlink()

    entries = torch.arange(30.0, dtype=torch.float64)
    top_eigenpairs(lambda v: entries * v, 30, 3, dtype=torch.float64, save=save)
    assert written[:3] == [0.25, 0.5, 0.75]  # a writing of no time counts as 0.01 s


def stopped_state(path: Path) -> Path:
    with pytest.raises(InterruptedRun):
        chain(hessian, hessian.Options(top=2), Rest(path, ABOUT, After(8)))
    return path


def test_another_chain_is_refused_and_what_differs_is_named(tmp_path: Path) -> None:
    path = stopped_state(tmp_path / "s")
    with pytest.raises(UsageError, match=r"layer \(None → conv\*\), tol \(0\.001 → 0\.01\)"):
        Rest(path, ABOUT | {"tol": 1e-2, "layer": "conv*"}).load()


def test_another_machine_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = stopped_state(tmp_path / "s")
    monkeypatch.setattr("landscape.curvature.rest.machine", lambda: "torch 9, AVX9, 9 threads")
    Rest(path, ABOUT).load()
    assert "the last bits may differ" in caplog.text


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    path = stopped_state(tmp_path / "s")
    whole = path.read_bytes()
    for broken in (b"", whole[:100], whole[: len(whole) // 2], b"x" * 5000):
        path.write_bytes(broken)
        with pytest.raises(InputError):
            Rest(path, ABOUT).load()
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        file["search.basis"][0, 0] += 1
    with pytest.raises(InputError, match="SHA-256"):
        Rest(path, ABOUT).load()
    with h5py.File(path, "r+") as file:
        del file["search.basis"]
        file["search.basis"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(InputError, match="not stored in the file"):
        Rest(path, ABOUT).load()
    with h5py.File(path, "r+") as file:
        del file["search.basis"]
        file.create_dataset("search.basis", (10**6, 10**6), "f8")
    with pytest.raises(InputError, match="not what it says"):
        Rest(path, ABOUT).load()


def test_a_full_disk_leaves_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stopped_state(tmp_path / "s")
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    rest = Rest(path, ABOUT, [signal.SIGTERM])
    rest.load()
    with pytest.raises(ResourceError, match="No space"):
        chain(hessian, hessian.Options(top=2), rest)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_signals_are_collected_and_the_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with signals() as received:
        signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGTERM]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)  # a second one is impatient
    assert signal.getsignal(signal.SIGTERM) is before


# eleven vectors in the certificate: how they are multiplied would hang on a clock
SEARCH = [
    "--top",
    "10",
    "--tol",
    "1e-5",
    "--examples",
    "60",
    "--dtype",
    "float64",
    "--vectors",
    "yes",
    "--deterministic",
]


@pytest.fixture(scope="module")
def whole(run: Command, pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("whole") / "r.h5"
    done = run("hessian", pair.paths[0], *SEARCH, "--out", out, "-q")
    assert done.exit_code == 0, done.output
    assert [path.name for path in out.parent.iterdir()] == ["r.h5"]
    return read(out).result


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_stopped_command_goes_on_to_the_same_result(
    run: Command, pair: Pair, tmp_path: Path, whole: Any, number: signal.Signals
) -> None:
    out, state = tmp_path / "r.h5", tmp_path / "r.h5.state"
    words = ["hessian", str(pair.paths[0]), *SEARCH, "--out", str(out)]
    told = stop(words, state.exists, number)
    assert ("--resume" in told) == (number != signal.SIGKILL)
    assert state.exists()
    assert not out.exists()

    told = run(*words).stderr
    assert "go on with --resume" in told
    refused = run(*words, "--resume", "--seed", "1")
    assert refused.exit_code == 2
    assert "seed (0 → 1)" in refused.stderr
    done = run(*words, "--resume")
    assert done.exit_code == 0, done.output
    assert equal(read(out).result, whole)
    assert not state.exists()


def test_resuming_what_is_complete_or_never_began_or_cannot(run: Command, pair: Pair, tmp_path: Path) -> None:
    out = tmp_path / "r.h5"
    words = ["hessian", pair.paths[0], "--top", "1", "--examples", "200", "--out", out]
    begun = run(*words, "--resume")
    assert begun.exit_code == 0, begun.output
    assert "starting from the beginning" in begun.stderr
    before = out.read_bytes()
    again = run(*words, "--resume")
    assert "complete already" in again.stderr
    assert again.stdout == begun.stdout
    assert out.read_bytes() == before
    other = run(*words, "--resume", "--tol", "1e-2")
    assert other.exit_code == 2
    assert "tol (0.001 → 0.01)" in other.stderr
    power = run("hessian", pair.paths[0], "--engine", "power", "--out", tmp_path / "p.h5", "--resume")
    assert power.exit_code == 2
    assert "cannot be resumed" in power.stderr
    assert "no such option" in run("spectrum", pair.paths[0], "--resume").stderr.lower()


def test_how_blocks_are_multiplied_is_part_of_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = torch.linspace(-1, 1, 300, dtype=torch.float64) ** 3
    entries[:20] = torch.arange(30.0, 10, -1)
    loud = 1 + torch.arange(8.0, dtype=torch.float64)[:, None] * 1e-13  # each place in a block has its own rounding

    def search(rest: Rest, faster: bool) -> Eigenpairs:
        ticks = iter([0.0, 1.0, 1.0, 2.0 if faster else 9.0, 9.0, 10.0])
        monkeypatch.setattr("landscape.curvature.blocks.clock", lambda device: next(ticks))
        choice = Choice(torch.device("cpu"))

        def block(vectors: torch.Tensor) -> torch.Tensor:
            together = lambda rows: loud[: len(rows)] * entries * rows  # noqa: E731
            return choice.images(vectors, lambda rows: entries * rows, together, 100)

        return top_eigenpairs(
            lambda v: entries * v, 300, 17, dtype=torch.float64, state=rest.search, save=rest.step, block=block,
            choice=choice,
        )  # fmt: skip

    whole, other = search(Rest(), True), search(Rest(), False)
    assert other.residuals.tobytes() != whole.residuals.tobytes()
    for certified in (1, 2):  # of three blocks; the choice is made in the first
        with pytest.raises(InterruptedRun):
            search(Rest(tmp_path / "s", ABOUT, After(whole.products - 18 + certified)), True)
        rest = Rest(tmp_path / "s", ABOUT)
        rest.load()
        again = search(rest, False)
        assert again.values.tobytes() == whole.values.tobytes()
        assert again.residuals.tobytes() == whole.residuals.tobytes()
        assert again.products == whole.products
