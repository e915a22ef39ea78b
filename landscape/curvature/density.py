"""The density of all eigenvalues, by stochastic Lanczos quadrature, with a band.

Source: Lin, Saad, Yang, Approximating spectral densities of large matrices (arXiv 1308.5467); for networks: Ghorbani,
Krishnan, Xiao, An investigation into neural net optimization via Hessian eigenvalue density (arXiv 1901.10159).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from landscape.curvature.certificate import Floats, Product, Progress
from landscape.curvature.krylov import Krylov
from landscape.errors import UsageError

_REACH = 4.0


@dataclass(frozen=True, eq=False)
class Density:
    """The eigenvalue density, smoothed by a Gaussian; it integrates to 1.

    Attributes:
        grid: Where it is told, shape (G,), in nats per unit of theta squared.
        density: Its mean over the start vectors, shape (G,), in units of 1 / (nats per unit of theta squared).
        standard_error: One standard deviation of that mean, estimated from the spread over start vectors, shape (G,).
        nodes: Ritz values, shape (V, M): the quadrature's nodes.
        weights: Their weights, shape (V, M); each row sums to 1.
        sigma: Standard deviation of the Gaussian, in nats per unit of theta squared.
        products: Products used.
    """

    grid: Floats
    density: Floats
    standard_error: Floats
    nodes: Floats
    weights: Floats
    sigma: float
    products: int


def spectral_density(
    product: Product,
    size: int,
    *,
    steps: int = 60,
    vectors: int = 4,
    sigma: float | None = None,
    points: int = 400,
    seed: int = 0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> Density:
    """Estimate the density from a few Lanczos runs.

    For a random unit vector v, E[v^T f(H) v] = tr f(H) / D for every f. M steps of Lanczos from v give
    the Gauss quadrature of that quantity, exact for polynomials up to degree 2 M - 1: nodes are the Ritz values,
    weights the squared first coordinates of their vectors. With f a Gaussian round t this is the smoothed density at t.
    Full reorthogonalisation keeps ghosts of converged eigenvalues from taking weight twice.

    Args:
        product: The operator, (D,) -> (D,).
        size: D.
        steps: M, Lanczos steps for each vector; at most D are taken.
        vectors: V, start vectors, at least 2.
        sigma: Width of the Gaussian. Default 1 % of the range of the nodes.
        points: G, points of the grid, which spans the nodes and four sigma more.
        seed: Seed of the start vectors.
        device: Where vectors lie.
        dtype: float32 or float64.
        progress: Told (products done, 0) after each product.

    Returns:
        The density.

    Raises:
        UsageError: If there are too few vectors to tell an error.
    """
    if vectors < 2 or steps < 1:
        raise UsageError(f"expected at least 2 vectors and 1 step; got {vectors}, {steps}", "use more start vectors")
    generator = torch.Generator().manual_seed(seed)
    nodes, weights, done = [], [], 0
    for _ in range(vectors):
        count = min(steps, size)
        krylov = Krylov(size, count + 1, generator, torch.device(device), dtype)
        for _ in range(count):
            krylov.expand(product, krylov.steps)
            done += 1
            if progress is not None:
                progress(done, 0.0)
        values, _, coordinates = krylov.ritz()
        nodes.append(values)
        weights.append(coordinates[0] ** 2)
    return smooth(np.array(nodes), np.array(weights), sigma, points, done)


def smooth(nodes: Floats, weights: Floats, sigma: float | None, points: int, products: int) -> Density:
    """Replace each node by a Gaussian of its weight and average over the start vectors.

    Args:
        nodes: Shape (V, M).
        weights: Shape (V, M).
        sigma: Width, or None for 1 % of the range.
        points: Points of the grid.
        products: Passed on.

    Returns:
        The density.
    """
    low, high = float(nodes.min()), float(nodes.max())
    if sigma is None:
        sigma = 0.01 * (high - low) or 0.01 * abs(high) or 1.0
    grid = np.linspace(low - _REACH * sigma, high + _REACH * sigma, points)
    bells = np.exp(-((grid[:, None, None] - nodes) ** 2) / (2 * sigma**2)) / (sigma * np.sqrt(2 * np.pi))  # (G, V, M)
    curves = (bells * weights).sum(axis=2)  # (G, V)
    error = curves.std(axis=1, ddof=1) / np.sqrt(nodes.shape[0])
    return Density(grid, curves.mean(axis=1), error, nodes, weights, float(sigma), products)
