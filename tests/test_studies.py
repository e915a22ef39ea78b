"""A study is a table: shared steps are trained once, nothing is made twice, and claims get their verdicts."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
import torch
from browser import chromium, visit
from conftest import Command
from stopping import stop
from study_kit import STUDY, resolved

from analyses.escape import Escapes
from analyses.pages import read
from analyses.studies.claims import judge
from analyses.studies.drawing import front
from analyses.studies.execute import present
from analyses.studies.node import Training
from analyses.studies.shard import share
from landscape import checkpoint as checkpoints
from landscape import store
from landscape.claim import HOLDS
from landscape.result import equal
from landscape.unfinished import record, records


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


WALKS = """
title = "Walks"
text = "out of one minimum"
reproduces = "nothing"
[scales.cpu]
text = "digits, three epochs"
seeds = 1
problem = "digits/mlp"
settings = { epochs = 3 }
[[trainings]]
id = "sgd"
method = "sgd"
[[analyses]]
id = "walks"
analysis = "escape"
of = ["sgd"]
options = { rho = "0,0.5", walks = 30, lr = 0.1, budget = 60, threshold = 0.5 }
[[claims]]
id = "few"
text = "Few examples are looked at"
source = "this test"
place = "here"
claimed = "below 1"
quantity = 'walks.share[0]'
test = "less"
than = 1.0
"""


def test_walks_of_a_study_that_was_stopped_are_not_made_again(run: Command, tmp_path: Path) -> None:
    (tmp_path / "walks.toml").write_text(WALKS)
    words = ["study", str(tmp_path / "walks.toml"), "--jobs", "1", "--quiet", "--out"]
    stop([*words, tmp_path / "out"], lambda: list((tmp_path / "out").rglob("*.state/points.bin")), signal.SIGTERM)
    (points,) = (tmp_path / "out").rglob("*.state/points.bin")
    kept = records(points.read_bytes())[0]
    points.write_bytes(b"".join(record(n, (7.0, *values[1:])) for n, values in kept.items()))  # known again below
    assert run(*words, tmp_path / "out").exit_code == 0
    (out,) = (tmp_path / "out").rglob("walks.*.h5")
    steps = store.load(out, Escapes).steps.ravel()
    assert 0 < len(kept) < len(steps)
    assert (steps[list(kept)] == 7).all()
    assert not (steps == 7).all()
    assert not points.exists()


def test_a_run_that_diverges_is_a_finding_and_the_rest_goes_on(run: Command, tmp_path: Path) -> None:
    text = STUDY.replace("rhos = [0.05, 0.1]", "rhos = [0.1, 1e20]").replace("seeds = 2", "seeds = 1")
    (tmp_path / "small.toml").write_text(text)
    done = run("study", tmp_path / "small.toml", "--out", tmp_path / "out", "--jobs", "1", "--quiet")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Not made: seed0/fork,rho=1e_20" in page
    assert "not finite" in page
    assert list((tmp_path / "out").rglob("*.failed.json"))


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


def test_the_counts_of_mcnemars_test_add_up_to_the_difference_of_errors(made: Path) -> None:
    (path,) = (made / "out" / "seed0").glob("errors,rho=0.1.*.h5")
    found = read(path).result
    errors = 1297 * found.error[:, 1]
    assert found.only_wrong - found.only_wrong.T == pytest.approx(errors[:, None] - errors[None], abs=1e-6)
    assert not found.only_wrong.diagonal().any()
    assert (found.only_wrong >= 0).all()
    assert (found.only_wrong <= errors[:, None] + 1e-6).all()
