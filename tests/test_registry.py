"""Every analysis of the registry runs, stores, loads back equal, draws, speaks, has help and stands in the README."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Command, Pair

from analyses import REGISTRY, Analysis, named
from analyses.pages import page, read
from landscape import store
from landscape.report import Table
from landscape.result import arrays, equal

QUICK = {
    "interpolate": ["--points", "7", "--low", "-1", "--high", "2"],
    "hessian": ["--top", "2"],
    "plane": ["--grid", "4x3", "--y", "-1:1"],
    "along": ["--top", "1", "--points", "3"],
    "escape": ["--walks", "2", "--budget", "3", "--rho", "0,0.3", "--threshold", "0.5"],
    "sharpness": [
        *("--radii", "0.05", "--boxes", "0.001", "--relative", "0.002"),
        *("--restarts", "0", "--steps", "4", "--pairs", "2"),
    ],
    "spectrum": ["--sketch", "2", "--samples", "3", "--starts", "2", "--steps", "6"],
    "asymmetry": ["--points", "4", "--gaussian", "1", "--sign-matched", "1", "--eigenvectors", "0"],
    "shift": ["--points", "8", "--neighbours", "1"],
    "distance": ["--barrier", "1"],
    "connect": ["--epochs", "2", "--points", "3"],
}


def words(analysis: Analysis, pair: Pair) -> list[str]:
    a, b = map(str, pair.paths)
    if analysis.TAKES[1] == 1:
        return [analysis.NAME, a]
    return [analysis.NAME, a, "--toward", b] if analysis.NAME == "asymmetry" else [analysis.NAME, a, b]


@pytest.fixture(scope="module")
def results(pair: Pair, run: Command, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("results")
    made = {}
    for analysis in REGISTRY:
        made[analysis.NAME] = directory / f"{analysis.NAME}.h5"
        done = run(*words(analysis, pair), "--out", made[analysis.NAME], *QUICK.get(analysis.NAME, []))
        assert done.exit_code == 0, done.output
        assert len(done.stdout.splitlines()) >= 2
    return made


@pytest.mark.parametrize("analysis", REGISTRY, ids=lambda a: a.NAME)
class TestEach:
    def test_has_all_that_the_protocol_asks(self, analysis: Analysis) -> None:
        assert all(hasattr(analysis, name) for name in Analysis.__annotations__)
        assert named(analysis.NAME) is analysis

    def test_stores_and_loads_back_equal(self, analysis: Analysis, results: dict[str, Path], pair: Pair) -> None:
        stored = read(results[analysis.NAME])
        assert stored.provenance.analysis == analysis.NAME
        assert set(stored.provenance.inputs.values()) <= {c.sha256 for c in pair.checkpoints}
        again = results[analysis.NAME].with_name("again.h5")
        store.save(again, stored.result, stored.provenance, force=True)
        assert equal(store.load(again, analysis.Result), stored.result)

    def test_every_array_says_its_unit_and_dimensions(self, analysis: Analysis, results: dict[str, Path]) -> None:
        result = read(results[analysis.NAME]).result
        assert arrays(result)
        for name, field in arrays(result).items():
            assert field.metadata["unit"], name
            assert field.metadata["text"], name
            assert np.asarray(getattr(result, name)).ndim == len(field.metadata["dims"])
            assert f"{name}:" in str(analysis.Result.__doc__), f"{name} is not documented"

    def test_draws_from_the_stored_result_alone(self, analysis: Analysis, results: dict[str, Path]) -> None:
        result = read(results[analysis.NAME]).result
        for drawn in (analysis.figure(result), analysis.figure(result, result, result)):
            assert len(drawn.data) > 0
            titles = [axis.title.text for axis in (*drawn.select_xaxes(), *drawn.select_yaxes())]
            assert any(titles), "no axis has a title"
        table: Any = analysis.table(result)
        assert isinstance(table, Table)
        assert table.rows

    def test_speaks(self, analysis: Analysis, results: dict[str, Path]) -> None:
        result = read(results[analysis.NAME]).result
        for told in (analysis.words(result), analysis.words(result, result)):
            assert len(told) == 2
            assert len(told[0]) > 10
            assert "nan" not in " ".join(told)

    def test_has_help_with_an_example(self, analysis: Analysis, run: Command) -> None:
        told = run(analysis.NAME, "--help").stdout
        assert analysis.EXAMPLE in told
        assert analysis.QUESTION in " ".join(told.split())

    def test_stands_in_the_readme(self, analysis: Analysis) -> None:
        readme = (Path(__file__).parent.parent / "README.md").read_text()
        assert f"landscape {analysis.NAME}" in readme

    def test_prints_json(self, analysis: Analysis, run: Command, pair: Pair, tmp_path: Path) -> None:
        quick = QUICK.get(analysis.NAME, [])
        done = run(*words(analysis, pair), "--out", tmp_path / "r.h5", "--json", "--quiet", *quick)
        told = json.loads(done.stdout)
        assert told["answer"]
        assert told["result"]["names"][0] == "sgd"
        assert done.stderr == ""

    def test_a_dry_run_says_what_it_takes_and_computes_nothing(
        self, analysis: Analysis, run: Command, pair: Pair, tmp_path: Path
    ) -> None:
        done = run(*words(analysis, pair), "--out", tmp_path / "r.h5", "--dry-run", "--json")
        told = json.loads(done.stdout)
        assert told["train_passes"] > 0
        assert told["seconds"] > 0
        assert not (tmp_path / "r.h5").exists()
        assert "passes over the training data" in run(*words(analysis, pair), "--dry-run").stdout

    def test_the_stored_command_computes_the_same_again(
        self, analysis: Analysis, run: Command, results: dict[str, Path]
    ) -> None:
        stored = read(results[analysis.NAME])
        done = run(*stored.provenance.command.split()[1:], "--force")
        assert done.exit_code == 0, done.output
        for name in arrays(stored.result):
            assert np.array_equal(
                getattr(read(results[analysis.NAME]).result, name), getattr(stored.result, name),
                equal_nan=getattr(stored.result, name).dtype.kind == "f",
            ), name  # fmt: skip


def test_the_help_says_where_a_default_comes_from_that_is_no_number(run: Command) -> None:
    told = {name: " ".join(run(name, "--help").stdout.split()) for name in ("asymmetry", "interpolate", "plane")}
    assert "regularised loss [default: that of the checkpoint's training]" in told["asymmetry"]
    assert "smallest α [default: found where the training loss has risen by --rise]" in told["interpolate"]
    assert "about half of them in [0, 1] [default: adaptive]" in told["interpolate"]
    assert "as -1:2 [default: decided from the data]" in told["plane"]  # it says nothing itself


def test_a_page_is_made_of_any_of_them(results: dict[str, Path]) -> None:
    made = page([read(path) for path in results.values()])
    assert [section.title for section in made.sections] == [analysis.TITLE for analysis in REGISTRY]
    assert len(made.findings) == len(REGISTRY)
    assert "2 checkpoints of digits/resnet8" in made.lead
    assert page([]).lead == "No results were given."


def test_inspect_prints_results_and_checkpoints(run: Command, results: dict[str, Path], pair: Pair) -> None:
    told = run("inspect", results["hessian"]).stdout
    assert "result of hessian" in told
    assert "landscape hessian" in told
    told = run("inspect", pair.paths[1]).stdout
    assert "sgd-sam" in told
    assert "19074" in told


def test_runs_share_a_figure_only_if_they_differ_in_the_seed_alone(results: dict[str, Path]) -> None:
    one = read(results["hessian"])
    about = one.provenance
    seed = replace(one, provenance=replace(about, inputs={"sgd": "x", "sgd-sam": "y"}))
    trained = {name: settings | {"rho": 0.5} for name, settings in about.trained.items()}
    rho = replace(one, provenance=replace(about, inputs={"sgd": "x", "sgd-sam": "z"}, trained=trained))
    other = replace(one, provenance=replace(about, problem="digits/mlp", inputs={"sgd": "v", "sgd-sam": "w"}))
    made = page([one, one, seed, rho, other])
    (section,) = made.sections
    assert len(section.panels) == 3
    assert "3.0" not in section.panels[0].title
    assert sum("digits/mlp" in panel.title for panel in section.panels) == 1
    assert any("left out" in warning for warning in made.warnings)
    assert "2 of 2 seeds" in section.panels[0].summary


def test_titles_name_the_options_that_were_given_and_no_others(results: dict[str, Path]) -> None:
    given = read(results["interpolate"])
    options = {key: None if key in {"low", "high"} else value for key, value in given.provenance.options.items()}
    found = replace(given, provenance=replace(given.provenance, options=options))
    titles = [panel.title for panel in page([given, found]).sections[0].panels]
    assert titles == ["SGD | SGD→SAM (low -1.0, high 2.0)", "SGD | SGD→SAM"]


def test_an_answer_stands_without_its_label_where_it_names_all_of_it(results: dict[str, Path]) -> None:
    one = read(results["asymmetry"])
    names = {"names": ("sgd", "psam"), "methods": ("sgd", "psam")}
    other = replace(one, result=replace(one.result, **names), provenance=replace(one.provenance, inputs={"sgd": "x"}))
    told = page([one, other]).findings[0].answer.splitlines()
    assert len(told) == 2
    assert not any(line.startswith("SGD →") for line in told)
    mlp = replace(one, provenance=replace(one.provenance, problem="digits/mlp", inputs={"sgd": "v"}))
    alone = replace(mlp, result=replace(one.result, **names, log_ratio=one.result.log_ratio * 2))
    told = page([one, replace(one, provenance=mlp.provenance), alone]).findings[0].answer
    assert "SGD → SGD→SAM (problem digits/mlp)" in told  # the answer does not name the problem


def test_a_report_of_very_different_results_is_still_a_report(results: dict[str, Path], run: Command) -> None:
    out = results["distance"].with_name("mixed.html")
    extra = results["distance"].with_name("one.h5")
    stored = read(results["distance"])
    assert (
        run(
            "asymmetry", *_paths(stored), "--gaussian", "2", "--sign-matched", "0", "--points", "4", "--out", extra
        ).exit_code
        == 0
    )
    assert run("report", *results.values(), extra, "--out", out).exit_code == 0


def _paths(stored: Any) -> list[str]:
    words = stored.provenance.command.split()
    return [words[2], "--toward", words[3]]
