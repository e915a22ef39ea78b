"""Largest eigenvalues by Lanczos with full reorthogonalisation, thick restart and a guard against missed ones.

A Krylov space from one start vector finds well-separated extreme eigenvalues in few products, at both ends of the
spectrum. It sees, however, a repeated eigenvalue only once and may pass over one of a cluster; no residual
shows that. Therefore, after convergence, the search starts afresh from random directions in the complement
until one of them brings nothing new.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from landscape.curvature.certificate import (
    Eigenpairs,
    Floats,
    Product,
    Progress,
    certify,
    check_request,
    rounding_floor,
)
from landscape.curvature.krylov import Krylov

_PATIENCE = 5
_PROBE = 8
_LOWEST = 1e-3

Save = Callable[["Search"], None]


class Search:
    """A Lanczos search that can be stopped after any step and taken up again bitwise.

    Attributes:
        krylov: The basis.
        k: Pairs wanted.
        tol: Residual relative to the eigenvalue.
        probes: Random directions tried so far, the start not counted.
        since: Steps since the last one.
        known: The wanted values when the last probe began, shape (k,); NaN before the first.
        finished: Whether the last probe brought nothing new.
    """

    def __init__(self, krylov: Krylov, k: int, tol: float) -> None:
        """Begin.

        Args:
            krylov: A basis with no step done, or a restored one.
            k: Pairs wanted.
            tol: Residual relative to the eigenvalue.
        """
        self.krylov, self.k, self.tol = krylov, k, tol
        self.probes, self.since = 0, 0
        self.known: Floats = np.full(k, np.nan)
        self.finished = False

    def step(self, product: Product) -> float:
        """Use one product; start a probe or finish where the pairs have converged.

        Args:
            product: The operator.

        Returns:
            The largest residual of the wanted pairs relative to its limit, 1 and below being converged.
        """
        krylov = self.krylov
        if krylov.full:
            krylov.compress(self._worth_keeping())
        krylov.expand(product, self._way_out())
        self.since += 1
        if krylov.exhausted:
            self.finished = True
            return 0.0
        if krylov.steps < self.k + 1:
            return np.inf
        values, outward, _ = krylov.ritz()
        excess = float((np.linalg.norm(outward, axis=0) / self._limits(values)).max())
        patient = self.since >= (_PROBE if self.probes else self.k + _PATIENCE)
        if excess <= 1 and patient and self._complement_is_below(values, outward):
            self._probe(values)
        return excess

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state as numpy arrays; see `restore`.

        Returns:
            Arrays by name.
        """
        counts = {"probes": np.array(self.probes), "since": np.array(self.since), "finished": np.array(self.finished)}
        return {**self.krylov.arrays(), **counts, "known": self.known.copy()}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a state, bitwise as if there had been no interruption.

        Args:
            arrays: What `arrays` returned in a search for as many pairs.
        """
        self.krylov.restore(arrays)
        self.probes, self.since = int(arrays["probes"]), int(arrays["since"])
        self.finished, self.known = bool(arrays["finished"]), np.array(arrays["known"], dtype=np.float64)

    def _way_out(self) -> int:
        """The newest direction until a probe has had its steps; then the one that the worst pair leans to most."""
        krylov = self.krylov
        newest = krylov.rows - 1
        if krylov.steps <= self.k or krylov.rows - krylov.steps == 1 or self.since < _PROBE:
            return newest
        values, outward, _ = krylov.ritz()
        if not self._complement_is_below(values, outward):
            return newest
        excess = np.linalg.norm(outward, axis=0) / self._limits(values)
        worst = int(excess.argmax())
        return krylov.steps + int(np.abs(outward[:, worst]).argmax()) if excess[worst] > 1 else newest

    def _limits(self, values: Floats) -> Floats:
        """Residuals at which the Ritz pairs count as converged, shape (n,): infinite for those not wanted."""
        scale = float(np.abs(values).max())
        floor = max(rounding_floor(scale, self.krylov.basis.dtype), np.finfo(np.float64).tiny)
        limits = np.full(len(values), np.inf)
        # the smallest is often next to zero, in a crowd: its limit is relative to the largest, and never fine
        limits[-1] = max(max(self.tol, _LOWEST) * scale, floor)
        limits[: self.k] = np.maximum(self.tol * np.abs(values[: self.k]), floor)
        return limits

    def _complement_is_below(self, values: Floats, outward: Floats) -> bool:
        """Whether nothing that the newest direction is still resolving can rise above the last wanted value."""
        upper = values[self.k :] + np.abs(outward[-1:, self.k :]).sum(axis=0)
        return bool((upper <= values[self.k - 1] + self._limits(values)[self.k - 1]).all())

    def _probe(self, values: Floats) -> None:
        wanted = values[: self.k].copy()
        unchanged = np.abs(wanted - self.known) <= self._limits(values)[: self.k]
        self.finished = bool(unchanged.all())  # False before the first probe: NaN equals nothing
        if not self.finished:
            self.known, self.since = wanted, 0
            self.probes += 1
            if self.krylov.full:
                self.krylov.compress(self._worth_keeping())
            self.krylov.add_direction()

    def _worth_keeping(self) -> NDArray[np.intp]:
        """The wanted pairs, half as many as there is room for of the next ones, and the lowest few."""
        steps = self.krylov.steps
        room = max(steps - self.k - 2, 0) // 3
        top, low = np.arange(self.k + room), steps - 1 - np.arange(max(1, room // 3))
        return np.union1d(top, low)


def top_eigenpairs(
    product: Product,
    size: int,
    k: int,
    tol: float = 1e-3,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    max_products: int | None = None,
    capacity: int | None = None,
    progress: Progress | None = None,
    state: Mapping[str, NDArray[Any]] | None = None,
    save: Save | None = None,
) -> Eigenpairs:
    """Find the k algebraically largest eigenvalues of a symmetric operator, and the smallest one.

    Args:
        product: The operator, (D,) -> (D,), deterministic.
        size: D.
        k: Eigenpairs wanted, 1 to D.
        tol: Residual relative to each eigenvalue.
        seed: Seed of the random directions.
        device: Where vectors lie.
        dtype: float32 or float64.
        max_products: Products after which to stop, certificates included. Default 100 + 20 k.
        capacity: Vectors held in memory, at least 2 k + 12 unless D is smaller. Default 2 k + 50.
        progress: Told after each step.
        state: State of an interrupted search for the same operator, k and tol, see `Search.arrays`.
        save: Called with the search after each step; it decides whether to ask for `arrays()`.

    Returns:
        Certified eigenpairs; `converged` is False and `advice` says why if the products ran out.

    Source: Wu and Simon, Thick-restart Lanczos method (2000); the guard is our own.
    """
    check_request(k, size, tol, dtype)
    device = torch.device(device)
    budget = 100 + 20 * k if max_products is None else max_products
    rows = max(2 * k + 50 if capacity is None else capacity, 2 * k + 12)
    search = Search(Krylov(size, rows, torch.Generator().manual_seed(seed), device, dtype), k, tol)
    if state is not None:
        search.restore(state)
    krylov, certificates, excess = search.krylov, k + 1, np.inf
    while not search.finished and (krylov.products < budget - certificates or krylov.steps < k):
        excess = search.step(product)
        if progress is not None:
            progress(krylov.products, excess * tol)
        if save is not None:
            save(search)
    values, _, coordinates = krylov.ritz()
    vectors = krylov.lift(coordinates[:, [*range(k), len(values) - 1]])
    return certify(
        product,
        vectors[:k],
        vectors[k],
        values[k:],
        krylov.products,
        tol,
        "lanczos",
        advice="" if search.finished else _advice(krylov.products + certificates, excess),
    )


def _advice(products: int, excess: float) -> str:
    if excess <= 1:
        return f"the search for missed eigenvalues was cut off at {products} products: allow more"
    return f"the largest residual is {excess:.1f} times its limit after {products} products: allow more, or raise tol"
