"""Measure what numbering the units of one network like another's does to the barrier between them.

Where the package rebasin is installed, what its weight matching makes of the same pairs stands beside ours.

    python benchmarks/alignment.py [--write benchmarks/RESULTS.md] [--quick]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import io
import os
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from lines import small_test, trained
from record import hardware, write

from landscape import barrier, problem
from landscape.alignment import align
from landscape.checkpoint import Checkpoint
from landscape.problem import Problem
from landscape.surface import Surface


def aligned(pairs: dict[str, tuple[int, ...]]) -> list[str]:
    """Barriers between networks of different seeds, before and after their units are numbered alike."""
    version = importlib.metadata.version("rebasin") if importlib.util.find_spec("rebasin") else ""
    rows = [
        "| barrier in training (nats), L2 | before | aligned by weights | aligned by activations | "
        f"rebasin {version or '(not installed)'} |"
    ]
    rows.append("|---|---|---|---|---|")
    drops: dict[str, list[np.ndarray]] = {}
    for network, seeds in pairs.items():
        made = problem.load(f"digits/{network}")
        for seed in seeds:
            a, b = trained(made, seed), trained(made, seed + 1)
            ways = [b, *(align(made, a, b, by=by).checkpoint for by in ("weights", "activations"))]
            heights = np.array([apart(made, a, c) for c in ways])
            if version:  # it draws its order anew each time
                runs = [apart(made, a, rebasined(made, a, b)) for _ in range(5)]
                heights = np.vstack([heights, np.mean(runs, axis=0)])
            drops.setdefault(network, []).append(1 - heights[1:, 0] / heights[0, 0])
            cells = [f"{height:.3f}, {length:.1f}" for height, length in heights] + [""] * (not version)
            rows.append(f"| {network}, seeds {seed} and {seed + 1} | {' | '.join(cells)} |")
    for network, found in drops.items():
        cells = [f"{mean:.1%}" for mean in np.mean(found, axis=0)] + [""] * (not version)
        rows.append(f"| mean drop, {network} | | {' | '.join(cells)} |")
    return rows


def apart(made: Problem, a: Checkpoint, b: Checkpoint) -> tuple[float, float]:
    """Barrier of the training loss, BatchNorm statistics recomputed, and distance."""
    alpha = np.linspace(0, 1, 11)
    height = barrier.height(alpha, barrier.line(Surface(small_test(made)), a, b, alpha))
    return float(height[0, 0]), float(torch.dist(a.theta, b.theta))


def rebasined(made: Problem, a: Checkpoint, b: Checkpoint) -> Checkpoint:
    """What rebasin's weight matching makes of b, in its README's words; it leaves BatchNorm statistics behind."""
    from rebasin import PermutationCoordinateDescent  # type: ignore[import-not-found, unused-ignore]

    surfaces = [Surface(made), Surface(made)]
    for surface, checkpoint in zip(surfaces, (a, b), strict=True):
        surface.at(checkpoint, recalibrated=False)
    one, other = (surface.flat.model.eval() for surface in surfaces)
    inputs, _ = made.train.batch(0, 8, torch.float32)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        PermutationCoordinateDescent(one, other, inputs, device_a="cpu", device_b="cpu").rebasin()
    theta = torch.cat([p.detach().reshape(-1) for p in other.parameters()])
    return Checkpoint(theta, {k: v.clone() for k, v in other.named_buffers()}, b.layout)


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one pair: does it run at all")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between the markers in FILE")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    about = (
        f"{hardware('cpu')}. Two digits networks each, trained by SGD for 30 epochs from different seeds. Barriers are "
        "of 11 points with BatchNorm statistics recomputed at each; rebasin's numbers are means over five runs, as its "
        "order is random."
    )
    pairs: dict[str, tuple[int, ...]] = {"mlp": (0,)} if arguments.quick else {"mlp": (0, 2, 4, 6), "resnet8": (0, 2)}
    text = "\n\n".join(["## Alignment", about, "\n".join(aligned(pairs))])
    print(text)
    if arguments.write:
        write("alignment", text, arguments.write)


if __name__ == "__main__":
    main()
