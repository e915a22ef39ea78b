"""The methods as a user meets them: listed, documented, and trained from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from click.testing import CliRunner

from cli.main import landscape
from landscape import checkpoint as checkpoints
from landscape.training.methods import CHOICES, METHODS

DOCUMENT = Path(__file__).parent.parent / "docs" / "methods.md"


def test_methods_are_listed_with_formula_cost_and_source() -> None:
    told = CliRunner().invoke(landscape, ["methods"])
    rows = json.loads(CliRunner().invoke(landscape, ["methods", "--json"]).stdout)["methods"]
    assert [row["name"] for row in rows] == list(METHODS)
    for row in rows:
        assert all(row[key] for key in ("what", "formula", "cost", "source"))
        assert row["formula"] in told.stdout


def test_the_document_shows_the_table_as_it_is() -> None:
    text = DOCUMENT.read_text(encoding="utf-8").replace("\\|", "|")
    for method in METHODS.values():
        assert f"| `{method.name}` | {method.text} | {method.formula} | {method.cost} | {method.source} |" in text


def test_every_choice_of_a_row_is_one_that_a_setting_can_make() -> None:
    for method in METHODS.values():
        assert all(value in CHOICES[part] for part, value in method.parts.items())


def test_a_method_is_composed_trained_stopped_and_resumed_from_the_command_line(tmp_path: Path) -> None:
    words = [
        "train", "digits/mlp", "--method", "psam-esam", "--adaptive", "weights", "--m", "25", "--epochs", "2",
        "--label-noise", "0.2", "--precision", "bf16", "--device", "cpu", "--quiet", "--out",
    ]  # fmt: skip
    whole, parts = str(tmp_path / "whole.pt"), str(tmp_path / "parts.pt")
    assert CliRunner().invoke(landscape, [*words, whole]).exit_code == 0
    assert CliRunner().invoke(landscape, [*words, parts, "--stop-at", "7"]).exit_code == 0
    changed = CliRunner().invoke(landscape, [*words, parts, "--resume", "--beta", "0.6"])
    assert changed.exit_code == 2
    assert "beta (0.5 → 0.6)" in changed.output
    assert CliRunner().invoke(landscape, [*words, parts, "--resume"]).exit_code == 0
    a, b = (checkpoints.load(Path(path)) for path in (whole, parts))
    assert torch.equal(a.theta, b.theta)
    assert (a.settings["label_noise"], a.cost) == (0.2, b.cost)


def test_a_wrong_composition_is_refused_in_one_line(tmp_path: Path) -> None:
    words = ["train", "digits/mlp", "--method", "sam-on", "--device", "cpu", "--out", str(tmp_path / "a.pt")]
    told = CliRunner().invoke(landscape, words)
    assert told.exit_code == 2
    assert "normalisation layers" in told.output


def test_states_are_kept_at_regular_steps_and_are_those_of_a_run_stopped_there(tmp_path: Path) -> None:
    words = ["train", "digits/mlp", "--epochs", "2", "--batch-size", "100", "--quiet", "--device", "cpu", "--out"]
    done = CliRunner().invoke(landscape, [*words, str(tmp_path / "a.pt"), "--save-every", "5", "--save-at", "6"])
    assert done.exit_code == 0, done.output
    whole = checkpoints.load(tmp_path / "a.pt")
    kept = sorted(int(path.stem.partition("@")[2]) for path in tmp_path.glob("a@*.pt"))
    assert kept == sorted({*range(5, whole.steps, 5), 6})
    assert CliRunner().invoke(landscape, [*words, str(tmp_path / "b.pt"), "--stop-at", "5"]).exit_code == 0
    assert torch.equal(checkpoints.load(tmp_path / "a@5.pt").theta, checkpoints.load(tmp_path / "b.pt").theta)
