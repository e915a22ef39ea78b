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
    relative = [f"{names[j]} {percent([r.relative[0, j] for r in results])}" for j in others]
    disagree = [f"{names[j]} {percent([r.disagreement[0, j, 1] for r in results])}" for j in others]
    detail = f"From {names[0]}, as part of its norm{seeds(len(results))}: {', '.join(relative)}"
    if not np.isnan(results[0].disagreement).all():
        detail += f". Test examples decided otherwise: {', '.join(disagree)}"
    return answer, detail + _warning(results, names)


def _pairs(result: Distance) -> list[tuple[int, int]]:
    return list(combinations(range(len(result.names)), 2))


def strangers(result: Distance) -> list[tuple[int, int]]:
    """Pairs that share no known stem and were not aligned either."""
    return [pair for pair in _pairs(result) if np.isnan(result.stem[pair]) and not result.aligned[pair]]


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


LISTED = 20


def listing(result: Distance) -> list[str]:
    """What is known of each pair, one line each for the first of them."""
    names = labels(result.names, result.methods)
    lines = [f"{names[i]} | {names[j]}: {', '.join(_told(result, i, j))}" for i, j in _pairs(result)[:LISTED]]
    left = len(_pairs(result)) - LISTED
    return lines + ([f"{left} more pairs are in the file"] if left > 0 else [])


def _told(r: Distance, i: int, j: int) -> list[str]:
    step = "no known stem" if np.isnan(r.stem[i, j]) else f"stem at step {r.stem[i, j]:.0f}"
    found = ["numbered alike" if r.aligned[i, j] else step, f"filter-normalised {number(float(r.filtered[i, j]))}"]
    if not np.isnan(r.travel[i, j]):
        found.append(f"cosine from the stem {number(float(r.travel[i, j]))}")
    elif not np.isnan(r.stem[i, j]):
        found.append("the stem's weights are not at hand (--stem)")
    if not np.isnan(r.variation[i, j]).all():
        found.append(f"total variation {number(float(r.variation[i, j, 1]))} in test")
    cka = float(r.cka[i, j])
    found.append("no features for CKA" if np.isnan(cka) else f"CKA {number(cka)}")
    if r.points:
        unit = "" if np.isnan(r.disagreement).all() else " nats"
        found.append(f"barrier {number(float(r.barrier_loss[i, j, 0]))}{unit} in training")
    return found


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
    drawn.update_yaxes(autorange="reversed", row=1, col=1)
    if decades(drawn, "y2") < 2:
        drawn.update_yaxes(dtick="D2", row=2, col=1)  # 1, 2, 5 and no crowd
    buttons = [{"label": title, "method": "restyle", "args": [{"z": [_plain(values)]}, [0]]} for title, values in shown]
    menu = {"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.01, "yanchor": "bottom", "pad": {"b": 4}}
    drawn.update_layout(updatemenus=[menu], margin={"t": 84})
    return drawn


def _plain(values: Array) -> list[list[float | None]]:
    """A matrix that JSON can hold."""
    return [[None if np.isnan(v) else float(v) for v in row] for row in values]


def _measures(results: Sequence[Distance]) -> list[tuple[str, Array]]:
    """Title and mean over runs of each measure that has been computed, shape (M, M)."""
    rows: list[tuple[str, list[Array]]] = [
        ("L2 distance", [r.l2 for r in results]),
        ("relative L2", [r.relative for r in results]),
        ("filter-normalised distance", [r.filtered for r in results]),
        ("cosine at the origin", [r.cosine for r in results]),
        ("cosine from the stem", [r.travel for r in results]),
        ("test disagreement", [r.disagreement[..., 1] for r in results]),
        ("test total variation", [r.variation[..., 1] for r in results]),
        ("test CKA of features", [r.cka for r in results]),
        ("train barrier (nats)", [r.barrier_loss[..., 0] for r in results]),
        ("test barrier (nats)", [r.barrier_loss[..., 1] for r in results]),
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

    columns = (
        "run", "checkpoint", "other", "L2", "relative L2", "filter-normalised", "cosine", "stem (step)",
        "cosine from stem", "train disagreement", "test disagreement", "train variation", "test variation", "CKA",
        "train barrier (nats)", "test barrier (nats)", "train barrier (error)", "test barrier (error)",
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
