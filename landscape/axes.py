"""Axes of a plane in parameter space: two orthonormal directions, and what they are made of.

θ(x, y) = origin + x·u + y·v with ‖u‖ = ‖v‖ = 1 and u ⟂ v, so that coordinates are distances in units of theta. All of
this is float64 on the CPU, whatever the precision of the computation that follows.

Source: Goodfellow et al. 2015, arXiv 1412.6544 (planes through checkpoints); Li et al. 2018, arXiv 1712.09913
(filter-normalised random directions, section 4; principal components of a trajectory, section 7).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.checkpoint import Checkpoint, check_apart
from landscape.errors import UsageError
from landscape.result import Array
from landscape.vector import Layout

BIASES = ("zero", "scaled")
_PIECE = 1 << 20  # parameters that are centred at once


def _nothing() -> Array:
    return np.full(2, np.nan)


@dataclass(frozen=True)
class Axes:
    """Two orthonormal directions from one of M checkpoints.

    Attributes:
        origin: Index of the checkpoint at (0, 0).
        u: First direction, shape (D,), float64.
        v: Second direction, shape (D,), float64.
        titles: What each direction is.
        spanned: Whether checkpoints span each axis; otherwise nothing but the loss tells how far to look along it.
        mix: u = Σ mix[0, i] θ_i and v likewise, shape (2, M); rows are 0 where an axis is not made of checkpoints.
        length: Norm of each direction before it became a unit vector, shape (2,).
        share: Share of the trajectory's variance along each axis, shape (2,); NaN for other axes.
        eigenvalue: Eigenvalue of the Hessian of each axis, shape (2,); NaN for other axes.
        converged: Whether the search for eigenvectors converged.
    """

    origin: int
    u: Tensor
    v: Tensor
    titles: tuple[str, str]
    spanned: tuple[bool, bool]
    mix: Array
    length: Array
    share: Array = field(default_factory=_nothing)
    eigenvalue: Array = field(default_factory=_nothing)
    converged: bool = True

    def packed(self) -> dict[str, Array]:
        """All of it as arrays by name."""
        return {each.name: np.asarray(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def unpacked(cls, arrays: Mapping[str, Array]) -> Axes:
        """The axes that `packed` made arrays of, bit for bit.

        Args:
            arrays: Arrays by name; others than its own are left out.

        Returns:
            The axes.
        """
        kept: dict[str, Any] = {each.name: arrays[each.name] for each in fields(cls)}
        kept |= {name: torch.from_numpy(arrays[name]) for name in ("u", "v")}
        kept |= {name: tuple(arrays[name].tolist()) for name in ("titles", "spanned")}
        return cls(**kept | {"origin": int(kept["origin"]), "converged": bool(kept["converged"])})

    def coordinates(self, checkpoints: Sequence[Checkpoint]) -> tuple[Array, Array]:
        """Project checkpoints onto the plane.

        Args:
            checkpoints: The M checkpoints.

        Returns:
            (x, y) of each, shape (M, 2), and its distance from the plane, shape (M,), in units of theta.
        """
        start = checkpoints[self.origin].theta.double()
        places, off = [], []
        for checkpoint in checkpoints:
            way = checkpoint.theta.double() - start
            x, y = way @ self.u, way @ self.v
            places.append([float(x), float(y)])
            off.append(float(torch.linalg.vector_norm(way - x * self.u - y * self.v)))
        return np.array(places), np.array(off)


def orthonormal(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Gram–Schmidt applied twice: once is not enough for directions that are nearly collinear.

    Args:
        first: Direction, shape (D,), float64, not 0.
        second: Direction, shape (D,), not a multiple of the first.

    Returns:
        Unit vectors u along the first and v at right angles to it, ⟨u, v⟩ of the order of rounding.

    Source: Giraud et al. 2005, "The loss of orthogonality in the Gram-Schmidt orthogonalization process" (twice is
    enough).
    """
    u = first / torch.linalg.vector_norm(first)
    v = second
    for _ in range(2):
        v = v - (u @ v) * u
        v = v / torch.linalg.vector_norm(v)
    return u, v


def through(checkpoints: Sequence[Checkpoint]) -> Axes:
    """The plane through the first three checkpoints: x from the first to the second, y toward the third.

    Args:
        checkpoints: Three or more.

    Returns:
        Axes with the first checkpoint at (0, 0) and the second on the x axis.

    Raises:
        UsageError: If two of the three hold the same weights or all lie on one line.
    """
    a, b, c = (checkpoint.theta.double() for checkpoint in checkpoints[:3])
    check_apart(*checkpoints[:3])
    u, v = orthonormal(b - a, c - a)
    along, across = (c - a) @ u, (c - a) @ v
    length = torch.linalg.vector_norm(b - a)
    if float(across) <= _rounding(checkpoints[:3]):
        names = ", ".join(checkpoint.name for checkpoint in checkpoints[:3])
        raise UsageError(f"{names} lie on one line, which spans no plane", "give a third checkpoint off the line")
    mix = np.zeros((2, len(checkpoints)))
    mix[0, :2] = -1 / length, 1 / length
    mix[1, 2] = 1 / across
    mix[1, 0] = -1 / across
    mix[1] -= float(along / across) * mix[0]
    titles = (f"toward {_short(checkpoints[1].name)}", f"across, toward {_short(checkpoints[2].name)}")
    return Axes(0, u, v, titles, (True, True), mix, np.array([float(length), float(across)]))


