"""Shared between tests: small trained checkpoints, made once, and a way to run the command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from cli.main import landscape
from landscape import checkpoint as checkpoints
from landscape import problem as problems
from landscape.checkpoint import Checkpoint
from landscape.problem import Problem
from landscape.training.run import train
from landscape.training.settings import resolve

torch.set_num_threads(1)


SLOW = ("test_readme.py", "test_demo.py", "test_thesis_valley.py")
"""Files with few long tests: begun first, so that no other process waits for them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in SLOW)


@dataclass(frozen=True)
class Pair:
    """Two small networks that share a stem: digits/resnet8 for ten epochs, SAM from step 60 of 100 in the second."""

    problem: Problem
    paths: tuple[Path, Path]
    checkpoints: tuple[Checkpoint, Checkpoint]


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    directory = tmp_path_factory.mktemp("pair")
    problem = problems.load("digits/resnet8")
    made = []
    for method in ("sgd", "sgd-sam"):
        settings = resolve(problem.defaults, {"method": method, "epochs": 10, "switch": 0.6})
        made.append(checkpoints.save(train(problem, settings), directory / f"{method}.pt"))
    paths = (directory / "sgd.pt", directory / "sgd-sam.pt")
    return Pair(problem, paths, (checkpoints.load(paths[0]), checkpoints.load(paths[1])))


class Command:
    """Runs `landscape` in this process."""

    def __call__(self, *words: object) -> Result:
        return CliRunner().invoke(landscape, [str(word) for word in words])


@pytest.fixture(scope="session")
def run() -> Command:
    return Command()
