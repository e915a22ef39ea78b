"""A user's own model and data go the whole way; so do specs of published data, read where they are."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import h5py
import pytest
import torch
from conftest import Command

from analyses.pages import read
from landscape import checkpoint as checkpoints
from landscape import problem as problems
from landscape.errors import InputError
from landscape.evaluate import evaluate
from landscape.opening import open_checkpoints
from landscape.wording import number

STUDY = Path(__file__).parent / "my_study.py"
DATA = Path(os.environ.get("LANDSCAPE_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))


def test_the_example_fits_in_twenty_lines() -> None:
    lines = [line for line in STUDY.read_text().split('"""')[-1].splitlines() if line.strip()]
    assert len(lines) <= 20


def test_a_users_own_problem_goes_the_whole_way(run: Command, tmp_path: Path) -> None:
    sgd, psam = tmp_path / "sgd.pt", tmp_path / "psam.pt"
    for method, out in (("sgd", sgd), ("psam", psam)):
        done = run("train", f"{STUDY}:problem", "--method", method, "--period", "4", "--out", out, "--json", "-q")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["test_error"] < 0.3
    done = run("compare", sgd, psam, "--out", tmp_path / "pair", "--quiet")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "pair" / "report.html").stat().st_size > 4_000_000
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "pair").glob("*.h5")}
    (tmp_path / "pair" / "report.html").unlink()
    (tmp_path / "pair" / "evaluate.h5").unlink()  # as if it had been stopped
    assert run("compare", sgd, psam, "--out", tmp_path / "pair", "--quiet").exit_code == 0
    again = {path: path.stat().st_mtime_ns for path in (tmp_path / "pair").glob("*.h5")}
    assert [path.name for path in made if made[path] != again[path]] == ["evaluate.h5"]
    (tmp_path / "pair" / "report.html").unlink()
    other = run("compare", sgd, psam, "--out", tmp_path / "pair", "--batch-size", "400", "--quiet")
    assert other.exit_code == 2
    assert "made with other settings" in other.stderr
    told = json.loads(run("hessian", sgd, "--top", "1", "--json", "-q", "--engine", "dense").stdout)
    lanczos = json.loads(run("hessian", sgd, "--top", "1", "--json", "-q", "--out", tmp_path / "l.h5").stdout)
    assert lanczos["result"]["eigenvalue"][0][0] == pytest.approx(told["result"]["eigenvalue"][0][0], rel=1e-3)


REGRESSION = """
import torch
from torch import nn
from landscape.problem import Problem
from landscape.split import Split
from landscape.task import SquaredError

x = torch.linspace(-1, 1, 40)[:, None]
data = Split(x, 3 * x + x**2)
problem = Problem(lambda: nn.Linear(1, 1), data, data, SquaredError(), defaults={"epochs": 2})
"""


def test_a_regression_is_told_by_its_test_loss(run: Command, tmp_path: Path) -> None:
    (tmp_path / "line.py").write_text(REGRESSION)
    done = run("train", f"{tmp_path}/line.py:problem", "--out", tmp_path / "a.pt", "-q")
    assert done.exit_code == 0, done.output
    found = checkpoints.load(tmp_path / "a.pt")
    slope, offset = found.theta.tolist()
    x = [-1 + 2 * k / 39 for k in range(40)]
    loss = sum((slope * v + offset - 3 * v - v * v) ** 2 for v in x) / 40
    assert f"test loss {number(loss)} (running statistics)" in done.stdout
    assert "error" not in done.stdout
    assert "%" not in done.stdout


def test_a_factory_without_parameters_is_seeded(tmp_path: Path) -> None:
    problem = problems.load(f"{STUDY}:problem")
    a, b, c = (next(problem.build(seed).parameters()) for seed in (0, 0, 1))
    assert a.equal(b)
    assert not a.equal(c)


