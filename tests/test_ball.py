"""The highest point of a ball, judged by the trust-region problem solved through eigenvalues in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from torch import Tensor

from landscape.ball import climb, project

D = 12
SPECTRA = {
    "convex": np.linspace(0.1, 3, D),
    "indefinite": np.linspace(-3, 2, D),
    "concave": np.linspace(-3, -0.5, D),
    "flat": np.zeros(D),
}


def quadratic(spectrum: NDArray[np.float64], seed: int) -> tuple[Tensor, Tensor]:
    """g and H of ⟨g, z⟩ + ½⟨z, Hz⟩ with a random basis of eigenvectors."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(D, D, generator=generator, dtype=torch.float64))[0]
    g = torch.randn(D, generator=generator, dtype=torch.float64)
    return g, basis @ torch.diag(torch.tensor(spectrum)) @ basis.T


def height(g: Tensor, h: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    return lambda z: (g @ z + z @ h @ z / 2, g + h @ z)


def trust_region(g: Tensor, h: Tensor, rho: float) -> tuple[float, float]:
    """The maximum over the ball and the length of its point: (μ − H) z = g, μ ≥ max(λ₁, 0), ‖z‖ = ρ or μ = 0."""
    values, vectors = torch.linalg.eigh(h)
    c = vectors.T @ g
    least = max(float(values[-1]), 0.0)

    def point(s: float) -> Tensor:
        return c / (least - values + s)  # μ = least + s, so that no digit of a small s is lost

    if values[-1] < 0 and float(point(0.0).norm()) <= rho:
        z = point(0.0)
    else:
        s = brentq(lambda s: math.log(float(point(math.exp(s)).norm()) / rho), -60, 40, xtol=1e-14, rtol=1e-14)
        z = point(math.exp(s))
    return float(c @ z + z @ (values * z) / 2), float(z.norm())


@pytest.mark.parametrize("rho", [0.03, 0.7, 20.0])
@pytest.mark.parametrize("kind", SPECTRA)
def test_on_a_quadratic_it_is_the_trust_region_maximum_wherever_the_climb_starts(kind: str, rho: float) -> None:
    for seed in range(4):
        g, h = quadratic(SPECTRA[kind], seed)
        truth, length = trust_region(g, h, rho)
        starts = torch.randn(3, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        ends = [climb(height(g, h), rho * start / start.norm(), rho, 5000, 1e-10) for start in (g, *starts)]
        best = max(ends, key=lambda end: end.height)
        assert best.height == pytest.approx(truth, rel=1e-8)  # second order in the gap's 1e-10 to first
        assert float(best.point.norm()) == pytest.approx(length, rel=1e-4)
        assert best.height <= truth * (1 + 1e-12)


def test_thirty_evaluations_from_slope_and_top_eigenvector_come_within_two_percent() -> None:
    for seed in range(20):
        g, h = quadratic(SPECTRA["convex"], seed)
        v = torch.linalg.eigh(h)[1][:, -1]
        for rho in (0.1, 1.0, 10.0):
            found = [climb(height(g, h), rho * start, rho, 30, 1e-3) for start in (g / g.norm(), v, -v)]
            assert 0.98 * trust_region(g, h, rho)[0] <= max(each.height for each in found)
            assert max(each.evaluations for each in found) <= 30


def test_without_a_slope_along_the_top_eigenvector_the_climb_needs_to_start_there() -> None:
    g, h = quadratic(SPECTRA["convex"], 0)
    values, vectors = torch.linalg.eigh(h)
    g -= (g @ vectors[:, -1]) * vectors[:, -1]
    rho = 50.0  # the hard case: z = (λ₁ − H)⁺ g + τ v₁
    rest = vectors[:, :-1] @ ((vectors[:, :-1].T @ g) / (values[-1] - values[:-1]))
    z = rest + math.sqrt(rho**2 - float(rest @ rest)) * vectors[:, -1]
    truth = float(height(g, h)(z)[0])
    found = [climb(height(g, h), sign * rho * vectors[:, -1], rho, 5000, 1e-10).height for sign in (1, -1)]
    assert found == pytest.approx([truth, truth], rel=1e-8)


def test_a_climb_never_ends_below_its_start_nor_outside_the_ball() -> None:
    wave = torch.linspace(1, 9, D, dtype=torch.float64)

    def rough(z: Tensor) -> tuple[Tensor, Tensor]:
        return torch.sin(wave * z).sum(), wave * torch.cos(wave * z)

    for seed in range(20):
        start = torch.randn(D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        found = climb(rough, start, 2.0, 7, 1e-3)
        assert found.height >= float(rough(project(start, 2.0))[0])
        assert found.height == float(rough(found.point)[0])
        assert float(found.point.norm()) <= 2.0 * (1 + 1e-15)
        assert found.evaluations <= 7


def test_the_gap_is_what_first_order_promises() -> None:
    g, h = quadratic(SPECTRA["indefinite"], 3)
    found = climb(height(g, h), g, 1.0, 3, 0.0)
    slope = g + h @ found.point
    assert found.gap == pytest.approx(float(slope.norm() - slope @ found.point), rel=1e-12)


def test_where_the_height_is_not_finite_the_climb_turns_back() -> None:
    def walled(z: Tensor) -> tuple[Tensor, Tensor]:
        return (z @ z if float(z.norm()) < 0.3 else torch.tensor(math.inf).double()), 2 * z

    found = climb(walled, torch.full((D,), 1.0, dtype=torch.float64), 1.0, 30, 1e-3)
    assert 0.05 < found.height < 0.09
    nothing = climb(lambda z: (z.sum() * math.nan, z), torch.ones(D, dtype=torch.float64), 1.0, 30, 1e-3)
    assert not nothing.point.any()


def test_the_projection_is_the_nearest_point() -> None:
    inside = torch.tensor([0.3, 0.4])
    assert torch.equal(project(inside, 0.6), inside)
    assert project(inside, 0.25).tolist() == pytest.approx([0.15, 0.2])
    assert torch.equal(project(torch.zeros(2), 1.0), torch.zeros(2))
