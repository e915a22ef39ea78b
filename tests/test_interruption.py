"""A run that is told to stop finishes its step, saves, exits with 75, and goes on to the same end, bit for bit."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from conftest import Command
from stopping import stop

from landscape import checkpoint as checkpoints

TRAIN = ["train", "digits/mlp", "--method", "psam", "--epochs", "60", "--evaluations", "30"]


@pytest.fixture(scope="module")
def whole(run: Command, tmp_path_factory: pytest.TempPathFactory) -> checkpoints.Checkpoint:
    out = tmp_path_factory.mktemp("whole") / "a.pt"
    assert run(*TRAIN, "--out", out, "-q").exit_code == 0
    return checkpoints.load(out)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_resumes_to_the_same_weights(
    run: Command, tmp_path: Path, whole: checkpoints.Checkpoint, number: signal.Signals
) -> None:
    out = tmp_path / "a.pt"
    told = stop([*TRAIN, "--out", out], out.exists, number)  # the first state that is saved on the way
    assert ("--resume" in told) == (number != signal.SIGKILL)
    stopped = checkpoints.load(out)
    assert 0 < stopped.step < stopped.steps
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".tmp"] == ["a.pt"]
    done = run(*TRAIN, "--out", out, "--resume", "-q")
    assert done.exit_code == 0, done.output
    again = checkpoints.load(out)
    assert torch.equal(again.theta, whole.theta)
    assert all(torch.equal(again.history[k].nan_to_num(), v.nan_to_num()) for k, v in whole.history.items())
    assert (again.forward, again.backward) == (whole.forward, whole.backward)
