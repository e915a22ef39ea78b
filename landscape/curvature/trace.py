"""The trace of a symmetric operator, with a standard error.

Source: Meyer, Musco, Musco, Woodruff, Hutch++: optimal stochastic trace estimation (arXiv 2010.09649).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.curvature.certificate import Product
from landscape.curvature.chunked import accumulator
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
    wide = accumulator(torch.device(device))
    basis = torch.empty(0, size, device=device, dtype=dtype)
    if count:
        images = torch.stack([product(signs()) for _ in range(count)], dim=1)  # (D, count)
        basis = torch.linalg.qr(images).Q.T.contiguous()
    inside = [(row.to(wide) @ product(row).to(wide)) for row in basis]
    sketched = float(torch.stack(inside).sum()) if inside else 0.0
    if count == size:
        return Trace(sketched, 0.0, sketched, 0, 2 * count)
    draws = []
    for _ in range(samples):
        g = signs()
        g = g - basis.T @ (basis @ g)
        draws.append(g.to(wide) @ product(g).to(wide))
    outside = torch.stack(draws).double()
    error = float(outside.std() / samples**0.5)
    return Trace(sketched + float(outside.mean()), error, sketched, samples, 2 * count + samples)
