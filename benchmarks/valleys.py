"""The thesis's claim with its control: SAM lies on the flat side of SGD's valley, another SGD does not.

For each seed one SGD run is trained, and runs that leave it at the switch: SAM in the same order of examples
(SGD→SAM), and SGD in five other orders (SGD′). Along the unit vectors SGD→SAM − SGD and SGD′ − SGD the log rise ratio
of the training loss is taken about the minimum on the line, by the same rule and to the same mean rise of 0.5 nats.
The claim is a log ratio of −1 or less along the first in every seed, the control one within ±0.5 along the second. A
single direction of the control scatters as random directions do; its mean over the orders tells whether it leans.

With --lines, loss and error on the lines SGD | SGD→SAM, SAM | SAM→SGD and SGD | SGD′ become three figures beside the
page: the thesis's Figures 5.1 and 5.2 in miniature with a curve for each seed, and the control.

What is in the directory already is not made again.

    python benchmarks/valleys.py [SPEC ...] --out DIR [--seeds N] [--set KEY=VALUE ...] [--write docs/valleys.md]

    SPEC, for instance 'fashion-mnist:DIR/resnet8-w4?train_size=2000'; by default three networks on the digits
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from record import hardware, pictures, write

from analyses import asymmetry, interpolate
from analyses.asymmetry import Asymmetry
from analyses.evidence import flat_side, held_out_falls, null_of
from analyses.pages import page, read
from analyses.run import ask
from landscape import report
from landscape.device import choose
from landscape.opening import open_checkpoints
from landscape.query import short
from landscape.training.files import Order, train_to_file
from landscape.types import Setting
from landscape.wording import number

CLAIM, CONTROL = -1.0, 0.5
DIGITS = ["digits/resnet8", "digits/mlp", "digits/mlp-256-256"]
PAIRS = {"sgd-sam": "SGD→SAM − SGD", "sgd-other": "SGD′ − SGD"}
LINES = {
    ("sgd", "sgd-sam"): "SGD | SGD→SAM, as in the thesis's Figure 5.1",
    ("sam", "sam-sgd"): "SAM | SAM→SGD, as in the thesis's Figure 5.2",
    ("sgd", "sgd-other"): "the control, SGD | SGD′",
}
_OTHER = 1000  # added to the seed of SGD′, once for each order
_FOUND = "Found: "
_HEAD = """\
# Asymmetric valleys

