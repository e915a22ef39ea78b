"""Largest eigenvalues by Lanczos with full reorthogonalisation, thick restart and a guard against missed ones.

A Krylov space from one start vector finds well-separated extreme eigenvalues in few products, at both ends of the
spectrum. It may, however, not yet have seen one that the start hardly leans to, and it sees a repeated eigenvalue
only once; no residual shows that. Two guards stand against it. Of each eigenspace of H exactly one direction is in the
whole Krylov space of the start, its projection there. That none of these is missing follows from the measure that
the start has seen (`gaps_are_empty`). The other directions are orthogonal to the start and all it leads to: they
are eigenvectors of H seen in the complement, where the search starts afresh from random directions, each with the
same guard, until one of them has brought nothing new.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from landscape.curvature.blocks import Block, Choice
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
_MISSED = 0.005  # for each of the two guards: 1 % in all
_COARSEST = 0.01  # a wanted eigenvalue is told apart from others at this relative distance, however large tol is
_LOWEST = 3e-3
_FINER = 0.06  # of tol, after a restart: its measure would ask for about that next to a value
_PLACES = 33
_ROOM = 16  # rows that a probe takes at most as a rule
_HUGE = 1e145
_SMALL = 32  # about as many products as a search takes at least

Save = Callable[["Search"], None]


class Search:
    """A Lanczos search that can be stopped after any step and taken up again bitwise.

    Attributes:
        krylov: The basis.
        k: Pairs wanted.
        tol: Residual relative to the eigenvalue.
        probes: Random directions tried so far, the start not counted.
        base: The row where the probe under way began; 0 if a restart has mixed its rows with others; -1 if there is
            none.
        brought: Whether it has brought anything new, so that another must follow.
        ended: Whether its space is invariant, so that nothing can come of it any more.
        known: The wanted values as they were last, shape (k,).
        finished: Whether the last probe brought nothing new.
        restarted: Whether rows were mixed and dropped, so that the basis is no longer the start's own.
        excess: Largest residual of the wanted pairs relative to its limit, 1 and below being converged.
        choice: How the operator multiplies several vectors, which decides the last bits of the certificate.
    """

    def __init__(self, krylov: Krylov, k: int, tol: float, choice: Choice | None = None) -> None:
        """Begin.

        Args:
            krylov: A basis with no step done, or a restored one.
            k: Pairs wanted.
            tol: Residual relative to the eigenvalue.
            choice: That of the operator, if it has one.
        """
        self.krylov, self.k, self.tol = krylov, k, tol
        self.choice = choice or Choice(krylov.basis.device)
        self.probes, self.base = 0, -1
        self.known: Floats = np.full(k, np.nan)
        self.finished = self.brought = self.ended = self.restarted = False
        self.excess = np.inf

    def step(self, product: Product) -> None:
        """Use one product; start a probe or finish where the pairs have converged.

        Args:
            product: The operator.
        """
        krylov = self.krylov
        self._make_room()
        ways, fresh = krylov.rows, krylov.fresh
        krylov.expand(product, self._way_out())
        self.ended = self.ended or (self.base >= 0 and (krylov.rows == ways or krylov.fresh != fresh))
        if krylov.exhausted:
            self.finished, self.excess = True, 0.0
            return
        if krylov.steps < self.k + _PATIENCE or krylov.size <= _SMALL:  # a small space is exhausted: nothing is missed
            return
        values, outward, _ = krylov.ritz()
        limits = self._limits(values)
        self.excess = float((np.linalg.norm(outward, axis=0) / limits).max())
        if self.base >= 0:
            unchanged = (np.abs(values[: self.k] - self.known) <= limits[: self.k]).all()
            self.brought = self.brought or not unchanged
            self.known = self.known if unchanged else values[: self.k].copy()
            if self.excess <= 1 and self._probe_saw_all(values, outward):
                self.finished = not self.brought
                self.base = -1
        if self.base < 0 and not self.finished and self.excess <= 1 and (self.probes or self._start_saw_all(values)):
            self.known, self.probes, self.ended = values[: self.k].copy(), self.probes + 1, False
            self._begin_probe()

    def _begin_probe(self) -> None:
        """Take a random direction of the complement; one that was added where a space ended, if there is one."""
        krylov = self.krylov
        if krylov.fresh < 0:
            self._make_room(_ROOM)
            krylov.add_direction()
            self.base = krylov.steps
        else:
            self.base, krylov.fresh = krylov.fresh, -1
        self.brought = self.base < krylov.steps  # what came of it before counts as new

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state as numpy arrays; see `restore`.

        Returns:
            Arrays by name; the basis is a view where it lies on the CPU, good until the next step.
        """
        names = ("probes", "base", "brought", "ended", "finished", "restarted", "excess")
        own = {n: np.array(getattr(self, n)) for n in names}
        together = np.array(-1 if self.choice.together is None else int(self.choice.together))
        return {**self.krylov.arrays(), **own, "known": self.known.copy(), "together": together}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a state, bitwise as if there had been no interruption.

        Args:
            arrays: What `arrays` returned in a search for as many pairs.
        """
        self.krylov.restore(arrays)
        self.probes, self.base = int(arrays["probes"]), int(arrays["base"])
        self.brought, self.ended = bool(arrays["brought"]), bool(arrays["ended"])
        self.finished, self.restarted = bool(arrays["finished"]), bool(arrays["restarted"])
        self.known = np.array(arrays["known"], dtype=np.float64)
        self.excess = float(arrays["excess"])
        together = int(arrays["together"])
        self.choice.together = None if together < 0 else bool(together)

    def _way_out(self) -> int:
        """The newest direction during a probe; else the one that the worst pair leans to most."""
        krylov = self.krylov
        if (self.base >= 0 and not self.ended) or krylov.rows - krylov.steps == 1 or krylov.steps <= self.k:
            return krylov.rows - 1
        values, outward, _ = krylov.ritz()
        worst = int((np.linalg.norm(outward, axis=0) / self._limits(values)).argmax())
        return krylov.steps + int(np.abs(outward[:, worst]).argmax())

    def _limits(self, values: Floats) -> Floats:
        """Residuals at which the Ritz pairs count as converged, shape (n,): infinite for those not wanted."""
        scale = float(np.abs(values).max())
        floor = self._floor(scale)
        limits = np.full(len(values), np.inf)
        # the smallest is often next to zero, in a crowd: its limit is relative to the largest, and never fine
        limits[-1] = max(max(self.tol, _LOWEST) * scale, floor)
        limits[: self.k] = np.maximum(self.tol * np.abs(values[: self.k]), floor)
        return limits

    def _floor(self, scale: float) -> float:
        return max(rounding_floor(scale, self.krylov.basis.dtype), float(np.finfo(np.float64).tiny))

    def _margins(self, values: Floats) -> Floats:
        """How close to a wanted value another one need not be told apart, shape (k,)."""
        scale, wanted = float(np.abs(values).max()), np.abs(values[: self.k])
        floor, fine = self._floor(scale), min(self.tol, _COARSEST)
        # zero to within rounding: copies of zero need not be told apart
        return np.where(wanted <= floor, fine * scale, np.maximum(fine * wanted, floor))

    def _start_saw_all(self, values: Floats) -> bool:
        """Whether an eigenvalue above the last wanted one, and not next to another, would have shown itself by now."""
        krylov = self.krylov
        if krylov.fresh >= 0:  # its space has ended: its Ritz values are eigenvalues, and all that it can see
            return True
        if self.restarted:  # what the start saw is forgotten
            return self.excess <= _FINER
        seen = krylov.coupling[: krylov.steps, : krylov.steps]
        return gaps_are_empty(values[: self.k], self._margins(values), seen, krylov.size)

    def _probe_saw_all(self, values: Floats, outward: Floats) -> bool:
        """The same for the probe: an eigenvalue above the last wanted one would have shown itself in it by now."""
        krylov, margins = self.krylov, self._margins(values)
        if self.ended:  # all that it leads to is among the values
            return True
        if self.base == 0:  # the probe's space is not at hand: what the newest direction leads to must stay below
            limit = float(values[self.k - 1] + margins[-1])
            return bool((values[self.k :] + np.abs(outward[-1:, self.k :]).sum(axis=0) <= limit).all())
        seen = krylov.coupling[self.base : krylov.steps, self.base : krylov.steps]
        return gaps_are_empty(values[: self.k], margins, seen, krylov.size)

    def _make_room(self, most: int = 0) -> None:
        """Restart where the basis is full, or, if that gives more, has room for fewer rows than asked for."""
        krylov = self.krylov
        left = krylov.capacity - krylov.rows
        if krylov.full or (krylov.capacity < krylov.size and left < most < krylov.steps - self.k):
            self.krylov.compress(self._worth_keeping())
            self.restarted = True
            self.base = min(self.base, 0)

    def _worth_keeping(self) -> NDArray[np.intp]:
        """The wanted pairs, half as many as there is room for of the next ones, and the lowest few."""
        steps = self.krylov.steps
        room = max(steps - self.k - 2, 0) // 3
        top, low = np.arange(self.k + room), steps - 1 - np.arange(max(1, room // 3))
        return np.union1d(top, low)


def gaps_are_empty(values: Floats, margins: Floats, block: Floats, size: int) -> bool:
    """Whether the Krylov space of a random vector rules out eigenvalues that are above the last one and near none.

    Args:
        values: The wanted Ritz values, descending, shape (k,).
        margins: How near to each of them is not asked, shape (k,).
        block: The operator in the Krylov basis, tridiagonal, shape (n, n).
        size: D.

    Returns:
        Whether they are ruled out, each except with probability 0.5 %.
    """
    tops, bottoms = values + margins, values - margins
    gaps = [np.linspace(low, high, _PLACES) for low, high in zip(tops[1:], bottoms[:-1], strict=True) if low < high]
    return bool((christoffel(np.concatenate([tops[:1], *gaps]), block) > _enough(size)).all())


def christoffel(x: Floats, block: Floats) -> Floats:
    """The inverse of the largest part of a unit vector g that can lie in an eigenspace, from what its Krylov space saw.

    Let p_0 ... p_{n-1} be the polynomials that are orthonormal under the spectral measure of g, as n steps of Lanczos
    give them. Of all q of degree below n with q(x) = 1 the smallest integral of q^2 is 1 / sum p_i(x)^2,
    Christoffel's number: no more than that of the measure can lie at x. For a random g an eigenvalue at x has the
    squared component of g in its direction, and D times that is the square of a standard normal number, which is
    below (pi / 2) P^2 with probability P.

    Source: Akhiezer, The Classical Moment Problem (1965), section 2.5 (Christoffel's number); the guard is our own.

    Args:
        x: Places, shape (M,).
        block: The operator in the Krylov basis, tridiagonal, shape (n, n).

    Returns:
        Sum of p_i(x)^2, at most about 1e300, shape (M,).
    """
    before, polynomial, total = np.zeros_like(x), np.ones_like(x), np.ones_like(x)
    for i in range(len(block) - 1):
        link = block[i, i - 1] if i else 0.0
        after = ((x - block[i, i]) * polynomial - link * before) / block[i + 1, i]
        before, polynomial = polynomial, np.clip(after, -_HUGE, _HUGE)
        total += polynomial**2
    return total


def _enough(size: int) -> float:
    """The sum of squares above which a direction has shown itself, see `christoffel`."""
    return float(size / (np.pi / 2 * _MISSED**2))


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
    block: Block | None = None,
    choice: Choice | None = None,
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
        save: Called with the search after each step and before each product of the certificate, or each block of
            them; it decides whether to ask for `arrays()`, and may raise to stop.
        block: The operator on several vectors, for the certificate. Default: one after the other.
        choice: How `block` goes about it, if that is measured; it is kept in the state.

    Returns:
        Certified eigenpairs; `converged` is False and `advice` says why if the products ran out.

    Source: Wu and Simon, Thick-restart Lanczos method (2000); the guard is our own.
    """
    check_request(k, size, tol, dtype)
    device = torch.device(device)
    budget = 100 + 20 * k if max_products is None else max_products
    rows = max(2 * k + 50 if capacity is None else capacity, 2 * k + 12)
    search = Search(Krylov(size, rows, torch.Generator().manual_seed(seed), device, dtype), k, tol, choice)
    if state is not None:
        search.restore(state)
    krylov, certificates = search.krylov, k + 1
    while not search.finished and (krylov.products < budget - certificates or krylov.steps < k):
        search.step(product)
        if progress is not None:
            progress(krylov.products, search.excess * tol)
        if save is not None:
            save(search)

    def saved(multiply: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
        def multiplied(vectors: torch.Tensor) -> torch.Tensor:
            if save is not None:
                save(search)
            return multiply(vectors)

        return multiplied

    values, _, coordinates = krylov.ritz()
    vectors = krylov.lift(coordinates[:, [*range(k), len(values) - 1]])
    advice = "" if search.finished else _advice(krylov.products + certificates, search.excess)
    return certify(
        saved(product), vectors[:k], vectors[k], values[k:], krylov.products, tol, "lanczos", advice=advice,
        block=None if block is None else saved(block),
    )  # fmt: skip


def _advice(products: int, excess: float) -> str:
    if excess <= 1:
        return f"the search for missed eigenvalues was cut off at {products} products: allow more"
    return f"the largest residual is {excess:.1f} times its limit after {products} products: allow more, or raise tol"
