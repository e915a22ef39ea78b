"""A study is a table: shared steps are trained once, nothing is made twice, and claims get their verdicts."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import chromium, visit
from conftest import Command
from stopping import stop

from analyses.pages import read
from analyses.studies import reading
from analyses.studies.claims import judge
from analyses.studies.drawing import front
from analyses.studies.execute import present
from analyses.studies.node import Training
from analyses.studies.plan import Graph, plan
from analyses.studies.shard import share
from analyses.studies.table import KINDS, TESTS, Drawing, Hypothesis, Question, Scale
from analyses.studies.table import Training as Training_
from landscape import checkpoint as checkpoints
from landscape.claim import FAILS, HOLDS, OPEN
from landscape.result import equal

STUDY = """
title = "Small"
text = "a small study"
reproduces = "nothing"

[scales.cpu]
text = "digits, four epochs"
seeds = 2
problem = "digits/mlp"
settings = { epochs = 4, switch = 0.5 }
values = { rhos = [0.05, 0.1] }

[[trainings]]
id = "sgd"
method = "sgd"

[[trainings]]
id = "fork"
method = "sgd-sam"
rho = "$rhos"

[[trainings]]
id = "sgd-prime"
method = "sgd"
fork = "sgd"
seed_shift = 1000

[[analyses]]
id = "errors"
analysis = "evaluate"
of = ["sgd", "fork", "sgd-prime"]

[[analyses]]
id = "apart"
analysis = "distance"
of = ["sgd", "fork", "sgd-prime"]

[[claims]]
id = "cost"
text = "The fork costs 1.5"
source = "arithmetic"
place = "2 − E/T"
claimed = "1.5"
quantity = 'errors(rho=0.1).cost["fork"]'
test = "equals"
than = 1.5
tolerance = 1e-12

[[claims]]
id = "farther"
text = "SAM moves farther than other batches do"
source = "nobody"
place = "here"
claimed = "above 0"
quantity = 'log(apart(rho=0.1).l2["sgd", "fork"] / apart(rho=0.1).l2["sgd", "sgd-prime"])'
test = "greater"
figure = "by-rho"

