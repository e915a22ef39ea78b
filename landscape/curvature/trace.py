"""The trace of a symmetric operator, with a standard error.

Source: Meyer, Musco, Musco, Woodruff, Hutch++: optimal stochastic trace estimation (arXiv 2010.09649).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.curvature.blocks import BLOCK, Block, one_by_one
from landscape.curvature.certificate import Product
from landscape.curvature.pieces import accumulator
from landscape.errors import UsageError


@dataclass(frozen=True)
class Trace:
    """An unbiased estimate of a trace.

    Attributes:
        value: The sum of all eigenvalues, in nats per unit of theta squared.
        standard_error: One standard deviation of `value` over the random vectors, estimated from their spread;
            zero if the sketch spans the whole space.
        sketched: The part of `value` that is exact: the trace within the sketched subspace.
        samples: Random vectors outside the sketch.
        products: Products used.
    """

    value: float
    standard_error: float
    sketched: float
    samples: int
    products: int


def estimate_trace(
    product: Product,
    size: int,
    *,
    sketch: int = 10,
    samples: int = 20,
    seed: int = 0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    block: Block | None = None,
) -> Trace:
    """Estimate the trace: exactly where the operator is large, by sampling in the rest.

    Random sign vectors g have E[g g^T] = I, so g^T A g has the expectation tr A; its variance comes from the
    off-diagonal entries and is governed by the few large eigenvalues. A random sketch A S nearly spans their vectors;
    with Q an orthonormal basis of it, tr A = tr Q^T A Q + tr P A P, P = I - Q Q^T, and only the small second part
    is sampled. The samples are independent given Q, so their spread is an honest error.

    Args:
        product: The operator A, (D,) -> (D,).
        size: D.
        sketch: Columns of the sketch, each costs two products; 0 is Hutchinson's estimator.
        samples: Random vectors, at least 2, each costs one product.
        seed: Seed of all random vectors.
        device: Where vectors lie.
        dtype: float32 or float64.
        block: The operator on several vectors, given at most eight at a time. Default: one after the other.

    Returns:
        The trace.

    Raises:
        UsageError: If there are too few samples to tell an error.
    """
    if samples < 2 or sketch < 0:
        raise UsageError(f"expected a sketch of at least 0 and 2 samples; got {sketch}, {samples}", "take more samples")
    generator = torch.Generator().manual_seed(seed)

    def signs() -> Tensor:
        return (2 * torch.randint(2, (size,), generator=generator) - 1).to(device, dtype)

    count = min(sketch, size)
    multiply = block or one_by_one(product)
    basis = torch.empty(0, size, device=device, dtype=dtype)
    if count:
        images = [multiply(rows) for rows in _drawn(signs, count)]
        basis = torch.linalg.qr(torch.cat(images).T).Q.T.contiguous()
    inside = [form for rows in torch.split(basis, BLOCK) if len(rows) for form in _forms(rows, multiply(rows))]
    sketched = float(torch.stack(inside).sum()) if inside else 0.0
    if count == size:
        return Trace(sketched, 0.0, sketched, 0, 2 * count)
    draws: list[Tensor] = []
    for rows in _drawn(lambda: _outside(signs(), basis), samples):
        draws += _forms(rows, multiply(rows))
    outside = torch.stack(draws).double()
    error = float(outside.std() / samples**0.5)
    return Trace(sketched + float(outside.mean()), error, sketched, samples, 2 * count + samples)


def _drawn(draw: Callable[[], Tensor], count: int) -> Iterator[Tensor]:
    """So many random vectors as rows, a block at a time."""
    for begin in range(0, count, BLOCK):
        yield torch.stack([draw() for _ in range(min(BLOCK, count - begin))])


def _outside(vector: Tensor, basis: Tensor) -> Tensor:
    """The part of a vector that is orthogonal to the rows of a basis."""
    return vector - basis.T @ (basis @ vector)


def _forms(vectors: Tensor, images: Tensor) -> list[Tensor]:
    """The quadratic form of each vector, from its product."""
    wide = accumulator(vectors.device)
    return [vector.to(wide) @ image.to(wide) for vector, image in zip(vectors, images, strict=True)]
