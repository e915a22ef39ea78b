"""How long a noisy walk stays near a critical point: simulated, and exact twice over.

`ou_exit` is the mean first passage time of the Ornstein-Uhlenbeck process, the limit of small steps; `chain_exit` is
the mean of the walk with finite steps, from its own transition probabilities. The simulation is held against both.

Source: Gardiner 2009, section 5.5 (mean first passage time by quadrature); thesis, equation 2.4 (Gaussian SGD).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from landscape.result import Array

CHECK = 64  # steps between two looks at whether all have left


def exit_steps(
    move: Callable[[Tensor], Tensor], start: Tensor, inside: Callable[[Tensor], Tensor], limit: int
) -> Tensor:
    """Walk until every walker has left.

    Args:
        move: One step of all walkers, from states to states.
        start: Their states.
        inside: From states to whether each is inside still, shape (...,).
        limit: Most steps.

    Returns:
        First step after which each was outside, shape (...,); limit + 1 where none was (censored). A walker that
        diverged is outside.
    """
    state = start
    left = torch.full_like(inside(start), limit + 1, dtype=torch.int64)
    for step in range(1, limit + 1):
        state = move(state)
        left = torch.where(inside(state), left, left.clamp(max=step))
        if step % CHECK == 0 and not bool((left > step).any()):
            break
    return left


def ou_exit(rate: float, noise: float, barrier: float) -> float:
    """Mean time in which dy = −k·y dt + s dW, begun at 0, leaves (−b, b).

    τ = (2/s²) ∫₀ᵇ e^{ky²/s²} ∫₀^y e^{−kz²/s²} dz dy; with u = kb²/s² the inner integral is an error function, or
    Dawson's where k < 0, and the outer one is done by Gauss-Legendre quadrature.

    Args:
        rate: k; negative where 0 repels.
        noise: s, positive.
        barrier: b, positive.

    Returns:
        τ, in the unit of 1/k.
    """
    from scipy.special import dawsn, erfcx

    u = rate * barrier**2 / noise**2
    nodes, weights = np.polynomial.legendre.leggauss(200)
    v = (nodes + 1) / 2
    root = np.sqrt(abs(u))
    if root * root < 1e-12:
        inner = v
    elif u > 0:  # e^{uv²}·erf(√u·v) by erfcx, so that nothing is lost where erf is 1
        inner = np.sqrt(np.pi) / (2 * root) * (np.exp(u * v**2) - erfcx(root * v))
    else:
        inner = dawsn(root * v) / root
    return float(2 * barrier**2 / noise**2 * (weights / 2 * inner).sum())


def ou_variance(rate: float, noise: float) -> float:
    """Stationary variance s²/(2k) of dy = −k·y dt + s dW for k > 0."""
    return noise**2 / (2 * rate)


Transition = Callable[[Array, Array], Array]
"""From places after (P, 1) and places before (1, Q) to the probability of landing at or below, (P, Q)."""


def chain(below: Transition, barrier: float, cells: int) -> tuple[Array, Array]:
    """The transition matrix of a walk on (−b, b), cut into equal cells.

    Args:
        below: Distribution function of the next place.
        barrier: b.
        cells: How many, odd, so that 0 is the middle of one.

    Returns:
        Middles (P,), and the probability of cell j after the middle of cell i, (P, P); rows sum to less than 1 by
        the probability of leaving.
    """
    edges = np.linspace(-barrier, barrier, cells + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    return middles, np.diff(below(edges[:, None], middles[None, :]), axis=0).T


def chain_exit(below: Transition, barrier: float, cells: int = 201) -> float:
    """Mean number of steps in which a walk, begun at 0, leaves (−b, b).

    m = 1 + Pm over cells of width h; the error is O(h²) and is removed once by Richardson's extrapolation with a
    third of the width, which keeps 0 in the middle of a cell.

    Args:
        below: Distribution function of the next place.
        barrier: b.
        cells: Cells of the coarser cut, odd.

    Returns:
        Mean exit time in steps.
    """

    def mean(n: int) -> float:
        _, transition = chain(below, barrier, n)
        return float(np.linalg.solve(np.eye(n) - transition, np.ones(n))[n // 2])

    coarse, fine = mean(cells), mean(3 * cells)
    return fine + (fine - coarse) / 8


def chain_survival(below: Transition, barrier: float, steps: Array, cells: int = 401) -> Array:
    """Probability that a walk begun at 0 is inside (−b, b) still.

    Args:
        below: Distribution function of the next place.
        barrier: b.
        steps: After how many steps, ascending integers, shape (T,).
        cells: Cells, odd.

    Returns:
        Survival, shape (T,).
    """
    _, transition = chain(below, barrier, cells)
    alive, done, found = np.ones(cells), 0, []
    for until in steps:
        for _ in range(int(until) - done):
            alive = transition @ alive
        done = int(until)
        found.append(alive[cells // 2])
    return np.array(found)
