"""How far apart are the checkpoints, where do they differ, and do they decide alike?

L2 distances mean something for networks that share a stem; between independent runs they mostly measure how the
units happen to be numbered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from landscape.errors import UsageError
from landscape.options import option
from landscape.result import Array, quantity
from landscape.training.methods import labels
from landscape.types import Progress, Work, quiet
from landscape.wording import percent, seeds, spread

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
    from torch import Tensor

    from landscape.checkpoint import Checkpoint
    from landscape.problem import Problem
    from landscape.report import Table

NAME = "distance"
TITLE = "Distance"
QUESTION = "How far apart are they?"
TEXT = "L2, relative and per-layer distance, cosine and prediction disagreement"
EXAMPLE = "landscape distance sgd.pt sgd-sam.pt"
TAKES = (2, 100)


@dataclass(frozen=True)
class Options:
    """Options of the distances."""

    batch_size: int = option(500, "examples in a forward pass", low=2)


@dataclass(frozen=True)
class Distance:
    """Distances between all pairs of checkpoints; M checkpoints, L parameter tensors.

    Attributes:
        names: Labels of the checkpoints.
        methods: Their training methods.
        layers: Names of the parameter tensors.
        split: "train" and "test".
        l2: ‖θ_i − θ_j‖₂, shape (M, M).
        relative: ‖θ_i − θ_j‖₂ / ‖θ_i‖₂, shape (M, M): not symmetric.
        cosine: ⟨θ_i, θ_j⟩ / (‖θ_i‖₂ ‖θ_j‖₂), shape (M, M).
        layer_l2: L2 distance within each parameter tensor, shape (M, M, L); squares add up to those of `l2`.
        layer_relative: The same divided by the tensor's norm in i, shape (M, M, L); NaN where that is 0.
        disagreement: Part of the examples that i and j classify differently, shape (M, M, 2): train, test.
    """

    labelled: ClassVar[Mapping[str, str]] = {"checkpoint": "names", "other": "names", "layer": "layers"}

    names: tuple[str, ...]
    methods: tuple[str, ...]
    layers: tuple[str, ...]
    split: Array = quantity("1", "part of the data", "split")
    l2: Array = quantity("theta", "L2 distance", "checkpoint", "other")
    relative: Array = quantity("1", "L2 distance over the norm of the first", "checkpoint", "other")
    cosine: Array = quantity("1", "cosine of the angle at the origin", "checkpoint", "other")
    layer_l2: Array = quantity("theta", "L2 distance within a parameter tensor", "checkpoint", "other", "layer")
    layer_relative: Array = quantity("1", "the same over the tensor's norm", "checkpoint", "other", "layer")
    disagreement: Array = quantity("1", "examples classified differently", "checkpoint", "other", "split")


Result = Distance
SPLITS = ("train", "test")


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
        progress: Told (checkpoints done, checkpoints in all).
        device: Where predictions are computed.
        dtype: Floating point type of the predictions; distances are always float64.

    Returns:
        The distances.

    Raises:
        UsageError: If there are fewer than two checkpoints.
    """
    import torch

    from landscape.surface import Surface

    if len(checkpoints) < 2:
        raise UsageError(f"a distance is between 2 checkpoints or more, got {len(checkpoints)}", EXAMPLE)
    surface = Surface(problem, batch_size=options.batch_size, device=device, dtype=getattr(torch, dtype))
    decisions = []
    for i, checkpoint in enumerate(checkpoints):
        surface.at(checkpoint)
        decisions.append([surface.outputs(name) for name in SPLITS])
        progress(i + 1, len(checkpoints), checkpoint.name)
    points = [c.theta.double() for c in checkpoints]
    pairs = [[_between(x, y, checkpoints[0]) for y in points] for x in points]
    return Distance(
        names=tuple(c.name for c in checkpoints),
        methods=tuple(c.method for c in checkpoints),
        layers=checkpoints[0].layout.names,
        split=np.array(SPLITS),
        **{key: np.array([[pair[key] for pair in row] for row in pairs]) for key in pairs[0][0]},
        disagreement=np.array([
            [[_differ(x, y) for x, y in zip(p, q, strict=True)] for q in decisions] for p in decisions
        ]),
    )


def _between(x: Tensor, y: Tensor, like: Checkpoint) -> dict[str, Array]:
    """Distances between two flat vectors, float64."""
    import torch

    length = torch.linalg.vector_norm
    layers = [(length(x[place] - y[place]), length(x[place])) for _, _, place in like.layout.slices()]
    apart = torch.stack([a for a, _ in layers]).numpy()
    norms = torch.stack([n for _, n in layers]).numpy()
    return {
        "l2": length(x - y).numpy(),
        "relative": (length(x - y) / length(x)).numpy(),
        "cosine": (x @ y / (length(x) * length(y))).clamp(-1, 1).numpy(),
        "layer_l2": apart,
        "layer_relative": np.divide(apart, norms, out=np.full_like(apart, np.nan), where=norms > 0),
    }


