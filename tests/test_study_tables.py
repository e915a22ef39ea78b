"""What a study's table may say: shipped studies and examples can be read, and what is wrong is said in two lines."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from conftest import Command
from study_kit import STUDY

from analyses.studies import reading
from analyses.studies.plan import plan
from analyses.studies.table import KINDS, TESTS, Drawing, Hypothesis, Question, Scale
from analyses.studies.table import Training as Training_

COST = 'errors(rho=0.1).cost["fork"]'


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ('id = "cost"', 'idd = "cost"', "unknown key 'idd'"),
        ('test = "equals"', 'test = "equal"', "has the test 'equal'"),
        ('.cost["fork"]', '.costs["fork"]', "has no 'costs'"),
        ("errors(rho=0.1)", "error(rho=0.1)", "names 'error'"),
        ('"sgd-prime"]\n\n[[analyses]]', '"sgd-second"]\n\n[[analyses]]', "is not trained"),
        ('analysis = "distance"', 'analysis = "distances"', "asks for 'distances'"),
        ('fork = "sgd"', 'fork = "sgd-prime"', "is forked from itself"),
        ('fork = "sgd"', 'fork = "sam"', "is forked from 'sam'"),
        ('rho = "$rhos"', 'rho = "$radii"', "has no value at this scale"),
        ('method = "sgd"', 'methode = "sgd"', "unknown setting 'methode'"),
        ("[scales.cpu]", "[scales.cpu", "is not TOML"),
        ("than = 1.5", 'than = "1.5"', "than of claims 'cost' is '1.5'"),
        ('figure = "by-rho"', 'figure = "by-roh"', "points to 'by-roh'"),
        ("seeds = 2", "seeds = 0", "has 0 seeds"),
        (COST, "errors(rho=0.1).cost", "has 1 dimension"),
        (COST, 'errors.cost["fork"]', "has 1 dimension"),
        (COST, 'errors(rho=0.3).cost["fork"]', "not asked with rho=0.3"),
        (COST, 'errors(rho=0.1).cost["frok"]', "no checkpoint 'frok'"),
        (COST, "errors(rho=0.1).methods", "is no number"),
        (COST, "[x for x in (1, 2)]", "is not understood"),
        (COST, "errors", "'errors' is not understood"),
        (COST, COST + " + 1/0", "'1 / 0' is not finite"),
        (COST, COST + " + 9**9**9**9", "is not finite"),
        (COST, "max(" + COST + ", 1)", "max takes 1, 2 were given"),
        (COST, "0.5", "names no result"),
    ],
)
def test_what_is_wrong_with_a_study_is_said_in_two_lines(
    old: str, new: str, cause: str, run: Command, tmp_path: Path
) -> None:
    assert old in STUDY
    (tmp_path / "small.toml").write_text(STUDY.replace(old, new, 1))
    done = run("study", tmp_path / "small.toml", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert cause in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", reading.shipped())
def test_every_study_that_comes_along_can_be_read_and_says_what_it_scales_down(name: str) -> None:
    study = reading.read(*reading.find(name))
    assert {scale.name for scale in study.scales} >= {"cpu", "paper"}
    assert all(scale.text for scale in study.scales)
    assert study.claims or study.experiments
    if all(scale.problem.startswith("digits") for scale in study.scales if scale.name == "cpu" and scale.problem):
        graph = plan(study, "cpu", seeds=1)
        assert graph.nodes


def test_what_is_no_claims_file_is_said(run: Command, tmp_path: Path) -> None:
    (tmp_path / "claims.json").write_text("[]")
    done = run("claims", tmp_path)
    assert done.exit_code == 3
    assert "is no claims.json" in done.stderr


def test_the_list_describes_each_study(run: Command) -> None:
    told = run("study", "--list").stdout
    for name in reading.shipped():
        assert f"\n{name} " in f"\n{told}"
    assert run("study", "swich", "--out", "x").stderr.count("did you mean 'switch'") == 1


def test_the_example_of_the_documentation_runs(run: Command, tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "docs" / "studies.md").read_text()
    example = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    assert example is not None
    (tmp_path / "mine.toml").write_text(example[1])
    words = ("--seeds", "2", "--set", "rhos=0.05,0.4,0.1,0.2", "--jobs", "1", "--quiet")
    done = run("study", tmp_path / "mine.toml", "--out", tmp_path / "out", *words)
    assert done.exit_code == 0, done.output
    assert "The distance from SGD grows with ρ: holds" in done.stdout
    for cls in (Scale, Training_, Question, Hypothesis, Drawing):
        for field in dataclasses.fields(cls):
            assert f"`{field.name}`" in text or field.name in {"name"}, f"{cls.__name__}.{field.name} is not documented"
    assert all(f"`{test}`" in text for test in TESTS)
    assert all(f'`"{kind}"`' in text for kind in KINDS)


def test_the_example_in_the_help_is_a_study(run: Command) -> None:
    told = run("study", "--help").stdout
    lines = told[told.index("  title = ") : told.index("Examples:")].splitlines()
    study = reading.read("help", "\n".join(line.strip() for line in lines))
    assert plan(study, "cpu").nodes


def test_a_missing_data_set_is_said_before_another_is_read(run: Command, tmp_path: Path) -> None:
    (tmp_path / "data" / "cifar10").mkdir(parents=True)  # empty: reading it would fail in other words
    order = ["study", "switch", "--scale", "paper", "--set", f"data={tmp_path / 'data'}", "--out", tmp_path / "out"]
    done = run(*order)
    assert done.exit_code == 3
    assert f"{tmp_path / 'data' / 'cifar100'} is not a directory" in done.stderr
    assert "--set problem='cifar10:{data}/cifar10/resnet18'" in done.stderr
    assert len(done.stderr.splitlines()) == 2
