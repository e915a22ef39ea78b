"""Train one small network with every method over seeds and write what came of it.

Every run has the same epochs, batches and learning rate (Adam's apart), Entropy-SGD as many passes as SGD; ρ is one
for all methods but those with a scale of their own, and was not searched for per method. Test error with recomputed
BatchNorm statistics; λ₁ is the largest eigenvalue of the Hessian of the loss on 1000 training images. Runs that are
there already are not made again, unfinished ones go on, so the study can be stopped at any time.

    python benchmarks/methods.py DIR_OF_FASHION_MNIST --out RUNS [--write docs/methods.md] [--seeds N] [--epochs N]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from record import hardware, write
from scipy import stats

from analyses import evaluate, hessian
from landscape import problem as problems
from landscape.checkpoint import Checkpoint
from landscape.training.files import Order, train_to_file
from landscape.training.methods import LETTERS, METHODS
from landscape.types import Setting

INNER = 5
OWN: Mapping[str, dict[str, Setting]] = {"entropy-sgd": {"inner_steps": INNER}}
CURVED = 1000
"""Training images whose loss is differentiated twice."""


@dataclass(frozen=True)
class Outcome:
    """What one run came to.

    Attributes:
        error: Test error in [0, 1].
        loss: Training loss in nats.
        sharpness: λ₁.
        passes: Passes made, in units of those of SGD.
        rho: Radius used; NaN where nothing was perturbed by SAM.
    """

    error: float
    loss: float
    sharpness: float
    passes: float
    rho: float


def measure(made: Checkpoint, steps: int) -> Outcome:
    """Evaluate a finished run; `steps` are those of an SGD run."""
    problem = problems.load(made.problem)
    found = evaluate.compute(problem, made)
    few = replace(problem, train=problem.train.head(CURVED))
    curved = hessian.compute(few, made, options=hessian.Options(top=1, tol=1e-2, vectors="no"))
    perturbed = bool((~made.history["gap"].isnan()).any())
    return Outcome(
        error=float(found.error[0, 1]),
        loss=float(found.loss[0, 0]),
        sharpness=float(curved.eigenvalue[0, 0]),
        passes=(made.forward + 2 * made.backward) / (3 * steps),
        rho=float(str(made.settings["rho"])) if perturbed else float("nan"),
    )


def runs(
    spec: str, directory: Path, names: list[str], seeds: int, common: Mapping[str, Setting]
) -> dict[str, list[Outcome]]:
    """Train what is missing and measure all, seed by seed, so that a stopped study has whole seeds."""
    directory.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[Outcome]] = {name: [] for name in names}
    steps = 0
    for seed in range(seeds):
        for name in names:
            own = {**METHODS[name].defaults, **OWN.get(name, {})}
            length = max(1, int(str(common["epochs"])) // int(str(OWN.get(name, {}).get("inner_steps", 1))))
            wanted: dict[str, Setting] = {"evaluations": 1, **common, **own}
            wanted |= {"method": name, "seed": seed, "epochs": length}
            began = time.monotonic()
            out = directory / f"{name}-{seed}.pt"
            made = train_to_file(spec, wanted, Order(out, resume=out.exists()), lambda text: None)
            steps = made.steps if name == "sgd" else steps
            found[name].append(measure(made, steps))
            print(f"{out.name}: {found[name][-1]} in {time.monotonic() - began:.0f} s", flush=True)
    return found


def verdict(apart: np.ndarray) -> str:
    """Whether paired differences of error to SGD leave zero outside their two-sided 95 % t interval."""
    if len(apart) < 2 or not apart.any():
        return ""
    reach = stats.t.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / np.sqrt(len(apart))
    if abs(apart.mean()) <= reach:
        return "no difference shown"
    return "better" if apart.mean() < 0 else "worse"


def spread(values: np.ndarray, digits: int = 2) -> str:
    """Mean ± standard error."""
    if len(values) < 2:
        return f"{values.mean():.{digits}f}"
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1) / np.sqrt(len(values)):.{digits}f}"


def study(found: Mapping[str, list[Outcome]], about: str) -> str:
    """The table of outcomes, best error first."""
    errors = {name: 100 * np.array([o.error for o in outcomes]) for name, outcomes in found.items()}
    lines = [
        "## What they come to\n",
        f"{about}\n\n{(__doc__ or '').split(chr(10) * 2)[1]}\n",
        "| method | test error (%) | difference to SGD (points) | 95 % t interval | train loss (nats) | λ₁ | passes "
        "(SGD = 1) | ρ |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in sorted(found, key=lambda name: float(errors[name].mean())):
        apart = errors[name] - errors["sgd"]
        one = {key: np.array([getattr(o, key) for o in found[name]]) for key in ("loss", "sharpness", "passes", "rho")}
        rho = "" if np.isnan(one["rho"]).any() else f"{one['rho'][0]:g}"
        lines.append(
            f"| {METHODS[name].label} | {spread(errors[name])} | {'' if name == 'sgd' else spread(apart)} | "
            f"{verdict(apart)} | {spread(one['loss'], 3)} | {spread(one['sharpness'], 1)} | "
            f"{one['passes'].mean():.3f} | {rho} |"
        )
    return "\n".join([*lines, "", plainly(errors)])


def plainly(errors: Mapping[str, np.ndarray]) -> str:
    """Which methods beat SGD and which do not, in a sentence."""
    found: dict[str, list[str]] = {"better": [], "worse": [], "no difference shown": [], "": []}
    for name in sorted(errors, key=lambda name: float(errors[name].mean())):
        if name != "sgd":
            found[verdict(errors[name] - errors["sgd"])].append(METHODS[name].label)
    told = {key: ", ".join(names) or "none" for key, names in found.items()}
    return (
        f"At this scale **better than SGD: {told['better']}**; worse: {told['worse']}; not told apart by "
        f"{len(errors['sgd'])} seeds: {told['no difference shown']}. No correction for many methods was made."
    )


def catalogue() -> str:
    """The table of methods, as `landscape methods` lists them."""
    rows = [
        f"| `{m.name}` | {m.text} | {m.formula.replace('|', chr(92) + '|')} | {m.cost} | {m.source} |"
        for m in METHODS.values()
    ]
    head = ["| method | what | formula | cost (SGD = 1) | source |", "|---|---|---|---|---|"]
    return "\n".join(["## The methods\n", *head, *rows, "", LETTERS])


def main() -> None:
    """Train, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="directory of Fashion-MNIST")
    parser.add_argument("--out", type=Path, required=True, help="directory for the checkpoints")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the tables between the markers in FILE")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rho", type=float, default=0.05, help="of every method that has no ρ of its own")
    parser.add_argument("--images", type=int, default=10_000, help="training images")
    parser.add_argument("--network", default="resnet8")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    spec = f"fashion-mnist:{wanted.data}/{wanted.network}?train_size={wanted.images}"
    names = ["sgd", *(name for name in wanted.methods if name != "sgd")]
    common: dict[str, Setting] = {key: getattr(wanted, key) for key in ("epochs", "batch_size", "rho")}
    found = runs(spec, wanted.out, names, wanted.seeds, common)
    about = (
        f"{wanted.network} on {wanted.images} images of Fashion-MNIST, {wanted.epochs} epochs in batches of "
        f"{wanted.batch_size}, {wanted.seeds} seeds; {hardware('cpu')}."
    )
    text = study(found, about)
    print(text)
    if wanted.write:
        wanted.write.parent.mkdir(parents=True, exist_ok=True)
        if not wanted.write.exists():
            wanted.write.write_text("# Training methods\n", encoding="utf-8")
        write("catalogue", catalogue(), wanted.write)
        write("methods", text, wanted.write)


if __name__ == "__main__":
    main()
