"""The valley along a line and the asymmetry of its sides, judged by functions whose valley is known.

Tolerances: the minimum is found to 1e-4 of the first step (1e-3 here), the radius to 2 % of the rise, slopes exactly;
bounds of slopes are certified to 1 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from landscape.asymmetric import Slopes
from landscape.extremes import Curve
from landscape.valley import NO_MINIMUM, NO_RISE, NOT_FINITE, OK, Line, find_minimum, find_radius, measure

PARTS = [i / 20 for i in range(1, 21)]


@dataclass(frozen=True)
class Known:
    value: Callable[[float], float]
    derivative: Callable[[float], float]

    def loss(self, offset: float) -> float:
        return self.value(offset)

    def slope(self, offset: float) -> float:
        return self.derivative(offset)


def two_sided(steep: float, flat: float, centre: float = 0.0) -> Line:
    """½ a ℓ² behind the centre, ½ b ℓ² ahead of it."""
    return Known(
        lambda x: (steep if x < centre else flat) * (x - centre) ** 2 / 2,
        lambda x: (steep if x < centre else flat) * (x - centre),
    )


def linear(steep: float, flat: float) -> Line:
    return Known(lambda x: -steep * x if x < 0 else flat * x, lambda x: -steep if x < 0 else flat if x else 0.0)


@pytest.mark.parametrize("centre", [0.0, 0.37, -5.2])
def test_the_minimum_is_found_wherever_the_line_starts(centre: float) -> None:
    assert find_minimum(two_sided(3.0, 1.0, centre).slope, 1e-3) == pytest.approx(centre, abs=1e-6)


@pytest.mark.parametrize("power", [1, 2, 6])
def test_the_radius_is_where_the_mean_rise_reaches_the_level(power: int) -> None:
    r = find_radius(lambda x: abs(x) ** power * (3.0 if x < 0 else 1.0), 0.0, 1e-3, 0.5)  # 2 r^power = 0.5
    assert r is not None
    assert 2 * r**power == pytest.approx(0.5, rel=0.02)


def test_scale_free_companions_of_a_two_sided_quadratic() -> None:
    valley = measure(two_sided(10.0, 1.0, 0.2), 1e-3, 0.5, 0.0, PARTS)
    assert valley.status == OK
    assert valley.centre == pytest.approx(0.2, abs=1e-6)
    assert valley.log_ratio == pytest.approx(math.log(1 / 10), abs=1e-4)
    assert valley.curvatures == pytest.approx((10.0, 1.0), rel=1e-4)
    # L‴ h / L″ of slopes −10 h and h at ±h is 2 (1 − 10)/(1 + 10), and r is 20 h
    assert valley.skewness == pytest.approx(-20 * 18 / 11, rel=1e-3)


def test_skewness_is_the_third_derivative_in_units_of_the_second_and_of_r() -> None:
    cubic = Known(lambda x: x**2 / 2 + 0.1 * x**3 / 6, lambda x: x + 0.1 * x**2 / 2)
    valley = measure(cubic, 1e-3, 0.0, 0.5, PARTS)
    assert valley.skewness == pytest.approx(0.1 * 0.5, rel=1e-3)


@pytest.mark.parametrize("ratio", [1.0, 3.0, 10.0])
@pytest.mark.parametrize("zeta", [0.01, 0.05, 0.13, 0.6, 0.97])
def test_two_sided_linear_and_quadratic_valleys_have_their_known_asymmetry(ratio: float, zeta: float) -> None:
    for line, expected in ((linear(ratio * 2, 2.0), ratio), (two_sided(ratio * 2, 2.0), ratio * zeta)):
        sides = Slopes(line, 0.0).between(zeta * 1.5, 1.5)
        assert sides.certified
        assert sides.c == pytest.approx(expected, rel=0.01)
        assert sides.reversed.c == pytest.approx(expected / ratio**2, rel=0.01)


def test_zeta_between_points_does_not_fall_on_the_nearest_point() -> None:
    coarse = Slopes(two_sided(10.0, 1.0), 0.0, [0.5, 1.0])
    assert coarse.between(0.07, 1.0).c == pytest.approx(0.7, rel=1e-9)
    assert coarse.between(0.49, 1.0).c == pytest.approx(4.9, rel=1e-9)


def test_an_exponential_valley_has_its_known_asymmetry() -> None:
    line = Known(lambda x: math.exp(-x) + x - 1, lambda x: 1 - math.exp(-x))
    for zeta, r in ((0.02, 1.0), (0.3, 4.0), (2.0, 4.0)):
        expected = (math.exp(zeta) - 1) / (1 - math.exp(-r))
        assert Slopes(line, 0.0).between(zeta, r).c == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("bump", [0.137, 0.4999, 0.81])
def test_bounds_find_what_lies_between_the_points(bump: float) -> None:
    def smooth(x: float) -> float:
        return 1 + x + 3 * math.exp(-(((x - bump) / 0.05) ** 2))

    def kink(x: float) -> float:
        return 1 + x + max(0.0, 3 - 40 * abs(x - bump))

    points = np.linspace(0, 1, 25).tolist()
    for function in (smooth, kink):
        found = Curve(function, points).extremes(0.0, 1.0)
        highest = max(function(x) for x in np.linspace(0, 1, 100_001).tolist())
        assert found.certified
        assert found.high == pytest.approx(highest, rel=0.01)
        assert found.low == pytest.approx(1.0, rel=0.01)


def test_what_refinement_cannot_resolve_is_not_certified() -> None:
    rough = Curve(lambda x: 1 + math.sin(1e4 * x), np.linspace(0, 1, 25).tolist())
    assert not rough.extremes(0.0, 1.0).certified
    assert rough.budget == 0
    assert not Curve(lambda x: math.nan if x > 0.7 else x).extremes(0.0, 1.0).certified


def test_a_line_that_is_no_valley_has_no_c() -> None:
    wavy = Known(lambda x: x**2 / 2 + math.cos(9 * x), lambda x: x - 9 * math.sin(9 * x))
    sides = Slopes(wavy, 0.0, [0.1 * i for i in range(1, 21)]).between(0.1, 2.0)
    assert math.isnan(sides.c)
    assert math.isnan(sides.c_low)
    assert math.isnan(sides.symmetric[0])


def test_every_valley_is_symmetric_in_the_sense_of_its_slopes() -> None:
    sides = Slopes(two_sided(3.0, 1.0), 0.0).between(0.2, 2.0)
    assert sides.symmetric == pytest.approx((0.2, 6.0))
    assert sides.reversed.symmetric == sides.symmetric


def test_noise_is_kept_out_of_claims() -> None:
    # slopes 1 ± s with one draw s of sd σ: the symmetric valley |ℓ| is the worst case, c* = 1 being the bar itself.
    # c_low ≥ 1 needs s < −1.96 σ, which 2.5 % of draws do for u and as many for −u.
    sigma, drawn = 0.1, np.random.default_rng(0).standard_normal(2000)
    claims = []
    for s in (sigma * drawn).tolist():
        line = Known(lambda x, s=s: abs(x) + s * x, lambda x, s=s: s + math.copysign(1.0, x))  # type: ignore[misc]
        sides = Slopes(line, 0.0, error=lambda x: sigma).between(0.1, 1.0)
        claims.append((sides.c_low >= 1, sides.reversed.c_low >= 1))
    assert (np.mean(claims, axis=0) < 0.035).all()  # 2.5 % + 3 standard errors of 2000 draws
    assert np.mean(np.any(claims, axis=1)) > 0.02  # and the bound is not idle


def test_nothing_but_noise_is_no_valley() -> None:
    rng = np.random.default_rng(1)
    claims = 0
    for _ in range(200):
        known: dict[float, float] = {}
        line = Known(lambda x: 0.0, lambda x, known=known: known.setdefault(x, float(rng.standard_normal())))  # type: ignore[misc]
        sides = Slopes(line, 0.0, [0.5, 0.75, 1.0], lambda x: 1.0, budget=8).between(0.5, 1.0)
        claims += sides.is_valley
    assert claims <= 10  # none on at least 95 %


def test_a_symmetric_bowl_is_never_asymmetric() -> None:
    for zeta in (0.05, 0.5, 0.95):
        sides = Slopes(two_sided(2.0, 2.0), 0.0).between(zeta, 1.0)
        assert max(sides.c_low, sides.reversed.c_low) == pytest.approx(zeta)


def test_what_cannot_be_measured_is_said() -> None:
    down = Known(lambda x: -x, lambda x: -1.0)
    assert measure(down, 1.0, 0.5, 0.0, PARTS).status == NO_MINIMUM
    plateau = Known(lambda x: x * x / (1 + x * x), lambda x: 2 * x / (1 + x * x) ** 2)
    assert measure(plateau, 1.0, 5.0, 0.0, PARTS).status == NO_RISE
    hole = Known(lambda x: x * x if abs(x) < 1 else math.nan, lambda x: 2 * x if abs(x) < 1 else math.nan)
    found = measure(hole, 0.1, 0.0, 2.0, PARTS)
    assert found.status == NOT_FINITE
    assert np.isnan(found.losses[0])


def test_a_radius_that_rounding_hides_is_no_valley() -> None:
    """ℓ² / 2 at r = 1e-9 changes 1 by 5e-19, far below the rounding 2e-16 of the sum: no rise can be told."""
    found = measure(Known(lambda x: 1 + x**2 / 2, lambda x: x), 1e-3, 0.5, 1e-9, PARTS)
    assert found.status == NO_RISE
    assert math.isnan(found.log_ratio)
