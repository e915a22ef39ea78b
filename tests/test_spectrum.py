"""Traces, densities and lines against dense float64 spectra."""

from __future__ import annotations

from dataclasses import replace

import curvature_nets as nets
import numpy as np
import pytest
import torch
from conftest import Command, Pair

from analyses import along, hessian, spectrum
from landscape.curvature import dense_hessian
from landscape.errors import UsageError
from landscape.problem import Problem
from landscape.vector import lerp

FINE = spectrum.Options(sketch=5, samples=100, starts=8, steps=40)


@pytest.fixture(scope="module")
def problem() -> Problem:
    return nets.problem()


@pytest.fixture(scope="module")
def net(problem: Problem) -> tuple[spectrum.Spectrum, np.ndarray]:
    found = spectrum.compute(
        problem, nets.point(problem, 0, weight_decay=0.01), nets.point(problem, 1), options=FINE, dtype="float64"
    )
    return found, torch.linalg.eigvalsh(dense_hessian(nets.placed(problem, nets.point(problem, 0)))).numpy()


def test_the_trace_is_within_its_standard_error(net: tuple[spectrum.Spectrum, np.ndarray]) -> None:
    found, values = net
    assert abs(found.trace[0] - values.sum()) < 4 * found.trace_error[0]
    assert found.trace_error[0] < 0.1 * values.sum()
    assert found.size == len(values)
    assert found.weight_decay[0] == 0.01
    row = dict(zip(spectrum.table(found).columns, spectrum.table(found).rows[0], strict=True))
    assert row["trace + wd"] == pytest.approx(found.trace[0] + 0.01 * len(values))


def test_the_density_is_that_of_all_eigenvalues_within_its_band(net: tuple[spectrum.Spectrum, np.ndarray]) -> None:
    found, values = net
    place, sigma = found.place[0], found.sigma
    assert np.trapezoid(found.density[0], place) == pytest.approx(1, abs=1e-3)
    bells = np.exp(-((place[:, None] - values) ** 2) / (2 * sigma**2)) / (sigma * np.sqrt(2 * np.pi))
    truth = bells.mean(1)
    outside = np.abs(found.density[0] - truth) > 4 * found.density_error[0] + 1e-3 * truth.max()
    assert outside.mean() < 0.05
    assert found.weight[0].sum(1) == pytest.approx(1)


def test_parts_of_the_spectrum_add_up(net: tuple[spectrum.Spectrum, np.ndarray]) -> None:
    found, values = net
    parts = spectrum.parts(found)
    assert parts.sum(1) == pytest.approx(1)
    assert parts[0, 1] == pytest.approx((np.abs(values) <= found.sigma).mean(), abs=0.15)


def test_the_part_that_is_flat_is_told_with_its_standard_error(net: tuple[spectrum.Spectrum, np.ndarray]) -> None:
    """Two starts, one of which sees half the weight within σ and one none: 1/4, with error (1/2 / √2) / √2 = 1/4."""
    node, weight = np.array([[[0.0, 5.0], [4.0, 5.0]]]), np.full((1, 2, 2), 0.5)
    result = replace(net[0], sigma=1.0, node=node, weight=weight)
    assert spectrum.parts(result)[0, 1] == 0.25
    assert spectrum.flat_error(result) == pytest.approx(0.25, rel=1e-12)
    assert spectrum.flat_error(result, result) == pytest.approx(0.25 / np.sqrt(2), rel=1e-12)
    assert np.isnan(spectrum.flat_error(replace(result, node=node[:, :1], weight=weight[:, :1])))


def test_a_spectrum_is_the_same_for_the_same_seed_and_one_gaussian_serves_all(problem: Problem) -> None:
    points, options = (nets.point(problem, 0), nets.point(problem, 1)), spectrum.Options(samples=3, starts=2, steps=5)
    one, two = (spectrum.compute(problem, *points, options=options) for _ in range(2))
    assert (one.density == two.density).all()
    assert (one.trace == two.trace).all()
    other = spectrum.Options(samples=3, starts=2, steps=5, seed=1)
    assert (spectrum.compute(problem, *points, options=other).trace != one.trace).all()
    widths = (np.ptp(one.node, axis=(1, 2)) * 0.01).tolist()
    assert one.sigma == pytest.approx(max(widths))


def test_the_fisher_matrix_has_no_eigenvalue_below_zero(problem: Problem) -> None:
    options = spectrum.Options(operator="empirical-fisher", starts=2, samples=3)
    found = spectrum.compute(problem, nets.point(problem, 0), options=options, dtype="float64")
    assert found.node.min() > -1e-10 * found.node.max()
    assert "empirical Fisher" in spectrum.label(found)


def test_sharpness_along_the_line_is_that_of_each_point(problem: Problem) -> None:
    a, b = nets.point(problem, 0), nets.point(problem, 1)
    options = along.Options(top=2, points=4, low=-0.5, high=1.5, tol=1e-6)
    found = along.compute(problem, a, b, options=options, dtype="float64")
    assert {-0.5, 0.0, 1.0, 1.5} <= set(found.alpha.tolist())
    for i, x in enumerate(found.alpha):
        middle = replace(a, theta=lerp(a.theta, b.theta, float(x)))
        truth = torch.linalg.eigvalsh(dense_hessian(nets.placed(problem, middle))).flip(0)[:2].numpy()
        assert (found.interval_low[i] <= truth).all()
        assert (truth <= found.interval_high[i]).all()
    ends = hessian.compute(problem, a, b, options=hessian.Options(top=2, tol=1e-6), dtype="float64")
    for end, x in enumerate((0.0, 1.0)):  # bitwise: the same weights, statistics and start vector
        assert found.eigenvalue[found.alpha == x][0].tolist() == ends.eigenvalue[end].tolist()


@pytest.mark.parametrize(("low", "high", "points"), [(0.0, 1.0, 2), (0.0, 1.0, 9), (-0.3, 1.7, 5), (-4.0, 9.0, 3)])
def test_both_ends_are_among_the_places(low: float, high: float, points: int) -> None:
    alpha = along.places(low, high, points)
    assert {low, 0.0, 1.0, high} <= set(alpha.tolist())
    assert (np.diff(alpha) > 0).all()
    assert points <= len(alpha) <= points + 2


def test_a_ridge_is_told_from_a_slope(problem: Problem) -> None:
    options = along.Options(top=1, points=3)
    found = along.compute(problem, nets.point(problem, 0), nets.point(problem, 1), options=options)
    for values, says in (([1.0, 3.0, 2.0], "Sharper between them"), ([3.0, 2.5, 2.0], "no ridge")):
        top = np.array(values)[:, None]
        assert says in along.words(replace(found, eigenvalue=top, interval_low=top - 0.1, interval_high=top + 0.1))[0]


def test_stored_statistics_do_not_exist_between_checkpoints(run: Command, pair: Pair) -> None:
    done = run("along", *pair.paths, "--batchnorm", "stored", "-q")
    assert done.exit_code == 2
    assert "--batchnorm recalibrated" in done.stderr
    with pytest.raises(UsageError, match="2 checkpoints"):
        along.compute(pair.problem, pair.checkpoints[0])