def _differ(x: Tensor, y: Tensor) -> float:
    """Part of the examples whose largest output is another; NaN where outputs are no classes."""
    return float((x.argmax(1) != y.argmax(1)).double().mean()) if x.dim() == 2 and x.shape[1] > 1 else float("nan")


def work(options: Options, checkpoints: int) -> Work:
    """Passes over the data: recalibration and predictions for each checkpoint."""
    return Work(f"{checkpoints} checkpoints", train=2 * checkpoints, test=checkpoints)


def label(result: Distance) -> str:
    """What the set of checkpoints is called."""
    return " | ".join(labels(result.names, result.methods))


def words(*results: Distance) -> tuple[str, str]:
    """Closest and farthest pair, and distances from the first checkpoint, over seeds.

    Args:
        *results: One result for each seed.

    Returns:
        The answer, and what it is in parts of the norm and in decisions.
    """
    names = labels(results[0].names, results[0].methods)
    l2 = np.array([r.l2 for r in results])  # (S, M, M)
    pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    pairs.sort(key=lambda pair: float(l2[:, pair[0], pair[1]].mean()))
    told = [f"{names[i]} and {names[j]} {spread(l2[:, i, j])}" for i, j in (pairs[0], pairs[-1])]
    answer = f"{told[0]} in L2" if len(pairs) == 1 else f"Closest {told[0]}, farthest {told[1]} in L2"
    others = range(1, len(names))
    relative = [f"{names[j]} {percent([r.relative[0, j] for r in results])}" for j in others]
    disagree = [f"{names[j]} {percent([r.disagreement[0, j, 1] for r in results])}" for j in others]
    detail = f"From {names[0]}, as part of its norm{seeds(len(results))}: {', '.join(relative)}"
    if np.isnan(results[0].disagreement).all():
        return answer, detail
    return answer, f"{detail}. Test examples decided otherwise: {', '.join(disagree)}"


CAPTION = (
    "Above: L2 distance between checkpoints, mean over seeds. Below: how far each parameter tensor moved from the "
    "first checkpoint, relative to its own norm there. Distances compare networks that share a stem; across "
    "independent runs they mostly measure how units are numbered."
)


def figure(*results: Distance) -> Figure:
    """The matrix of distances, and relative distance from the first checkpoint per parameter tensor."""
    from plotly.subplots import make_subplots

    from landscape.style import layout, mark, plain

    first = results[0]
    names = [plain(name) for name in labels(first.names, first.methods)]
    drawn = make_subplots(rows=2, cols=1, row_heights=[0.45, 0.55], vertical_spacing=0.14)
    mean = np.mean([r.l2 for r in results], axis=0)
    drawn.add_heatmap(
        x=names, y=names, z=mean, texttemplate="%{z:.3g}", showscale=False, colorscale="Viridis", row=1, col=1,
        hovertemplate="%{y} to %{x}: %{z:.4g}<extra></extra>",
    )  # fmt: skip
    for j in range(1, len(names)):
        style = mark(first.methods[j] if len(set(first.methods)) == len(names) else j)
        moved = np.mean([r.layer_relative[0, j] for r in results], axis=0)
        drawn.add_scatter(
            x=np.arange(len(moved)), y=moved, mode="lines+markers", name=f"{names[0]} to {names[j]}", row=2, col=1,
            line=style.line(1.5), marker=style.marker(6), text=[plain(layer) for layer in first.layers],
            hovertemplate="%{text}: %{y:.3g}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    layout(drawn, ("", "parameter tensor, input to output"), ("", "relative L2"), log=("y2",), height=640)
    drawn.update_yaxes(autorange="reversed", row=1, col=1)
    return drawn


def table(*results: Distance) -> Table:
    """One row for each pair and run."""
    from landscape.report import Table

    columns = ("run", "checkpoint", "other", "L2", "relative L2", "cosine", "train disagreement", "test disagreement")
    rows = [
        (run, r.names[i], r.names[j], float(r.l2[i, j]), float(r.relative[i, j]), float(r.cosine[i, j]),
         float(r.disagreement[i, j, 0]), float(r.disagreement[i, j, 1]))
        for run, r in enumerate(results, 1)
        for i in range(len(r.names))
        for j in range(i + 1, len(r.names))
    ]  # fmt: skip
    return Table("Pairs", columns, tuple(rows))