def test_train_size_is_part_of_the_spec() -> None:
    problem = problems.load("digits/mlp?train_size=100")
    assert len(problem.train) == 100
    assert len(problem.test) == 1297
    assert problem.spec == "digits/mlp-64-32?train_size=100"
    assert problem.fingerprint() != problems.load("digits/mlp").fingerprint()


def test_a_smoothed_loss_is_part_of_the_spec(run: Command, tmp_path: Path) -> None:
    smooth, plain, set_ = (
        "digits/mlp?train_size=100&label_smoothing=0.1",
        "digits/mlp?train_size=100",
        tmp_path / "s.pt",
    )
    assert problems.load(smooth).spec == "digits/mlp-64-32?train_size=100&label_smoothing=0.1"
    assert problems.load(smooth).fingerprint() == problems.load(plain).fingerprint()
    one = ("--epochs", "2", "-q", "--out")
    assert run("train", smooth, *one, tmp_path / "a.pt").exit_code == 0
    assert run("train", plain, "--label-smoothing", "0.1", *one, set_).exit_code == 0
    assert checkpoints.load(tmp_path / "a.pt").theta.equal(checkpoints.load(set_).theta)

    losses = []
    for spec, path in ((smooth, tmp_path / "a.pt"), (smooth, set_), (plain, set_)):
        told: list[str] = []
        problem, (found,) = open_checkpoints([path], spec, told.append)
        model = problem.build(0)
        torch.nn.utils.vector_to_parameters(found.theta, model.parameters())
        losses.append(evaluate(model, problem.train, problem.task, 50).loss)
        assert told == ([NOTE] if spec == plain else [])
    for spec, smoothing, loss in ((smooth, 0.1, losses[1]), (plain, 0.0, losses[2])):
        x, y = problems.load(spec).train.batch(0, 100)
        expected = torch.nn.functional.cross_entropy(model(x), y, label_smoothing=smoothing)
        assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert losses[0] == losses[1] > losses[2]


NOTE = (
    "trained with label smoothing 0.1, measured with 0: "
    "--problem 'digits/mlp-64-32?train_size=100&label_smoothing=0.1' measures the loss that was trained on"
)
PLAIN, SMOOTH = "digits/mlp?train_size=100", "digits/mlp?train_size=100&label_smoothing=0.2"


