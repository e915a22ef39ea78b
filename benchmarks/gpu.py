"""Measure on a GPU what the CPU benchmarks measure, each number beside its floor, and check it against the CPU.

Ratios are medians of interleaved rounds in one process, with the spread. On random images of CIFAR's shape:
training steps and images per second, products with the Hessian (plain, from CUDA graphs, in blocks), the search for
eigenvalues, evaluation along a line, peak memory, and how far float32 results on the device are from float64 ones on
the CPU.

    python benchmarks/gpu.py [--device cuda] [--quick] [--write benchmarks/RESULTS.md]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from record import hardware, write

from landscape import models
from landscape.checkpoint import Checkpoint
from landscape.curvature import HessianOperator, eigenpairs
from landscape.curvature.graphs import CudaRecorder
from landscape.evaluate import evaluate
from landscape.problem import Problem
from landscape.split import Split
from landscape.surface import Surface
from landscape.training.batches import Batches
from landscape.training.passes import Passes
from landscape.training.run import train
from landscape.training.settings import resolve
from landscape.training.step import Stepper
from landscape.vector import FlatModel


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        network: Name of the network.
        examples: Training images.
        batch: Images in a step and in a pass.
        rounds: Interleaved rounds.
    """

    network: str
    examples: int
    batch: int
    rounds: int


QUICK = Size("resnet8-w4", 64, 16, 3)
FULL = Size("resnet18", 4096, 256, 15)


def problem(size: Size) -> Problem:
    """Random images and labels of CIFAR's shape."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2 * size.examples, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (2 * size.examples,), generator=generator)
    n, scale = size.examples, ((0.5,), (0.25,))
    return Problem(
        model=lambda seed: models.build(size.network, (3, 32, 32), 10, seed),
        train=Split(images[:n], labels[:n], *scale),
        test=Split(images[n:], labels[n:], *scale),
    )


def seconds(call: Callable[[], object], device: str) -> float:
    """Wall time of one call, the device's queue drained before and after."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    began = time.perf_counter()
    call()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - began


