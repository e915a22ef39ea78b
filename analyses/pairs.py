"""What is said and drawn of distances between all pairs: words, lines, figure and table of `analyses.distance`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from landscape.result import Array
from landscape.training.methods import labels
from landscape.wording import number, percent, seeds, spread

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from analyses.distance import Distance
    from landscape.report import Table


def words(*results: Distance) -> tuple[str, str]:
    """Closest and farthest pair, and distances from the first checkpoint, over seeds.

    Args:
        *results: One result for each seed.

    Returns:
        The answer, and what it is in parts of the norm and in decisions, with a warning where it means nothing.
    """
    names = labels(results[0].names, results[0].methods)
    l2 = np.array([r.l2 for r in results])  # (S, M, M)
    pairs = _pairs(results[0])
    pairs.sort(key=lambda pair: float(l2[:, pair[0], pair[1]].mean()))
    told = [f"{names[i]} and {names[j]} {spread(l2[:, i, j])}" for i, j in (pairs[0], pairs[-1])]
    answer = f"{told[0]} in L2" if len(pairs) == 1 else f"Closest {told[0]}, farthest {told[1]} in L2"
    others = range(1, len(names))
    relative = [f"{names[j]} {_parts([float(r.relative[0, j]) for r in results])}" for j in others]
    disagree = [f"{names[j]} {percent([r.disagreement[0, j, 1] for r in results])}" for j in others]
    detail = f"From {names[0]}, as part of its norm{seeds(len(results))}: {', '.join(relative)}"
    if _classifies(results[0]):
        detail += f". Test examples decided otherwise: {', '.join(disagree)}"
    return answer, detail + _warning(results, names)


def _parts(values: Sequence[float]) -> str:
    """Parts of one as percents, and where a percentage is no help as multiples."""
    return f"{spread(values)} times" if max(values) > 10 else percent(values)


def _pairs(result: Distance) -> list[tuple[int, int]]:
    return list(combinations(range(len(result.names)), 2))


def strangers(result: Distance) -> list[tuple[int, int]]:
    """Pairs that share no known stem, none that the user named either, and were not aligned."""
    return [p for p in _pairs(result) if np.isnan(result.stem[p]) and not result.aligned[p] and not _by_name(result, p)]


def _by_name(result: Distance, pair: tuple[int, int]) -> bool:
    """Whether the angle is seen from a stem that the user named and nothing speaks against."""
    return bool(result.named) and not np.isnan(result.travel[pair])


def _warning(results: Sequence[Distance], names: Sequence[str]) -> str:
    found = sorted({pair for r in results for pair in strangers(r)})
    if not found:
        return ""
    pairs = [f"{names[i]} and {names[j]}" for i, j in found]
    more = f" (and {len(pairs) - 1} more)" if len(pairs) > 1 else ""
    return (
        f". {pairs[0]}{more} share no known stem: distance, angle and barrier between them mostly measure how units "
        "are numbered; compare after landscape align"
    )


def _classifies(r: Distance) -> bool:
    """Whether losses are in nats and errors something else: where decisions were compared."""
    return not np.isnan(r.disagreement).all()


LISTED = 20
NAMED = 32
"""Pairs and parameter tensors that are called by their names at most; more would not fit."""


def listing(result: Distance) -> list[str]:
    """What is known of each pair, one line each for the first of them."""
    names = labels(result.names, result.methods)
    lines = [f"{names[i]} | {names[j]}: {', '.join(_told(result, i, j))}" for i, j in _pairs(result)[:LISTED]]
    left = len(_pairs(result)) - LISTED
    return lines + ([f"{left} more pairs are in the file"] if left > 0 else [])


def _told(r: Distance, i: int, j: int) -> list[str]:
    found = [*_stem(r, i, j), f"filter-normalised {number(float(r.filtered[i, j]))}"]
    if not np.isnan(r.variation[i, j]).all():
        found.append(f"total variation {number(float(r.variation[i, j, 1]))} in test")
    cka = float(r.cka[i, j])
    found.append("no features for CKA" if np.isnan(cka) else f"CKA {number(cka)}")
    if r.points:
        unit = " nats" if _classifies(r) else ""
        found.append(f"barrier {number(float(r.barrier_loss[i, j, 0]))}{unit} in training")
    return found


def _stem(r: Distance, i: int, j: int) -> list[str]:
    """Where two runs part, and the angle seen from there; or why none is told."""
    step, travel = float(r.stem[i, j]), float(r.travel[i, j])
    parted = "no known stem" if np.isnan(step) else f"stem at step {step:.0f}"
    told = [f"seen from {r.named}, the stem given" if _by_name(r, (i, j)) and np.isnan(step) else parted]
    told = ["numbered alike"] if r.aligned[i, j] else told
    if r.l2[i, j] == 0:
        return [*told, "equal weights"]
    if not np.isnan(travel):
        return [*told, f"cosine from the stem {number(travel)}"]
    if r.named:
        return [*told, f"no cosine: one did not pass {r.named}, or has not moved from it"]
    if step in (r.stem[i, i], r.stem[j, j]):
        return [*told, "no cosine: one is the stem itself"]
    return told if np.isnan(step) else [*told, "the stem's weights are not at hand (--stem)"]


CAPTION = (
    "Above: one measure for all pairs, mean over seeds; the menu chooses which. Relative and filter-normalised "
    "distances are in lengths of the row's network; a filter is what makes one output, a tensor of one axis counts as "
    "one. Below: how far each parameter tensor moved from the first checkpoint, relative to its own norm there. "
    "Distances of weights compare networks that share a stem or were aligned; across independent runs they mostly "
    "measure how units are numbered."
)


def figure(*results: Distance) -> Figure:
    """The matrix of a measure that a menu chooses, and relative distance from the first checkpoint per tensor."""
    from plotly.subplots import make_subplots

    from landscape.style import decades, layout, plain

    first = results[0]
    names = [plain(name) for name in labels(first.names, first.methods)]
    drawn = make_subplots(rows=2, cols=1, row_heights=[0.45, 0.55], vertical_spacing=0.14)
    shown = _measures(results)
    drawn.add_heatmap(
        x=names, y=names, z=shown[0][1], showscale=False, colorscale="Viridis", row=1, col=1,
        texttemplate="%{z:.3~g}" if len(names) <= LISTED else None,
        hovertemplate="%{y} to %{x}: %{z:.4~g}<extra></extra>",
    )  # fmt: skip
    _draw_layers(drawn, results, names)
    layout(drawn, ("", "parameter tensor, input to output"), ("", "relative L2"), log=("y2",), height=680)
    if len(first.layers) <= NAMED:
        ticks = {"tickvals": list(range(len(first.layers))), "ticktext": [plain(_short(name)) for name in first.layers]}
        drawn.update_xaxes(**ticks, tickangle=-60, tickfont={"size": 10}, row=2, col=1)
    drawn.update_yaxes(autorange="reversed", row=1, col=1)
    if decades(drawn, "y2") < 2:
        drawn.update_yaxes(dtick="D2", row=2, col=1)  # 1, 2, 5 and no crowd
    buttons = [{"label": title, "method": "restyle", "args": [{"z": [_plain(values)]}, [0]]} for title, values in shown]
    menu = {"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.01, "yanchor": "bottom", "pad": {"b": 4}}
    drawn.update_layout(updatemenus=[menu], margin={"t": 84})
    return drawn


def _short(name: str) -> str:
    """The last parts of a tensor's name, which tell more than the first."""
    left = name
    while len(left) > 15 and "." in left:
        left = left.partition(".")[2]
    return name if len(name) <= 16 else f"…{left[-15:]}"


