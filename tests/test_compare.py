"""A comparison asks all it can, says what it cannot ask of this pair, and ends where no question could go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import valley_kit as kit
from conftest import Command, Pair

from analyses import compare, distance, evaluate, hessian, plane, shift
from analyses.pages import read
from landscape.errors import DivergedError, InputError, InterruptedRun, LandscapeError, ResourceError, UsageError

PATHS = (Path("a.pt"), Path("b.pt"))


def asked(out: Path, **more: Any) -> tuple[compare.Compared, list[str]]:
    """A comparison in a bowl over three parameters of one dimension, of which a plane cannot be laid."""
    problem = kit.problem(kit.quadratic(2.0, 1.0))
    ends = [kit.at(kit.MINIMUM + step, name) for step, name in ((-0.3 * kit.AXIS, "a"), (0.8 * kit.AXIS, "b"))]
    notes: list[str] = []
    return compare.compare(problem, ends, PATHS, out, dtype="float64", say=notes.append, **more), notes


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "ASKED", (evaluate, plane, distance))


def failing(error: Exception) -> Any:
    def compute(*_: Any, **__: Any) -> None:
        raise error

    return compute


def test_a_question_that_fails_is_said_and_the_others_go_on(tmp_path: Path) -> None:
    made, notes = asked(tmp_path / "pair")
    assert notes == ["plane is left out: the network has no weights in two dimensions or more to move"]
    told = made.verdict.detail.splitlines()[-1]
    assert told == "Not asked: plane, because the network has no weights in two dimensions or more to move"
    assert told in made.report.read_text()
    assert not (tmp_path / "pair" / "plane.h5").exists()
    others = {analysis.NAME for analysis in compare.ASKED} - {"plane"}
    assert {path.stem for path in (tmp_path / "pair").glob("*.h5")} == others
    found = read(tmp_path / "pair" / "hessian.h5")
    assert found.result.eigenvalue.shape == (2, 3)  # as many as there are parameters, not five
    assert found.result.eigenvalue[1] == pytest.approx([2, 2, 1])  # 2 across the valley, 1 along it
    assert hessian.Options().top == 5
    assert found.provenance.options["top"] == 3


@pytest.mark.usefixtures("few")
def test_a_comparison_that_is_run_again_takes_over_what_is_there_and_says_the_same(tmp_path: Path) -> None:
    first, notes = asked(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.h5")}
    assert len(times) == 2
    first.report.unlink()
    second, again = asked(tmp_path)
    assert second.verdict == first.verdict
    assert again == notes
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.h5")} == times
    first.report.unlink()
    with pytest.raises(UsageError, match="made with other settings"):
        asked(tmp_path, batch_size=2)


@pytest.mark.usefixtures("few")
def test_a_forced_comparison_leaves_no_old_answer_to_a_question_it_cannot_ask(tmp_path: Path) -> None:
    (tmp_path / "plane.h5").write_bytes(b"of another pair")
    asked(tmp_path, force=True)
    assert {path.name for path in tmp_path.iterdir()} == {"evaluate.h5", "distance.h5", "report.html"}


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("kind", [InterruptedRun, ResourceError, InputError])
def test_what_would_stop_any_question_stops_the_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[LandscapeError]
) -> None:
    monkeypatch.setattr(evaluate, "compute", failing(kind("no more", "later")))
    with pytest.raises(kind, match="no more"):
        asked(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("few")
def test_where_every_question_fails_the_first_ones_error_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "compute", failing(DivergedError("first", "r")))
    monkeypatch.setattr(distance, "compute", failing(UsageError("last", "r")))
    with pytest.raises(DivergedError, match="first"):
        asked(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_verdict_without_anything_to_rest_on_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "ASKED", (plane, shift))
    assert asked(tmp_path)[0].verdict.answer == "Nothing that a verdict rests on could be measured"


def test_the_command_notes_what_it_leaves_out_unless_it_is_to_be_quiet(
    run: Command, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "ASKED", (evaluate, plane))
    monkeypatch.setattr(plane, "compute", failing(UsageError("the loss is too flat", "lower --rise")))
    done = run("compare", *pair.paths, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert done.stderr == "note: plane is left out: the loss is too flat\n"
    assert "Not asked: plane, because the loss is too flat" in done.stdout
    quiet = run("compare", *pair.paths, "--out", tmp_path, "--force", "-q")
    assert quiet.stderr == ""


def test_a_comparison_that_is_stopped_says_that_its_answers_were_kept(
    run: Command, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "ASKED", (evaluate, plane))
    with monkeypatch.context() as stopped:
        stopped.setattr(plane, "compute", failing(KeyboardInterrupt()))  # type: ignore[arg-type]
        done = run("compare", *pair.paths, "--out", tmp_path, "-q")
    assert done.exit_code == 75
    assert done.stderr == (
        f"error: stopped; what was answered until then is in {tmp_path}\n  try: run the same command again to go on\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["evaluate.h5"]
    assert run("compare", *pair.paths, "--out", tmp_path, "-q").exit_code == 0
