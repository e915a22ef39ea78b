"""How far apart are the checkpoints, where do they differ, do they decide alike, and what lies between them?

Distances of weights mean something for networks that share a stem; between independent runs they mostly measure how
the units happen to be numbered. Distances of functions (disagreement, total variation, CKA) mean something always.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from landscape.errors import UsageError
from landscape.options import option
from landscape.result import SPLITS, Array, quantity
from landscape.training.methods import labels
from landscape.types import Progress, Work, quiet
from landscape.wording import number, percent, seeds, spread

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from landscape.checkpoint import Checkpoint
    from landscape.problem import Problem
    from landscape.report import Table
    from landscape.surface import Surface

NAME = "distance"
TITLE = "Distance"
QUESTION = "How far apart are they?"
TEXT = "distances in weights, angle from the common stem, disagreement, CKA and barrier, of all pairs"
EXAMPLE = "landscape distance sgd.pt sgd-sam.pt"
TAKES = (2, 100)


@dataclass(frozen=True)
class Options:
    """Options of the distances."""

    stem: str | None = option(
        None, "checkpoint where the runs part, for the angle; else NAME@STEP.pt beside them is looked for", kind=str
    )
    barrier: int = option(5, "points between two checkpoints for the barrier; 0 for none", low=0)
    batch_size: int = option(500, "examples in a forward pass", low=2)


@dataclass(frozen=True)
class Distance:
    """Distances between all pairs of checkpoints; M checkpoints, L parameter tensors.

    Attributes:
        names: Labels of the checkpoints.
        methods: Their training methods.
        layers: Names of the parameter tensors.
        points: Points between two checkpoints on which barriers were measured.
        split: "train" and "test".
        l2: ‖θ_i − θ_j‖₂, shape (M, M).
        relative: ‖θ_i − θ_j‖₂ / ‖θ_i‖₂, shape (M, M): not symmetric.
        filtered: √ Σ ‖f_j − f_i‖² / ‖f_i‖² over filters, shape (M, M): not symmetric. A tensor of one axis (biases,
            scales and shifts) is one filter as a whole.
        skipped: Filters of i left out of it because they are 0, shape (M,).
        cosine: ⟨θ_i, θ_j⟩ / (‖θ_i‖₂ ‖θ_j‖₂), shape (M, M).
        stem: Step of the common stem, shape (M, M); NaN where none is known.
        travel: Cosine of the angle between θ_i and θ_j as seen from the stem, shape (M, M); NaN where the stem's
            weights are not at hand, or one has not moved from it.
        aligned: Whether the units of i and j were numbered alike by `landscape align`, shape (M, M).
        layer_l2: L2 distance within each parameter tensor, shape (M, M, L); squares add up to those of `l2`.
        layer_relative: The same divided by the tensor's norm in i, shape (M, M, L); NaN where that is 0.
        disagreement: Part of the examples that i and j classify differently, shape (M, M, 2): train, test.
        variation: Mean total variation of the class probabilities, shape (M, M, 2); NaN for regressions.
        cka: Linear CKA of the features that the last linear layer reads, test data, shape (M, M); NaN where the
            network has no such layer or its features do not vary.
        barrier_loss: Largest rise of the loss above the chord, shape (M, M, 2); NaN where it was not measured.
        barrier_error: Largest rise of the error likewise.
    """

    labelled: ClassVar[Mapping[str, str]] = {"checkpoint": "names", "other": "names", "layer": "layers"}

    names: tuple[str, ...]
    methods: tuple[str, ...]
    layers: tuple[str, ...]
    points: int
    split: Array = quantity("1", "part of the data", "split")
    l2: Array = quantity("theta", "L2 distance", "checkpoint", "other")
    relative: Array = quantity("1", "L2 distance over the norm of the first", "checkpoint", "other")
    filtered: Array = quantity("1", "distance with filters of length one", "checkpoint", "other")
    skipped: Array = quantity("1", "filters of norm 0, left out", "checkpoint")
    cosine: Array = quantity("1", "cosine of the angle at the origin", "checkpoint", "other")
    stem: Array = quantity("steps", "last step that both runs share", "checkpoint", "other")
    travel: Array = quantity("1", "cosine of the angle at the common stem", "checkpoint", "other")
    aligned: Array = quantity("1", "whether units were numbered alike", "checkpoint", "other")
    layer_l2: Array = quantity("theta", "L2 distance within a parameter tensor", "checkpoint", "other", "layer")
    layer_relative: Array = quantity("1", "the same over the tensor's norm", "checkpoint", "other", "layer")
    disagreement: Array = quantity("1", "examples classified differently", "checkpoint", "other", "split")
    variation: Array = quantity("1", "mean total variation of probabilities", "checkpoint", "other", "split")
    cka: Array = quantity("1", "linear CKA of penultimate features", "checkpoint", "other")
    barrier_loss: Array = quantity("nats", "barrier of the loss", "checkpoint", "other", "split")
    barrier_error: Array = quantity("1", "barrier of the error", "checkpoint", "other", "split")


Result = Distance


def compute(
    problem: Problem,
    *checkpoints: Checkpoint,
    options: Options = Options(),
    progress: Progress = quiet,
    device: str = "cpu",
    dtype: str = "float32",
) -> Distance:
    """Measure distances between all pairs.

    Args:
        problem: What the checkpoints were trained on.
        *checkpoints: Two or more.
        options: Options of the distances.
        progress: Told (checkpoints and pairs done, of each in all).
        device: Where predictions are computed.
        dtype: Floating point type of the predictions; distances are always float64.

    Returns:
        The distances.

    Raises:
        UsageError: If there are fewer than two checkpoints.
    """
    from landscape import similarity, stem
    from landscape.surface import Surface

    if len(checkpoints) < 2:
        raise UsageError(f"a distance is between 2 checkpoints or more, got {len(checkpoints)}", EXAMPLE)
    stems = stem.stems(problem, checkpoints, options.stem)  # a file that cannot be read is said before the work
    surface = Surface(problem, batch_size=options.batch_size, device=device, dtype=dtype)
    m = len(checkpoints)
    pairs = list(combinations(range(m), 2))
    seen, ends = [], []
    for i, checkpoint in enumerate(checkpoints):
        surface.at(checkpoint)
        seen.append(similarity.look(surface))
        ends.append(surface.scores())
        progress(i + 1, m + len(pairs), checkpoint.name)
    between: dict[str, Array] = {key: np.full((m, m, *shape), np.nan) for key, shape in _PAIRED.items()}
    for i in range(m):
        for key, value in similarity.alike(seen[i], seen[i]).items():
            between[key][i, i] = value
    for done, (i, j) in enumerate(pairs):
        a, b = checkpoints[i], checkpoints[j]
        found = similarity.alike(seen[i], seen[j])
        found |= _barriers(surface, a, b, (ends[i], ends[j]), options.barrier)
        for key, value in found.items():
            between[key][i, j] = between[key][j, i] = value
        progress(m + done + 1, m + len(pairs), f"{a.name} | {b.name}")
    return Distance(
        names=tuple(c.name for c in checkpoints),
        methods=tuple(c.method for c in checkpoints),
        layers=checkpoints[0].layout.names,
        points=options.barrier,
        split=np.array(SPLITS),
        **_weights(checkpoints),
        **stem.origins(checkpoints, stems),
        **between,
    )


_PAIRED = {"disagreement": (2,), "variation": (2,), "cka": (), "barrier_loss": (2,), "barrier_error": (2,)}


def _barriers(surface: Surface, a: Checkpoint, b: Checkpoint, ends: Sequence[Array], points: int) -> dict[str, Array]:
    """Barriers on the straight line, whose ends are known already."""
    from landscape import barrier

    if not points:
        return {}
    alpha = np.linspace(0, 1, points + 2)
    inside = barrier.line(surface, a, b, alpha[1:-1])
    loss, error = barrier.height(alpha, np.dstack([ends[0], inside, ends[1]]))
    return {"barrier_loss": loss, "barrier_error": error}


def _weights(checkpoints: Sequence[Checkpoint]) -> dict[str, Array]:
    """Distances of weights between all pairs."""
    from landscape.similarity import apart, filter_distance

    like = checkpoints[0].layout
    points = [c.theta.double() for c in checkpoints]
    pairs = [[apart(x, y, like) for y in points] for x in points]
    filters = np.array([[filter_distance(x, y, like) for y in points] for x in points])  # (M, M, 2)
    found = {key: np.array([[pair[key] for pair in row] for row in pairs]) for key in pairs[0][0]}
    return found | {"filtered": filters[..., 0], "skipped": filters[:, 0, 1].astype(np.int64)}


def work(options: Options, checkpoints: int) -> Work:
    """Passes over the data: recalibration, loss and predictions at each checkpoint, the first two at each point."""
    pairs = checkpoints * (checkpoints - 1) // 2
    points = pairs * options.barrier
    text = f"{checkpoints} checkpoints" + (f", {points} points between them" if points else "")
    return Work(text, train=3 * checkpoints + 2 * points, test=2 * checkpoints + points)


def label(result: Distance) -> str:
    """What the set of checkpoints is called."""
    return " | ".join(labels(result.names, result.methods))


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
    menu = {"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.01, "yanchor": "bottom", "pad": {"b": 4},
            "bgcolor": "#f4f6f8", "bordercolor": "#aeb4bd", "font": {"color": "#23272e"}}  # fmt: skip  # on both themes
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
