"""The valley along a line, judged by functions whose valley is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from landscape.valley import NO_MINIMUM, NO_RISE, NOT_FINITE, OK, Line, find_minimum, find_radius, measure


def two_sided(steep: float, flat: float, centre: float = 0.0) -> Line:
    """½ a ℓ² behind the centre, ½ b ℓ² ahead of it."""

    def line(x: float) -> tuple[float, float]:
        k = steep if x < centre else flat
        return k * (x - centre) ** 2 / 2, k * (x - centre)

    return line


def linear(steep: float, flat: float) -> Line:
    return lambda x: (-steep * x, -steep) if x < 0 else (flat * x, flat if x else 0.0)


@pytest.mark.parametrize("centre", [0.0, 0.37, -5.2])
def test_the_minimum_is_found_wherever_the_line_starts(centre: float) -> None:
    found = find_minimum(two_sided(3.0, 1.0, centre), 1e-3)
    assert found == pytest.approx(centre, abs=1e-3)


def test_the_radius_is_where_the_mean_rise_reaches_the_level() -> None:
    r = find_radius(two_sided(3.0, 1.0), 0.0, 1e-3, 0.5)  # (3 + 1) r² / 4 = 0.5
    assert r == pytest.approx(math.sqrt(0.5), rel=0.02)


def test_two_sided_quadratic_has_its_known_asymmetry() -> None:
    valley = measure(two_sided(10.0, 1.0, 0.2), 1e-3, 0.5, 0.0, 20)
    assert valley.status == OK
    assert valley.log_ratio == pytest.approx(math.log(1 / 10), abs=1e-2)
    for zeta in (0.05, 0.1, 0.25):  # c* = (a/b) ζ/r
        forward, back = valley.largest_c(zeta)
        assert forward == pytest.approx(10 * zeta, rel=1e-2)
        assert back == pytest.approx(0.1 * zeta, rel=1e-2)


def test_two_sided_linear_valley_has_the_same_c_for_every_zeta() -> None:
    valley = measure(linear(6.0, 2.0), 1e-3, 0.0, 1.5, 20)
    for zeta in (0.0, 0.05, 0.5, 0.9):
        assert valley.largest_c(zeta) == pytest.approx((3.0, 1 / 3))


def test_a_symmetric_valley_shows_no_side() -> None:
    valley = measure(two_sided(2.0, 2.0), 1e-3, 0.3, 0.0, 20)
    assert valley.log_ratio == pytest.approx(0, abs=1e-6)
    assert valley.largest_c(0.1) == pytest.approx((0.1, 0.1), rel=1e-3)


def test_a_point_that_is_no_valley_has_no_c() -> None:
    wavy = measure(lambda x: (x**2 / 2 + math.cos(9 * x), x - 9 * math.sin(9 * x)), 1e-3, 0.0, 2.0, 20)
    assert all(math.isnan(c) for c in wavy.largest_c(0.05))


def test_what_cannot_be_measured_is_said() -> None:
    assert measure(lambda x: (-x, -1.0), 1.0, 0.5, 0.0, 4).status == NO_MINIMUM
    plateau = measure(lambda x: (x * x / (1 + x * x), 2 * x / (1 + x * x) ** 2), 1.0, 5.0, 0.0, 4)
    assert plateau.status == NO_RISE
    hole = measure(lambda x: (x * x, 2 * x) if abs(x) < 1 else (math.nan, math.nan), 0.1, 0.0, 2.0, 4)
    assert hole.status == NOT_FINITE
    assert np.isnan(hole.losses[0])
