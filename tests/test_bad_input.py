"""Bad input gets one line of cause, one of remedy and the documented exit code; nothing is lost or half-written."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from conftest import Command, Pair

from analyses import REGISTRY
from analyses.experiments import EXPERIMENTS
from landscape.errors import UsageError
from landscape.opening import open_checkpoints
from landscape.options import make
from landscape.training.settings import Settings

TRAIN = ("train", "digits/mlp", "--epochs", "2", "--evaluations", "1")


def check(result: object, code: int, *says: str) -> None:
    lines = result.stderr.strip().splitlines()  # type: ignore[attr-defined]
    assert result.exit_code == code, result.output  # type: ignore[attr-defined]
    problem = [line for line in lines if not line.startswith("note:")]
    assert len(problem) == 2, lines
    assert problem[0].startswith("error: ")
    assert problem[1].startswith("  try: ")
    for text in says:
        assert text in "\n".join(problem), lines
    assert "Traceback" not in result.output  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["trian"], 2, ["did you mean 'train'?"]),
        (["train", "digits/resnet8"], 2, ["Missing option '--out'", "landscape train --help"]),
        (["train", "digits/resnet8", "--out", "x.pt", "--method", "sgd-smm"], 2, ["did you mean 'sgd-sam'?"]),
        (["train", "digit/resnet8", "--out", "x.pt"], 2, ["unknown problem", "did you mean 'digits/resnet8'?"]),
        (["train", "digits/resnet9", "--out", "x.pt"], 2, ["resnet9"]),
        (["train", "digits", "--out", "x.pt"], 2, ["unknown problem"]),
        (["train", "digits/mlp", "--out", "x.pt", "--rho", "-1"], 2, ["rho=-1.0 is out of range", "at least 0"]),
        (["train", "digits/mlp", "--out", "x.pt", "--switch", "1.5"], 2, ["switch=1.5", "in [0.0, 1.0]"]),
        (["train", "digits/mlp", "--out", "x.pt", "--epochs", "0"], 2, ["epochs=0"]),
        (["train", "digits/mlp", "--out", "x.pt", "--seed", "9" * 20], 2, ["seed=9999", "in [0, 9223372036854775807]"]),
        (["sharpness", "a.pt", "--seed", "9" * 20], 2, ["seed=9999", "in [0, 9223372036854775807]"]),
        (["hessian", "a.pt", "--seed", "-1"], 2, ["seed=-1", "at least 0"]),
        (["train", "digits/mlp", "--out", "x.pt", "--lr", "fast"], 2, ["lr='fast'", "float"]),
        (["train", "digits/mlp", "--out", "x.pt", "--norm", "0.5"], 2, ["norm=0.5"]),
        (["train", "digits/mlp", "--out", "x.pt", "--set", "roh=1"], 2, ["setting 'roh'", "did you mean 'rho'?"]),
        (["train", "digits/mlp", "--out", "x.pt", "--set", "rho"], 2, ["has no value"]),
        (["train", "digits/mlp", "--out", "x.pt", "--settings", "no.toml"], 3, ["no.toml"]),
        (["train", "digits/mlp", "--out", "x.pt", "--device", "tpu"], 2, ["unknown device 'tpu'"]),
        (["train", "digits/mlp", "--out", "x.pt", "--device", "cuda:99"], 2, ["no device 'cuda:99'"]),
        (["train", "digits/mlp", "--out", "x.pt", "--save-at", "10**6"], 2, ["is no step"]),
        (["train", "digits/mlp", "--out", "no/such/x.pt"], 3, ["does not exist"]),
        (["train", "digits/mlp?train_size=9999", "--out", "x.pt"], 2, ["9999"]),
        (["train", "digits/mlp?size=9", "--out", "x.pt"], 2, ["train_size=N"]),
        (["train", "digits/mlp?label_smoothing=1.5", "--out", "x.pt"], 2, ["S from 0 to 1"]),
        (["train", "digits/mlp?train_size=9&train_size=8", "--out", "x.pt"], 2, ["given twice"]),
        (["train", "mnist:nowhere/mlp", "--out", "x.pt"], 3, ["nowhere"]),
        (["train", "cifar10:empty/resnet8", "--out", "x.pt"], 3, ["data_batch_1.bin"]),
        (["train", "mnist/mlp", "--out", "x.pt"], 2, ["mnist"]),
        (["train", "absent.py:problem", "--out", "x.pt"], 3, ["absent.py does not exist"]),
        (["train", "broken.py:problem", "--out", "x.pt"], 3, ["broken.py could not be run", "line 2"]),
        (["train", "empty.py:problem", "--out", "x.pt"], 3, ["defines no 'problem'"]),
        (["train", "wrong.py:problem", "--out", "x.pt"], 3, ["gave a int"]),
        (["train", "digits/mlp", "--out", "x.pt", "--fork", "no.pt"], 3, ["no.pt does not exist"]),
        (["interpolate", "a.pt"], 2, ["takes 2 checkpoints, got 1"]),
        (["interpolate", "a.pt", "b.pt"], 3, ["a.pt does not exist"]),
        (["hessian"], 2, ["Missing argument"]),
        (["asymmetry"], 2, ["Missing argument"]),
        (["asymmetry", "a.pt", "b.pt"], 2, ["takes one file", "try: landscape asymmetry a.pt --toward b.pt"]),
        (["escape", "a.pt", "b.pt"], 2, ["takes 1 checkpoint, got 2"]),
        (["report", "no.h5", "--out", "r.html"], 3, ["no.h5 does not exist"]),
        (["inspect", "no.pt"], 3, ["does not exist"]),
        (["inspect", "empty"], 3, ["is a directory"]),
        (["demo", "--out", "d", "--seeds", "0"], 2, ["--seeds"]),
    ],
    ids=lambda value: "-".join(map(str, value))[:60] if isinstance(value, list) else str(value),
)  # fmt: skip
def test_usage_and_input_errors(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, says: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.py").write_text("import torch\nraise RuntimeError('no')\n")
    (tmp_path / "empty.py").write_text("x = 1\n")
    (tmp_path / "wrong.py").write_text("problem = 3\n")
    before = sorted(os.listdir(tmp_path))
    check(run(*words), code, *says)
    assert sorted(p for p in os.listdir(tmp_path) if p != "__pycache__") == before


@pytest.mark.parametrize("option", [["--top", "0"], ["--tol", "-1"], ["--engine", "lanczoss"], ["--top", "99999999"]])
def test_options_of_analyses_out_of_range(run: Command, pair: Pair, tmp_path: Path, option: list[str]) -> None:
    check(run("hessian", pair.paths[0], "--out", tmp_path / "h.h5", *option), 2)
    assert os.listdir(tmp_path) == []


def test_files_that_are_no_checkpoints(run: Command, pair: Pair, tmp_path: Path) -> None:
    text, cut, other = tmp_path / "text.pt", tmp_path / "cut.pt", tmp_path / "other.pt"
    text.write_text("hello")
    cut.write_bytes(pair.paths[0].read_bytes()[:5000])
    check(run("interpolate", text, pair.paths[0]), 3, "cannot be read as a torch file")
    check(run("interpolate", cut, pair.paths[0]), 3, "cut short")
    torch.save({"w": torch.zeros(3)}, other)
    check(run("hessian", other), 3, "--problem")
    check(run("hessian", other, "--problem", "digits/mlp"), 3, "does not fit")
    check(run("inspect", text), 3)


def test_different_problems_are_refused(run: Command, pair: Pair, tmp_path: Path) -> None:
    mlp = tmp_path / "mlp.pt"
    assert run(*TRAIN, "--out", mlp).exit_code == 0
    check(run("distance", mlp, pair.paths[0]), 3, "different problems", "digits/mlp", "digits/resnet8")
    check(run("compare", mlp, pair.paths[0], "--out", tmp_path / "c"), 3, "different problems")
    assert not (tmp_path / "c").exists()


def test_output_that_exists_is_kept(run: Command, pair: Pair, tmp_path: Path) -> None:
    out = tmp_path / "x.pt"
    out.write_text("mine")
    check(run(*TRAIN, "--out", out), 2, "exists already", "--force")
    assert out.read_text() == "mine"
    assert run(*TRAIN, "--out", out, "--force").exit_code == 0
    result = tmp_path / "d.h5"
    assert run("distance", *pair.paths, "--out", result).exit_code == 0
    check(run("distance", *pair.paths, "--out", result), 2, "exists already")
    report = tmp_path / "report.html"
    report.write_text("mine")
    check(run("report", result, "--out", report), 2, "exists already")
    assert report.read_text() == "mine"


def test_a_run_that_diverges_exits_4_and_keeps_the_last_good_state(run: Command, tmp_path: Path) -> None:
    out = tmp_path / "x.pt"
    check(run(*TRAIN, "--out", out, "--lr", "1e30"), 4, "not finite", "lower lr")
    told = json.loads(run("inspect", out, "--json").stdout)
    assert told["state"] == "diverged"
    assert told["step"] < told["steps"]


def test_json_puts_errors_on_stdout_as_one_object(run: Command) -> None:
    result = run("inspect", "no.pt", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["error"]["code"] == 3
    assert result.stderr == ""


def test_debug_shows_the_traceback(run: Command) -> None:
    result = run("inspect", "no.pt", "--debug")
    assert type(result.exception).__name__ == "InputError"


def test_resume_with_other_settings_says_what_differs(run: Command, tmp_path: Path) -> None:
    out = tmp_path / "x.pt"
    assert run(*TRAIN, "--out", out, "--stop-at", "5").exit_code == 0
    check(run(*TRAIN, "--out", out, "--resume", "--lr", "0.5"), 2, "lr (0.1 → 0.5)")
    check(run(*TRAIN, "--out", out, "--resume", "--fork", out), 2, "exclude each other")
    done = run(*TRAIN, "--out", out, "--resume")
    assert done.exit_code == 0, done.output
    assert json.loads(run("inspect", out, "--json").stdout)["state"] == "complete"
    again = run("train", "digits/mlp", "--out", out, "--resume")
    assert "complete already" in again.stderr


def test_a_fork_past_the_switch_says_where_to_fork(run: Command, tmp_path: Path) -> None:
    out = tmp_path / "sgd.pt"
    assert run(*TRAIN, "--method", "sgd", "--save-at", "switch", "--out", out, "--stop-at", "19").exit_code == 0
    assert (tmp_path / "sgd@15.pt").exists()
    late = run(*TRAIN, "--method", "sgd-sam", "--fork", out, "--out", tmp_path / "b.pt")
    check(late, 2, "part before step 19", "step 15")
    fine = run(*TRAIN, "--method", "sgd-sam", "--fork", tmp_path / "sgd@15.pt", "--out", tmp_path / "b.pt")
    assert fine.exit_code == 0, fine.output
    odd = run("train", "digits/mlp", "--seed", "3", "--fork", tmp_path / "sgd@15.pt", "--out", tmp_path / "c.pt")
    assert "seed (0 → 3)" in odd.stderr
    assert not json.loads(run("inspect", tmp_path / "c.pt", "--json").stdout)["exact"]


@pytest.mark.parametrize("name", ["connect", "interpolate", "along", "shift"])
def test_between_equal_checkpoints_there_is_nothing_to_measure(
    name: str, run: Command, pair: Pair, tmp_path: Path
) -> None:
    out = tmp_path / "o.h5"
    check(run(name, pair.paths[0], pair.paths[0], "--out", out), 2, "hold the same weights")
    assert not out.exists()


def test_a_name_too_long_for_the_file_system_is_said(run: Command, pair: Pair, tmp_path: Path) -> None:
    long = tmp_path / f"{'x' * 250}.pt"
    long.write_bytes(pair.paths[0].read_bytes())
    check(run("evaluate", long), 3, "is too long", "--out")


def test_weights_from_elsewhere_are_no_fork(run: Command, pair: Pair, tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "w.pt")
    done = run(*TRAIN, "--fork", tmp_path / "w.pt", "--out", tmp_path / "a.pt")
    check(done, 3, "is not a checkpoint of this toolkit", "landscape train wrote")


SEEDED = [module.Options for module in (*REGISTRY, *EXPERIMENTS)] + [Settings]
SEEDED = [cls for cls in SEEDED if any(field.name == "seed" for field in dataclasses.fields(cls))]


@pytest.mark.parametrize("cls", SEEDED, ids=lambda cls: cls.__module__)
def test_a_seed_is_an_integer_that_generators_take_and_every_digit_of_it_counts(cls: type) -> None:
    for most in (2**63 - 1, 2**62 + 1):
        torch.Generator().manual_seed(most)
        assert make(cls, {"seed": most}).seed == make(cls, {"seed": str(most)}).seed == most  # type: ignore[attr-defined]
    for seed in (2**63, str(2**63), "1e30", 10**400):
        with pytest.raises(UsageError, match="seed=") as error:
            make(cls, {"seed": seed})
        assert "in [0, 9223372036854775807]" in error.value.remedy


def test_files_of_one_name_are_called_what_tells_them_apart(pair: Pair, tmp_path: Path) -> None:
    def names(*files: str) -> list[str]:
        return [c.name for c in open_checkpoints([tmp_path / file for file in files], None, print)[1]]

    for place in ("x/b", "y/b", "c"):
        (tmp_path / place).mkdir(parents=True)
        shutil.copy(pair.paths[0], tmp_path / place / "sgd.pt")
    assert names("x/b/sgd.pt", "c/sgd.pt") == ["b/sgd", "c/sgd"]
    given = [str(tmp_path / file) for file in ("x/b/sgd.pt", "y/b/sgd.pt")]
    assert names("x/b/sgd.pt", "y/b/sgd.pt", "c/sgd.pt") == [*given, "c/sgd"]
    assert names("c/sgd.pt", "c/sgd.pt") == [str(tmp_path / "c/sgd.pt")] * 2  # one file


def test_what_is_called_the_same_point_is_named_as_it_was_given(
    run: Command, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(pair.paths[0], "sgd.pt")
    check(run("asymmetry", "sgd.pt", "--toward", "./sgd.pt"), 2, "sgd.pt and sgd.pt are the same point")
