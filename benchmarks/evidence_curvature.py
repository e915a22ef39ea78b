"""Train SGD, SAM, PSAM, SGD→SAM and SAM→SGD on published images, and measure how sharp each solution is.

Largest eigenvalues, trace and density of every solution and the sharpness on the lines SGD | SGD→SAM and
SAM | SAM→SGD go into result files and one report; the numbers, and pictures of the figures, go into the docs if asked.
What is in the directory already is not made again, and an interrupted search goes on.

    python benchmarks/evidence_curvature.py SPEC --out DIR [--epochs N] [--examples N] [--write docs/curvature.md]

    SPEC, for instance 'fashion-mnist:DIR/resnet18-w4?train_size=2000'
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from record import hardware, pictures, write

from analyses import hessian, named, spectrum
from analyses.pages import Stored, page, read
from analyses.run import ask, state_of
from landscape import report
from landscape.device import choose
from landscape.opening import open_checkpoints
from landscape.options import make
from landscape.training.files import Order, train_to_file
from landscape.training.methods import labels
from landscape.types import Setting
from landscape.wording import bounded, number

METHODS = ("sgd", "sgd-sam", "sam", "sam-sgd", "psam")
FORKS = {"sgd-sam": "sgd", "sam-sgd": "sam"}
"""Methods whose first steps are those of another: they go on from its checkpoint at the switch."""
FEW: dict[str, Setting] = {"sketch": 4, "samples": 6, "starts": 3, "steps": 16}
QUESTIONS: tuple[tuple[str, tuple[str, ...], dict[str, Setting]], ...] = (
    ("evaluate", METHODS, {}),
    ("hessian", METHODS, {"top": 3}),
    ("spectrum", METHODS, FEW),
    ("along", ("sgd", "sgd-sam"), {"points": 5, "top": 1}),
    ("along", ("sam", "sam-sgd"), {"points": 5, "top": 1}),
)


def train(spec: str, directory: Path, values: dict[str, Setting], device: str) -> None:
    """One checkpoint for each method, from the same initial weights in the same order of examples."""
    for method in sorted(METHODS, key=lambda method: method in FORKS):
        out = directory / f"{method}.pt"
        if not out.exists():
            stem = FORKS.get(method)
            fork = next(directory.glob(f"{stem}@*.pt")) if stem else None
            order = Order(out, fork, save_at=() if stem else ("switch",), device=device)
            train_to_file(spec, values | {"method": method}, order, lambda text: None)
        print(out, flush=True)


def measure(directory: Path, examples: int, device: str) -> list[Stored]:
    """Every question, as stored results; what was interrupted goes on."""
    found = []
    for name, methods, settings in QUESTIONS:
        analysis = named(name)
        assert analysis is not None
        options: object = make(analysis.Options, settings | ({"examples": examples} if name != "evaluate" else {}))
        out = directory / f"{'--'.join(methods) if len(methods) == 2 else 'all'}.{name}.h5"
        if not out.exists():
            paths = [directory / f"{method}.pt" for method in methods]
            problem, checkpoints = open_checkpoints(paths, None, lambda text: None)
            resume = state_of(out).exists()
            ask(analysis, problem, checkpoints, paths, options, out, device=device, resume=resume)
        found.append(read(out))
        print(out, flush=True)
    return found


def table(stored: list[Stored]) -> str:
    """One row for each solution."""
    results = {s.analysis.NAME: s.result for s in stored if len(s.result.names) == len(METHODS)}
    sharp: hessian.Sharpness = results["hessian"]
    whole: spectrum.Spectrum = results["spectrum"]
    rows = ["| solution | test error | λ₁ (nats/θ²) | its sampling error | λ₂, λ₃ | smallest | trace | within σ of 0 |"]
    rows.append("|" + "---|" * 8)
    for i, name in enumerate(labels(sharp.names, sharp.methods)):
        top = bounded(float(sharp.eigenvalue[i, 0]), float(sharp.interval_high[i, 0] - sharp.eigenvalue[i, 0]))
        rest = ", ".join(number(float(value)) for value in sharp.eigenvalue[i, 1:])
        cells = [
            name,
            f"{results['evaluate'].test_error[i, -1]:.2%}",
            top + ("" if sharp.converged[i] else " (not converged)"),
            number(float(sharp.sampling_error[i, 0])),
            rest,
            number(float(sharp.smallest[i])),
            f"{number(float(whole.trace[i]))} ± {number(float(whole.trace_error[i]))}",
            f"{spectrum.parts(whole)[i, 1]:.1%}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    note = (
        f"One seed; the mean loss of {sharp.examples} random training images. ± behind λ₁ is its interval as an "
        "eigenvalue of that loss, behind the trace the standard error; the sampling error is that of these images for "
        f"all. σ = {whole.sigma:.3g} nats/θ², D = {whole.size}; weight decay is not in the values."
    )
    return "\n".join([*rows, "", note])


def main() -> None:
    """Train, measure, report, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", metavar="SPEC", help="the problem")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where checkpoints and results go")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=50, help="examples in a training step")
    parser.add_argument("--examples", type=int, default=0, help="training examples to differentiate; 0 for all")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--train-only", action="store_true", help="measure at another time")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put table and figures between the markers in FILE")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    device = str(choose(arguments.device))
    values: dict[str, Setting] = {"epochs": arguments.epochs, "batch_size": arguments.batch_size, "evaluations": 1}
    train(arguments.spec, arguments.out, values, device)
    if arguments.train_only:
        return
    stored = measure(arguments.out, arguments.examples, device)
    report.write(page(stored, "How sharp are the solutions?"), arguments.out / "report.html", force=True)
    kind, _, place = arguments.spec.partition(":")
    what = f"{kind}/{place.rpartition('/')[2]}" if place else arguments.spec
    text = f"### Solutions of {what}, {arguments.epochs} epochs\n\n{hardware(device)}.\n\n{table(stored)}"
    print(text)
    if arguments.write:
        drawn = page([s for s in stored if s.analysis.NAME != "evaluate"])
        report.write(drawn, arguments.out / "figures.html", force=True)
        stem = arguments.write.with_name(f"{arguments.write.stem}-{kind.replace('/', '-')}")
        shown = pictures(arguments.out / "figures.html", stem)
        captions = [f"![{section.question}]" for section in drawn.sections for _ in section.panels]
        figures = [f"{caption}({path.name})" for caption, path in zip(captions, shown, strict=True)]
        write(f"evidence {kind}", f"{text}\n\n" + "\n\n".join(figures), arguments.write)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
