"""`landscape demo` makes checkpoints, results and a report that a browser draws; again, it makes nothing twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from browser import chromium, visit
from conftest import Command

from analyses.demo import METHODS, QUESTIONS
from landscape import checkpoint as checkpoints


@pytest.fixture(scope="module")
def made(run: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("demo")
    done = run("demo", "--out", directory, "--seeds", "1", "--jobs", "2")
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == f"report: {directory / 'report.html'}"
    return directory


def test_the_demo_makes_every_checkpoint_and_answers_every_question(made: Path) -> None:
    files = {path.name for path in (made / "seed0").iterdir()}
    assert {f"{method}.pt" for method in METHODS} | {"sgd@600.pt", "sam@600.pt"} <= files
    assert sum(name.endswith(".h5") for name in files) == len(QUESTIONS)
    costs = {method: checkpoints.load(made / "seed0" / f"{method}.pt").cost for method in METHODS}
    assert costs == {"sgd": 1.0, "sgd-sam": 1.25, "sam": 2.0, "sam-sgd": 1.75, "psam": 1.2875}


def test_forks_share_their_stem_exactly(made: Path) -> None:
    stem, forked, whole = (checkpoints.load(made / "seed0" / f"{n}.pt") for n in ("sgd@600", "sgd-sam", "sgd"))
    assert forked.parent == stem.sha256
    assert forked.exact
    assert torch.equal(forked.history["loss"][:600], whole.history["loss"][:600])
    assert not torch.equal(forked.theta, whole.theta)


def test_again_nothing_is_made_twice_and_other_things_are_not_overwritten(made: Path, run: Command) -> None:
    times = {path: path.stat().st_mtime_ns for path in (made / "seed0").iterdir()}
    assert run("demo", "--out", made, "--seeds", "1", "--jobs", "1").exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in (made / "seed0").iterdir()} == times
    os.replace(made / "seed0" / "sgd.pt", made / "kept.pt")
    os.link(made / "seed0" / "sam.pt", made / "seed0" / "sgd.pt")
    refused = run("demo", "--out", made, "--seeds", "1", "--jobs", "1")
    assert refused.exit_code == 2
    assert "was made otherwise" in refused.stderr
    os.replace(made / "kept.pt", made / "seed0" / "sgd.pt")


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (375, True)])
def test_a_browser_draws_every_plot_of_the_demo_and_asks_nothing_of_the_network(
    made: Path, width: int, dark: bool
) -> None:
    with chromium() as browser, visit(browser, made / "report.html", width=width, dark=dark) as seen:
        seen.scroll_through()
        plots = seen.page.locator(".plot")
        assert plots.count() == len(QUESTIONS)
        counts = seen.page.eval_on_selector_all(".plot", "plots => plots.map((plot) => plot.data.length)")
        assert all(count > 0 for count in counts)
        assert seen.page.locator(".plot .main-svg").count() >= len(QUESTIONS)
        assert seen.overflow() <= 0
        assert seen.errors == []
        assert seen.requests == []
        text = seen.page.inner_text("body")
        for word in ("times flatter", "No barrier", "Test error", "valley", "in L2", "Cost (SGD = 1)"):
            assert word in text
        assert "landscape hessian" in seen.page.content()  # the command that reproduces the figure