def _plain(values: Array) -> list[list[float | None]]:
    """A matrix that JSON can hold."""
    return [[None if np.isnan(v) else float(v) for v in row] for row in values]


def _measures(results: Sequence[Distance]) -> list[tuple[str, Array]]:
    """Title and mean over runs of each measure that has been computed, shape (M, M)."""
    told = _classifies(results[0])
    unit = " (nats)" if told else ""
    rows: list[tuple[str, list[Array]]] = [
        ("L2 distance", [r.l2 for r in results]),
        ("relative L2", [r.relative for r in results]),
        ("filter-normalised distance", [r.filtered for r in results]),
        ("cosine at the origin", [r.cosine for r in results]),
        ("cosine from the stem", [r.travel for r in results]),
        ("test disagreement", [r.disagreement[..., 1] for r in results]),
        ("test total variation", [r.variation[..., 1] for r in results]),
        ("test CKA of features", [r.cka for r in results]),
        (f"train barrier{unit}", [r.barrier_loss[..., 0] for r in results]),
        (f"test barrier{unit}", [r.barrier_loss[..., 1] for r in results]),
    ]
    if told:
        rows += [
            ("train barrier of the error", [r.barrier_error[..., 0] for r in results]),
            ("test barrier of the error", [r.barrier_error[..., 1] for r in results]),
        ]
    means = [(title, np.mean(values, axis=0)) for title, values in rows]
    return [(title, mean) for title, mean in means if not np.isnan(mean).all()]


def _draw_layers(drawn: Figure, results: Sequence[Distance], names: Sequence[str]) -> None:
    from landscape.style import mark, plain

    first = results[0]
    for j in range(1, len(names)):
        style = mark(first.methods[j] if len(set(first.methods)) == len(names) else j)
        moved = np.mean([r.layer_relative[0, j] for r in results], axis=0)
        drawn.add_scatter(
            x=np.arange(len(moved)), y=moved, mode="lines+markers", name=f"{names[0]} to {names[j]}", row=2, col=1,
            line=style.line(1.5), marker=style.marker(6), text=[plain(layer) for layer in first.layers],
            hovertemplate="%{text}: %{y:.3g}<extra>%{fullData.name}</extra>",
        )  # fmt: skip


def table(*results: Distance) -> Table:
    """One row for each pair and run."""
    from landscape.report import Table

    unit = " (nats)" if _classifies(results[0]) else ""
    columns = (
        "run", "checkpoint", "other", "L2", "relative L2", "filter-normalised", "cosine", "stem (step)",
        "cosine from stem", "train disagreement", "test disagreement", "train variation", "test variation", "CKA",
        f"train barrier{unit}", f"test barrier{unit}", "train barrier (error)", "test barrier (error)",
    )  # fmt: skip
    rows = [
        (run, r.names[i], r.names[j], *(float(v[i, j]) for v in (r.l2, r.relative, r.filtered, r.cosine)),
         None if np.isnan(r.stem[i, j]) else int(r.stem[i, j]), float(r.travel[i, j]),
         *(float(v) for field in (r.disagreement, r.variation) for v in field[i, j]), float(r.cka[i, j]),
         *(float(v) for field in (r.barrier_loss, r.barrier_error) for v in field[i, j]))
        for run, r in enumerate(results, 1)
        for i, j in _pairs(r)
    ]  # fmt: skip
    return Table("Pairs", columns, tuple(rows))
