"""Problem: a network, a task and its data, all named by one spec.

A spec is `DATA/MODEL` (`digits/resnet8`), `DATA:DIR/MODEL` (`cifar10:data/cifar10/resnet18`) or `FILE.py:NAME`
(`my_study.py:problem`), where NAME is a Problem or a function that returns one. `?train_size=N` at the end
trains on fewer examples, `?label_smoothing=S` trains and measures the loss of smoothed targets. A checkpoint stores
its spec and the fingerprint of its data, so later commands need nothing but the checkpoint.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import nn

from landscape import datasets, models
from landscape.errors import InputError, UsageError, nearest
from landscape.query import Query, parse
from landscape.split import Split
from landscape.task import CrossEntropy, Task, smoothed, smoothing_of
from landscape.tryout import try_out
from landscape.types import Setting


@dataclass(frozen=True)
class Problem:
    """What is trained and measured.

    Attributes:
        model: Builds the network from a seed; equal seeds give equal weights. A function without parameters will
            do too: it is called with torch's global random state seeded.
        train: Training data.
        test: Test data.
        task: Loss and error; classification by default.
        crop: Zero-padding in pixels for random crops of training images, with random horizontal flips; 0 for none.
        defaults: Training settings that suit this problem, below what the user sets.
        spec: The name a user gave it; filled in by `load`.
    """

    model: Callable[..., nn.Module]
    train: Split
    test: Split
    task: Task = field(default_factory=CrossEntropy)
    crop: int = 0
    defaults: Mapping[str, Setting] = field(default_factory=dict)
    spec: str = ""

    @property
    def classifies(self) -> bool:
        """Whether errors are parts of one; otherwise error and loss are one thing."""
        return bool(getattr(self.task, "classifies", True))

    def build(self, seed: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> nn.Module:
        """Build the network with initial weights drawn from a seed; the global random state is left alone.

        Args:
            seed: Seed of the initial weights.
            device: Where the network goes.
            dtype: Its floating point type.

        Returns:
            A new network in training mode.

        Raises:
            InputError: If the model factory does not return a torch.nn.Module.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = self.model(seed) if _takes_seed(self.model) else self.model()
        if not isinstance(model, nn.Module):
            raise InputError(
                f"the model of {self.spec or 'this problem'} is a {type(model).__name__}, not a torch.nn.Module",
                "let the problem's model be a function that returns a new torch.nn.Module",
            )
        return model.to(device=device, dtype=dtype).train()

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Problem:
        """Move both splits to a device; floating point inputs take the dtype."""
        return replace(self, train=self.train.to(device, dtype), test=self.test.to(device, dtype))

    def fingerprint(self) -> str:
        """SHA-256 of the data in hexadecimal: it tells whether a checkpoint was trained on these examples."""
        return hashlib.sha256(f"{self.train.fingerprint()}{self.test.fingerprint()}".encode()).hexdigest()


def load(spec: str) -> Problem:
    """Find the problem that a spec names.

    Args:
        spec: `DATA/MODEL`, `DATA:DIR/MODEL` or `FILE.py:NAME`, with `?train_size=N` or `?label_smoothing=S` at will.

    Returns:
        The problem, its data on the CPU and its `spec` filled in with absolute paths.

    Raises:
        UsageError: If no such problem is known.
        InputError: If its file or data cannot be used.
    """
    body, _, asked = spec.partition("?")
    query = parse(asked, spec)
    name, colon, rest = body.partition(":")
    if name.endswith(".py"):
        return _from_file(Path(name), rest or "problem", query)
    directory_text, slash, model = rest.rpartition("/") if colon else (None, *body.partition("/")[1:])
    data = name if colon else body.partition("/")[0]
    if data not in datasets.CLASSES or not slash or not model:
        known = [f"{d}{'' if d == 'digits' else ':DIR'}/resnet8" for d in datasets.CLASSES]
        raise UsageError(f"unknown problem '{spec}'", nearest(spec, known) + ", or your own FILE.py:NAME")
    directory = Path(directory_text).expanduser().resolve() if directory_text else None
    return _built_in(data, directory, model, _beside(query, 0.0))