def across(checkpoints: Sequence[Checkpoint], seed: int, biases: str) -> Axes:
    """The plane through two checkpoints and a random filter-normalised direction at right angles to their line.

    Args:
        checkpoints: Two or more.
        seed: Seed of the direction.
        biases: Rule for tensors of one dimension, see `filter_normalised`.

    Returns:
        Axes with the first checkpoint at (0, 0) and the second on the x axis.

    Raises:
        UsageError: If both hold the same weights.
    """
    a, b = (checkpoint.theta.double() for checkpoint in checkpoints[:2])
    check_apart(*checkpoints[:2])
    d = filter_normalised(a, checkpoints[0].layout, _generator(seed), biases)
    u, v = orthonormal(b - a, d)
    length = torch.linalg.vector_norm(b - a)
    mix = np.zeros((2, len(checkpoints)))
    mix[0, :2] = -1 / length, 1 / length
    titles = (f"toward {_short(checkpoints[1].name)}", "random filter-normalised")
    return Axes(0, u, v, titles, (True, False), mix, np.array([float(length), float(torch.linalg.vector_norm(d))]))


def random(checkpoints: Sequence[Checkpoint], seed: int, biases: str) -> Axes:
    """The plane that two random filter-normalised directions span at the first checkpoint.

    The plane is that of Li et al.; its coordinates are orthonormal, and `length` says what one of their units is.

    Args:
        checkpoints: One or more.
        seed: Seed of the directions.
        biases: Rule for tensors of one dimension, see `filter_normalised`.

    Returns:
        Axes with the first checkpoint at (0, 0).
    """
    generator, theta, layout = _generator(seed), checkpoints[0].theta.double(), checkpoints[0].layout
    first, second = (filter_normalised(theta, layout, generator, biases) for _ in range(2))
    u, v = orthonormal(first, second)
    length = np.array([float(torch.linalg.vector_norm(d)) for d in (first, second)])
    titles = ("random direction 1", "random direction 2")
    return Axes(0, u, v, titles, (False, False), np.zeros((2, len(checkpoints))), length)


def filter_normalised(theta: Tensor, layout: Layout, generator: torch.Generator, biases: str) -> Tensor:
    """A Gaussian direction each of whose filters has the norm of the network's own filter.

    Tensors of one dimension (biases, scales and shifts of normalisation) have no filters: "zero" leaves them where
    they are, as the published code does with `biasbn`; "scaled" gives each as a whole its own norm. (With neither that
    code would move them along themselves, which is no random direction.)

    Args:
        theta: The network's parameters, shape (D,), float64.
        layout: Where each tensor lies.
        generator: Source of randomness, on the CPU.
        biases: One of `BIASES`.

    Returns:
        The direction, shape (D,), float64; 0 where the weights are 0.

    Raises:
        UsageError: If there is nothing left to move.

    Source: Li et al. 2018, arXiv 1712.09913, section 4.
    """
    direction = torch.randn(theta.numel(), generator=generator, dtype=torch.float64)
    for shape, d, w in zip(layout.shapes, layout.filters(direction), layout.filters(theta), strict=True):
        if len(shape) < 2 and biases == "zero":
            d.zero_()
            continue
        own = torch.linalg.vector_norm(d, dim=1, keepdim=True)
        d.mul_(torch.linalg.vector_norm(w, dim=1, keepdim=True) / own)
    if not bool(direction.any()):
        raise UsageError("the network has no weights in two dimensions or more to move", "add --biases scaled")
    return direction


def principal(checkpoints: Sequence[Checkpoint]) -> Axes:
    """The first two principal components of a trajectory, through its last checkpoint.

    Directions and shares of variance are those about the mean of the checkpoints; the plane is laid through the last
    one, so that it is on the plane exactly and the others have a distance from it. Works on the M × M matrix of inner
    products, whose eigenvectors w give the components X'w/√λ.

    Args:
        checkpoints: The trajectory, three checkpoints or more.

    Returns:
        Axes with the last checkpoint at (0, 0), the first one on the negative side of the mean.

    Raises:
        UsageError: If the checkpoints lie on one line.
    """
    points, m = [checkpoint.theta for checkpoint in checkpoints], len(checkpoints)
    inner = torch.zeros(m, m, dtype=torch.float64)
    for start in range(0, points[0].numel(), _PIECE):
        piece = torch.stack([point[start : start + _PIECE].double() for point in points])
        piece -= piece.mean(0)
        inner += piece @ piece.T
    variances, weights = torch.linalg.eigh(inner)
    variances, weights = variances.flip(0).clamp_min(0), weights.flip(1)
    if float(variances[1].sqrt()) <= _rounding(checkpoints):
        raise UsageError("the checkpoints lie on one line, which spans no plane", "give checkpoints off that line")
    mix = (weights[:, :2] / variances[:2].sqrt()).T.clone()  # (2, M)
    mix -= mix.mean(1, keepdim=True)  # the mean of the checkpoints drops out
    mix *= torch.where(mix[:, :1] > 0, -1.0, 1.0)
    first, second = (sum(w * point.double() for w, point in zip(row, points, strict=True)) for row in mix)
    assert isinstance(first, Tensor)
    assert isinstance(second, Tensor)
    u, v = orthonormal(first, second)
    share = (variances[:2] / variances.sum()).numpy()
    titles = (f"component 1, {share[0]:.1%} of variance", f"component 2, {share[1]:.1%} of variance")
    return Axes(m - 1, u, v, titles, (True, True), mix.numpy(), variances[:2].sqrt().numpy(), share=share)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"


def _rounding(checkpoints: Sequence[Checkpoint]) -> float:
    """How far a point may lie off a line because its weights were rounded when they were stored."""
    return max(torch.finfo(c.theta.dtype).eps * float(torch.linalg.vector_norm(c.theta)) for c in checkpoints)