Written by `benchmarks/valleys.py`. A negative log rise ratio says that the loss rises less toward the other solution
than away from it; −1 is a factor of 2.7. Every ratio is taken about the minimum on the line, so that where SGD itself
sits does not count. "With weight decay" is the same for loss + ½λ‖w‖², the function that SGD descends, about its own
minimum; "test" is the test loss at the same three points as the training loss, and "falls ahead" where it does not
rise toward the other solution at all.
"""


def others(controls: int) -> list[str]:
    """Names of SGD′ in its orders."""
    return ["sgd-other", *(f"sgd-other-{i}" for i in range(2, controls + 1))]


def train(
    spec: str, place: Path, seed: int, values: dict[str, Setting], device: str, arguments: argparse.Namespace
) -> None:
    """SGD, and the runs that leave it at the switch; for the lines SAM and SAM→SGD too."""
    place.mkdir(parents=True, exist_ok=True)
    forks: dict[str, dict[str, Setting]] = {"sgd-sam": {"method": "sgd-sam", "seed": seed}}
    for i, name in enumerate(others(arguments.controls), start=1):
        forks[name] = {"method": "sgd", "seed": seed + i * _OTHER}
    fork(spec, place, "sgd", values | {"seed": seed}, forks, device)
    if arguments.lines:
        fork(spec, place, "sam", values | {"seed": seed}, {"sam-sgd": {"method": "sam-sgd", "seed": seed}}, device)


def fork(
    spec: str,
    place: Path,
    method: str,
    values: dict[str, Setting],
    forks: dict[str, dict[str, Setting]],
    device: str,
) -> None:
    """A run, and runs that leave it at the switch."""
    if not (place / f"{method}.pt").exists():
        order = Order(place / f"{method}.pt", save_at=("switch",), device=device, force=True)
        train_to_file(spec, values | {"method": method}, order, lambda text: None)
    stem = next(place.glob(f"{method}@*.pt"))
    for name, own in forks.items():
        if not (place / f"{name}.pt").exists():
            train_to_file(spec, own, Order(place / f"{name}.pt", fork=stem, device=device), lambda text: None)


def measure(place: Path, name: str, arguments: argparse.Namespace, device: str) -> Path:
    """The result of one pair, the null beside the claim."""
    out = place / f"{name}.asymmetry.h5"
    if not out.exists():
        paths = [place / "sgd.pt", place / f"{name}.pt"]
        problem, checkpoints = open_checkpoints(paths, None, lambda text: None)
        null = (arguments.gaussian, arguments.gaussian // 10) if name == "sgd-sam" else (0, 0)
        options = asymmetry.Options(
            eigenvectors=0, gaussian=null[0], sign_matched=null[1], batchnorm=arguments.batchnorm,
            points=arguments.points,
        )  # fmt: skip
        ask(asymmetry, problem, checkpoints, paths, options, out, device=device)  # type: ignore[arg-type]
    print(out, flush=True)
    return out


def line(place: Path, pair: tuple[str, str], device: str) -> Path:
    """The line through a pair."""
    out = place / f"{'--'.join(pair)}.interpolate.h5"
    if not out.exists():
        paths = [place / f"{name}.pt" for name in pair]
        problem, checkpoints = open_checkpoints(paths, None, lambda text: None)
        ask(interpolate, problem, checkpoints, paths, interpolate.Options(), out, device=device)  # type: ignore[arg-type]
    print(out, flush=True)
    return out


def figures(directory: Path, places: Sequence[Path], stem: Path, device: str) -> str:
    """A figure for each pair with the lines of all seeds, and what it shows in words."""
    made = []
    for i, (pair, what) in enumerate(LINES.items(), start=1):
        drawn = page([read(line(place, pair, device)) for place in places])
        report.write(drawn, directory / f"lines-{i}.html", force=True)
        (shown,) = pictures(directory / f"lines-{i}.html", directory / "line")
        place = stem.with_name(f"{stem.name}-{i}.png")
        place.write_bytes(shown.read_bytes())
        made.append(f"![Loss and error on the line: {what}]({place.name})")
        made.append(f"{what[0].upper()}{what[1:]}: {drawn.findings[0].answer}")
    return "\n\n".join(made)


def decimal(value: float) -> str:
    """Two decimals."""
    return f"{value:.2f}".replace("-", "−")


def spread(values: Sequence[float]) -> str:
    """Mean and range."""
    found = np.asarray(values, dtype=float)
    if np.isnan(found).any():
        gone = f"{np.isnan(found).sum()} of {len(found)} not measured"
        rest = found[~np.isnan(found)].tolist()
        return f"{spread(rest)}; {gone}" if rest else gone
    return f"{decimal(found.mean())} ({decimal(found.min())} to {decimal(found.max())})"


def row(name: str, results: Sequence[Sequence[Asymmetry]], line: int) -> str:
    """One pair under one BatchNorm rule: for each seed one result, or one for each order of the control."""
    ratios, decayed, test = (over(results, key, line) for key in ("log_ratio", "decayed_log_ratio", "held_out_ratio"))
    claim = name == "sgd-sam"
    met = [f"{int((v <= CLAIM).sum() if claim else (abs(v) <= CONTROL).sum())} of {v.size}" for v in (ratios, decayed)]
    each = [r for group in results for r in group]
    bar = f"≤ {CLAIM:g}" if claim else f"within ±{CONTROL:g}"
    cells = [
        PAIRS[name],
        each[0].rules[line],
        number(float(np.mean([r.distance for r in each]))),
        *(spread(v.ravel().tolist()) for v in (ratios, decayed)),
        on_test(each, line),
        f"{bar}: {met[0]}; with weight decay {met[1]}".replace("-", "−"),
        spread([float(np.nanmax([0.0, *flat_side(r, line)[0].ravel()])) for r in each]),
        f"{sum(bool((flat_side(r, line)[1] >= 1).any()) for r in each)} of {len(each)}",
    ]
    lines = [f"| {' | '.join(cells)} |"]
    if ratios.shape[1] > 1:
        means = [v.mean(axis=1) for v in (ratios, decayed, test)]
        met = [f"{int((abs(v) <= CONTROL).sum())} of {v.size}" for v in means[:2]]
        told = f"{bar}: {met[0]}; with weight decay {met[1]}".replace("-", "−")
        what = f"its mean over {ratios.shape[1]} orders"
        lines.append(
            f"| {what} | {each[0].rules[line]} | | {' | '.join(spread(v.tolist()) for v in means)} | {told} | | |"
        )
    return "\n".join(lines)


def on_test(results: Sequence[Asymmetry], line: int) -> str:
    """Ratios of the test loss where it rises on both sides, and where it falls instead."""
    falls = [held_out_falls(r, line) for r in results]
    ratios = [r.held_out_ratio[line] for r, where in zip(results, falls, strict=True) if not where]
    told = [spread(ratios)] if ratios else []
    told += [f"falls {where} in {falls.count(where)} of {len(falls)}" for where in dict.fromkeys(falls) if where]
    return "; ".join(told)


def over(results: Sequence[Sequence[Asymmetry]], key: str, line: int) -> np.ndarray:
    """A quantity of all results under one rule, shape (seeds, orders)."""
    return np.array([[getattr(r, key)[line] for r in group] for group in results], dtype=float)


def table(found: dict[str, list[list[Asymmetry]]]) -> str:
    """All pairs and rules, and the null."""
    lines = [
        "| direction | BatchNorm | mean length (θ) | log rise ratio | with weight decay | test | bar met | "
        "largest c\\* of the map | asymmetric by definition |",
        "|" + "---|" * 9,
    ]
    rules = found["sgd-sam"][0][0].rules
    lines += [row(name, results, line) for line in range(len(rules)) for name, results in found.items()]
    for line, rule in enumerate(rules):
        for family in ("Gaussian", "sign-matched"):
            values = np.concatenate([null_of(r, line, family) for (r,) in found["sgd-sam"]])
            if values.size:
                low, middle, high = (decimal(v) for v in np.quantile(values, [0.025, 0.5, 0.975]))
                what = f"{len(values)} {family} directions"
                lines.append(f"| {what} | {rule} | | {middle} (95 %: {low} to {high}) {'| ' * 6}")
    return "\n".join(lines)


def seeds_table(found: dict[str, list[list[Asymmetry]]]) -> str:
    """Log ratios of every seed, first rule; of several orders their mean and the single ones."""
    lines = ["| seed | " + " | ".join(f"{PAIRS[name]} | with weight decay" for name in found) + " |"]
    lines.append("|" + "---|" * (1 + 2 * len(found)))
    for seed in range(len(found["sgd-sam"])):
        cells = []
        for results in found.values():
            for key in ("log_ratio", "decayed_log_ratio"):
                values = over(results, key, 0)[seed]
                single = f" ({', '.join(map(decimal, values))})" if len(values) > 1 else ""
                cells.append(decimal(values.mean()) + single)
        lines.append(f"| {seed} | {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict(found: dict[str, list[list[Asymmetry]]]) -> str:
    """Claim against control, seed by seed, and the control against random directions."""
    claimed, control = (over(results, "log_ratio", 0) for results in found.values())
    apart = (claimed - control.mean(axis=1, keepdims=True)).ravel()
    null = np.abs(np.concatenate([null_of(r, 0) for (r,) in found["sgd-sam"]]))
    usual = float(np.quantile(null, 0.95))
    inside = [int((np.abs(values) <= usual).sum()) for values in (control, claimed)]
    return (
        f"SAM's ratio is below the control's of the same seed in {int((apart < 0).sum())} of {len(apart)} seeds, by "
        f"{spread((-apart).tolist())}. 95 % of the Gaussian directions are within ±{usual:.2f}: so are {inside[0]} of "
        f"{control.size} controls, and {inside[1]} of {claimed.size} ratios along SGD→SAM − SGD."
    )


def told(found: dict[str, list[list[Asymmetry]]]) -> str:
    """One sentence: claim and control, seed by seed, first rule."""
    claimed, decayed = (over(found["sgd-sam"], key, 0).ravel() for key in ("log_ratio", "decayed_log_ratio"))
    control = over(found["sgd-other"], "log_ratio", 0)  # (seeds, orders)
    n, means = len(claimed), control.mean(axis=1)
    strict = sum(bool((flat_side(r, 0)[1] >= 1).any()) for (r,) in found["sgd-sam"])
    return (
        f"the valley is flatter toward SGD→SAM in {(claimed < 0).sum()} of {n} seeds, by a factor of e or more in "
        f"{(claimed <= CLAIM).sum()} ({(decayed <= CLAIM).sum()} with weight decay), mean log ratio "
        f"{decimal(claimed.mean())}; the control is within ±{CONTROL:g} in {(abs(means) <= CONTROL).sum()} of {n} as a "
        f"mean over {control.shape[1]} orders, in {(abs(control) <= CONTROL).sum()} of {control.size} single ones; "
        f"asymmetric by definition 2.3.1 with c ≥ 1: {strict} of {n}"
    )


def summary(page: Path) -> str:
    """What was found on every problem of the page."""
    lines = page.read_text(encoding="utf-8").splitlines()
    problems = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    sentences = [line.removeprefix(_FOUND) for line in lines if line.startswith(_FOUND)]
    return "\n".join(f"- **{name}**: {text}" for name, text in zip(problems, sentences, strict=True))


def title(spec: str, settings: Sequence[str]) -> str:
    """A problem and the settings of its training that are not its own."""
    return ", ".join([short(spec), *settings])


def study(spec: str, arguments: argparse.Namespace, device: str) -> str:
    """Train and measure all seeds of one problem; the section of the page."""
    name = title(spec, arguments.settings)
    directory = arguments.out / re.sub(r"[^\w.]+", "-", name)
    values: dict[str, Setting] = dict(pair.partition("=")[::2] for pair in arguments.settings)
    names = {"sgd-sam": ["sgd-sam"], "sgd-other": others(arguments.controls)}
    files: dict[str, list[list[Path]]] = {name: [] for name in PAIRS}
    for seed in range(arguments.seeds):
        place = directory / f"seed{seed}"
        train(spec, place, seed, values, device, arguments)
        for pair, made in files.items():
            made.append([measure(place, each, arguments, device) for each in names[pair]])
    stored = {pair: [[read(path) for path in each] for each in made] for pair, made in files.items()}
    first = [group[0] for groups in stored.values() for group in groups]
    report.write(page(first), directory / "report.html", force=True)
    found: dict[str, list[list[Asymmetry]]] = {
        pair: [[s.result for s in group] for group in groups] for pair, groups in stored.items()
    }
    head = f"## {name}\n\n{arguments.seeds} seeds; {hardware(device)}."
    text = f"{head}\n\n{_FOUND}{told(found)}.\n\n{table(found)}\n\n{verdict(found)}\n\n{seeds_table(found)}"
    if not arguments.lines:
        return text
    stem = (arguments.write or directory / "valleys").with_suffix("")
    places = [directory / f"seed{seed}" for seed in range(arguments.seeds)]
    kind = name.partition("/")[0]
    return f"{text}\n\n{figures(directory, places, stem.with_name(f'{stem.name}-{kind}'), device)}"


def main() -> None:
    """Train, measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("specs", nargs="*", default=DIGITS, metavar="SPEC")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where checkpoints and results go")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--controls", type=int, default=5, help="orders of SGD′ for each seed")
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE",
        help="a setting of all trainings, where not the problem's own; repeatable",
    )  # fmt: skip
    parser.add_argument("--gaussian", type=int, default=100, help="Gaussian directions of the null for each seed")
    parser.add_argument("--points", type=int, default=12, help="points on each side of a line")
    parser.add_argument("--batchnorm", default="both", choices=("recalibrate", "keep", "both"))
    parser.add_argument("--lines", action="store_true", help="also the lines through the pairs, as figures")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables between their markers in FILE")
    arguments = parser.parse_args()
    device = str(choose(arguments.device))
    for spec in arguments.specs:
        text = study(spec, arguments, device)
        print(text, flush=True)
        if arguments.write:
            if not arguments.write.exists():
                arguments.write.write_text(f"{_HEAD}\n{(__doc__ or '').split(chr(10) * 2)[1]}\n", encoding="utf-8")
                write("valleys found", "", arguments.write)
            write(f"{title(spec, arguments.settings)} valleys", text, arguments.write)
            write("valleys found", summary(arguments.write), arguments.write)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
