"""What is said of the loss on a plane: words, lines, figure and table of `analyses.plane`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from landscape.plane import Plane
from landscape.wording import nats, number, percent, seeds, spread

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from landscape.report import Table


def words(*results: Plane) -> tuple[str, str]:
    """Where on the plane training and test loss are lowest, over seeds.

    Args:
        *results: One plane for each seed.

    Returns:
        The answer, and the test loss, what lies off the plane, and what is missing.
    """
    told = [_lowest(results, s) for s in (0, 1)]
    answer = f"Training loss {told[0]}" if told[0] else f"Test loss {told[1]}" if told[1] else "No point has a value"
    details = [f"test loss {told[1]}"] if told[0] and told[1] else []
    first = results[0]
    if first.axes == "trajectory":
        share = percent([float(r.share.sum()) for r in results])
        details.append(f"the two components hold {share} of the variance of the trajectory")
    far = [i for i in range(len(first.names)) if max(float(r.off_plane[i]) for r in results) > _near(results)]
    if far:
        off = [f"{first.called[i]} {spread(float(r.off_plane[i]) for r in results)}" for i in far[:5]]
        details.append(f"off the plane by {', '.join(off)}{f' and {len(far) - 5} more' if len(far) > 5 else ''}")
    missing = sum(r.missing for r in results)
    if missing:
        details.append(f"{missing} of {sum(r.status.size for r in results)} points are missing")
    detail = "; ".join(details)
    return answer + seeds(len(results)), detail[:1].upper() + detail[1:]


def _near(results: Sequence[Plane]) -> float:
    """Distances from the plane below this are rounding."""
    return 1e-5 * max(float(np.abs(r.place).max(initial=1e-12)) for r in results)


def _lowest(results: Sequence[Plane], s: int) -> str:
    """The range of one loss, and how far its lowest point is from the nearest checkpoint."""
    if not all(np.isfinite(r.loss[s]).any() for r in results):
        return ""
    unit = nats(results[0], " {}")
    low, high = (spread(float(f(r.loss[s])) for r in results) for f in (np.nanmin, np.nanmax))
    told = f"on the grid from {low} to {high}{unit}"
    if not results[0].names:
        return told
    at = []
    for r in results:
        j, i = np.unravel_index(np.nanargmin(r.loss[s]), r.status.shape)
        at.append(np.hypot(*(r.place - [r.x[i], r.y[j]]).T))
    near = int(np.mean(at, axis=0).argmin())
    away = [0.0 if a[near] <= _near(results) else float(a[near]) for a in at]
    where = f"point {spread(away)} (θ) from" if any(away) else "point at"
    return f"{told}; its lowest {where} {results[0].called[near]}" + _lower_still(results, s, near, unit)


def _lower_still(results: Sequence[Plane], s: int, near: int, unit: str) -> str:
    """The checkpoint whose own loss is lower than that of each point of the grid, if there is one.

    Args:
        results: One plane for each seed.
        s: 0 for training, 1 for test data.
        near: The checkpoint that has been named already.
        unit: Unit of the loss.

    Returns:
        Words that end a sentence; "" if there is none.
    """
    own = np.array([r.own_loss[s] for r in results])  # (S, M)
    grid = np.array([[np.nanmin(r.loss[s])] for r in results])
    lower = (own < grid - 1e-5 * np.abs(grid)).all(0)  # by more than rounding
    if not lower.any():
        return ""
    best = int(np.where(lower, own.mean(0), np.inf).argmin())
    name = results[0].called[best]
    return f"; {f'{name} itself' if best == near else name} is lower still, {spread(own[:, best])}{unit}"


def listing(result: Plane) -> list[str]:
    """Where each checkpoint lies, with its own training loss, one line each."""
    told = []
    for i, name in enumerate(result.called):
        off = float(result.off_plane[i])
        where = f"{number(off)} off the plane" if off > _near([result]) else "on the plane"
        x, y = (number(float(v) if abs(v) > _near([result]) else 0.0) for v in result.place[i])
        told.append(f"{name} at ({x}, {y}), {where}, training loss {number(float(result.own_loss[0, i]))}")
    return told


CAPTION = (
    "Loss and error at θ(x, y) = origin + x·u + y·v, u and v orthonormal, x and y in units of θ (of an imported "
    "surface: in units of its own directions). Contours are straight between neighbours of the grid; the heat map "
    "shows the points as they are. A loss that spans more than a power of ten is coloured by its logarithm. "
    "Checkpoints off the plane are projected onto it: the pointer tells how far off they are, and their own loss; a "
    "white line leads along a run. Points without a value are crosses and stay empty."
)


def figure(*results: Plane) -> Figure:
    """Contours, heat map or surface of any of the four quantities and any run, chosen in the figure."""
    from analyses.contours import draw

    return draw(results)


def table(*results: Plane) -> Table:
    """The checkpoints, then every point of the grid."""
    from landscape.report import Table
    from landscape.sheet import STATUS

    unit = nats(results[0], " ({})")
    columns = (
        "run", "point", "x (θ)", "y (θ)", "off the plane (θ)", f"train loss{unit}", f"test loss{unit}", "train error",
        "test error", "status",
    )  # fmt: skip
    rows: list[tuple[str | float | int | None, ...]] = []
    for run, r in enumerate(results, 1):
        for i, name in enumerate(r.names):
            own = (float(v) for v in (*r.own_loss[:, i], *r.own_error[:, i]))
            rows.append((run, name, *r.place[i].tolist(), float(r.off_plane[i]), *own, STATUS[0]))
        for j, i in np.ndindex(r.status.shape):
            values = (float(v) for v in (*r.loss[:, j, i], *r.error[:, j, i]))
            rows.append((run, "grid", float(r.x[i]), float(r.y[j]), 0.0, *values, STATUS[int(r.status[j, i])]))
    note = f"Axes: {results[0].titles[0]}; {results[0].titles[1]}."
    if results[0].biases:
        note += f" Biases and norm parameters in random directions: {results[0].biases}."
    return Table("Points of the plane", columns, tuple(rows), note)