[[figures]]
id = "by-rho"
title = "Distance against ρ"
kind = "sweep"
x = 'apart.rho'
xlabel = "ρ"
ylabel = "L2 distance"
y = { SAM = 'apart.l2["sgd", "fork"]' }
level = { control = 'apart(rho=0.1).l2["sgd", "sgd-prime"]' }
"""


def resolved(text: str = STUDY, **words: object) -> Graph:
    return plan(reading.read("small", text), "cpu", **words)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(run: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("study")
    (directory / "small.toml").write_text(STUDY)
    done = run("study", directory / "small.toml", "--out", directory / "out", "--jobs", "1", "--quiet")
    assert done.exit_code == 0, done.output
    assert "The fork costs 1.5: holds" in done.stdout
    return directory


def files(directory: Path) -> dict[str, Path]:
    return {str(p.relative_to(directory)): p for p in directory.rglob("*") if p.suffix in {".pt", ".h5"}}


def test_steps_that_runs_have_in_common_are_one_node() -> None:
    graph = resolved()
    trainings = [node for node in graph.nodes.values() if isinstance(node, Training) and "seed0" in node.name]
    assert sorted((n.name, n.start, n.steps) for n in trainings) == [
        ("seed0/fork,rho=0.05", "fork", 20), ("seed0/fork,rho=0.1", "fork", 20), ("seed0/sgd", "resume", 20),
        ("seed0/sgd-prime", "fork", 20), ("seed0/sgd@20", "", 20),
    ]  # fmt: skip
    assert sum(n.work for n in trainings) == 3 * 50 * (20 + 20 + 20 + 2 * 2 * 20)


def test_a_shared_run_is_the_run_that_was_never_shared(made: Path, run: Command, tmp_path: Path) -> None:
    words = ["--method", "sgd-sam", "--epochs", "4", "--switch", "0.5", "--rho", "0.1", "--seed", "1", "--quiet"]
    assert run("train", "digits/mlp", *words, "--out", tmp_path / "whole.pt").exit_code == 0
    (found,) = (made / "out" / "seed1").glob("fork,rho=0.1.*.pt")
    whole, shared = checkpoints.load(tmp_path / "whole.pt"), checkpoints.load(found)
    assert torch.equal(shared.theta, whole.theta)
    assert shared.exact
    (sgd,) = (p for p in (made / "out" / "seed1").glob("sgd.*.pt"))
    assert not checkpoints.load(sgd).parent  # it went on; it was not forked


def test_keys_do_not_depend_on_how_the_study_is_written_and_do_on_what_determines_the_result() -> None:
    head, *parts = STUDY.split("\n[[")
    analyses = [part for part in parts if part.startswith("analyses")]
    rest = [part for part in parts if not part.startswith(("analyses", "trainings"))]
    trainings = [part for part in parts if part.startswith("trainings")]
    again = "\n[[".join([head.replace("Small", "Renamed"), *analyses[::-1], *trainings[::-1], *rest])
    assert set(resolved(again).nodes) == set(resolved().nodes)
    more = set(resolved(seeds=3).nodes)
    assert set(resolved().nodes) < more
    longer = resolved(overrides={"epochs": "5"})
    assert not set(longer.nodes) & more
    changed = resolved(STUDY.replace('analysis = "distance"', 'analysis = "distance"\noptions = { batch_size = 100 }'))
    assert len(set(changed.nodes) - set(resolved().nodes)) == 4


def test_again_nothing_is_made_twice(made: Path, run: Command) -> None:
    times = {name: path.stat().st_mtime_ns for name, path in files(made / "out").items()}
    assert len(times) == len(resolved().nodes)
    done = run("study", made / "small.toml", "--out", made / "out", "--jobs", "1", "--json", "-q")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["claims"][0]["verdict"] == HOLDS
    assert {name: path.stat().st_mtime_ns for name, path in files(made / "out").items()} == times


def test_a_dry_run_prints_graph_and_cost_and_makes_nothing(made: Path, run: Command, tmp_path: Path) -> None:
    done = run("study", made / "small.toml", "--out", tmp_path / "no", "--dry-run", "--json")
    told = json.loads(done.stdout)
    assert told["nodes"] == len(resolved().nodes)
    line = next(line for line in told["graph"] if line["name"] == "fork,rho=0.1")
    assert (line["units"], line["source"], line["count"]) == (1.0, "sgd@20", 2)  # half a run at twice the cost
    assert told["seconds"] > 0
    assert not (tmp_path / "no").exists()
    assert "from sgd@20" in run("study", made / "small.toml", "--out", made / "out", "--dry-run").stdout


def test_shards_joined_are_the_whole_array_for_array(made: Path, run: Command, tmp_path: Path) -> None:
    for i in (1, 2):
        words = ("--shard", f"{i}/2", "--jobs", "1", "--quiet", "--out", tmp_path / f"shard{i}")
        assert run("study", made / "small.toml", *words).exit_code == 0
    assert not set(files(tmp_path / "shard1")) & set(files(tmp_path / "shard2"))  # a seed each
    early = run("merge", tmp_path / "shard1", "--out", tmp_path / "half")
    assert early.exit_code == 3
    assert "nodes are missing" in early.stderr
    done = run("merge", tmp_path / "shard1", tmp_path / "shard2", "--out", tmp_path / "whole")
    assert done.exit_code == 0, done.output
    whole, one = files(tmp_path / "whole"), files(made / "out")
    assert set(whole) == set(one)
    for name, path in whole.items():
        if path.suffix == ".h5":
            assert equal(read(path).result, read(one[name]).result)
        else:
            assert checkpoints.load(path).sha256 == checkpoints.load(one[name]).sha256
    claims = [json.loads((d / "claims.json").read_text())["claims"] for d in (tmp_path / "whole", made / "out")]
    assert claims[0] == claims[1]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shards_cover_the_graph_and_each_can_be_made_alone(count: int) -> None:
    nodes = resolved().nodes
    shards = [share(nodes, i, count) for i in range(1, count + 1)]
    assert set().union(*shards) == set(nodes)
    for shard in shards:
        assert all(need in shard for key in shard for need in nodes[key].needs)
    if count <= 2:
        assert sum(map(len, shards)) == len(nodes)  # nothing is made twice


def test_a_study_that_was_stopped_goes_on_to_the_same_weights(run: Command, tmp_path: Path) -> None:
    text = STUDY.replace("epochs = 4", "epochs = 40, evaluations = 20").replace("seeds = 2", "seeds = 1")
    (tmp_path / "small.toml").write_text(text)
    words = ["study", str(tmp_path / "small.toml"), "--jobs", "1", "--quiet", "--out"]
    told = stop([*words, tmp_path / "out"], lambda: list((tmp_path / "out").rglob("*.unfinished.pt")), signal.SIGTERM)
    assert "run the same command again" in told
    nodes = resolved(text).nodes
    assert len(present(nodes, tmp_path / "out").files) < len(nodes)
    assert list((tmp_path / "out").rglob("*.unfinished.pt"))
    for out in ("out", "other"):
        assert run(*words, tmp_path / out).exit_code == 0
    one, other = files(tmp_path / "out"), files(tmp_path / "other")
    assert set(one) == set(other)
    assert not [name for name in one if "unfinished" in name]
    assert all(checkpoints.load(one[n]).sha256 == checkpoints.load(other[n]).sha256 for n in one if n.endswith("pt"))


def test_a_run_that_diverges_is_a_finding_and_the_rest_goes_on(run: Command, tmp_path: Path) -> None:
    text = STUDY.replace("rhos = [0.05, 0.1]", "rhos = [0.1, 1e20]").replace("seeds = 2", "seeds = 1")
    (tmp_path / "small.toml").write_text(text)
    done = run("study", tmp_path / "small.toml", "--out", tmp_path / "out", "--jobs", "1", "--quiet")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Not made: seed0/fork,rho=1e_20" in page
    assert "not finite" in page
    assert list((tmp_path / "out").rglob("*.failed.json"))


def verdicts(values: list[float], **more: object) -> tuple[str, int | None, float]:
    """A claim on numbers that are given, by way of a study without trainings."""
    from analyses.studies.claims import _judge, _verdict
    from analyses.studies.table import Hypothesis

    claim = Hypothesis("c", "", "", "", "", "", **{"test": "less", **more})  # type: ignore[arg-type]
    found = _judge(claim, [np.array(v) for v in values], [], True)
    tested = _verdict(claim, "", len(values), found, found.p, 1)
    return tested.verdict, tested.seeds_needed, tested.p


def test_a_verdict_is_one_of_three_and_says_what_would_decide() -> None:
    assert verdicts([-1.0, -1.2, -0.9, -1.1])[:2] == (HOLDS, None)
    assert verdicts([1.0, 1.2, 0.9, 1.1])[:2] == (FAILS, None)
    undecided, needed, _ = verdicts([-1.0, 0.9, -0.6, 0.3])
    assert undecided == OPEN
    assert needed is not None
    assert needed > 4
    assert verdicts([-1.0])[:2] == (OPEN, None)
    assert verdicts([0.5, 0.51, 0.49], test="between", low=0.3, high=0.7)[0] == HOLDS
    assert verdicts([0.9, 0.91, 0.89], test="between", low=0.3, high=0.7)[0] == FAILS
    assert verdicts([0.9, 0.2, 0.6], test="between", low=0.3, high=0.7)[0] == OPEN
    assert verdicts([1.25, 1.25], test="equals", than=1.25)[0] == HOLDS
    assert verdicts([1.25, 1.26], test="equals", than=1.25, tolerance=1e-3)[0] == FAILS


def test_a_test_between_two_bounds_is_two_one_sided_tests() -> None:
    from scipy import stats

    values = np.array([0.45, 0.6, 0.52, 0.38])
    p = verdicts(list(values), test="between", low=0.3, high=0.7)[2]
    low = stats.ttest_1samp(values, 0.3, alternative="greater").pvalue
    high = stats.ttest_1samp(values, 0.7, alternative="less").pvalue
    assert p == pytest.approx(2 * max(low, high))


def test_claims_are_corrected_together(made: Path) -> None:
    text = STUDY + STUDY[STUDY.index('[[claims]]\nid = "farther"') : STUDY.index("[[figures]]")].replace(
        'id = "farther"', 'id = "again"'
    )
    graph = resolved(text)
    stored = {k: read(p) for k, p in present(graph.nodes, made / "out").files.items() if p.suffix == ".h5"}
    one, two = judge(graph, stored)[1:]
    assert one.p == two.p
    assert one.corrected == pytest.approx(min(1.0, 2 * one.p))


def test_the_pareto_front_holds_what_nothing_beats() -> None:
    assert front([(1, 5.0), (2, 4.0), (2, 6.0), (1.5, 5.5), (3, 4.0), (4, 1.0)]) == [(1, 5.0), (2, 4.0), (4, 1.0)]


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ('id = "cost"', 'idd = "cost"', "unknown key 'idd'"),
        ('test = "equals"', 'test = "equal"', "has the test 'equal'"),
        ('.cost["fork"]', '.costs["fork"]', "has no 'costs'"),
        ("errors(rho=0.1)", "error(rho=0.1)", "names 'error'"),
        ('"sgd-prime"]\n\n[[analyses]]', '"sgd-second"]\n\n[[analyses]]', "is not trained"),
        ('analysis = "distance"', 'analysis = "distances"', "asks for 'distances'"),
        ('fork = "sgd"', 'fork = "sam"', "is forked from 'sam'"),
        ('rho = "$rhos"', 'rho = "$radii"', "has no value at this scale"),
        ('method = "sgd"', 'methode = "sgd"', "unknown setting 'methode'"),
        ("[scales.cpu]", "[scales.cpu", "is not TOML"),
        ("than = 1.5", 'than = "1.5"', "than of claims 'cost' is '1.5'"),
        ('figure = "by-rho"', 'figure = "by-roh"', "points to 'by-roh'"),
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


def test_the_list_describes_each_study(run: Command) -> None:
    told = run("study", "--list").stdout
    for name in reading.shipped():
        assert f"\n{name} " in f"\n{told}"
    assert run("study", "swich", "--out", "x").stderr.count("did you mean 'switch'") == 1


def test_the_page_of_claims_is_written_from_what_was_found(made: Path, run: Command, tmp_path: Path) -> None:
    done = run("claims", made / "out", "--write", tmp_path / "claims.md")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "claims.md").read_text()
    assert "| The fork costs 1.5 | arithmetic, 2 − E/T | 1.5 | 1.50; 2 seeds; largest difference 0" in text
    assert "**holds** |" in text


def test_the_report_opens_with_the_claims_and_each_leads_to_a_figure(made: Path) -> None:
    html = (made / "out" / "report.html").read_text()
    assert html.index("<h1>") < html.index('<table class="claims"') < html.index('class="plot"')
    targets = re.findall(r'<td data-is="Found"><a href="#([^"]+)"', html)
    assert len(targets) == 2
    assert all(f'class="plot" id="{target}"' in html for target in targets)
    assert "Holm" not in html or "corrected" in html
    assert "Differences are paired within seeds" in html


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (375, True)])
def test_a_browser_draws_the_report_of_a_study(made: Path, width: int, dark: bool) -> None:
    with chromium() as browser, visit(browser, made / "out" / "report.html", width=width, dark=dark) as seen:
        seen.scroll_through()
        counts = seen.page.eval_on_selector_all(".plot", "plots => plots.map((plot) => plot.data.length)")
        assert len(counts) >= 2
        assert all(count > 0 for count in counts)
        assert seen.overflow() <= 0
        assert seen.errors == []
        assert seen.requests == []
        assert "not decided" in seen.page.inner_text(".claims") or "holds" in seen.page.inner_text(".claims")
        seen.page.click(".claims a >> nth=1")
        assert seen.page.evaluate("location.hash") == "#show-by-rho"


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


def test_the_counts_of_mcnemars_test_add_up_to_the_difference_of_errors(made: Path) -> None:
    (path,) = (made / "out" / "seed0").glob("errors,rho=0.1.*.h5")
    found = read(path).result
    errors = 1297 * found.error[:, 1]
    assert found.only_wrong - found.only_wrong.T == pytest.approx(errors[:, None] - errors[None], abs=1e-6)
    assert not found.only_wrong.diagonal().any()
    assert (found.only_wrong >= 0).all()
    assert (found.only_wrong <= errors[:, None] + 1e-6).all()
