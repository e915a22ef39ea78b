"""What does the loss look like around the checkpoints, on a plane through them?

θ(x, y) = origin + x·u + y·v with orthonormal u and v, so that x and y are distances in units of theta and every value
belongs to the coordinates stored beside it. A point without a value stays without one.

Source: Li et al. 2018, arXiv 1712.09913 (random filter-normalised directions, trajectories); Goodfellow et al. 2015,
arXiv 1412.6544 (planes through checkpoints).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analyses.relief import CAPTION, figure, listing, table, words
from landscape.errors import UsageError
from landscape.options import option
from landscape.plane import Plane, before, span
from landscape.result import SPLITS, Array
from landscape.types import Progress, Work, quiet
from landscape.wording import number

if TYPE_CHECKING:
    from landscape.axes import Axes
    from landscape.checkpoint import Checkpoint
    from landscape.problem import Problem
    from landscape.sheet import Sheet
    from landscape.surface import Surface
    from landscape.unfinished import Unfinished

NAME = "plane"
TITLE = "The plane"
QUESTION = "What does the loss look like around them?"
TEXT = "loss and error on a plane through three checkpoints, or along random, Hessian or trajectory axes"
EXAMPLE = "landscape plane sgd.pt sgd-sam.pt sgd@600.pt --grid 31x21"
TAKES = (1, 100)
KINDS = ("checkpoints", "random", "eigenvectors", "trajectory")
_MOST = 1_000_000  # points


@dataclass(frozen=True)
class Options:
    """Options of the plane."""

    axes: str | None = option(
        None,
        "through the first three checkpoints (or two and a random direction), random filter-normalised directions or "
        "top eigenvectors of the Hessian at the first, or principal components of the trajectory; of one checkpoint "
        "random, of more through them",
        choices=KINDS, kind=str,
    )  # fmt: skip
    grid: str = option("25x25", "points along x and y, as 31x21")
    x: str | None = option(None, "range of x in units of theta, as -1:2", kind=str)
    y: str | None = option(None, "range of y, likewise", kind=str)
    margin: float = option(0.4, "room around the checkpoints, as a part of their extent", low=0.0)
    rise: float = option(
        1.0, "where no checkpoint sets the range: go as far as the training loss rises, in nats", low=0.0
    )
    biases: str = option(
        "zero",
        "biases and norm parameters in random directions: left where they are, or each tensor scaled to its norm",
        choices=("zero", "scaled"),
    )
    batchnorm: str = option(
        "recalibrate",
        "BatchNorm statistics: recomputed on training data, mixed (checkpoints only), or those at the origin",
        choices=("recalibrate", "interpolate", "keep"),
    )
    seed: int = option(0, "seed of random directions and of the search for eigenvectors", low=0)
    batch_size: int = option(500, "examples in a forward pass", low=2)

    def __post_init__(self) -> None:
        """Check what is more than a number.

        Raises:
            UsageError: If the grid or a range is not understood.
        """
        _ = self.shape, *(span(name, text) for name, text in (("x", self.x), ("y", self.y)) if text)

    @property
    def shape(self) -> tuple[int, int]:
        """Points along x and y."""
        found = re.fullmatch(r"(\d{1,7})[x×](\d{1,7})", self.grid)
        counts = (int(found[1]), int(found[2])) if found else (0, 0)
        if min(counts) < 2 or counts[0] * counts[1] > _MOST:
            raise UsageError(f"--grid {self.grid} is no grid", f"write 31x21: 2 or more, at most {_MOST:,} points")
        return counts


Result = Plane


def compute(
    problem: Problem,
    *checkpoints: Checkpoint,
    options: Options = Options(),
    progress: Progress = quiet,
    device: str = "cpu",
    dtype: str = "float32",
    rest: Unfinished | None = None,
) -> Plane:
    """Measure the plane.

    Args:
        problem: What the checkpoints were trained on.
        *checkpoints: One or more.
        options: Options of the plane.
        progress: Told (points done, points in all).
        device: Where to compute.
        dtype: Floating point type of weights and computation; axes are always float64.
        rest: Where finished points are kept, if anywhere.

    Returns:
        The plane.

    Raises:
        UsageError: If the checkpoints span no such plane, or a range cannot be found.
        InterruptedRun: If a signal asked to stop; the finished points are in `rest`.
    """
    from landscape.surface import Surface

    kind = options.axes or ("random" if len(checkpoints) == 1 else "checkpoints")
    surface = Surface(problem, batch_size=options.batch_size, device=device, dtype=dtype)
    sheet, x, y = _laid(kind, surface, checkpoints, options, progress, rest)
    axes = sheet.axes
    place, off = axes.coordinates(checkpoints)
    status, values = _walk(sheet, x, y, progress, rest)
    own = np.stack([sheet.own(checkpoint)[1] for checkpoint in checkpoints], axis=-1)  # loss and error, split, M
    return Plane(
        names=tuple(c.name for c in checkpoints),
        methods=tuple(c.method for c in checkpoints),
        axes=kind,
        titles=axes.titles,
        origin=axes.origin,
        after=before(checkpoints),
        batchnorm=options.batchnorm if surface.has_batchnorm else "none",
        biases=options.biases if any("random" in title for title in axes.titles) else "",
        classifies=surface.classifies,
        converged=axes.converged,
        source="",
        split=np.array(SPLITS),
        x=x,
        y=y,
        loss=values[0],
        error=values[1],
        status=status,
        examples=np.array([len(problem.train), len(problem.test)]),
        place=place,
        off_plane=off,
        own_loss=own[0],
        own_error=own[1],
        length=axes.length,
        share=axes.share,
        eigenvalue=axes.eigenvalue,
    )


def _laid(
    kind: str, surface: Surface, checkpoints: Sequence[Checkpoint], options: Options, progress: Progress,
    rest: Unfinished | None,
) -> tuple[Sheet, Array, Array]:  # fmt: skip
    """The plane and its grid: as an earlier run left them, or laid anew and kept before the first point."""
    from landscape.axes import Axes
    from landscape.sheet import Sheet
    from landscape.window import lattice

    total = math.prod(options.shape)

    def search(products: int, residual: float) -> None:
        progress(0, total, f"{products} products, residual {residual:.1e}")
        if rest:
            rest.check(total)

    if rest and rest.frame:
        sheet = Sheet(surface, Axes.unpacked(rest.frame), checkpoints, options.batchnorm)
        return sheet, rest.frame["x"], rest.frame["y"]
    sheet = Sheet(surface, _axes(kind, surface, checkpoints, options, search), checkpoints, options.batchnorm)
    place, _ = sheet.axes.coordinates(checkpoints)
    x, y = lattice(sheet, place, (options.x, options.y), options.shape, options.margin, options.rise)
    if rest:
        rest.check(total)
        rest.begin({**sheet.axes.packed(), "x": x, "y": y})
    return sheet, x, y


def _axes(
    kind: str,
    surface: Surface,
    checkpoints: Sequence[Checkpoint],
    options: Options,
    search: Callable[[int, float], None],
) -> Axes:
    from landscape import axes

    least = {"checkpoints": 2, "trajectory": 3}.get(kind, 1)
    if len(checkpoints) < least:
        raise UsageError(f"--axes {kind} takes {least} checkpoints or more, got {len(checkpoints)}", EXAMPLE)
    if kind == "random":
        return axes.random(checkpoints, options.seed, options.biases)
    if kind == "trajectory":
        return axes.principal(checkpoints)
    if kind == "eigenvectors":
        return _eigenvectors(surface, checkpoints, options, search)
    if len(checkpoints) == 2:
        return axes.across(checkpoints, options.seed, options.biases)
    return axes.through(checkpoints)


def _eigenvectors(
    surface: Surface, checkpoints: Sequence[Checkpoint], options: Options, search: Callable[[int, float], None]
) -> Axes:
    """The top two eigenvectors of the Hessian at the first checkpoint, statistics held fixed there."""
    from landscape.axes import Axes, orthonormal
    from landscape.curvature import eigenpairs

    surface.at(checkpoints[0], recalibrated=options.batchnorm == "recalibrate")
    pairs = eigenpairs(surface.objective(), 2, seed=options.seed, progress=search)
    u, v = orthonormal(*pairs.vectors.double().cpu())
    titles = tuple(f"eigenvector {k + 1}, λ = {number(float(pairs.values[k]))}" for k in range(2))
    return Axes(
        0, u, v, (titles[0], titles[1]), (False, False), np.zeros((2, len(checkpoints))), np.ones(2),
        eigenvalue=np.asarray(pairs.values, dtype=float), converged=bool(pairs.converged),
    )  # fmt: skip


def _walk(sheet: Sheet, x: Array, y: Array, progress: Progress, rest: Unfinished | None) -> tuple[Array, Array]:
    """Measure every point, row by row, those that are known left out; (Y, X) and (2, 2, Y, X)."""
    points = [(i, j) for j in range(len(y)) for i in range(len(x))]
    status = np.zeros((len(y), len(x)), dtype=np.int8)
    values = np.full((2, 2, len(y), len(x)), np.nan)
    known = dict(rest.points) if rest else {}
    for n, (i, j) in enumerate(points):
        if n in known:
            status[j, i], values[:, :, j, i] = int(known[n][0]), np.reshape(known[n][1:], (2, 2))
    progress(len(known), len(points), "points")
    for done, n in enumerate((n for n in range(len(points)) if n not in known), len(known) + 1):
        i, j = points[n]
        status[j, i], values[:, :, j, i] = sheet.measure(float(x[i]), float(y[j]))
        if rest:
            rest.keep(n, (float(status[j, i]), *values[:, :, j, i].ravel().tolist()))
            rest.check(len(points))
        progress(done, len(points), "points")
    return status, values


def resumable(options: Options) -> str:
    """What is kept of a plane that is stopped: its finished points, with any options."""
    del options
    return "points"


def work(options: Options, checkpoints: int) -> Work:
    """Passes over the data: recalibration and evaluation at each point; what the axes take is small beside it."""
    nx, ny = options.shape
    searched = 5 * 25 * (options.axes == "eigenvectors")
    looked = 2 * 2 * 15 * ((options.x is None) + (options.y is None)) * (options.axes in {None, *KINDS[1:3]})
    train = 2 * (nx * ny + checkpoints) + searched + looked
    return Work(f"{nx} × {ny} points", train=train, test=nx * ny + checkpoints, vectors=6 + 8 * bool(searched))


def label(result: Plane) -> str:
    """What the checkpoints are called, and the axes where they are not those through them."""
    if result.source:
        return result.source
    names = result.called
    told = " | ".join(names) if len(names) <= 4 else f"{names[0]} | {names[1]} | … | {names[-1]}"
    return told if result.axes == "checkpoints" else f"{told} ({result.axes})"


__all__ = ["CAPTION", "figure", "listing", "table", "words"]
