"""Measure what a Hessian product and an eigenvalue cost, beside PyHessian, in one process on one thread.

Every figure is a ratio of process times that were taken in turn, round after round: the machine's speed cancels.
The unit is one forward and backward pass over the same data in the same batches.

    python benchmarks/curvature.py [--write docs/curvature.md] [--rounds N] [--quick]
"""

from __future__ import annotations

import argparse
import copy
import datetime
import os
import platform
import re
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from record import write
from torch import Tensor, nn
from torch.nn import functional

from landscape.curvature import (
    Eigenpairs,
    HessianOperator,
    Objective,
    chunked,
    dense_hessian,
    eigenpairs,
    top_eigenpairs,
)
from landscape.split import Split

K = 5


class Mean(nn.Module):
    """Average over the image."""

    def forward(self, images: Tensor) -> Tensor:
        """Shape (B, channel, height, width) to (B, channel)."""
        return images.mean((2, 3))


def losses(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats, shape (B,)."""
    return functional.cross_entropy(outputs, targets, reduction="none")


def perceptron(*widths: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """A multilayer perceptron."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), activation()]
    return nn.Sequential(*layers[:-1])


def convolutional(*widths: int, classes: int = 10) -> nn.Sequential:
    """Convolutions with BatchNorm; the second one halves the image."""
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(zip((1, *widths[:-1]), widths, strict=True)):
        layers += [nn.Conv2d(fan_in, fan_out, 3, 1 + (i == 1), 1, bias=False), nn.BatchNorm2d(fan_out), nn.ReLU()]
    return nn.Sequential(*layers, Mean(), nn.Linear(widths[-1], classes))


def clouds(n: int, shape: tuple[int, ...], spread: float = 0.7, seed: int = 0) -> Split:
    """Ten overlapping clouds."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % 10
    centres = spread * torch.randn(10, *shape, generator=generator)
    return Split(centres[targets] + torch.randn(n, *shape, generator=generator), targets)


def train(model: nn.Module, data: Split, epochs: int, rate: float) -> nn.Module:
    """SGD with momentum in batches of 100."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    model.train()
    generator = torch.Generator().manual_seed(1)
    for _ in range(epochs):
        for rows in torch.randperm(len(data), generator=generator).split(100):
            optimizer.zero_grad()
            losses(model(data.inputs[rows]), data.targets[rows]).mean().backward()
            optimizer.step()
    if not epochs:
        model(data.inputs)  # running statistics
    model.zero_grad(set_to_none=True)
    return model.eval()


def states() -> dict[str, Objective]:
    """Five networks in five states, small enough for the dense Hessian."""
    torch.manual_seed(0)
    points, pictures = clouds(1200, (16,)), clouds(512, (1, 8, 8), 0.3)
    tanh, relu, conv = perceptron(16, 32, 16, 10, activation=nn.Tanh), perceptron(16, 32, 16, 10), convolutional(6, 9)
    return {
        "MLP tanh, 1 epoch": Objective(train(copy.deepcopy(tanh), points, 1, 0.05), losses, points, 128),
        "MLP tanh, 40 epochs": Objective(train(tanh, points, 40, 0.05), losses, points, 128),
        "MLP ReLU, 40 epochs": Objective(train(relu, points, 40, 0.05), losses, points, 128),
        "CNN+BN, at init": Objective(train(copy.deepcopy(conv), pictures, 0, 0.05), losses, pictures, 128),
        "CNN+BN, 10 epochs": Objective(train(conv, pictures, 10, 0.05), losses, pictures, 128),
    }


def seconds(run: Callable[[], object]) -> float:
    """Process time of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def interleaved(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Process times, shape (rounds,) for each, taken in turn after one call to warm up."""
    for run in runs.values():
        run()
    times = [[seconds(run) for run in runs.values()] for _ in range(rounds)]
    return dict(zip(runs, np.array(times).T, strict=True))


def spread(ratios: np.ndarray, digits: int = 2) -> str:
    """Median and quartiles."""
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def their_hessian(problem: Objective) -> object:
    """PyHessian on a copy of the model and the same batches."""
    from pyhessian import hessian

    batches = list(problem.data.batches(problem.chunk))
    return hessian(copy.deepcopy(problem.model), nn.CrossEntropyLoss(), dataloader=batches, cuda=False)


def product_cost(rounds: int) -> list[str]:
    """Cost of one product in units of a forward and backward pass."""
    torch.manual_seed(0)
    cases = {
        "MLP 784-256-256-10, N 2000, batch 250": (perceptron(784, 256, 256, 10), clouds(2000, (784,)), 250, 4 / 3),
        "CNN+BN 16-32-32, N 512, batch 128": (convolutional(16, 32, 32), clouds(512, (1, 16, 16)), 128, 2.0),
    }
    rows = ["| one product, in units | kept graphs | recomputed | PyHessian's loader | kept, to the floor of |"]
    rows += ["|---|---|---|---|---|"]
    for name, (model, data, chunk, floor) in cases.items():
        problem = Objective(model.eval(), losses, data, chunk)
        kept, again = HessianOperator(problem), HessianOperator(problem, memory_budget=0)
        theirs = their_hessian(problem)
        vector = torch.randn(kept.size)
        parameters = list(model.parameters())
        pieces = [v.view_as(p) for v, p in zip(vector.split([p.numel() for p in parameters]), parameters, strict=True)]
        times = interleaved(
            {
                "unit": lambda problem=problem: forward_backward(problem),
                "kept": lambda kept=kept, v=vector: kept.product(v),
                "recomputed": lambda again=again, v=vector: again.product(v),
                "theirs": lambda theirs=theirs, v=pieces: theirs.dataloader_hv_product(v),  # type: ignore[attr-defined]
            },
            rounds,
        )
        units = {key: value / times["unit"] for key, value in times.items()}
        cells = [spread(units[key]) for key in ("kept", "recomputed", "theirs")]
        rows.append(f"| {name} | {' | '.join(cells)} | {np.median(units['kept']) / floor:.2f} x {floor:.2f} |")
    return rows


def forward_backward(problem: Objective) -> None:
    """One unit: the gradient over all batches."""
    parameters = list(problem.model.parameters())
    for inputs, targets in problem.data.batches(problem.chunk):
        loss = losses(problem.model(inputs), targets).sum() / len(problem.data)
        torch.autograd.grad(loss, parameters)


def end_to_end(problems: dict[str, Objective], truths: dict[str, np.ndarray], rounds: int) -> list[str]:
    """Time to five eigenvalues, at a PyHessian tolerance that gets them right, and what the time is made of."""
    heads = ["k = 5, float32, batches of 128", "PyHessian time / ours", "the same, our batches apart"]
    heads += ["products × units: ours", "ours, apart", "PyHessian's", "error: ours", "PyHessian's"]
    rows = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for name, problem in problems.items():
        truth = truths[name]
        by_magnitude = truth[np.argsort(-np.abs(truth))][:K]
        times, errors, counts = [], [], []
        for seed in range(rounds):
            unit = min(seconds(lambda p=problem: forward_backward(p)) for _ in range(5))
            ours, mine = timed(lambda p=problem, s=seed: eigenpairs(p, K, seed=s))
            apart, alone = timed(lambda p=problem, s=seed: batches_apart(p, s))
            theirs, (values, passes) = timed(lambda p=problem, s=seed: search_theirs(p, s))
            times.append((ours, apart, theirs))
            counts.append((unit, mine.products, alone.products, passes))
            errors.append((worst(mine.values, truth[:K]), worst(values, by_magnitude)))
        taken = np.array(times).T  # (3, rounds)
        unit, *products = np.array(counts).T
        cells = [spread(taken[2] / other, 1) for other in taken[:2]]
        for count, spent in zip(products, taken, strict=True):
            cells.append(f"{count.mean():.0f} × {np.median(spent / count / unit):.1f}")
        cells += [f"{error:.1e}" for error in np.max(errors, axis=0)]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Process time of one call, and what it returned."""
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


def batches_apart(problem: Objective, seed: int) -> Eigenpairs:
    """Our search in passes of just the batches that PyHessian's loader gives."""
    together, chunked._PASS = chunked._PASS, 0
    try:
        return eigenpairs(problem, K, seed=seed)
    finally:
        chunked._PASS = together


def search_theirs(problem: Objective, seed: int) -> tuple[np.ndarray, int]:
    """Eigenvalues by PyHessian at tol 1e-5, and its products."""
    torch.manual_seed(seed)
    search = their_hessian(problem)
    inner, done = search.dataloader_hv_product, [0]  # type: ignore[attr-defined]

    def counted(vector: object) -> object:
        done[0] += 1
        return inner(vector)

    search.dataloader_hv_product = counted  # type: ignore[attr-defined]
    values, _ = search.eigenvalues(maxIter=2000, tol=1e-5, top_n=K)  # type: ignore[attr-defined]
    return np.array(values), done[0]


def worst(found: np.ndarray, truth: np.ndarray) -> float:
    """Largest relative error after sorting both."""
    found, truth = np.sort(found), np.sort(truth)
    return float((np.abs(found - truth) / np.abs(truth)).max())


def correctness(problems: dict[str, Objective], truths: dict[str, np.ndarray], seeds: int) -> list[str]:
    """Products used, and whether values and intervals are right, over states and seeds."""
    rows = ["| k = 5, tol 1e-3, float32 | D | products, mean (max) | within 1e-3 | truth in interval | worst error |"]
    rows += ["|---|---|---|---|---|---|"]
    total: list[tuple[float, bool, bool]] = []
    for name, problem in problems.items():
        truth, cases, errors = truths[name][:K], [], []
        for seed in range(seeds):
            found = eigenpairs(problem, K, seed=seed)
            errors.append(worst(found.values, truth))
            inside = (found.intervals[:, 0] <= truth) & (truth <= found.intervals[:, 1])
            cases.append((float(found.products), found.converged and errors[-1] <= 1e-3, bool(inside.all())))
        total += cases
        rows.append(f"| {name} | {problem.size} | {summary(cases)} | {max(errors):.1e} |")
    rows.append(f"| **all** | | {summary(total)} | |")
    return rows


def summary(cases: list[tuple[float, bool, bool]]) -> str:
    """Three cells of a table."""
    products, right, inside = (np.array(column) for column in zip(*cases, strict=True))
    n = len(cases)
    return f"{products.mean():.1f} ({products.max():.0f}) | {right.sum()}/{n} | {inside.sum()}/{n}"


def multisets(seeds: int) -> list[str]:
    """Repeated and clustered eigenvalues of a diagonal operator."""
    tops = {
        "separate: 50, 30, 20, 12, 8": [50, 30, 20, 12, 8],
        "double and triple: 10, 10, 8, 8, 8": [10, 10, 8, 8, 8],
        "five within 1 %": [10, 9.98, 9.96, 9.94, 9.91],
    }
    rows = [
        "| diagonal, D 200 000, bulk in [-0.5, 1] | right multiset | products, mean (max) | worst error |",
        "|---|---|---|---|",
    ]
    for name, top in tops.items():
        d = torch.rand(200_000, generator=torch.Generator().manual_seed(0)) * 1.5 - 0.5
        d[:K] = torch.tensor(top)
        errors, products = [], []
        for seed in range(seeds):
            found = top_eigenpairs(lambda v, d=d: d * v, len(d), K, seed=seed)
            errors.append(worst(found.values, d[:K].double().numpy()))
            products.append(found.products)
        right = sum(error <= 1e-3 for error in errors)
        rows.append(f"| {name} | {right}/{seeds} | {np.mean(products):.1f} ({max(products)}) | {max(errors):.1e} |")
    return rows


def processor() -> str:
    """Name of the processor, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def report(rounds: int, quick: bool) -> str:
    """All tables as Markdown."""
    problems = states()
    truths = {
        name: torch.linalg.eigvalsh(dense_hessian(replace(problem, chunk=len(problem.data)))).flip(0).numpy()
        for name, problem in problems.items()
    }
    head = f"{datetime.date.today().isoformat()}, {processor()}, one thread, torch {torch.__version__}. "
    head += "Process times taken in turn; median (quartiles)."
    tables = [product_cost(rounds), end_to_end(problems, truths, 2 if quick else 5)]
    tables += [correctness(problems, truths, 2 if quick else 8), multisets(2 if quick else 20)]
    return "\n\n".join([head, *("\n".join(table) for table in tables)])


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the tables between the markers in FILE")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of the product's timing")
    parser.add_argument("--quick", action="store_true", help="few seeds: to see that it runs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Using backward.*create_graph")
    text = report(arguments.rounds, arguments.quick)
    print(text)
    if arguments.write:
        write("curvature", text, arguments.write)


if __name__ == "__main__":
    main()
