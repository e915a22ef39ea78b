"""How good are the checkpoints, what did they cost, and how did training go?

Loss and error on training and test data with recalibrated BatchNorm statistics and with the stored ones, cost in
passes, and the curves recorded during training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from landscape.options import option
from landscape.result import SPLITS, Array, quantity
from landscape.training.methods import labels
from landscape.types import Progress, Work, quiet
from landscape.wording import nats, percent, points, seeds, spread

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
    from torch import Tensor

    from landscape.checkpoint import Checkpoint
    from landscape.problem import Problem
    from landscape.report import Table

NAME = "evaluate"
TITLE = "Errors and cost"
QUESTION = "What are the test errors, and what did they cost?"
TEXT = "loss and error of checkpoints, their cost in passes, and their training curves"
EXAMPLE = "landscape evaluate sgd.pt sgd-sam.pt"
TAKES = (1, 100)


@dataclass(frozen=True)
class Options:
    """Options of the evaluation."""

    batch_size: int = option(500, "examples in a forward pass", low=2)


@dataclass(frozen=True)
class Evaluation:
    """Checkpoints and how they came to be.

    Attributes:
        names: Labels of the checkpoints.
        methods: Their training methods.
        states: "complete", "unfinished", "diverged" or "weights" for each.
        classifies: Whether errors are parts of one; otherwise error and loss are one thing.
        split: "train" and "test".
        loss: Loss with recalibrated BatchNorm statistics, shape (checkpoints, 2).
        error: Error likewise.
        stored_loss: Loss with the statistics stored in the checkpoint, shape (checkpoints, 2).
        stored_error: Error likewise.
        only_wrong: Test examples that the first checkpoint gets wrong and the other right, shape (checkpoints,
            checkpoints): the counts of McNemar's test; NaN for regressions.
        apart_error: Standard error of the difference of two test errors, from the differences of the same examples,
            shape (checkpoints, checkpoints); NaN of a single example.
        norm: ‖θ‖₂, shape (checkpoints,).
        parameters: D, for each checkpoint.
        step: Steps made, shape (checkpoints,).
        cost: Cost relative to SGD over the same steps, shape (checkpoints,); NaN for weights from elsewhere.
        epoch_loss: Mean training loss in each epoch, as trained, shape (checkpoints, epochs), NaN where none.
        epoch_error: Mean training error likewise.
        epoch_gradient: Mean ‖g‖₂ of the batches in each epoch, at the weights before each step, likewise.
        epoch_perturbation: Mean ‖ε̂‖₂ of the steps of each epoch that perturbed the weights, NaN where none did.
        relative_radius: ρ/‖w‖₂ at the end of those epochs, NaN where no step perturbed.
        forward: Forward passes over a batch made by the end of each epoch.
        backward: Backward passes likewise.
        evaluated: Epochs after which the test data were evaluated, shape (checkpoints, evaluations), NaN where none.
        test_loss: Test loss there.
        test_error: Test error there.
    """

    labelled: ClassVar[Mapping[str, str]] = {"checkpoint": "names", "other": "names"}

    names: tuple[str, ...]
    methods: tuple[str, ...]
    states: tuple[str, ...]
    classifies: bool
    split: Array = quantity("1", "part of the data", "split")
    loss: Array = quantity("nats", "mean loss, recalibrated statistics", "checkpoint", "split")
    error: Array = quantity("1", "mean error, recalibrated statistics", "checkpoint", "split")
    stored_loss: Array = quantity("nats", "mean loss, stored statistics", "checkpoint", "split")
    stored_error: Array = quantity("1", "mean error, stored statistics", "checkpoint", "split")
    only_wrong: Array = quantity("examples", "test examples that the first alone gets wrong", "checkpoint", "other")
    apart_error: Array = quantity("1", "standard error of the difference of test errors", "checkpoint", "other")
    norm: Array = quantity("theta", "norm of theta", "checkpoint")
    parameters: Array = quantity("1", "number of parameters", "checkpoint")
    step: Array = quantity("1", "optimizer steps made", "checkpoint")
    cost: Array = quantity("1", "cost relative to SGD", "checkpoint")
    epoch_loss: Array = quantity("nats", "training loss during the epoch", "checkpoint", "epoch")
    epoch_error: Array = quantity("1", "training error during the epoch", "checkpoint", "epoch")
    epoch_gradient: Array = quantity("nats / theta", "norm of the batch's gradient", "checkpoint", "epoch")
    epoch_perturbation: Array = quantity("theta", "norm of the perturbation", "checkpoint", "epoch")
    relative_radius: Array = quantity("1", "radius over the norm of theta", "checkpoint", "epoch")
    forward: Array = quantity("1", "forward passes made", "checkpoint", "epoch")
    backward: Array = quantity("1", "backward passes made", "checkpoint", "epoch")
    evaluated: Array = quantity("epochs", "epochs made when test data were evaluated", "checkpoint", "evaluation")
    test_loss: Array = quantity("nats", "test loss on the way", "checkpoint", "evaluation")
    test_error: Array = quantity("1", "test error on the way", "checkpoint", "evaluation")


Result = Evaluation
STEPS = ("loss", "error", "gradient", "perturbation")  # recorded at each step
RARE = ("relative_radius", "forward", "backward", "evaluated", "test_loss", "test_error")  # at some


def compute(
    problem: Problem,
    *checkpoints: Checkpoint,
    options: Options = Options(),
    progress: Progress = quiet,
    device: str = "cpu",
    dtype: str = "float32",
) -> Evaluation:
    """Evaluate checkpoints.

    Args:
        problem: What they were trained on.
        *checkpoints: One or more.
        options: Options of the evaluation.
        progress: Told (checkpoints done, checkpoints in all).
        device: Where to compute.
        dtype: Floating point type of weights and computation.

    Returns:
        What they are worth.
    """
    import torch

    from landscape.surface import Surface

    surface = Surface(problem, batch_size=options.batch_size, device=device, dtype=dtype)
    values = np.empty((2, 2, len(checkpoints), 2))  # rule, loss and error, checkpoint, split
    wrong = []  # test examples, with recalibrated statistics
    for i, checkpoint in enumerate(checkpoints):
        for rule in (0, 1):
            surface.at(checkpoint, recalibrated=rule == 0)
            values[rule, :, i] = surface.scores()
            if rule == 0:
                wrong.append(problem.task.errors(surface.outputs("test"), surface.problem.test.targets).double())
        progress(i + 1, len(checkpoints), checkpoint.name)
    curves = [_curves(checkpoint, len(problem.train)) for checkpoint in checkpoints]
    padded = {key: _pad([c[key] for c in curves]) for key in curves[0]}
    return Evaluation(
        names=tuple(c.name for c in checkpoints),
        methods=tuple(c.method for c in checkpoints),
        states=tuple(c.state for c in checkpoints),
        classifies=surface.classifies,
        split=np.array(SPLITS),
        loss=values[0, 0],
        error=values[0, 1],
        stored_loss=values[1, 0],
        stored_error=values[1, 1],
        only_wrong=_only_wrong(torch.stack(wrong), surface.classifies),
        apart_error=_apart_error(torch.stack(wrong)),
        norm=np.array([float(torch.linalg.vector_norm(c.theta.double())) for c in checkpoints]),
        parameters=np.array([c.layout.size for c in checkpoints]),
        step=np.array([c.step for c in checkpoints]),
        cost=np.array([c.cost for c in checkpoints]),
        **padded,
    )


def _only_wrong(wrong: Tensor, classifies: bool) -> Array:
    """How many examples each gets wrong that another gets right, from errors of 0 or 1, shape (checkpoints, N)."""
    counts: Array = (wrong @ (1 - wrong).T).cpu().numpy()
    return counts if classifies else np.full_like(counts, np.nan)


def _apart_error(errors: Tensor) -> Array:
    """Standard errors of differences of means over the same examples, from errors of shape (checkpoints, N)."""
    n = errors.shape[1]
    if n < 2:
        return np.full((len(errors), len(errors)), np.nan)
    found: Array = np.stack([(errors - one).std(1).cpu().numpy() for one in errors]) / np.sqrt(n)
    return found


def _curves(checkpoint: Checkpoint, n: int) -> dict[str, Array]:
    """Means over epochs of what was recorded at each step, and what was recorded less often."""
    history = {key: value.numpy() for key, value in checkpoint.history.items()}
    epochs = int(checkpoint.settings.get("epochs") or 0)
    per_epoch = max(1, checkpoint.steps // epochs) if epochs else 1
    known = {key: history.get(key, np.empty(0)) for key in (*STEPS, *RARE)}
    means = {f"epoch_{key}": _present_mean(known[key].reshape(-1, per_epoch)) for key in STEPS}
    perturbed = np.isfinite(means["epoch_perturbation"])
    radius = np.resize(known["relative_radius"], len(perturbed)) if perturbed.size else np.empty(0)
    return {
        **means,
        **{key: known[key] for key in RARE if key not in {"evaluated", "relative_radius"}},
        "relative_radius": np.where(perturbed, radius, np.nan),
        "evaluated": known["evaluated"] / per_epoch,
    }


def _present_mean(rows: Array) -> Array:
    """Mean of each row over what is not NaN, NaN where all is."""
    there = np.isfinite(rows)
    total = np.where(there, rows, 0.0).astype(float).sum(1)
    mean: Array = np.divide(total, there.sum(1), out=np.full(len(rows), np.nan), where=there.any(1))
    return mean


def _pad(rows: list[Array]) -> Array:
    longest = max(len(row) for row in rows)
    return np.stack([np.pad(row.astype(float), (0, longest - len(row)), constant_values=np.nan) for row in rows])


def work(options: Options, checkpoints: int) -> Work:
    """Passes over the data: recalibration and two evaluations for each checkpoint."""
    return Work(f"{checkpoints} checkpoints × 2 BatchNorm rules", train=3 * checkpoints, test=3 * checkpoints)


def label(result: Evaluation) -> str:
    """What the set of checkpoints is called."""
    return " | ".join(labels(result.names, result.methods))


def words(*results: Evaluation) -> tuple[str, str]:
    """Test errors from best to worst, differences paired by seed, and costs.

    Args:
        *results: One result for each seed.

    Returns:
        The means, and what they span.
    """
    names = labels(results[0].names, results[0].methods)
    test = np.array([r.error[:, 1] for r in results])  # (S, M)
    order = np.argsort(test.mean(0), kind="stable")
    if not results[0].classifies:
        return f"Test loss {', '.join(f'{names[i]} {spread(test[:, i])}' for i in order)}{seeds(len(results))}", ""
    answer = ", ".join(f"{names[i]} {test[:, i].mean():.2%}".replace("%", " %") for i in order)
    detail = []
    if len(names) > 1:
        apart = [f"{names[i]} {points(test[:, i] - test[:, 0])}" for i in order if i != 0]
        detail.append(f"Difference to {names[0]} in points{seeds(len(results))}: {', '.join(apart)}")
    elif len(results) > 1:
        detail.append(f"{percent(test[:, 0])}{seeds(len(results))}")
    costs = np.array([r.cost for r in results]).mean(0)
    known = [f"{names[i]} {costs[i]:.4g}" for i in order if not np.isnan(costs[i])]
    if known:
        detail.append(f"Cost (SGD = 1): {', '.join(known)}")
    return f"Test error {answer}", ". ".join(detail)


CAPTION = (
    "Training curves: thin lines are runs of one seed, thick lines their mean. Training error is the mean over each "
    "epoch as trained, test error was evaluated with the running statistics of that moment; ‖g‖ is the mean norm of "
    "the batches' gradients, ρ / ‖θ‖ the radius of SAM's steps in parts of the norm of the weights."
)


def figure(*results: Evaluation) -> Figure:
    """Training loss, test error, gradient norm and relative radius against epochs."""
    from plotly.subplots import make_subplots

    from landscape.style import layout

    perturbed = any(np.isfinite(r.relative_radius).any() for r in results)
    rows = 4 if perturbed else 3
    drawn = make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.045)
    for i in range(len(results[0].names)):
        epochs = [np.arange(1, r.epoch_loss.shape[1] + 1) for r in results]
        for row, key in ((1, "epoch_loss"), (3, "epoch_gradient"), (4, "relative_radius")):
            curves = [getattr(r, key)[i] for r in results]
            if row <= rows and any(np.isfinite(curve).any() for curve in curves):
                _draw(drawn, row, i, results, list(zip(epochs, curves, strict=True)))
        _draw(drawn, 2, i, results, [(r.evaluated[i], r.test_error[i]) for r in results])
    known = results[0]
    error = "test error" if known.classifies else "test loss"
    titles = (f"training loss{nats(known, ' ({})')}", error, f"‖g‖{nats(known, ' ({}/θ)')}", "ρ / ‖θ‖")[:rows]
    layout(drawn, (*("",) * (rows - 1), "epochs"), titles, log=("y", "y3"), height=200 * rows + 60)
    drawn.update_yaxes(type="linear", rangemode="tozero", tickformat=".0%", row=2, col=1)
    drawn.update_traces(mode="lines+markers", marker={"size": 4}, selector={"yaxis": "y4"})  # SAM in some epochs alone
    return drawn


def _draw(drawn: Figure, row: int, i: int, results: tuple[Evaluation, ...], curves: list[tuple[Array, Array]]) -> None:
    from landscape.style import mark, plain

    name = labels(results[0].names, results[0].methods)[i]
    method = results[0].methods[i]
    style = mark(method if len(set(results[0].methods)) == len(results[0].methods) else i)
    about = {"name": plain(name), "legendgroup": name, "row": row, "col": 1, "mode": "lines"}
    if len(curves) > 1:
        for x, y in curves:
            drawn.add_scatter(x=x, y=y, line=style.line(1), opacity=0.35, showlegend=False, hoverinfo="skip", **about)
    if len({len(y) for _, y in curves}) == 1:
        mean = np.mean([y for _, y in curves], axis=0)
        drawn.add_scatter(x=curves[0][0], y=mean, line=style.line(2.5), showlegend=row == 1, **about)


def table(*results: Evaluation) -> Table:
    """One row for each checkpoint."""
    from landscape.report import Table

    unit = nats(results[0], " ({})")
    about = ("run", "checkpoint", "method", "state", f"train loss{unit}", f"test loss{unit}", "train error (%)")
    columns = (*about, "test error (%)", "stored statistics (%)", "‖θ‖", "steps", "cost (SGD = 1)")
    rows = [
        (run, r.names[i], r.methods[i], r.states[i], float(r.loss[i, 0]), float(r.loss[i, 1]),
         100 * float(r.error[i, 0]), 100 * float(r.error[i, 1]), 100 * float(r.stored_error[i, 1]),
         float(r.norm[i]), int(r.step[i]), float(r.cost[i]))
        for run, r in enumerate(results, 1)
        for i in range(len(r.names))
    ]  # fmt: skip
    note = "BatchNorm statistics recomputed on training data; 'stored statistics': test error with those of training."
    return Table("Checkpoints", columns, tuple(rows), note)


def overview(*results: Evaluation) -> Table:
    """One row for each checkpoint, means over runs; the runs themselves are in `table`."""
    from landscape.report import Table

    first = results[0]
    error = np.array([r.error for r in results])  # (S, M, 2)
    loss = np.array([r.loss for r in results])
    rows = [
        (name, len(results), float(loss[:, i, 0].mean()), float(loss[:, i, 1].mean()),
         100 * float(error[:, i, 0].mean()), percent(error[:, i, 1]), int(first.step[i]), float(first.cost[i]))
        for i, name in enumerate(labels(first.names, first.methods))
    ]  # fmt: skip
    unit = nats(first, " ({})")
    columns = ("checkpoint", "runs", f"train loss{unit}", f"test loss{unit}", "train error (%)", "test error (range)")
    note = f"Networks of {int(first.parameters[0]):,} parameters; BatchNorm statistics recomputed on training data."
    return Table("Checkpoints", (*columns, "steps", "cost (SGD = 1)"), tuple(rows), note)
