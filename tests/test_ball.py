"""The highest point of a ball, judged by the trust-region problem through eigenvalues, and of a box, by its corners."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize
from torch import Tensor

from landscape.ball import Ball, Box, climb

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
        ends = [climb(height(g, h), rho * start / start.norm(), Ball(rho), 5000, 1e-10) for start in (g, *starts)]
        best = max(ends, key=lambda end: end.height)
        assert best.height == pytest.approx(truth, rel=1e-8)  # second order in the gap's 1e-10 to first
        assert float(best.point.norm()) == pytest.approx(length, rel=1e-4)
        assert best.height <= truth * (1 + 1e-12)


def test_thirty_evaluations_from_slope_and_top_eigenvector_come_within_two_percent() -> None:
    for seed in range(20):
        g, h = quadratic(SPECTRA["convex"], seed)
        v = torch.linalg.eigh(h)[1][:, -1]
        for rho in (0.1, 1.0, 10.0):
            found = [climb(height(g, h), rho * start, Ball(rho), 30, 1e-3) for start in (g / g.norm(), v, -v)]
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
    found = [climb(height(g, h), sign * rho * vectors[:, -1], Ball(rho), 5000, 1e-10).height for sign in (1, -1)]
    assert found == pytest.approx([truth, truth], rel=1e-8)


def corners(d: int) -> Tensor:
    """All corners of the box ±1, shape (2^d, d)."""
    return torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * d)


class TestBox:
    def test_a_linear_height_rises_by_rho_times_the_sum_of_the_slopes(self) -> None:
        g, _ = quadratic(SPECTRA["flat"], 0)
        for start in (g, torch.zeros(D, dtype=torch.float64), -g):
            found = climb(lambda z: (g @ z, g), start, Box(0.3), 30, 1e-12)
            assert found.height == pytest.approx(0.3 * float(g.abs().sum()), rel=1e-14)
            assert found.gap == pytest.approx(0, abs=1e-14)

    @pytest.mark.parametrize("kind", SPECTRA)
    def test_at_the_minimum_of_a_diagonal_quadratic_it_is_half_the_sum_of_the_positive_curvatures(
        self, kind: str
    ) -> None:
        h, none = torch.tensor(SPECTRA[kind]), torch.zeros(D, dtype=torch.float64)
        for seed in range(4):
            start = torch.randn(D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            found = climb(height(none, h.diag()), Box(0.7).farthest(start), Box(0.7), 2000, 1e-12)
            assert found.height == pytest.approx(0.49 / 2 * float(h.clamp_min(0).sum()), rel=1e-9, abs=1e-12)

    @pytest.mark.parametrize("rho", [0.03, 0.7, 20.0])
    @pytest.mark.parametrize("kind", SPECTRA)
    def test_on_a_diagonal_quadratic_with_a_slope_each_coordinate_has_its_own_maximum(
        self, kind: str, rho: float
    ) -> None:
        g, _ = quadratic(SPECTRA[kind], 1)
        h = torch.tensor(SPECTRA[kind])
        inside = (h < 0) & (g.abs() < -h * rho)
        each = torch.where(inside, g**2 / (-2 * h), rho * g.abs() + rho**2 / 2 * h)
        found = climb(height(g, h.diag()), g, Box(rho), 2000, 1e-13)
        assert found.height == pytest.approx(float(each.sum()), rel=1e-9)

    def test_a_convex_height_is_highest_at_a_corner_which_some_random_start_finds(self) -> None:
        for seed in range(4):
            g, h = quadratic(SPECTRA["convex"], seed)
            all_corners = 0.7 * corners(D)
            truth = float((all_corners @ g + (all_corners @ h * all_corners).sum(1) / 2).max())
            starts = torch.randn(200, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            ends = [climb(height(g, h), Box(0.7).farthest(start), Box(0.7), 500, 1e-12) for start in (g, *starts)]
            assert max(end.height for end in ends) == pytest.approx(truth, rel=1e-12)  # NP-hard: no one climb need

    def test_a_concave_height_is_that_of_a_second_solver(self) -> None:
        for seed in range(4):
            g, h = quadratic(SPECTRA["concave"], seed)
            found = climb(height(g, h), g, Box(0.7), 5000, 1e-12)
            other = minimize(
                lambda z, g=g, h=h: -(g.numpy() @ z + z @ h.numpy() @ z / 2), np.zeros(D),
                jac=lambda z, g=g, h=h: -(g.numpy() + h.numpy() @ z), bounds=[(-0.7, 0.7)] * D, method="L-BFGS-B",
                options={"ftol": 1e-15, "gtol": 1e-12},
            )  # fmt: skip
            assert found.height == pytest.approx(-other.fun, rel=1e-9)


@pytest.mark.parametrize("body", [Ball(2.0), Box(0.4)])
def test_a_climb_never_ends_below_its_start_nor_outside(body: Ball | Box) -> None:
    wave = torch.linspace(1, 9, D, dtype=torch.float64)

    def rough(z: Tensor) -> tuple[Tensor, Tensor]:
        return torch.sin(wave * z).sum(), wave * torch.cos(wave * z)

    for seed in range(20):
        start = torch.randn(D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        found = climb(rough, start, body, 7, 1e-3)
        assert found.height >= float(rough(body.project(start))[0])
        assert found.height == float(rough(found.point)[0])
        size = found.point.norm() if isinstance(body, Ball) else found.point.abs().max()
        assert float(size) <= body.rho * (1 + 1e-15)
        assert found.evaluations <= 7


def test_the_gap_is_what_first_order_promises() -> None:
    g, h = quadratic(SPECTRA["indefinite"], 3)
    found = climb(height(g, h), g, Ball(1.0), 3, 0.0)
    slope = g + h @ found.point
    assert found.gap == pytest.approx(float(slope.norm() - slope @ found.point), rel=1e-12)
    found = climb(height(g, h), g, Box(1.0), 3, 0.0)
    slope = g + h @ found.point
    assert found.gap == pytest.approx(float(slope.abs().sum() - slope @ found.point), rel=1e-12)


def test_where_the_height_is_not_finite_the_climb_turns_back() -> None:
    def walled(z: Tensor) -> tuple[Tensor, Tensor]:
        return (z @ z if float(z.norm()) < 0.3 else torch.tensor(math.inf).double()), 2 * z

    found = climb(walled, torch.full((D,), 1.0, dtype=torch.float64), Ball(1.0), 30, 1e-3)
    assert 0.05 < found.height < 0.09
    nothing = climb(lambda z: (z.sum() * math.nan, z), torch.ones(D, dtype=torch.float64), Ball(1.0), 30, 1e-3)
    assert not nothing.point.any()


def test_the_projection_is_the_nearest_point() -> None:
    inside = torch.tensor([0.3, 0.4])
    assert torch.equal(Ball(0.6).project(inside), inside)
    assert Ball(0.25).project(inside).tolist() == pytest.approx([0.15, 0.2])
    assert torch.equal(Ball(1.0).project(torch.zeros(2)), torch.zeros(2))
    assert Box(0.35).project(-inside).tolist() == pytest.approx([-0.3, -0.35])
