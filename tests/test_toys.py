"""Toy functions, the worst loss within ρ, and walks: against closed forms, autograd and second implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from landscape.toys import functions, passage, perturbed, valleys, wells
from landscape.toys.descent import descend, growth, heavy_ball, perturbation
from landscape.toys.functions import BEALE, BEALE_MINIMUM, BEALE_SADDLE, CROSS, SADDLE, SEXTIC, SLIT, Toy
from landscape.toys.gaussian_sgd import GaussianSGD, claimed_exponent, exact_exponent
from landscape.toys.saddle_net import saddle_net
from landscape.toys.stochastic import SMOOTHNESS, bound, squared_gradients, steepest

ON_LINE = (SEXTIC, SLIT, functions.linex(-0.3), functions.quadratic(2.0), functions.BOWL)
ON_PLANE = (SADDLE, BEALE, CROSS, functions.linex(-1.0, 0.5), functions.BOWL)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points(*shape: int, seed: int = 0) -> Tensor:
    return 1.5 * torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


class TestFunctions:
    @pytest.mark.parametrize(("toy", "d"), [(t, 1) for t in ON_LINE] + [(t, 2) for t in ON_PLANE])
    def test_gradient_and_hessian_are_those_of_autograd(self, toy: Toy, d: int) -> None:
        w = points(7, d).requires_grad_()
        (gradient,) = torch.autograd.grad(toy.value(w).sum(), w)
        hessian = torch.stack([torch.autograd.functional.hessian(toy.value, each) for each in w.detach()])  # type: ignore[no-untyped-call]
        assert torch.allclose(toy.gradient(w), gradient, rtol=1e-12, atol=1e-12)
        assert torch.allclose(toy.hessian(w.detach()), hessian, rtol=1e-10, atol=1e-10)

    def test_the_kink_has_slope_one_on_the_right_and_c_on_the_left(self) -> None:
        w = torch.tensor([[-2.0], [0.0], [2.0]], dtype=torch.float64)
        assert functions.kink(3.0).gradient(w).flatten().tolist() == [-3, 0, 1]
        assert functions.kink(3.0).value(w).tolist() == [6, 0, 2]

    def test_beale_has_its_saddle_and_its_minimum_where_it_is_said(self) -> None:
        for place in (BEALE_SADDLE, BEALE_MINIMUM):
            assert BEALE.gradient(torch.tensor(place, dtype=torch.float64)).norm() < 1e-14
        low, high = torch.linalg.eigvalsh(BEALE.hessian(torch.tensor(BEALE_SADDLE, dtype=torch.float64))).tolist()
        assert low == pytest.approx(-27.75, abs=1e-12)
        assert high == pytest.approx(27.75, abs=1e-12)


class TestWorstLoss:
    def test_a_quadratic_becomes_a_quadratic_of_distance_plus_rho(self) -> None:
        w, rho = torch.linspace(-3, 3, 41, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
        found = perturbed.on_line(functions.quadratic(2.0), w, rho)
        assert torch.allclose(found, (w.abs() + 0.7) ** 2, rtol=1e-14)

    def test_on_a_line_it_is_the_largest_of_a_dense_grid_from_below(self) -> None:
        w, rho = torch.linspace(-0.5, 2.5, 61, dtype=torch.float64), 0.4
        top = valleys.VALLEYS[1].maxima
        found = perturbed.on_line(SEXTIC, w, torch.tensor(rho, dtype=torch.float64), top)
        grid = w[:, None] + rho * torch.linspace(-1, 1, 4001, dtype=torch.float64)
        dense = SEXTIC.value(grid[..., None]).amax(-1)
        assert (found - dense).min() >= -1e-15
        assert (found - dense).max() < 1e-6  # L'' h²/8 at an inner maximum, h = 2e-4

    def test_on_a_plane_it_is_the_circle_of_an_isotropic_quadratic_and_a_dense_grid_of_others(self) -> None:
        w, rho = points(20, 2), torch.tensor(0.6, dtype=torch.float64)
        round_ = perturbed.on_plane(functions.quadratic(1.0, 1.0), w, rho)
        assert torch.allclose(round_, 0.5 * (w.norm(dim=-1) + 0.6) ** 2, rtol=1e-13)
        turn = torch.linspace(0, 2 * math.pi, 20_001, dtype=torch.float64)
        circle = w[:, None] + 0.6 * torch.stack([turn.cos(), turn.sin()], -1)
        dense = valleys.PLANE.value(circle).amax(-1)
        found = perturbed.on_plane(valleys.PLANE, w, rho)
        assert (found - dense).min() > -1e-12
        assert ((found - dense) / dense).max() < 1e-6

    @pytest.mark.parametrize("rho", [0.1, 0.5, 1.0])
    def test_linex_has_its_worst_minimum_at_the_closed_form(self, rho: float) -> None:
        found = valleys.measure(valleys.VALLEYS[3], torch.tensor([rho], dtype=torch.float64))["minimum"]
        assert float(found) == pytest.approx(perturbed.linex_shift(-0.3, rho), abs=1e-9)  # a kink: found to rounding
        assert perturbed.linex_shift(-0.3, 1.0) == pytest.approx(0.0498, abs=1e-4)

    def test_depth_curvature_and_shift_on_exact_valleys(self) -> None:
        rho = torch.tensor([0.2, 0.5], dtype=torch.float64)
        quadratic = valleys.measure(valleys.VALLEYS[0], rho)
        assert torch.allclose(quadratic["depth"], 1 - rho**2, atol=1e-12)
        assert torch.allclose(quadratic["curvature"], 2 * (1 + 2 * rho / (1 - rho)), atol=1e-9)  # twice the excess
        assert torch.allclose(quadratic["kink"], 4 * rho, atol=1e-12)
        kinked = valleys.measure(valleys.VALLEYS[4], rho)
        assert torch.allclose(kinked["minimum"], rho / 2, atol=1e-12)  # (c − 1)/(c + 1) with c = 3

    def test_the_depth_of_the_theorem_holds_on_a_plane_only_up_to_r_over_the_condition_number(self) -> None:
        rho = torch.tensor([0.1, 0.2, 0.3, 0.6], dtype=torch.float64)
        depth, claimed = valleys.disc_depth(5.0, rho)
        assert torch.allclose(depth[:2], claimed[:2], atol=1e-12)
        assert bool((depth[2:] > claimed[2:] + 1e-3).all())
        assert bool((depth > 0).all())

    def test_the_grid_that_closes_in_finds_the_minimum_of_a_narrow_tilted_valley(self) -> None:
        target = torch.tensor([0.31, -0.27], dtype=torch.float64)
        tilt = torch.tensor([[5.0, 4.0], [4.0, 5.0]], dtype=torch.float64)

        def valley(w: Tensor) -> Tensor:
            return torch.einsum("...i,ij,...j->...", w - target, tilt, w - target)

        found = perturbed.lowest(valley, torch.zeros(3, 2, dtype=torch.float64), 1.0)
        assert (found - target).abs().max() < 1e-6


class TestDescent:
    def test_the_saddle_repels_sam_just_below_one_over_the_curvature_and_attracts_just_above(self) -> None:
        start = torch.tensor([0.0, 1e-3], dtype=torch.float64)
        for rho, sign in ((0.49, 1), (0.5, 0), (0.51, -1)):
            y = descend(SADDLE.gradient, start, [200], lr=0.05, rho=rho, normalised=False)[0, 1] / 1e-3
            assert float(y) == pytest.approx(growth(-2.0, 0.05, rho) ** 200, rel=1e-12)
            assert math.copysign(1, float(y.log())) == sign or (sign == 0 and float(y) == pytest.approx(1, abs=1e-12))

    def test_normalised_sam_captures_whatever_starts_within_rho_of_the_saddle(self) -> None:
        start = points(50, 2)
        start = 0.99 * 0.3 * start / start.norm(dim=-1, keepdim=True)
        end = descend(SADDLE.gradient, start, [4000], lr=0.01, rho=0.3, normalised=True)[0]
        assert end.norm(dim=-1).max() < 0.05  # it circles at η|λ|ρ

    def test_without_a_radius_it_is_gradient_descent_and_a_zero_gradient_is_not_perturbed(self) -> None:
        start = points(5, 2)
        w = start.clone()
        for _ in range(10):
            w = w - 0.001 * BEALE.gradient(w)
        for normalised in (True, False):
            assert torch.equal(descend(BEALE.gradient, start, [10], lr=0.001, rho=0.0, normalised=normalised)[0], w)
        assert torch.equal(perturbation(torch.zeros(2, 2), 1.0, normalised=True), torch.zeros(2, 2))

    def test_without_momentum_the_heavy_ball_is_descent(self) -> None:
        start = points(5, 2)
        state = torch.stack([start, torch.zeros_like(start)])
        for _ in range(3):
            state = heavy_ball(state, BEALE.gradient, lr=1e-3, momentum=0.0, rho=0.1, normalised=True)
        assert torch.equal(state[0], descend(BEALE.gradient, start, [3], lr=1e-3, rho=0.1, normalised=True)[0])


class TestNetworkAtItsSaddle:
    def test_gradient_is_that_of_autograd_and_the_spectrum_is_the_closed_form(self) -> None:
        net = saddle_net(generator(), torch.zeros((), dtype=torch.float64))
        theta = points(net.size).requires_grad_()
        (gradient,) = torch.autograd.grad(net.loss(theta), theta)
        assert torch.allclose(net.gradient(theta.detach(), net.x, net.y), gradient, atol=1e-14)
        zero = torch.zeros(net.size, dtype=torch.float64)
        assert torch.equal(net.gradient(zero, net.x, net.y), zero)
        values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(net.loss, zero))  # type: ignore[no-untyped-call]
        ones = torch.ones(net.hidden, dtype=torch.float64)
        assert net.eigenvalue == pytest.approx(-1, abs=1e-14)
        assert torch.allclose(values, torch.cat([-ones, 0 * ones, ones]), atol=1e-12)

    def test_batches_of_many_networks_are_batches_of_each(self) -> None:
        net = saddle_net(generator(), torch.zeros((), dtype=torch.float64))
        theta, drawn = points(3, net.size), torch.randint(64, (3, 5), generator=generator())
        found = net.gradient(theta, net.x[drawn], net.y[drawn])
        for one, pick, theta_one in zip(found, drawn, theta, strict=True):
            assert torch.allclose(one, net.gradient(theta_one, net.x[pick], net.y[pick]), atol=1e-15)


class TestExitTimes:
    @pytest.mark.parametrize("u", [0.1, 1.0, 5.0])
    def test_the_quadrature_is_the_hypergeometric_series(self, u: float) -> None:
        term, total = 1.0, 1.0  # ₂F₂(1, 1; 3/2, 2; u) = Σ u^k/((3/2)_k (k + 1)), term without the last factor
        for k in range(1, 80):
            term *= u / (k + 0.5)
            total += term / (k + 1)
        assert passage.ou_exit(u, 1.0, 1.0) == pytest.approx(total, rel=1e-12)

    def test_the_quadrature_is_brownian_motion_without_a_force_and_solves_its_equation_with_one(self) -> None:
        assert passage.ou_exit(0.0, 0.5, 2.0) == pytest.approx(16)  # b²/s²
        k, s, dt = -1.5, 0.7, 1e-3
        walk = chain_of_gaussian(k, s, dt)
        corrected = 0.5 + 0.5826 * s * math.sqrt(dt)  # Chernoff's and Siegmund's shift of the barrier
        assert passage.chain_exit(walk, 0.5, 401) * dt == pytest.approx(
            passage.ou_exit(k, s, corrected), rel=2 * abs(k) * dt
        )

    def test_the_chain_agrees_with_a_finer_cut_and_with_its_own_survival(self) -> None:
        walk = GaussianSGD(1.0, 0.1, 10.0, 0.1, True)
        coarse, fine = passage.chain_exit(walk.below, 0.15, 101), passage.chain_exit(walk.below, 0.15, 301)
        assert coarse == pytest.approx(fine, rel=1e-3)  # a step is ten coarse cells wide
        survival = passage.chain_survival(walk.below, 0.15, np.arange(0, 2000), 303)
        assert survival[-1] < 1e-6
        assert survival.sum() == pytest.approx(fine, rel=2e-3)  # E[ν] = Σ P(ν > t)

    @pytest.mark.parametrize(("rho", "shared"), [(0.0, True), (0.05, False), (0.05, True)])
    def test_simulated_exits_lie_within_their_standard_error_of_the_exact_mean(self, rho: float, shared: bool) -> None:
        walk = GaussianSGD(1.0, 0.1, 10.0, rho, shared)
        noise = generator(3)

        def move(w: Tensor) -> Tensor:
            return walk.move(w, torch.randn(4000, generator=noise, dtype=torch.float64))

        start = torch.zeros(4000, dtype=torch.float64)
        left = passage.exit_steps(move, start, lambda w: w.abs() < 0.15, 20_000).double()
        assert left.max() <= 20_000
        exact = passage.chain_exit(walk.below, 0.15)
        assert abs(float(left.mean()) - exact) < 3.5 * float(left.std()) / math.sqrt(4000)  # p < 5e-4, seed fixed

    def test_the_walk_has_the_stationary_variance_of_its_equation(self) -> None:
        lr, curvature, batch = 0.01, 2.0, 4.0
        walk, noise = GaussianSGD(curvature, lr, batch), generator(1)
        w = torch.zeros(20_000, dtype=torch.float64)
        for _ in range(600):  # e^(−ηλt) = 6e-6
            w = walk.move(w, torch.randn(20_000, generator=noise, dtype=torch.float64))
        limit = passage.ou_variance(curvature, math.sqrt(lr * curvature / batch))
        assert limit == pytest.approx(lr / (2 * batch))
        finite = limit / (1 - lr * curvature / 2)  # of the walk: η²λ/B over 1 − (1 − ηλ)²
        assert float(w.var()) == pytest.approx(finite, rel=4 * math.sqrt(2 / 20_000))

    def test_a_walker_that_diverges_is_outside_and_one_that_stays_is_censored(self) -> None:
        start = torch.tensor([1.0, 0.0])
        left = passage.exit_steps(lambda w: w * math.inf if w[0] else w, start, lambda w: w.abs() < 2, 10)
        assert left.tolist() == [1, 1]  # 0·∞ is not a number, and outside
        assert passage.exit_steps(lambda w: w, start, lambda w: w.abs() < 2, 10).tolist() == [11, 11]

    def test_the_exact_exponent_is_that_of_the_quadrature_and_the_claimed_one_only_at_curvature_one(self) -> None:
        for curvature in (0.5, 1.0, 2.0):
            half, scale = math.sqrt(2 * 0.3 / curvature), 400.0  # B/η such that the exponent is 400·2·0.3/λ
            rate = scale / 2
            times = [passage.ou_exit(curvature, math.sqrt(curvature / x), half) for x in (rate, scale)]
            slope = math.log(times[1] / times[0]) / (scale - rate)
            assert slope == pytest.approx(exact_exponent(curvature, 0.3), rel=0.02)  # the prefactor's ln 2/2 over 120
            assert (abs(slope / claimed_exponent(curvature, 0.3) - 1) < 0.02) == (curvature == 1)


def chain_of_gaussian(rate: float, noise: float, dt: float) -> passage.Transition:
    from scipy.special import ndtr

    return lambda after, before: ndtr((after - (1 - rate * dt) * before) / (noise * math.sqrt(dt)))


class TestDrawsAndRates:
    def test_the_population_loss_is_the_expectation_of_empirical_ones(self) -> None:
        losses = wells.Wells((1.2, 1.0), 0.4)
        w = torch.linspace(-3, 3, 13, dtype=torch.float64)
        z = 0.4 * torch.randn(20_000, 1, generator=generator(), dtype=torch.float64)
        drawn = losses.empirical(w, z)
        error = drawn.std(0) / math.sqrt(20_000)
        assert ((drawn.mean(0) - losses.population(w)).abs() < 4 * error + 1e-12).all()

    def test_the_worst_on_a_grid_is_the_largest_within_reach(self) -> None:
        values = points(3, 50)
        found = wells.worst(values, 4)
        for i in range(50):
            assert torch.equal(found[:, i], values[:, max(0, i - 4) : i + 5].amax(-1))

    def test_the_bowl_is_as_smooth_and_as_steep_as_the_bound_says(self) -> None:
        x = torch.linspace(-4, 4, 8001, dtype=torch.float64)[:, None]
        assert float(functions.BOWL.hessian(x).abs().max()) == pytest.approx(SMOOTHNESS)
        assert float(functions.BOWL.gradient(x).abs().max()) == pytest.approx(steepest(1), rel=1e-6)

    def test_without_noise_and_radius_the_mean_squared_gradient_is_that_of_gradient_descent(self) -> None:
        start = torch.ones(1, 3, dtype=torch.float64)
        x, total = start.clone(), 0.0
        for t in range(1, 6):
            total += float(functions.BOWL.gradient(x).square().sum())
            x = x - 0.2 / math.sqrt(t) * functions.BOWL.gradient(x)
        mean, end = squared_gradients(start, [5], 0.2, torch.zeros(1, 1, dtype=torch.float64), 0.0, generator())
        assert float(mean) == pytest.approx(total / 5, rel=1e-14)
        assert torch.equal(end, functions.BOWL.value(x))
        first = bound(torch.tensor([4.0]), 1.5, 0.2, 0.0, 0.0, 3)
        assert float(first) == pytest.approx(2 / 0.2 * 1.5 / 2)