@pytest.fixture(scope="module")
def smoothings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on the plain and on the smoothed loss, and one smoothed by a setting."""
    place, run = tmp_path_factory.mktemp("smoothings"), Command()
    for name, spec, more in (("plain", PLAIN, ()), ("spec", SMOOTH, ()), ("set", PLAIN, ("--label-smoothing", "0.2"))):
        done = run("train", spec, *more, "--epochs", "2", "--save-at", "switch", "-q", "--out", place / f"{name}.pt")
        assert done.exit_code == 0, done.output
    return place


@pytest.mark.parametrize(
    ("names", "spec", "told"),
    [
        ("plain", PLAIN, None),
        ("spec", SMOOTH, None),
        ("set", SMOOTH, None),
        ("spec", PLAIN, "trained with label smoothing 0.2, measured with 0: --problem '{}&label_smoothing=0.2' "),
        ("plain", SMOOTH, "trained with label smoothing 0, measured with 0.2: --problem '{}&label_smoothing=0' "),
        ("spec set", PLAIN, "trained with label smoothing 0.2, measured with 0: --problem '{}&label_smoothing=0.2' "),
        ("plain spec", SMOOTH, "trained with label smoothing 0 and 0.2, measured with 0.2"),
    ],
)
def test_networks_trained_on_another_loss_than_is_measured_are_told(
    run: Command, smoothings: Path, tmp_path: Path, names: str, spec: str, told: str | None
) -> None:
    paths = [smoothings / f"{name}.pt" for name in names.split()]
    done = run("evaluate", *paths, "--problem", spec, "--out", tmp_path / "e.h5")
    assert done.exit_code == 0, done.output
    where = "digits/mlp-64-32?train_size=100"
    rest = "measures the loss that was trained on" if told and told.endswith(" ") else ""
    notes = [line for line in done.stderr.splitlines() if "label smoothing" in line]
    assert notes == ([f"note: {told.format(where)}{rest}"] if told else [])
    assert run("report", tmp_path / "e.h5", "--out", tmp_path / "r.html").exit_code == 0
    assert ("and measured with" in (tmp_path / "r.html").read_text()) == bool(told)


def test_a_run_is_not_resumed_on_another_loss(run: Command, smoothings: Path, tmp_path: Path) -> None:
    for name, wrong in (("spec", PLAIN), ("plain", SMOOTH), ("spec", SMOOTH.replace("0.2", "0.3"))):
        for state in (f"{name}@3.pt", f"{name}.pt"):  # half done, and complete
            out = tmp_path / f"{name}.pt"
            out.write_bytes((smoothings / state).read_bytes())
            done = run("train", wrong, "--out", out, "--resume")
            assert done.exit_code == 2, done.output
            assert "was trained on digits/mlp-64-32?train_size=100" in done.stderr
            assert out.read_bytes() == (smoothings / state).read_bytes()


@pytest.mark.parametrize(
    ("stem", "spec", "more", "exact", "same", "told"),
    [
        ("spec", SMOOTH, (), True, "spec", ""),
        ("set", PLAIN, (), True, "set", "the fork goes on with the label smoothing of set@3.pt, 0.2; the loss of "),
        ("set", SMOOTH, (), True, "spec", ""),
        ("spec", PLAIN, ("--label-smoothing", "0.2"), True, "set", ""),
        ("plain", SMOOTH, (), False, "", "label_smoothing (0.0 → 0.2)"),
        ("spec", PLAIN, ("--label-smoothing", "0"), False, "", "label_smoothing (0.2 → 0.0)"),
        ("spec", PLAIN, (), True, "spec", "the fork goes on with the label smoothing of spec@3.pt, 0.2; the loss of "),
    ],
)
def test_a_fork_is_exact_where_the_loss_is_the_same(
    run: Command, smoothings: Path, tmp_path: Path, stem: str, spec: str, more: tuple[str, ...], exact: bool,
    same: str, told: str,
) -> None:  # fmt: skip
    out = tmp_path / "fork.pt"
    done = run("train", spec, "--fork", smoothings / f"{stem}@3.pt", *more, "--out", out)
    assert done.exit_code == 0, done.output
    found = checkpoints.load(out)
    assert found.exact == exact
    assert told in done.stderr if told else "fork" not in done.stderr
    if same:
        assert found.theta.equal(checkpoints.load(smoothings / f"{same}.pt").theta)


def test_a_problem_s_own_smoothing_can_be_taken_off(tmp_path: Path, run: Command) -> None:
    (tmp_path / "own.py").write_text(
        "import dataclasses\nfrom landscape import problem as p\nfrom landscape.task import CrossEntropy\n"
        "plain = p.load('digits/mlp?train_size=100')\nproblem = dataclasses.replace(plain, task=CrossEntropy(0.2))\n"
    )
    spec, one = f"{tmp_path}/own.py:problem", ("--epochs", "2", "-q", "--out")
    assert problems.load(f"{spec}?label_smoothing=0.2").spec == spec
    assert problems.load(f"{spec}?label_smoothing=0").spec == f"{spec}?label_smoothing=0"
    none = ("--label-smoothing", "0")
    runs = {"a": (spec,), "b": (f"{spec}?label_smoothing=0",), "c": (spec, *none), "d": (f"{tmp_path}/own.py:plain",)}
    for name, words in runs.items():
        assert run("train", *words, *one, tmp_path / f"{name}.pt").exit_code == 0
    a, b, c, d = (checkpoints.load(tmp_path / f"{name}.pt") for name in "abcd")
    assert [x.settings["label_smoothing"] for x in (a, b, c, d)] == [0.2, 0, 0, 0]
    assert b.theta.equal(d.theta)
    assert c.theta.equal(d.theta)
    assert not a.theta.equal(d.theta)
    refused = run("train", f"{tmp_path}/own.py:plain", "--out", tmp_path / "a.pt", "--resume")
    assert refused.exit_code == 2
    assert "was trained on own.py:problem, not on own.py:plain" in refused.stderr


@pytest.mark.data
@pytest.mark.parametrize(
    ("spec", "folder", "parameters"),
    [
        ("mnist:{}/mlp", "mnist", 545_810),
        ("fashion-mnist:{}/resnet8", "fashion_mnist", None),
        ("cifar10:{}/resnet18", "cifar10", 11_173_962),
    ],
)
def test_published_data_are_read_where_they_are(spec: str, folder: str, parameters: int | None) -> None:
    if not (DATA / folder).is_dir():
        pytest.skip(f"{DATA / folder} is not there: set LANDSCAPE_DATA")
    problem = problems.load(spec.format(DATA / folder) + "?train_size=500")
    model = problem.build(0)
    assert len(problem.train) == 500
    assert len(problem.test) == 10_000
    output = model.eval()(problem.train.batch(0, 4)[0])
    assert output.shape == (4, 10)
    if parameters:
        assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.data
def test_training_on_fashion_mnist_learns(run: Command, tmp_path: Path) -> None:
    if not (DATA / "fashion_mnist").is_dir():
        pytest.skip(f"{DATA / 'fashion_mnist'} is not there: set LANDSCAPE_DATA")
    spec = f"fashion-mnist:{DATA / 'fashion_mnist'}/mlp?train_size=2000"
    out = tmp_path / "a.pt"
    done = run("train", spec, "--method", "psam", "--epochs", "4", "--period", "5", "--out", out, "--json", "-q")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["test_error"] < 0.3


WRONG = {
    "inputs": ("x = torch.randn(20, 7)", "does not take a training input of shape (7,)"),
    "labels": ("y = torch.full((20,), 5)", "training target 5 is no class: the network has 3 outputs"),
    "negative labels": ("y = torch.full((20,), -1)", "training target -1 is no class"),
    "a model that fails": ("def model(): raise KeyError('width')", "could not be run: KeyError: 'width'"),
    "a model of no tensor": ("class Pair(torch.nn.Linear):\n    def forward(self, x): return (x, x)\n"
                             "def model(): return Pair(4, 3)", "it gave a tuple, not a tensor"),
    "a model that draws": ("class Noisy(torch.nn.Linear):\n"
                           "    def forward(self, x): return super().forward(x + torch.randn_like(x))\n"
                           "def model(): return Noisy(4, 3)", "the network (Noisy) gave two different results"),
    "a model that counts": ("class Counts(torch.nn.Linear):\n"
                            "    def forward(self, x):\n"
                            "        self.times += 1\n"
                            "        return super().forward(x) * self.times\n"
                            "def model():\n"
                            "    net = Counts(4, 3)\n"
                            "    net.register_buffer('times', torch.ones(()))\n"
                            "    return net", "when it is asked again in eval mode"),
    "arrays": ("x = x.numpy()", "expected a tensor as inputs, got ndarray"),
    "a task of another shape": ("class Task(CrossEntropy):\n    def losses(self, o, t): return o.sum()\ntask = Task()",
                                "gave values of shape () for 2 examples"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_said_in_one_line_before_anything_is_computed(
    name: str, run: Command, tmp_path: Path
) -> None:
    code, told = WRONG[name]
    (tmp_path / "wrong.py").write_text(
        "import torch\nfrom landscape.problem import Problem\nfrom landscape.split import Split\n"
        "from landscape.task import CrossEntropy\n"
        "x, y, task = torch.randn(20, 4), torch.arange(20) % 3, CrossEntropy()\n"
        f"def model(): return torch.nn.Linear(4, 3)\n{code}\n"
        "problem = Problem(model=model, train=Split(x, y), test=Split(x, y), task=task)\n"
    )
    done = run("train", f"{tmp_path / 'wrong.py'}:problem", "--out", tmp_path / "a.pt")
    assert done.exit_code == 3, done.output
    assert told in done.output
    assert not (tmp_path / "a.pt").exists()


def test_a_misspelt_name_is_answered_with_what_the_file_defines(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import torch\nimport json\n\ndef digits_problem(): return torch\n")
    with pytest.raises(InputError, match="did you mean 'digits_problem'") as caught:
        problems.load(f"{tmp_path / 'mine.py'}:problem")
    assert "torch" not in caught.value.remedy


def test_a_batch_of_one_example_is_refused_where_there_is_batchnorm(run: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom landscape.problem import Problem\nfrom landscape.split import Split\n"
        "data = Split(torch.randn(20, 4), torch.arange(20) % 3)\n"
        "def model(): return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))\n"
        "problem = Problem(model=model, train=data, test=data)\n"
    )
    done = run("train", f"{tmp_path / 'mine.py'}:problem", "--batch-size", "1", "--out", tmp_path / "a.pt")
    assert done.exit_code == 2, done.output
    assert "single example" in done.stderr
    assert "--batch-size" in done.stderr


VIEWS = """
from torch import nn
from landscape.problem import Problem, load

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Conv2d(1, 4, 3, 2, 1), nn.Linear(64, 10)

    def forward(self, images):
        found = self.first(images).relu()
        return self.head(found.view(len(found), -1))

