"""Sharpness: eigenvalues of a curvature matrix at several checkpoints, with all that says how far to trust them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from landscape.matrix import Matrix, Measured, weight_decay
from landscape.result import Array, quantity

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.checkpoint import Checkpoint
    from landscape.curvature import Eigenpairs, Objective
    from landscape.surface import Surface


@dataclass(frozen=True)
class Sharpness(Measured):
    """Eigenvalues at M checkpoints. They are those of the loss on the data: weight decay is told apart.

    Attributes:
        engine: The method of search.
        tol: The tolerance asked for.
        advice: For each checkpoint what to do where the search did not converge; empty texts otherwise.
        eigenvalue: Largest eigenvalues, descending, shape (M, K).
        residual: ‖Hv − λv‖ recomputed for each, shape (M, K).
        interval_low: Lower end of the interval that holds an eigenvalue of the matrix: residual and rounding below
            `eigenvalue`, shape (M, K).
        interval_high: Its upper end, shape (M, K).
        gap_bound: An estimate of the error, min(residual, residual² / gap), shape (M, K): an estimate, as the gap to
            the rest of the spectrum is known from Ritz values only.
        rounding: What rounding may add to a residual, an estimate, shape (M,).
        sampling_error: Standard error as an estimate of the eigenvalue on all examples, shape (M, K); 0 where all were
            used, NaN with batch statistics.
        gradient_alignment: |⟨v, g⟩| / ‖g‖ with the gradient of the same loss, shape (M, K).
        gradient_norm: ‖g‖, shape (M,).
        direction_alignment: |⟨v, b − a⟩| / ‖b − a‖ with the direction between two checkpoints, shape (M, K); NaN where
            there are not two.
        weight_decay: What weight decay adds to each eigenvalue, shape (M,); NaN where not known.
        smallest: Smallest eigenvalue found, shape (M,); NaN where the engine does not look.
        smallest_residual: Its residual, shape (M,).
        eigenvector: Unit eigenvectors, shape (M, K, D), or (M, K, 0) where not stored.
        products: Products with the matrix that were used, shape (M,).
        converged: Whether all K residuals are below tol, shape (M,).
    """

    labelled: ClassVar[Mapping[str, str]] = {"checkpoint": "names"}

    engine: str
    tol: float
    advice: tuple[str, ...]
    eigenvalue: Array = quantity("nats / theta^2", "eigenvalue of the matrix", "checkpoint", "index")
    residual: Array = quantity("nats / theta^2", "recomputed residual |Hv - λv|", "checkpoint", "index")
    interval_low: Array = quantity("nats / theta^2", "lower end of the interval", "checkpoint", "index")
    interval_high: Array = quantity("nats / theta^2", "upper end of the interval", "checkpoint", "index")
    gap_bound: Array = quantity("nats / theta^2", "estimated error, from the gap", "checkpoint", "index")
    rounding: Array = quantity("nats / theta^2", "estimated rounding of a residual", "checkpoint")
    sampling_error: Array = quantity("nats / theta^2", "standard error of sampling", "checkpoint", "index")
    gradient_alignment: Array = quantity("1", "|cosine| with the gradient", "checkpoint", "index")
    gradient_norm: Array = quantity("nats / theta", "norm of the gradient", "checkpoint")
    direction_alignment: Array = quantity("1", "|cosine| with the other checkpoint's direction", "checkpoint", "index")
    weight_decay: Array = quantity("nats / theta^2", "added to each eigenvalue by weight decay", "checkpoint")
    smallest: Array = quantity("nats / theta^2", "smallest eigenvalue found", "checkpoint")
    smallest_residual: Array = quantity("nats / theta^2", "its recomputed residual", "checkpoint")
    eigenvector: Array = quantity("1", "unit eigenvector", "checkpoint", "index", "parameter")
    products: Array = quantity("1", "products with the matrix", "checkpoint")
    converged: Array = quantity("1", "whether all residuals are below tol", "checkpoint")


@dataclass(frozen=True)
class Found:
    """What was found at one checkpoint.

    Attributes:
        pairs: The eigenpairs.
        sampling_error: Standard errors, shape (K,).
        gradient_alignment: With the gradient, shape (K,).
        gradient_norm: Norm of the gradient.
        direction_alignment: With the direction to another checkpoint, shape (K,).
    """

    pairs: Eigenpairs
    sampling_error: Array
    gradient_alignment: Array
    gradient_norm: float
    direction_alignment: Array

    @staticmethod
    def restored(arrays: Mapping[str, Array]) -> Found:
        """What was `landscape.curvature.packed` away."""
        from landscape.curvature import Eigenpairs, unpacked

        pairs = {name.removeprefix("pairs."): values for name, values in arrays.items() if name.startswith("pairs.")}
        found: Found = unpacked(Found, arrays, pairs=unpacked(Eigenpairs, pairs, ("vectors", "smallest_vector")))
        return found


def alignment(vectors: Tensor, direction: Tensor) -> Array:
    """|⟨v, u⟩| / ‖u‖ for each v: the cosine of the angle to the line along u.

    Args:
        vectors: Unit vectors as rows, shape (K, D).
        direction: u, shape (D,).

    Returns:
        Numbers in [0, 1], float64, shape (K,); NaN if u is zero.
    """
    direction = direction.double().cpu()
    inner = vectors.double().cpu() @ direction / direction.norm()
    return np.asarray(inner.abs().clamp(max=1))


def inspect(matrix: Matrix, surface: Surface, objective: Objective, pairs: Eigenpairs, apart: Tensor | None) -> Found:
    """Set eigenvectors beside the gradient, another checkpoint's direction and the spread over examples.

    Args:
        matrix: Which matrix.
        surface: Where the pairs were found.
        objective: Whose pairs these are.
        pairs: The eigenpairs.
        apart: b − a, shape (block,), or None.

    Returns:
        All that is kept of one checkpoint.
    """
    from landscape.curvature import HessianOperator, sampling_error

    nothing = np.full(len(pairs.values), np.nan)
    gradient = HessianOperator(objective, matrix.mode, memory_budget=0).gradient()
    if matrix.mode == "eval" and matrix.examples:
        vectors, population = pairs.vectors.to(objective.device, objective.dtype), len(surface.problem.train)
        error = sampling_error(objective, vectors, population, kind=matrix.kind)
    else:
        error = nothing if matrix.examples else np.zeros_like(nothing)
    return Found(
        pairs=pairs,
        sampling_error=error,
        gradient_alignment=alignment(pairs.vectors, gradient),
        gradient_norm=float(gradient.double().norm()),
        direction_alignment=nothing if apart is None else alignment(pairs.vectors, apart),
    )


def stack(
    found: Sequence[Found], checkpoints: Sequence[Checkpoint], matrix: Matrix, surface: Surface, keep: bool
) -> Sharpness:
    """Put what was found at each checkpoint into one result.

    Args:
        found: One for each checkpoint.
        checkpoints: The checkpoints.
        matrix: Which matrix.
        surface: Where they were measured.
        keep: Whether to keep eigenvectors.

    Returns:
        The result.
    """
    pairs = [f.pairs for f in found]
    intervals = np.stack([p.intervals for p in pairs])  # (M, K, 2)
    return Sharpness(
        **matrix.about(surface, checkpoints),
        engine=pairs[0].engine,
        tol=pairs[0].tol,
        advice=tuple(p.advice for p in pairs),
        eigenvalue=np.stack([p.values for p in pairs]),
        residual=np.stack([p.residuals for p in pairs]),
        interval_low=intervals[..., 0],
        interval_high=intervals[..., 1],
        gap_bound=np.stack([p.gap_bound for p in pairs]),
        rounding=np.array([p.rounding for p in pairs]),
        sampling_error=np.stack([f.sampling_error for f in found]),
        gradient_alignment=np.stack([f.gradient_alignment for f in found]),
        gradient_norm=np.array([f.gradient_norm for f in found]),
        direction_alignment=np.stack([f.direction_alignment for f in found]),
        weight_decay=np.array([weight_decay(c) for c in checkpoints]),
        smallest=np.array([p.smallest for p in pairs]),
        smallest_residual=np.array([p.smallest_residual for p in pairs]),
        eigenvector=np.stack([p.vectors.cpu().numpy()[:, : None if keep else 0] for p in pairs]),
        products=np.array([p.products for p in pairs]),
        converged=np.array([p.converged for p in pairs]),
    )