def interleaved(calls: dict[str, Callable[[], object]], rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of each call in each round, one warm-up round left out."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            taken = seconds(call, device)
            if turn:
                times[name].append(taken)
    return times


def ratio(times: dict[str, list[float]], name: str, base: str) -> str:
    """Median and spread of the ratio of two calls, round by round."""
    found = sorted(a / b for a, b in zip(times[name], times[base], strict=True))
    return f"{statistics.median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})"


def training(made: Problem, size: Size, device: str) -> list[tuple[str, str, str]]:
    """SGD and SAM steps, batch and augmentation included, data on the device."""
    on, n = made.to(device), len(made.train)

    def step(kind: str, precision: str) -> Callable[[], object]:
        settings = resolve({
            "method": kind.lower(),
            "precision": precision,
            "batch_size": size.batch,
            "lr": 1e-3,
            "rho": 0.05,
        })
        batches = Batches(on, settings)
        passes = Passes(FlatModel(made.build(0, device)), made.task, batches.size, precision)
        stepper = Stepper(settings, n, passes, batches)
        return lambda: stepper.step(0, settings.lr)

    names = ("fp32", "bf16")
    calls = {f"{kind} {name}": step(kind, name) for name in names for kind in ("SGD", "SAM")}
    times = interleaved(calls, size.rounds, device)
    rows = [("SAM step / SGD step, fp32", ratio(times, "SAM fp32", "SGD fp32"), "2 passes / 1 pass = 2")]
    rows.append(("SAM step / SGD step, bf16", ratio(times, "SAM bf16", "SGD bf16"), "2"))
    for name in calls:
        speed = size.batch / statistics.median(times[name])
        rows.append((f"{name}: images/s", f"{speed:,.0f}", "unmeasured: needs the device's FLOP/s"))
    return rows


def curvature(made: Problem, size: Size, device: str) -> list[tuple[str, str, str]]:
    """A product with the Hessian in units of one forward and backward, and the search for five eigenvalues."""
    surface = Surface(made, batch_size=size.batch, device=device)
    point = surface.flat.theta.clone()
    surface.place(point, surface.flat.buffers(), recalibrated=True)
    operator = HessianOperator(surface.objective())
    v = torch.nn.functional.normalize(torch.randn_like(point), dim=0)
    product = lambda: operator.product(v)  # noqa: E731
    gradient = lambda: surface.loss_and_slopes(point, v[None], by_batch=False)  # noqa: E731
    times = interleaved({"product": product, "gradient": gradient}, size.rounds, device)
    search = seconds(lambda: eigenpairs(surface.objective(), 5), device)
    unit = statistics.median(times["gradient"])
    pairs = eigenpairs(surface.objective(), 5)
    return [
        ("product / (forward + backward)", ratio(times, "product", "gradient"), "2 kept graph, 3 recomputed"),
        ("5 eigenvalues, in forward + backward", f"{search / unit:.1f}", f"{pairs.products} products × 2"),
        ("5 eigenvalues, seconds", f"{search:.2f}", ""),
        *replays(surface, v, size, device),
        *blocks(surface, size, device),
    ]


def replays(surface: Surface, v: torch.Tensor, size: Size, device: str) -> list[tuple[str, str, str]]:
    """A product that is replayed from CUDA graphs, beside the plain one."""
    name = "product from CUDA graphs / product"
    if not device.startswith("cuda"):
        return [(name, "skipped", f"CUDA graphs need a CUDA device, this is {device}")]
    plain, replayed = (HessianOperator(surface.objective()) for _ in range(2))
    replayed.record(CudaRecorder(replayed.device))
    expected, found = plain.product(v), replayed.product(v)
    if not replayed.replays:
        return [(name, "skipped", "the capture failed or was wrong: see the warning")]
    calls = {"plain": lambda: plain.product(v), "replayed": lambda: replayed.product(v)}
    apart = float((found - expected).norm() / expected.norm())
    return [
        (name, ratio(interleaved(calls, size.rounds, device), "replayed", "plain"), "below 1 where launches are dear"),
        ("replayed product, off the plain one by", f"{apart:.1e}", "rounding of float32"),
    ]


def blocks(surface: Surface, size: Size, device: str) -> list[tuple[str, str, str]]:
    """Eight products in a block, multiplied together and one after the other, and what the operator would choose."""
    operators = {way: HessianOperator(surface.objective()) for way in ("chosen", "together", "singly")}
    vectors = torch.randn(8, operators["chosen"].size, device=device)
    operators["together"].choice.together, operators["singly"].choice.together = True, False
    for operator in operators.values():
        operator.block(vectors)  # the first is a trial, of all ways
    times = interleaved({w: lambda o=o: o.block(vectors) for w, o in operators.items()}, size.rounds, device)  # type: ignore[misc]
    faster = operators["chosen"].choice.together
    chosen = "not measured" if faster is None else "together" if faster else "one after the other"
    return [
        ("8 vectors together / one after the other", ratio(times, "together", "singly"), f"chosen: {chosen}"),
        ("8 vectors as chosen / one after the other", ratio(times, "chosen", "singly"), "at most 1"),
    ]


def lines(made: Problem, size: Size, device: str) -> list[tuple[str, str, str]]:
    """One point of a line, recalibration and training score, beside one plain pass over the training data."""
    surface = Surface(made, batch_size=size.batch, device=device)
    a, buffers = surface.flat.theta.clone(), {k: v.clone() for k, v in surface.flat.buffers().items()}
    b = a + 0.01 * torch.randn_like(a)

    def point() -> float:
        surface.place(0.5 * a + 0.5 * b, buffers, recalibrated=True)
        return float(surface.score("train").loss)

    def plain() -> float:
        return float(evaluate(surface.flat.model, surface.problem.train, made.task, size.batch).loss)

    times = interleaved({"point": point, "plain": plain}, size.rounds, device)
    return [("recalibrate + score / one plain pass", ratio(times, "point", "plain"), "2 as it is, 1 if fused")]


def agreement(made: Problem, size: Size, device: str) -> list[tuple[str, str, str]]:
    """Relative differences between float32 on the device and float64, or the same training, on the CPU."""
    values = {"batch_size": size.batch, "epochs": 1, "method": "sam", "lr": 0.01, "evaluations": 1}
    small = Problem(made.model, made.train.head(4 * size.batch), made.test.head(size.batch), made.task)
    there, here = (train(small, resolve(values), device=where).theta.double() for where in (device, "cpu"))
    rows = [("4 SAM steps, weights", f"{float((there - here).norm() / here.norm()):.1e}", "rounding of float32")]
    found = []
    for where, dtype in ((device, torch.float32), ("cpu", torch.float64)):
        surface = Surface(small, batch_size=size.batch, device=where, dtype=dtype)
        checkpoint = Checkpoint(here, {k: v.cpu() for k, v in surface.flat.buffers().items()}, surface.flat.layout)
        surface.at(checkpoint)
        found.append((float(surface.score("train").loss), float(eigenpairs(surface.objective(), 1).values[0])))
    (loss, top), (true_loss, true_top) = found
    rows.append(("training loss", f"{abs(loss / true_loss - 1):.1e}", "float64 on the CPU"))
    rows.append(("largest eigenvalue", f"{abs(top / true_top - 1):.1e}", "float64 on the CPU, tol 1e-3"))
    return rows


def table(title: str, rows: list[tuple[str, str, str]]) -> str:
    """A markdown table."""
    head = f"### {title}\n\n| what | measured | floor or judge |\n|---|---|---|\n"
    return head + "".join(f"| {what} | {value} | {floor} |\n" for what, value, floor in rows)


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="a small network, a few rounds: does it run at all")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables between the markers in FILE")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    made = problem(size)
    parts = [
        f"## On a GPU\n\n{hardware(arguments.device)}; {size.network}, {size.examples} images, batch {size.batch}.\n"
    ]
    for title, measure in (
        ("Training", training),
        ("Curvature", curvature),
        ("Lines", lines),
        ("Agreement", agreement),
    ):
        if arguments.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()
        rows = measure(made, size, arguments.device)
        if arguments.device.startswith("cuda"):
            rows.append(("peak memory, GB", f"{torch.cuda.max_memory_allocated() / 1e9:.2f}", ""))
        parts.append(table(title, rows))
        print(parts[-1], flush=True)
    if arguments.write:
        write("gpu", "\n".join(parts), arguments.write)


if __name__ == "__main__":
    main()
