"""Every experiment runs from the command, stores, loads back equal, draws, says what holds and stands in the README."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from browser import chromium, visit
from conftest import Command

from analyses.experiments import EXPERIMENTS, Experiment, named
from analyses.pages import page, read
from landscape import claim, store
from landscape.result import arrays, equal

QUICK = {
    "perturbed-loss": ["--radii", "5", "--points", "41", "--plane", "7"],
    "exit-time": ["--walkers", "20", "--lr", "0.2"],
    "saddle": ["--steps", "1500", "--grid", "7"],
    "saddle-escape": ["--walkers", "20", "--limit", "100"],
    "flatness": ["--draws", "40"],
    "toy-minima": ["--starts", "40", "--steps", "300", "--horizon", "200", "--repeats", "4"],
}
FAIL = {
    "perturbed-loss": ["λmax/λmin", "Shift of LINEX"],
    "saddle": ["below the threshold"],
    "toy-minima": ["ρ = 1e-5, η = 0.1", "random starts", "stops in the slit"],
}
"""Claims that do not hold even at this size, by a few words of theirs."""


@pytest.fixture(scope="module")
def results(run: Command, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("experiments")
    made = {}
    for experiment in EXPERIMENTS:
        made[experiment.NAME] = directory / f"{experiment.NAME}.h5"
        done = run("toy", experiment.NAME, "--out", made[experiment.NAME], *QUICK[experiment.NAME])
        assert done.exit_code == 0, done.output
        assert "claimed" in done.stdout
    return made


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda e: e.NAME)
class TestEach:
    def test_has_all_that_the_protocol_asks_and_help(self, experiment: Experiment, run: Command) -> None:
        assert all(hasattr(experiment, name) for name in Experiment.__annotations__)
        assert named(experiment.NAME) is experiment
        told = run("toy", experiment.NAME, "--help").stdout
        assert experiment.EXAMPLE in told
        assert experiment.QUESTION in " ".join(told.split())
        readme = (Path(__file__).parent.parent / "README.md").read_text()
        assert f"`{experiment.NAME}`" in readme

    def test_stores_and_loads_back_equal_with_units(self, experiment: Experiment, results: dict[str, Path]) -> None:
        stored = read(results[experiment.NAME])
        again = results[experiment.NAME].with_name("again.h5")
        store.save(again, stored.result, stored.provenance, force=True)
        assert equal(store.load(again, experiment.Result), stored.result)
        for name, field in arrays(stored.result).items():
            assert field.metadata["unit"], name
            assert np.asarray(getattr(stored.result, name)).ndim == len(field.metadata["dims"])
            assert f"{name}:" in str(experiment.Result.__doc__), f"{name} is not documented"

    def test_draws_and_speaks_of_one_result_and_of_two(self, experiment: Experiment, results: dict[str, Path]) -> None:
        result = read(results[experiment.NAME]).result
        for several in ((result,), (result, result)):
            views = experiment.views(*several)
            assert all(len(view.figure.data) > 0 and view.title and view.caption for view in views)
            assert "nan" not in " ".join(experiment.words(*several))
            table = claim.table(experiment.claims(*several), experiment.note(*several))
            assert len(table.rows) >= 5
            assert table.note

    def test_says_of_each_claim_whether_it_holds(self, experiment: Experiment, results: dict[str, Path]) -> None:
        claims = experiment.claims(read(results[experiment.NAME]).result)
        assert {c.verdict for c in claims} <= {claim.HOLDS, claim.FAILS, claim.OPEN}
        for words in FAIL.get(experiment.NAME, []):
            assert [c.verdict for c in claims if words in c.text] == [claim.FAILS], words

    def test_the_stored_command_computes_the_same_again(
        self, experiment: Experiment, run: Command, results: dict[str, Path], tmp_path: Path
    ) -> None:
        stored = read(results[experiment.NAME])
        words = stored.provenance.command.split()[1:]
        words[words.index("--out") + 1] = str(tmp_path / "again.h5")
        told = json.loads(run(*words, "--json", "--quiet").stdout)
        assert len(told["claims"]) == len(experiment.claims(stored.result))
        assert equal(read(tmp_path / "again.h5").result, stored.result)


def test_seeds_share_a_figure_and_other_settings_do_not(run: Command, results: dict[str, Path], tmp_path: Path) -> None:
    paths = [results["flatness"], tmp_path / "seed.h5", tmp_path / "more.h5"]
    assert run("toy", "flatness", "--draws", 40, "--seed", 1, "--out", paths[1]).exit_code == 0
    assert run("toy", "flatness", "--draws", 41, "--out", paths[2]).exit_code == 0
    one, other = (read(path).result for path in paths[:2])
    assert not np.array_equal(one.worth, other.worth)
    made = page([read(path) for path in paths])
    (section,) = made.sections
    assert len(section.panels) == 2 * 3
    assert "80 empirical losses" in made.tables[0].note
    assert made.warnings == ()


def test_a_page_of_experiments_opens_with_their_claims(results: dict[str, Path]) -> None:
    made = page([read(path) for path in results.values()])
    assert [section.title for section in made.sections] == [experiment.TITLE for experiment in EXPERIMENTS]
    assert [table.columns[3] for table in made.tables] == ["verdict"] * len(EXPERIMENTS)
    assert made.lead.startswith("Toy experiments")


def test_a_wrong_option_is_one_line_and_nothing_is_written(run: Command, tmp_path: Path) -> None:
    done = run("toy", "exit-time", "--walkers", "3", "--out", tmp_path / "e.h5")
    assert done.exit_code == 2
    assert "walkers=3 is out of range" in done.stderr
    done = run("toy", "exit-tim")
    assert done.exit_code == 2
    assert "did you mean 'exit-time'" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.browser
def test_play_moves_the_marks_and_the_slider_moves_the_radius(results: dict[str, Path], run: Command) -> None:
    out = results["saddle"].with_name("toys.html")
    assert run("report", results["saddle"], results["perturbed-loss"], "--out", out).exit_code == 0
    where = "plot => [plot.layout.sliders[0].active, plot.data.filter((t) => t.mode === 'markers').map((t) => t.x)]"
    with chromium() as browser, visit(browser, out) as seen:
        seen.scroll_through()
        curves, paths = (seen.page.locator(f"#panel-{k}-1") for k in (1, 2))
        before = paths.evaluate(where)
        paths.locator(".updatemenu-button").first.dispatch_event("click")
        seen.page.wait_for_timeout(1000)
        paths.locator(".updatemenu-button").last.dispatch_event("click")
        after = paths.evaluate(where)
        assert after[0] > 0
        assert after[1] != before[1]
        rail = curves.locator(".slider-rail-touch-rect")
        box = rail.bounding_box()
        before = curves.evaluate(where)
        rail.click(position={"x": 0.97 * box["width"], "y": box["height"] / 2}, force=True)
        seen.page.wait_for_timeout(300)
        after = curves.evaluate(where)
        assert after[0] == 4
        assert after[1] != before[1]
        assert seen.errors == []
