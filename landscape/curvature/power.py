"""Largest eigenvalues in magnitude by power iteration with deflation: slow, simple, a second opinion.

The error of a vector shrinks by |lambda_2 / lambda_1| in each step, where Lanczos takes the square root of the gap.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from landscape.curvature.blocks import Block
from landscape.curvature.certificate import Eigenpairs, Product, Progress, certify, check_request, rounding_floor
from landscape.errors import DivergedError

_LOOK_EVERY = 5
_SHARE = 0.5


class _Counted:
    """A product that counts and stops at a limit."""

    def __init__(self, product: Product, limit: int) -> None:
        self.product, self.limit, self.done = product, limit, 0

    @property
    def spent(self) -> bool:
        return self.done >= self.limit

    def __call__(self, vector: Tensor) -> Tensor:
        self.done += 1
        return self.product(vector)


def power_eigenpairs(
    product: Product,
    size: int,
    k: int,
    tol: float = 1e-3,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    max_products: int | None = None,
    progress: Progress | None = None,
    block: Block | None = None,
) -> Eigenpairs:
    """Find the k eigenvalues of largest magnitude one after the other, and then the smallest one.

    Each vector is kept orthogonal to those found before. The iteration stops at the residual and not where the Rayleigh
    quotient stops to change: the latter looks converged long before it is. The smallest eigenvalue is the largest
    in magnitude of H - shift I, where shift is the largest value found; it is rough, to some hundredths of the
    largest, as the lower end of a spectrum is crowded.

    Args:
        product: The operator, (D,) -> (D,), deterministic.
        size: D.
        k: Eigenpairs wanted, 1 to D.
        tol: Residual relative to each eigenvalue.
        seed: Seed of the start vectors.
        device: Where vectors lie.
        dtype: float32 or float64.
        max_products: Products after which to stop, certificates not included. Default 1000 k.
        progress: Told every few products.
        block: The operator on several vectors, for the certificate. Default: one after the other.

    Returns:
        Certified eigenpairs in order "magnitude"; where two eigenvalues of opposite sign have nearly the same
        magnitude the iteration does not converge, and says so.
    """
    check_request(k, size, tol, dtype)
    device = torch.device(device)
    generator = torch.Generator().manual_seed(seed)
    counted = _Counted(product, 1000 * k if max_products is None else max_products)
    found = torch.empty(0, size, device=device, dtype=dtype)
    values: list[float] = []
    missed: list[int] = []
    for i in range(k):
        start = torch.randn(size, generator=generator, dtype=torch.float64).to(device, dtype)
        floor = rounding_floor(max(map(abs, values), default=0.0), dtype) / tol
        vector, value, reached = _iterate(counted, start, found, 0.0, tol, floor, progress)
        found, values = torch.cat([found, vector[None]]), [*values, value]
        missed += [] if reached else [i + 1]
    shift = max(values)
    start = torch.randn(size, generator=generator, dtype=torch.float64).to(device, dtype)
    lowest, *_ = _iterate(counted, start, found[:0], shift, tol, max(map(abs, values)), progress)
    advice = f"power iteration did not converge for {_ranks(missed)}: use engine 'lanczos'" if missed else ""
    none = np.empty(0)
    return certify(
        product, found, lowest, none, counted.done, tol, "power", order="magnitude", advice=advice, block=block
    )


def _iterate(
    product: _Counted, vector: Tensor, found: Tensor, shift: float, tol: float, least: float, progress: Progress | None
) -> tuple[Tensor, float, bool]:
    """Power iteration on P (H - shift I) P, where P projects out the vectors already found.

    Args:
        product: The operator H.
        vector: Start, shape (D,).
        found: Orthonormal vectors to stay orthogonal to, shape (M, D).
        shift: Subtracted from every eigenvalue.
        tol: Residual relative to the eigenvalue.
        least: The residual is never asked to be below tol times this.
        progress: Told at every look.

    Returns:
        The vector, its Rayleigh quotient with H, and whether the residual reached half of the tolerance.

    Raises:
        DivergedError: If a product is not finite.
    """
    vector = _project(vector, found)
    vector = vector / torch.linalg.vector_norm(vector)
    value = 0.0
    for step in range(1, 1 + max(1, product.limit - product.done)):
        image = _project(product(vector) - shift * vector, found)
        if step % _LOOK_EVERY == 0 or product.spent:
            value, residual = torch.stack([
                vector @ image,
                _residual(vector, image),
            ]).tolist()  # the only synchronisation
            if not np.isfinite(residual):
                raise DivergedError(
                    "a Hessian product is not finite", "check the checkpoint's weights and loss for NaN"
                )
            limit = max(abs(value), least)
            if progress is not None:
                progress(product.done, residual / limit if limit else 0.0)
            if residual <= _SHARE * tol * limit:
                return vector, value + shift, True
        length = torch.linalg.vector_norm(image)
        vector = torch.where(length > 0, image / length, vector)
    return vector, value + shift, False


def _residual(vector: Tensor, image: Tensor) -> Tensor:
    residual: Tensor = torch.linalg.vector_norm(image - (vector @ image) * vector)
    return residual


def _project(vector: Tensor, found: Tensor) -> Tensor:
    for _ in range(2):
        vector = torch.addmv(vector, found.T, found @ vector, alpha=-1)
    return vector


def _ranks(missed: list[int]) -> str:
    return f"pair {missed[0]}" if len(missed) == 1 else f"pairs {missed}"