def problem():
    data = load("digits/mlp")
    return Problem(Net, data.train, data.test)
"""


def test_a_network_that_flattens_by_view_works_on_the_images_that_come_along(run: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(VIEWS)
    train = ["train", f"{tmp_path / 'mine.py'}:problem", "--epochs", "1", "--out", tmp_path / "a.pt"]
    assert run(*train).exit_code == 0
    assert run("hessian", tmp_path / "a.pt", "--top", "1", "--out", tmp_path / "h.h5").exit_code == 0
    done = run(*train, "--force", "--channels-last")
    assert done.exit_code == 2
    assert "`view` is one reason" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_a_regression_is_told_without_nats(run: Command, tmp_path: Path) -> None:
    (tmp_path / "line.py").write_text(REGRESSION.replace("nn.Linear(1, 1)", CURVED))
    sgd, sam, out = tmp_path / "sgd.pt", tmp_path / "sam.pt", tmp_path / "pair"
    for method, path in (("sgd", sgd), ("sam", sam)):
        assert run("train", f"{tmp_path}/line.py:problem", "--method", method, "-q", "--out", path).exit_code == 0
    done = run("compare", sgd, sam, "--out", out, "-q")
    assert done.exit_code == 0, done.output
    along = run("along", sgd, sam, "--out", out / "again.h5", "-q")
    assert along.exit_code == 0, along.output
    assert run("report", *sorted(out.glob("*.h5")), "--out", tmp_path / "all.html").exit_code == 0
    for text in (done.output, along.output, (out / "report.html").read_text(), (tmp_path / "all.html").read_text()):
        assert not re.search(r"\bnats\b", text)
    with h5py.File(out / "shift.h5") as file:
        assert {file[name].attrs["units"] for name in ("gap", "p")} == {b"1", b"1 / theta"}

    found = read(out / "evaluate.h5").result
    losses = []
    for path in (sgd, sam):
        problem, (one,) = open_checkpoints([path], None, print)
        model = problem.build(0)
        torch.nn.utils.vector_to_parameters(one.theta, model.parameters())
        losses.append((model(problem.test.inputs) - problem.test.targets).square().mean(1).detach())
    apart = losses[1] - losses[0]
    assert found.apart_error[0, 1] == pytest.approx(float(apart.std()) / len(apart) ** 0.5, rel=1e-4)
    told = (
        "has the lower test loss" if abs(apart.mean()) > 1.96 * found.apart_error[0, 1] else "losses are not told apart"
    )
    assert told in done.stdout


CURVED = "nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))"
