"""Measure what a point on a line costs, how many points a line needs, and whether its error estimate holds.

Costs are ratios of process times taken in turn, round after round, in one process on one thread: the machine's speed
cancels. The unit is one plain forward pass with loss and error over the same training data in the same batches.

    python benchmarks/lines.py [--write benchmarks/RESULTS.md] [--rounds N] [--lines N] [--quick]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from record import hardware, write

from landscape import models, problem
from landscape.checkpoint import Checkpoint
from landscape.device import keep_memory
from landscape.evaluate import evaluate
from landscape.hermite import hermite, refine, through
from landscape.line import Line
from landscape.pooling import recalibrate
from landscape.problem import Problem
from landscape.split import Split
from landscape.surface import Surface
from landscape.training.run import train
from landscape.training.settings import resolve
from landscape.vector import layout_of

FINE = 512
"""Intervals of the grid that stands for the truth."""


def images(network: str, n: int) -> Problem:
    """Random images of 28 × 28 and labels, for what does not depend on them: time."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (n, 1, 28, 28), dtype=torch.uint8, generator=generator)
    split = Split(x, torch.randint(0, 10, (n,), generator=generator), (0.5,), (0.25,))
    return Problem(model=lambda seed: models.build(network, (1, 28, 28), 10, seed), train=split, test=split.head(2))


def initial(made: Problem, seed: int) -> Checkpoint:
    """The network as it is initialised."""
    model = made.build(seed)
    theta = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    return Checkpoint(theta, {k: v.clone() for k, v in model.named_buffers()}, layout_of(model), name=f"init{seed}")


def trained(made: Problem, seed: int) -> Checkpoint:
    """SGD for 30 epochs."""
    return train(made, resolve(made.defaults, {"method": "sgd", "epochs": 30, "seed": seed}))