def _built_in(data: str, directory: Path | None, model: str, query: Query) -> Problem:
    classes = datasets.CLASSES[data]
    shape = (1, 8, 8) if data == "digits" else (3, 32, 32) if data.startswith("cifar") else (1, 28, 28)
    if model == "mlp":
        model = "mlp-64-32" if data == "digits" else "mlp-500-300"
    models.skeleton(model, shape, classes)  # a misspelt network is said before data are read
    train, test = datasets.load(data, directory, train_size=query.train_size)
    where = f"{data}:{directory}" if directory else data
    return Problem(
        model=lambda seed: models.build(model, shape, classes, seed),
        train=train,
        test=test,
        task=CrossEntropy(query.label_smoothing or 0.0),
        crop=4 if data.startswith("cifar") else 0,
        defaults={**_DEFAULTS[data], **({} if model.startswith("mlp") else {"channels_last": True})},
        spec=f"{where}/{model}{query}",
    )


_LONG: Mapping[str, Setting] = {"epochs": 200, "batch_size": 256, "rho": 0.15}  # thesis, section 5.1
_SHORT: Mapping[str, Setting] = {"epochs": 20, "batch_size": 128, "rho": 0.1}
_DEFAULTS: Mapping[str, Mapping[str, Setting]] = {
    "digits": {"epochs": 80, "batch_size": 50, "rho": 0.15},  # 800 steps: 20 divides E = 600
    "mnist": _SHORT,
    "fashion-mnist": _SHORT,
    "cifar10": _LONG,
    "cifar100": {**_LONG, "rho": 0.3},
}


def _takes_seed(factory: Callable[..., nn.Module]) -> bool:
    code = getattr(factory, "__code__", None)
    return bool(code and code.co_argcount == 1 and code.co_varnames[0] == "seed")


def _from_file(path: Path, name: str, query: Query) -> Problem:
    path = path.expanduser().resolve()
    module = _import_file(path)
    found = getattr(module, name, None)
    if found is None:
        defined = [key for key, value in vars(module).items() if _offered(module, key, value)]
        raise InputError(f"{path} defines no '{name}'", nearest(name, defined))
    if callable(found) and not isinstance(found, Problem):
        found = _run(path, found)
    problem = found
    if not isinstance(problem, Problem):
        raise InputError(
            f"'{name}' in {path} gave a {type(problem).__name__}, not a landscape.problem.Problem",
            "let it be a Problem, or a function without parameters that returns one",
        )
    query = _beside(query, smoothing_of(problem.task))
    problem = _changed(problem, query, path.name)
    _run(path, lambda: problem.build(0))  # so that what a model's own code raises is said with its line
    try_out(problem, f"{path.name}:{name}")
    return replace(problem, spec=f"{path}:{name}{query}")


def _beside(query: Query, own: float) -> Query:
    """A query without what is a problem's own anyway, so that one problem has one spec."""
    return replace(query, label_smoothing=None) if query.label_smoothing == own else query


def _changed(problem: Problem, query: Query, name: str) -> Problem:
    size = query.train_size
    if size is not None and size > len(problem.train):
        raise UsageError(f"train_size={size}, but {name} has {len(problem.train)}", "ask for fewer examples")
    if size is not None:
        problem = replace(problem, train=problem.train.head(size))
    if query.label_smoothing is not None:
        problem = replace(problem, task=smoothed(problem.task, query.label_smoothing))
    return problem


def _offered(module: ModuleType, key: str, value: object) -> bool:
    """Whether a name in a user's file may be what it was meant to define: no import, no class but a function."""
    own = isinstance(value, FunctionType) and value.__module__ == module.__name__
    return not key.startswith("_") and (own or isinstance(value, Problem))


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"the problem file {path} does not exist", "check the path before the colon in FILE.py:NAME")
    label = f"landscape_user_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    description = importlib.util.spec_from_file_location(label, path)
    assert description is not None
    assert description.loader is not None
    module = importlib.util.module_from_spec(description)
    sys.modules[label] = module
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))  # so that the file can import its neighbours
    loader = description.loader
    try:
        _run(path, lambda: loader.exec_module(module))
    except InputError:
        del sys.modules[label]
        raise
    return module


def _run(path: Path, call: Callable[[], Any]) -> Any:
    """Run a user's code; what it prints goes to stderr, what it raises is said with its line."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return call()
    except (Exception, SystemExit) as error:
        frames = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else frames[-1] if frames else "unknown"
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{path} could not be run: {cause}", f"mend the file, line {line}") from error
