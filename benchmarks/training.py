"""Measure what a training step costs, beside a plain torch.optim loop and pytorch_optimizer's SAM.

Methods take their steps in turn in one process on one thread, so that the machine's speed cancels: every figure is a
ratio of process times over a whole schedule, its median and range over runs. The floor is the number of passes.
pytorch_optimizer is measured where it is installed; it is no dependency.

    python benchmarks/training.py [--write FILE] [--runs N] [--quick]
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from record import hardware, write
from torch import Tensor
from torch.nn import functional

from landscape import models
from landscape.problem import Problem
from landscape.split import Split
from landscape.training.batches import Batches
from landscape.training.passes import Passes
from landscape.training.rates import learning_rate
from landscape.training.settings import Settings, resolve
from landscape.training.step import Stepper
from landscape.types import Setting
from landscape.vector import FlatModel

Step = Callable[[int], object]

METHODS: Mapping[str, dict[str, Setting]] = {
    "SGD": {"method": "sgd"},
    "SAM": {"method": "sam"},
    "SAM, p = 3": {"method": "sam", "norm": 3.0},
    "SAM, m = B/4": {"method": "sam", "m": -4},
    "PSAM, n = 20, E = 0.75 T": {"method": "psam"},
    "SGD→SAM": {"method": "sgd-sam"},
    "ESAM": {"method": "esam"},
    "PSAM×ESAM": {"method": "psam-esam"},
    "ASAM": {"method": "asam"},
    "GSAM": {"method": "gsam"},
    "LookSAM, n = 5": {"method": "looksam"},
    "SSAM-D": {"method": "ssam-d"},
    "SAM-ON": {"method": "sam-on"},
    "SWA": {"method": "swa"},
    "Gaussian SGD": {"method": "noisy-sgd"},
}
BARS = {"SAM": 2.05, "PSAM, n = 20, E = 0.75 T": 1.32, "SGD→SAM": 1.28, "plain torch.optim.SGD": 1 / 1.03}
"""Largest ratio that is meant to be; the plain loop is to take no less than 1/1.03 of our SGD step."""


@dataclass(frozen=True)
class Case:
    """A network and its batches.

    Attributes:
        name: Network, see `landscape.models`.
        shape: Shape of an example.
        batch: B.
        crop: Padding of random crops.
    """

    name: str
    shape: tuple[int, ...]
    batch: int
    crop: int = 0

    def __str__(self) -> str:
        return f"{self.name}, {'×'.join(map(str, self.shape))}, batch {self.batch}"

    def problem(self, batches: int) -> Problem:
        """Random images: what is computed does not depend on what they show."""
        source = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (batches * self.batch, *self.shape), dtype=torch.uint8, generator=source)
        data = Split(images, torch.randint(0, 10, (len(images),), generator=source), (0.5,), (0.25,))
        return Problem(lambda seed: models.build(self.name, self.shape, 10, seed), data, data.head(1), crop=self.crop)

    def settings(self, values: Mapping[str, Setting], steps: int, batches: int) -> Settings:
        """Settings of a run of some steps."""
        about = dict(values)
        if about.get("m") == -4:
            about["m"] = self.batch // 4
        return resolve({"rho": 0.05, "lr": 0.01}, {"batch_size": self.batch, "epochs": steps // batches, **about})


def our_step(case: Case, values: Mapping[str, Setting], steps: int, batches: int = 4) -> tuple[Step, Passes]:
    """A step of ours, batch and history included, and the count of its passes."""
    problem, settings = case.problem(batches), case.settings(values, steps, batches)
    flat = FlatModel(problem.build(0))
    made = Batches(problem, settings)
    passes = Passes(flat, problem.task, made.size)
    stepper = Stepper(settings, len(problem.train), passes, made)
    told: list[Mapping[str, Tensor]] = []

    def step(t: int) -> None:
        told.append(stepper.step(t, learning_rate(settings, len(problem.train), t)))

    step(0)  # the first call allocates
    passes.go_on_from(0, 0)
    return step, passes


def plain_step(case: Case, sam: bool, batches: int = 4) -> Step:
    """The loop a reader would write, with the same batches: torch.optim.SGD, or pytorch_optimizer's SAM over it."""
    problem = case.problem(batches)
    model, made = problem.build(0), Batches(problem, case.settings({}, batches, batches))
    about = {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
    told: list[Tensor] = []
    if sam:
        from pytorch_optimizer import SAM

        optimizer = SAM(model.parameters(), base_optimizer=torch.optim.SGD, rho=0.05, **about)
    else:
        optimizer = torch.optim.SGD(model.parameters(), **about)

    def backward(inputs: Tensor, targets: Tensor) -> Tensor:
        loss = functional.cross_entropy(model(inputs), targets)
        loss.backward()
        return loss.detach()

    def step(t: int) -> None:
        inputs, targets = made(t)
        optimizer.zero_grad()
        told.append(backward(inputs, targets))
        if sam:
            optimizer.first_step(zero_grad=True)
            backward(inputs, targets)
            optimizer.second_step()
        else:
            optimizer.step()

    step(0)
    return step


def interleaved(makers: Mapping[str, Callable[[], Step]], steps: int, runs: int) -> dict[str, np.ndarray]:
    """Process seconds of whole schedules, shape (runs,); each step is taken by all in turn, in changing order."""
    seconds = {name: np.zeros(runs) for name in makers}
    for run in range(runs):
        made = {name: maker() for name, maker in makers.items()}
        names = list(made)
        for t in range(steps):
            names = names[1:] + names[:1]
            for name in names:
                began = time.process_time()
                made[name](t)
                seconds[name][run] += time.process_time() - began
    return seconds


def words(ratios: np.ndarray) -> str:
    """Median and range of some ratios."""
    return f"{np.median(ratios):.3f} ({ratios.min():.3f}–{ratios.max():.3f})"


def peak(case: Case, values: Mapping[str, Setting]) -> float:
    """Peak memory in MiB of a fresh process that makes four steps."""
    step, _ = our_step(case, values, 4)
    for t in range(4):
        step(t)
    status = Path("/proc/self/status").read_text()  # getrusage would tell the parent's peak
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def costs(case: Case, names: list[str], steps: int, runs: int) -> list[str]:
    """One row for each method: passes, measured cost, bar, peak memory."""
    passes = {}
    makers: dict[str, Callable[[], Step]] = {}

    def maker(name: str) -> Callable[[], Step]:
        def make() -> Step:
            step, passes[name] = our_step(case, METHODS[name], steps)
            return step

        return make

    for name in names:
        makers[name] = maker(name)
    makers["plain torch.optim.SGD"] = lambda: plain_step(case, sam=False)
    if importlib.util.find_spec("pytorch_optimizer"):
        makers["pytorch_optimizer SAM"] = lambda: plain_step(case, sam=True)
    seconds = interleaved(makers, steps, runs)
    lines = [
        f"\n### {case}\n",
        "| step | passes (SGD = 1) | time (SGD = 1) | bar | peak memory (MiB) |",
        "|---|---|---|---|---|",
    ]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for name, values in seconds.items():
            ratios = values / seconds["SGD"]
            counted = passes.get(name)
            floor = (counted.forward + 2 * counted.backward) / (3 * steps) if counted else 1 + ("SAM" in name)
            bar = BARS.get(name)
            verdict = "" if bar is None else f"{'≥' if bar < 1 else '≤'} {bar:.3g}"
            memory = f"{pool.apply(peak, (case, METHODS[name])):.0f}" if name in METHODS else ""
            lines.append(f"| {name} | {floor:.3f} | {words(ratios)} | {verdict} | {memory} |")
    step = np.median(seconds["SGD"]) / steps
    lines.append(f"\nSGD step: {1000 * step:.3g} ms; {steps} steps a run, {runs} runs.")
    return lines


def overhead(case: Case, runs: int) -> list[str]:
    """What saving, perturbing and restoring take of a SAM step."""
    step, passes = our_step(case, METHODS["SAM"], 4)
    step(0)
    flat, share = passes.flat, []
    from landscape.training.perturbation import sam_perturbation

    saved = torch.empty_like(flat.theta)
    for t in range(runs):
        began = time.process_time()
        step(t)
        whole = time.process_time() - began
        began = time.process_time()
        for _ in range(10):
            saved.copy_(flat.theta)
            epsilon = sam_perturbation(flat.gradient, 0.05)
            flat.theta.add_(epsilon)
            with passes.elsewhere():
                pass
            flat.theta.copy_(saved)
            torch.linalg.vector_norm(epsilon)
        share.append((time.process_time() - began) / 10 / whole)
    text = "Perturb, restore, hold BatchNorm statistics and record ‖ε̂‖"
    return [f"\n### {case}\n", f"{text}: {100 * np.median(share):.2f} % of a SAM step (bar 1 %)."]


def report(runs: int, quick: bool) -> str:
    """All tables as markdown."""
    small, conv = Case("mlp-64-32", (1, 8, 8), 64), Case("resnet8", (1, 28, 28), 64)
    deep = Case("preactresnet-20" if quick else "preactresnet-164", (3, 32, 32), 32, crop=4)
    few = ["SGD", "SAM", "PSAM, n = 20, E = 0.75 T", "SGD→SAM"]
    lines = ["## Training steps\n", hardware("cpu"), "", (__doc__ or "").split("\n\n")[1].replace("\n", " ")]
    lines += costs(conv, few if quick else list(METHODS), 80, runs)
    normless = [name for name in METHODS if name != "SAM-ON"]  # the small network has no normalisation layer
    lines += costs(small, few if quick else normless, 80 if quick else 400, runs)
    return "\n".join(lines + overhead(deep, 2 if quick else 5))


HEAP = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "8589934592"}
"""glibc keeps what is freed. Otherwise large activations are handed back and faulted in again at every step, or not,
depending on what else lies on the heap: steps of the same arithmetic then differ by up to a tenth."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the tables between the markers in FILE")
    parser.add_argument("--runs", type=int, default=5, help="runs of each schedule")
    parser.add_argument("--quick", action="store_true", help="few methods, small networks: a check that it works")
    wanted = parser.parse_args()
    if os.environ.get("MALLOC_MMAP_THRESHOLD_") is None:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | HEAP)
    torch.set_num_threads(1)
    text = report(1 if wanted.quick else wanted.runs, wanted.quick)
    print(text)
    if wanted.write:
        write("training", text, wanted.write)


if __name__ == "__main__":
    main()
