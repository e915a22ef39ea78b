"""Eigenpairs and what is proved about them: each residual is measured with a product of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.curvature.blocks import BLOCK, Block, one_by_one
from landscape.curvature.pieces import accumulator
from landscape.errors import InputError, UsageError

Floats = NDArray[np.float64]
Product = Callable[[Tensor], Tensor]
"""A symmetric operator: (D,) -> (D,)."""
Progress = Callable[[int, float], None]
"""Told the products done and the largest estimated residual relative to its eigenvalue."""

_LEAST_TOLERANCE = 10.0
_ROUNDING = 16.0
_LEAST_ROUNDING = 4.0
_SKEW = 4.0


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """K eigenpairs of a symmetric operator, each with a bound on its error.

    Attributes:
        values: Eigenvalues, descending, shape (K,), in nats per unit of theta squared.
        vectors: Unit eigenvectors as rows, shape (K, D), on the operator's device.
        residuals: |H v - value v|, recomputed with one product for each pair, shape (K,). An eigenvalue of H lies
            within this distance of `values`: a theorem, up to `rounding`. That it is the i-th one is as certain as
            the guard of the engine that searched.
        gap_bound: min(residual, residual^2 / gap), shape (K,): the error where `gap` is the distance to the rest of the
            spectrum. An estimate, because the rest is only known from its Ritz values.
        smallest: The smallest eigenvalue found, NaN if the engine did not look. Every eigenvalue search from
            inside the spectrum stays above the true minimum.
        smallest_residual: Its recomputed residual, NaN if the engine did not look.
        smallest_vector: Its unit eigenvector, shape (D,), or None if the engine did not look.
        rounding: What rounding inside one product may add to a residual, in nats per unit of theta squared: an estimate
            from how far the products with these vectors are from symmetric, which exact ones would be.
        products: Products with the operator that were used, certificates included.
        converged: Whether the search finished and, for each of the K pairs, residual and rounding are both at most
            tol |value|, or the value is zero to within rounding.
        advice: What to do where `converged` is False, and remarks; empty if there is nothing to say.
        tol: The tolerance that was asked for, relative to each eigenvalue.
        engine: Which method found them.
        order: "algebraic": the K largest; "magnitude": the K largest in absolute value.
    """

    values: Floats
    vectors: Tensor
    residuals: Floats
    gap_bound: Floats
    smallest: float
    smallest_residual: float
    smallest_vector: Tensor | None
    rounding: float
    products: int
    converged: bool
    advice: str
    tol: float
    engine: str
    order: Literal["algebraic", "magnitude"]

    @property
    def intervals(self) -> Floats:
        """Lower and upper end of the interval round each value that holds an eigenvalue, shape (K, 2)."""
        reach = self.residuals + self.rounding
        return np.stack([self.values - reach, self.values + reach], axis=1)

    @property
    def by_magnitude(self) -> NDArray[np.intp] | None:
        """Indices that sort `values` by falling absolute value, shape (K,); None if that order cannot be told.

        The K largest are also the K of largest magnitude unless the spectrum reaches further down than
        the K-th reaches up.
        """
        if self.order == "algebraic" and not abs(self.smallest) <= self.values[-1]:
            return None
        return np.argsort(-np.abs(self.values), kind="stable")


def check_request(k: int, size: int, tol: float, dtype: torch.dtype) -> None:
    """Refuse what cannot be computed.

    Args:
        k: Eigenpairs wanted, 1 to D.
        size: D.
        tol: Residual relative to the eigenvalue, below 1 and above what the precision can give.
        dtype: Floating point type of the products.

    Raises:
        UsageError: If k or tol is out of range, or the dtype is narrower than float32.
    """
    if not 1 <= k <= size:
        raise UsageError(f"expected 1 to {size} eigenpairs, got {k}", f"ask for at most {size}: there are no more")
    if dtype not in {torch.float32, torch.float64}:
        raise UsageError(f"curvature needs float32 or float64 products, got {dtype}", "convert the model with .float()")
    least = _LEAST_TOLERANCE * torch.finfo(dtype).eps
    if not least <= tol < 1:
        remedy = "ask for less, or convert the model to float64" if dtype == torch.float32 else "ask for less"
        raise UsageError(f"expected a tolerance from {least:.1e} (the floor of {dtype}) to 1, got {tol:g}", remedy)


def rounding_floor(scale: float, dtype: torch.dtype) -> float:
    """The error of one product through rounding, as far as experience goes: 16 units in the last place of |H|.

    Args:
        scale: Largest absolute eigenvalue known.
        dtype: Floating point type of the products.

    Returns:
        The error, in the unit of the scale.
    """
    return _ROUNDING * float(torch.finfo(dtype).eps) * scale


def measure(block: Block, vectors: Tensor) -> tuple[Floats, Floats, float]:
    """Rayleigh quotient and residual of each vector, with one product each, and how symmetric the products are.

    The Rayleigh quotient is the number that makes the residual smallest. For a unit vector v,
    |H v - t v| bounds the distance from t to the nearest eigenvalue, because H is symmetric.
    For the same reason u.(H v) and v.(H u) differ by rounding alone, which no residual shows.

    Args:
        block: The operator; it is given at most `BLOCK` vectors at a time.
        vectors: Unit vectors as rows, shape (K, D).

    Returns:
        Quotients (K,) and residuals (K,) in float64, and the largest |u.(H v) - v.(H u)|.
    """
    images = torch.cat([block(rows) for rows in torch.split(vectors, BLOCK)]).to(accumulator(vectors.device))  # (K, D)
    units = vectors.to(images)
    inner = units @ images.T  # (K, K)
    values, lengths = inner.diagonal(), (units * units).sum(1)
    values = values / lengths
    residuals = torch.linalg.vector_norm(images - values[:, None] * units, dim=1) / lengths.sqrt()
    skew = (inner - inner.T).abs().max()
    return values.double().cpu().numpy(), residuals.double().cpu().numpy(), float(skew)


def gap_bounds(values: Floats, residuals: Floats, others: Floats) -> Floats:
    """Estimate the error of each eigenvalue from its residual and the distance to its neighbours.

    For an eigenvalue whose distance to the rest of the spectrum is g, the error is at most residual^2 / g: the Rayleigh
    quotient is stationary at an eigenvector. Source: Parlett, The Symmetric Eigenvalue Problem, section 11.7.

    Args:
        values: Eigenvalues, shape (K,).
        residuals: Their residuals, shape (K,).
        others: Approximations of the rest of the spectrum, any shape (M,).

    Returns:
        min(residual, residual^2 / gap), shape (K,).
    """
    distance = np.abs(values[:, None] - np.concatenate([values, others])[None, :])  # (K, K + M)
    np.fill_diagonal(distance, np.inf)
    gap = distance.min(axis=1, initial=np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        squared = np.where(residuals > 0, residuals * (residuals / gap), 0.0)
    return np.minimum(residuals, squared)


def judge(values: Floats, residuals: Floats, rounding: float, tol: float) -> str:
    """Say what keeps pairs from being converged.

    Args:
        values: Eigenvalues, shape (K,).
        residuals: Their recomputed residuals, shape (K,).
        rounding: Error of a product.
        tol: Residual relative to the eigenvalue.

    Returns:
        Advice; empty if all pairs are converged.
    """
    limits = np.where(np.abs(values) <= rounding, np.inf, tol * np.abs(values))
    blurred = [i + 1 for i in range(len(values)) if rounding > limits[i]]
    late = [i + 1 for i in range(len(values)) if not residuals[i] <= limits[i]]
    if blurred:
        return (
            f"rounding of the products ({rounding:.1e}) is above the tolerance {tol:g} of pairs {blurred}: use float64"
        )
    if late:
        return f"the recomputed residual of pairs {late} is above the tolerance {tol:g}: ask for a smaller one"
    return ""


def certify(
    product: Product,
    vectors: Tensor,
    lowest: Tensor | None,
    others: Floats,
    spent: int,
    tol: float,
    engine: str,
    order: Literal["algebraic", "magnitude"] = "algebraic",
    advice: str = "",
    block: Block | None = None,
) -> Eigenpairs:
    """Measure what an engine found and sort it.

    Args:
        product: The operator.
        vectors: Approximate unit eigenvectors as rows, shape (K, D).
        lowest: Approximate eigenvector of the smallest eigenvalue, shape (D,), or None.
        others: Ritz values outside the K, for the gaps, shape (M,).
        spent: Products used so far.
        tol: Residual relative to the eigenvalue.
        engine: Name of the method.
        order: What the engine searched for.
        advice: Why the search stopped early; empty if it did not.
        block: The operator on several vectors; default: one after the other.

    Returns:
        The eigenpairs with K (+ 1 with `lowest`) further products counted.
    """
    rows = vectors if lowest is None else torch.cat([vectors, lowest[None]])
    values, residuals, skew = measure(block or one_by_one(product), rows)
    scale = float(np.abs(np.concatenate([values, others])).max(initial=0.0))
    rounding = max(_LEAST_ROUNDING * float(torch.finfo(vectors.dtype).eps) * scale, _SKEW * skew)
    smallest, smallest_residual = (values[-1], residuals[-1]) if lowest is not None else (np.nan, np.nan)
    values, residuals = values[: len(vectors)], residuals[: len(vectors)]
    ranks = np.argsort(-values, kind="stable")
    values, residuals = values[ranks], residuals[ranks]
    advice = advice or judge(values, residuals, rounding, tol)
    return Eigenpairs(
        values=values,
        vectors=vectors[torch.from_numpy(ranks).to(vectors.device)],
        residuals=residuals,
        gap_bound=gap_bounds(values, residuals, others),
        smallest=float(smallest),
        smallest_residual=float(smallest_residual),
        smallest_vector=lowest,
        rounding=rounding,
        products=spent + len(rows),
        converged=not advice,
        advice=advice,
        tol=tol,
        engine=engine,
        order=order,
    )


class AsymmetryError(InputError):
    """Second derivatives are not symmetric.

    Attributes:
        share: The largest difference of two entries that should be equal, relative to the largest entry.
    """

    def __init__(self, share: float) -> None:
        """Say what it means.

        Args:
            share: See the attribute.
        """
        super().__init__(
            f"the second derivatives are not symmetric (by {share:.1%}): an operation has wrong ones",
            "compare its layers with finite differences, and write the layer concerned in elementary operations",
        )
        self.share = share


def check_symmetry(apart: float, size: float, most: float) -> None:
    """Refuse second derivatives that are not symmetric: an operation of the network has a wrong one.

    In float32 it may be rounding, which `landscape.curvature.rounding` tells apart.

    Args:
        apart: The largest difference of two entries that should be equal.
        size: The largest entry.
        most: Most that the difference may be, relative to that.

    Raises:
        AsymmetryError: If it is more.
    """
    if apart > most * size:
        raise AsymmetryError(apart / size)