def interleaved(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Process times, shape (rounds,) for each, one warm-up round left out."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            began = time.process_time()
            call()
            if turn:
                times[name].append(time.process_time() - began)
    return {name: np.array(values) for name, values in times.items()}


def spread(ratios: np.ndarray) -> str:
    """Median and quartiles."""
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def cost(rounds: int, n: int) -> list[str]:
    """Time of one α in units of a plain pass."""
    cases = {
        "resnet8-w8, 28 × 28": ("resnet8-w8", n, "≤ 1.3"),
        "resnet20-w8, 28 × 28": ("resnet20-w8", n // 2, "≤ 1.3"),
        "mlp-500-300, no BatchNorm": ("mlp-500-300", 2 * n, "≤ 1.1"),
    }
    rows = [
        "| training data, one α ÷ one plain pass | recalibrate and score | bar | with slope | He et al.'s sequence |"
    ]
    rows.append("|---|---|---|---|---|")
    for name, (network, size, bar) in cases.items():
        made = images(network, size)
        a, b = initial(made, 0), initial(made, 1)
        surface = Surface(made)
        line = Line(surface, a, b, "recalibrate")
        model, data, task = surface.flat.model, surface.problem.train, made.task

        def sequence(model=model, data=data, task=task) -> object:  # type: ignore[no-untyped-def]
            recalibrate(model, data, 128)
            return evaluate(model, data, task, 128)

        times = interleaved(
            {
                "plain": lambda model=model, data=data, task=task: evaluate(model, data, task, 500),
                "point": lambda line=line: line.measure(0.4),
                "slope": lambda line=line: line.measure(0.4, slope=True),
                "sequence": sequence,
            },
            rounds,
        )
        told = [spread(times[key] / times["plain"]) for key in ("point", "slope", "sequence")]
        rows.append(f"| {name}, N {size} | {told[0]} | {bar} | {told[1]} | {told[2]} |")
    return rows


def truth(line: Line, fine: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """α in [0, 1], training loss and slope on a fine grid."""
    alpha = np.linspace(0, 1, fine + 1)
    points = [line.measure(float(x), slope=True) for x in alpha]
    return alpha, np.array([p.mean[0, 0] for p in points]), np.array([p.slope for p in points])


def needed(alpha: np.ndarray, loss: np.ndarray, slope: np.ndarray) -> tuple[int, int]:
    """Points of an even grid for 1 % of the range: with straight lines, and with the cubics of the slopes."""
    width, found = np.ptp(loss), []
    for cubic in (False, True):
        for points in range(5, 200):
            x = np.linspace(alpha[0], alpha[-1], points)
            y = np.interp(x, alpha, loss)
            drawn = hermite(x, y, np.interp(x, alpha, slope), alpha) if cubic else np.interp(alpha, x, y)
            if abs(drawn - loss).max() <= 0.01 * width:
                break
        found.append(points)
    return found[0], found[1]


def adaptive(alpha: np.ndarray, loss: np.ndarray, slope: np.ndarray | None) -> tuple[int, float, float]:
    """Points of an adaptive line to 1 %, its true and its estimated largest error as parts of the range."""

    def measure(x: float) -> tuple[float, float]:
        i = int(np.searchsorted(alpha, x - 1e-9))  # every place is on the fine grid
        return float(loss[i]), np.nan if slope is None else float(slope[i])

    found = refine(measure, alpha[:: (len(alpha) - 1) // 16], 0.01, 65)
    curve = through(found)
    assert curve is not None
    width = np.ptp(loss)
    return len(found), float(abs(curve(alpha) - loss).max() / width), curve.worst() / width


def points() -> list[str]:
    """Evaluations that a barrier line needs."""
    rows = ["| digits, α in [0, 1] | even, straight lines | even, cubics | adaptive, slopes | adaptive, no slopes |"]
    rows.append("|---|---|---|---|---|")
    for network in ("mlp", "resnet8"):
        made = problem.load(f"digits/{network}")
        line = Line(Surface(small_test(made)), trained(made, 0), trained(made, 1), "recalibrate")
        alpha, loss, slope = truth(line, FINE)
        told = [adaptive(alpha, loss, given) for given in (slope, None)]
        cells = [f"{n} (error {true:.2%}, estimate {said:.2%})" for n, true, said in told]
        straight, cubic = needed(alpha, loss, slope)
        rows.append(f"| two {network} of other seeds | {straight} | {cubic} | {' | '.join(cells)} |")
    return rows


def small_test(made: Problem) -> Problem:
    """The problem with two test examples, for what is measured on training data."""
    return Problem(made.model, made.train, made.test.head(2), made.task)


def honesty(lines: int) -> list[str]:
    """How often the true error is within the estimate on random lines."""
    rows = ["| random lines, to 1 % | lines | with slopes: honest | points (max) | without: honest | points (max) |"]
    rows.append("|---|---|---|---|---|---|")
    for network, share, fine in (("mlp", 1.0, FINE), ("resnet8", 0.2, FINE // 2)):
        made = problem.load(f"digits/{network}")
        ends = [trained(made, seed) for seed in (4, 5)]
        count, generator = max(2, round(share * lines)), torch.Generator().manual_seed(12)
        told: list[list[tuple[int, float, float]]] = [[], []]
        for i in range(count):
            a, b = random_line(made, ends, i, generator)
            alpha, loss, slope = truth(Line(Surface(small_test(made)), a, b, "recalibrate"), fine)
            for kept, given in zip(told, (slope, None), strict=True):
                kept.append(adaptive(alpha, loss, given))
        cells = []
        for kept in told:
            number, true, said = np.array(kept).T
            cells += [f"{(true <= said).mean():.0%}", f"{number.mean():.1f} ({number.max():.0f})"]
        rows.append(f"| {network} | {count} | {' | '.join(cells)} |")
    return rows


def random_line(
    made: Problem, ends: list[Checkpoint], i: int, generator: torch.Generator
) -> tuple[Checkpoint, Checkpoint]:
    """In turn: through a trained network in a Gaussian direction, past two of them, from an initial one past one."""
    a, b = ends[i % 2], ends[1 - i % 2]
    step = torch.randn(a.theta.shape, generator=generator)
    size = 0.1 + 1.5 * float(torch.rand(1, generator=generator))
    step *= size * a.theta.norm() / step.norm()
    if i % 3 == 0:
        back = float(torch.rand(1, generator=generator))
        return _moved(a, a.theta - back * step), _moved(a, a.theta + step)
    if i % 3 == 1:
        return _moved(a, a.theta + 0.3 * step), _moved(a, b.theta - 0.3 * step)
    start = initial(made, i).theta
    return _moved(a, start), _moved(a, start + 1.5 * (a.theta - start))


def _moved(like: Checkpoint, theta: torch.Tensor) -> Checkpoint:
    return Checkpoint(theta, like.buffers, like.layout)


def memory(sizes: tuple[int, ...]) -> list[str]:
    """Peak memory of a whole line in a process of its own, by the number of points."""
    rows = ["| points on a line | peak memory of the process (MiB) |", "|---|---|"]
    for size in sizes:
        words = [sys.executable, __file__, "--peak", str(size)]
        told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        rows.append(f"| {size} | {int(told)} |")
    return rows


def peak(size: int) -> int:
    """Measure so many points and tell the peak memory of this process in MiB."""
    made = images("resnet8-w8", 1000)
    line = Line(Surface(made), initial(made, 0), initial(made, 1), "recalibrate")
    for alpha in np.linspace(0, 1, size):
        line.measure(float(alpha), slope=True)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--lines", type=int, default=120, help="random lines of the MLP")
    parser.add_argument("--quick", action="store_true", help="small and few: does it run at all")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables between the markers in FILE")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    if arguments.peak:
        print(peak(arguments.peak))
        return
    quick = arguments.quick
    parts = [
        "## Lines",
        f"{hardware('cpu')}. Process times taken in turn, median and quartiles of the ratios; freed memory is kept, as "
        "the commands do. With --no-slopes a point costs the second column, else the fourth.",
    ]
    for measure in (
        lambda: cost(2 if quick else arguments.rounds, 1000 if quick else 2000),
        points,
        lambda: honesty(5 if quick else arguments.lines),
        lambda: memory((3, 9) if quick else (5, 20, 80)),
    ):
        parts.append("\n".join(measure()))
        print(parts[-1], flush=True)
    if arguments.write:
        write("lines", "\n\n".join(parts), arguments.write)


if __name__ == "__main__":
    main()
