"""Theorems 3.3.2 and 3.3.3 on valleys where they can be worked out by hand.

The shift gap of quadratics k/2 t² and k/2 (t − s)² + e is k/2 (d² + 2 R |d|) with d = δ − s; splines through points of
a quadratic are exact. On straight sides a | b SAM's minimum is (a − b)/(a + b) ρ, the lower end of its interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import valley_kit as kit
from torch import Tensor

from analyses import shift
from analyses.shift import Shift
from landscape.asymmetric import Sides
from landscape.errors import UsageError
from landscape.extremes import Extremes
from landscape.profile import UNKNOWN as NO_GAP
from landscape.profile import Gap, Profile, explore
from landscape.shift import bias_interval, generalization_bound, rho_range, sam_minimum
from landscape.theorem import FAILS, HOLDS, OPEN, SILENT, UNKNOWN, Asymmetric, assumptions


def profile(k: float, s: float, lift: float) -> Profile:
    x = np.linspace(-3, 3, 25)
    return Profile(x, k * x**2 / 2, k * (x - s) ** 2 / 2 + lift)


@pytest.mark.parametrize("delta", [-0.4, 0.0, 0.25, 0.7])
def test_the_shift_gap_of_a_shifted_quadratic_is_the_closed_form(delta: float) -> None:
    k, s, radius = 1.7, 0.25, 0.8
    d = delta - s
    assert profile(k, s, 5.0).gap(delta, radius) == pytest.approx(k / 2 * (d**2 + 2 * radius * abs(d)), abs=1e-9)


def test_the_best_shift_is_the_true_one_and_leaves_no_gap() -> None:
    line = profile(1.7, 0.3, -0.2)
    found = line.smallest(0.8)
    assert found.shift == pytest.approx(0.3, abs=1e-5)
    assert found.gap < 1e-4  # k (d² / 2 + R d) at the tolerance of the search
    assert found.low <= found.gap <= found.high < 2e-4
    assert found.shift_low <= 0.3 <= found.shift_high
    assert line.minima == pytest.approx((0.0, 0.3), abs=1e-9)


Loss = Callable[[np.ndarray], np.ndarray]
STRAIGHT = lambda x: np.where(x < 0, -3.0 * x, x)  # noqa: E731
LINES: dict[str, tuple[Loss, Loss]] = {
    "equal straight sides": (STRAIGHT, STRAIGHT),
    "other straight sides": (STRAIGHT, lambda x: np.where(x < 0, -2.5 * x, 1.2 * x)),
    "two-sided quadratics": (lambda x: np.where(x < 0, 4.5, 2.0) * x**2, lambda x: np.where(x < 0, 3.5, 2.5) * x**2),
    "exponentials": (lambda x: np.exp(-x) + x, lambda x: np.exp(-1.3 * x) + 1.3 * x),
}


@pytest.mark.parametrize("radius", [0.1, 0.4])
@pytest.mark.parametrize("name", LINES)
def test_the_smallest_gap_lies_in_its_bounds_and_is_known_to_one_per_cent_with_kinks_too(
    name: str, radius: float
) -> None:
    train, plain = LINES[name]

    def test(x: np.ndarray) -> np.ndarray:
        return plain(x - 0.237) + 0.9

    t = np.concatenate([np.linspace(-radius, radius, 2001), [0.0]])
    scan = np.append(np.linspace(-0.6, 0.6, 4801), 0.237)
    level = train(np.array(0.0)) - plain(np.array(0.0)) - 0.9
    gaps = np.array([np.abs(test(t + d) + level - train(t)).max() for d in scan])  # the judge: every place there is
    start = np.unique(np.round(np.concatenate([np.linspace(-end, end, 17) for end in (3 * radius, 2.0)]), 9))
    line, found = explore(lambda x: (float(train(x)), float(test(x))), start, radius, 0.01, 150)
    rise = float(np.ptp(train(t)))
    assert found.low <= gaps.min() + 0.0005 * rise  # the judge's own grid
    assert gaps.min() <= found.high <= gaps.min() + 0.03 * rise
    assert found.gap == pytest.approx(gaps.min(), abs=0.01 * rise)
    assert found.shift_low - 1e-9 <= scan[gaps.argmin()] <= found.shift_high + 1e-9
    for delta in (-0.3, 0.0, 0.4):
        low, high = line.bounds(delta, radius)
        assert low <= np.abs(test(t + delta) + level - train(t)).max() <= high


def test_where_losses_are_not_finite_the_gap_is_of_the_rest_or_unknown() -> None:
    start = np.linspace(-1.0, 1.0, 17)
    line, found = explore(lambda x: (x * x, math.nan if x > 0.8 else x * x), start, 0.1, 0.01, 40)
    assert line.offset.max() <= 0.8
    assert found.gap == pytest.approx(0.0, abs=1e-6)
    assert explore(lambda x: (x * x, math.nan), start, 0.1, 0.01, 40)[1] == NO_GAP
    assert explore(lambda x: (math.inf if 0.05 < x < 0.15 else x * x, x * x), start, 0.3, 0.01, 40)[1] == NO_GAP


@pytest.mark.parametrize("moved", [0.95, 2.0])
def test_a_minimum_or_a_shift_at_the_end_of_what_was_measured_is_not_known(moved: float) -> None:
    found = explore(lambda x: (x * x, (x - moved) ** 2), np.linspace(-1.0, 1.0, 17), 0.2, 0.01, 60)[1]
    assert found == NO_GAP
    there = measured(kit.linear(4.0, 1.0), moved=2.0, sam=0.1, rho=0.5)
    assert there.holds[[3, 5, 6, 7]].tolist() == [UNKNOWN] * 4
    assert "the shift is not known" in shift.words(there)[1]
    assert shift.figure(there).data


@pytest.mark.parametrize(("steep", "flat"), [(5.0, 1.0), (3.0, 2.0), (2.0, 2.0)])
def test_sam_on_straight_sides_sits_at_the_lower_end_of_its_interval(steep: float, flat: float) -> None:
    rho = 0.15
    found = sam_minimum(lambda x: -steep * x if x < 0 else flat * x, rho)
    low, high = bias_interval(steep / flat, rho)
    assert found == pytest.approx((steep - flat) / (steep + flat) * rho, abs=1e-9)
    assert found == pytest.approx(low, abs=1e-9)
    assert high == rho


def test_sam_on_a_two_sided_quadratic_sits_inside_the_interval_of_any_c() -> None:
    # a (ρ − ℓ)² = b (ρ + ℓ)²
    a, b, rho = 9.0, 4.0, 0.2
    found = sam_minimum(lambda x: (a if x < 0 else b) * x**2 / 2, rho)
    assert found == pytest.approx(rho * (3 - 2) / (3 + 2), abs=1e-9)


def test_where_the_theory_is_silent_it_is_not_asked() -> None:
    assert all(math.isnan(x) for x in (*bias_interval(0.9, 0.1), *rho_range(1.0, 1.0, 0.1, 1.0, 0.5)))
    assert math.isnan(sam_minimum(lambda x: -x, 0.1))


def test_the_bound_and_the_range_of_rho_are_those_of_theorem_3() -> None:
    c, p, gap, rho = 3.0, 2.0, 0.01, 0.5
    assert generalization_bound(c, p, rho, gap) == pytest.approx(4 * 2 / 8 * 0.5 - 0.02)
    low, high = rho_range(c, p, gap, 1.0, 0.3)
    assert (low, high) == pytest.approx((4 * 4 * 0.01 / (4 * 2), 2 * 0.3))
    # at the lower end of ρ the condition of theorem 2.3.5 holds with equality: (c − 1)/(c + 1) ρ = 4 ξ / ((c − 1) p)
    assert (c - 1) / (c + 1) * low == pytest.approx(4 * gap / ((c - 1) * p))


def asymmetric(c: float, nearest: float, error: float = 0.0) -> Asymmetric:
    def sides(value: float) -> Sides:
        ahead, behind = (Extremes(x, x, 0.1, 0.1, certified=True) for x in (1.0, value))
        return Sides(ahead, behind, (error, error), (error, error))

    return Asymmetric(1.0, 0.1, sides(c), sides(nearest))


def test_each_assumption_is_told_by_its_own_number() -> None:
    def statuses(strong: Asymmetric, **values: float) -> list[int]:
        given = {"rho": 0.2, "centre": 0.0, "shift": 0.3, "xi": 0.01, "near": 1.0, "slack": 0.0, "sway": 0.0} | values
        xi, shift = given["xi"], given["shift"]
        low, high = xi - given["slack"], xi + given["slack"]
        gap = Gap(shift, shift - given["sway"], shift + given["sway"], xi, low, high)
        return [verdict for verdict, _ in assumptions(strong, given["rho"], given["centre"], gap, given["near"])]

    good = [HOLDS, HOLDS, HOLDS, HOLDS, UNKNOWN, HOLDS, HOLDS, HOLDS]
    strong = asymmetric(3.0, 3.0)
    assert statuses(strong) == good
    assert statuses(strong, shift=-0.3) == good  # either sign
    assert statuses(strong, shift=0.05)[3] == FAILS
    assert statuses(strong, shift=0.12, sway=0.05)[3] == OPEN
    assert statuses(strong, shift=0.0, sway=0.05)[3] == FAILS
    assert statuses(strong, near=0.8)[5] == FAILS
    assert statuses(strong, near=math.nan)[5] == UNKNOWN
    assert statuses(strong, xi=0.2)[6] == FAILS  # 4 (c + 1) ξ / ((c − 1)² p) = 4 ξ is 0.8
    assert statuses(strong, xi=0.045, slack=0.01)[6] == OPEN
    assert statuses(strong, xi=0.045, slack=0.001)[6] == HOLDS
    assert statuses(strong, rho=0.7)[7] == FAILS  # 2 min(1 − δ, δ) is 0.6
    assert statuses(strong, rho=0.7, sway=0.1)[7] == OPEN
    assert statuses(strong, rho=0.95, shift=0.5, sway=0.1)[7] == OPEN
    assert statuses(strong, rho=0.95, shift=0.5, sway=0.01)[7] == HOLDS
    assert statuses(asymmetric(3.0, 0.5))[2] == FAILS
    assert statuses(asymmetric(0.9, 0.5)) == [HOLDS, FAILS, SILENT, HOLDS, UNKNOWN, HOLDS, SILENT, SILENT]
    near_one = statuses(asymmetric(1.0001, 1.0001, error=0.001))
    assert [near_one[i] for i in (1, 2, 6)] == [OPEN, OPEN, FAILS]  # 4 (c + 1) ξ / ((c − 1)² p) is far above ρ
    doubtful = statuses(asymmetric(1.4, 1.4, error=0.1), rho=0.7, xi=0.001)  # c_low is about 1.01
    assert doubtful[6] == OPEN
    assert statuses(strong, rho=math.nan)[1] == UNKNOWN


def measured(profile: kit.Profile, moved: float, sam: float, **options: object) -> Shift:
    """A line along the axis, SAM's solution at `sam` from the minimum, the test loss moved by `moved`."""
    test = torch.cat([(moved * kit.AXIS).repeat(4, 1), torch.zeros(4, 3, dtype=torch.float64)], 1)
    pair = (kit.at(kit.MINIMUM - 0.05 * kit.AXIS, "a"), kit.at(kit.MINIMUM + sam * kit.AXIS, "b"))
    asked = shift.Options(**({"rho": 0.2, "radius": 1.0} | options))  # type: ignore[arg-type]
    return shift.compute(kit.problem(profile, test=test), *pair, options=asked, dtype="float64")


def test_the_theorems_hold_where_all_that_they_suppose_holds() -> None:
    found = measured(kit.linear(3.0, 1.0), moved=0.3, sam=0.1)
    assert found.centre == pytest.approx(0.05, abs=1e-5)
    assert found.displacement == pytest.approx(0.1, abs=1e-5)
    assert found.c == pytest.approx(3.0, rel=0.01)
    assert found.p == pytest.approx(1.0)
    assert (found.bias_low, found.bias_high) == (pytest.approx(0.1, rel=0.01), 0.2)
    assert found.line_minimum == pytest.approx(0.1, abs=1e-4)
    assert found.shift == pytest.approx(0.3, abs=1e-3)
    assert found.gap_low == 0.0
    assert found.gap <= found.gap_high <= 0.01  # 1 % of the rise 3 R of straight sides, and as much again
    assert found.bound_low <= found.bound <= 2**2 / (2 * 4) * 0.2 * 1.02
    assert found.bound == pytest.approx(0.1, abs=0.01)  # (c − 1)² p ρ / (2 (c + 1)), ξ = 0
    # losses at −0.3 and −0.2 from the test minimum: 3 · 0.3 − 3 · 0.2
    assert found.gain == pytest.approx(0.3, abs=1e-4)
    assert found.holds[:2].tolist() == [HOLDS, HOLDS]
    assert found.holds[5] == HOLDS
    assert shift.listing(found)[4].startswith("not measured")
    assert shift.words(found)[0].endswith("theorem 3.3.2's interval [0.100, 0.200)")


def test_a_c_that_does_not_hold_down_to_the_minimum_is_told_and_an_r_below_rho_predicts_nothing() -> None:
    rounded = measured(kit.quadratic(10.0, 1.0), moved=0.0, sam=0.1, neighbours=0)
    assert rounded.c == pytest.approx(5.0, rel=0.01)  # 10 ζ/r at ζ = r/2
    assert "for c = 5.00, which does not hold down to ζ = 0" in shift.words(rounded)[0]
    wide = measured(kit.linear(3.0, 1.0), moved=0.0, sam=0.1, rho=10.0, neighbours=0)
    assert math.isnan(wide.bias_low)
    assert math.isnan(wide.bound)
    assert wide.holds[1] == FAILS
    assert "silent" in shift.words(wide)[0]


def test_a_symmetric_bowl_makes_the_theorems_silent() -> None:
    found = measured(kit.quadratic(2.0, 2.0), moved=0.25, sam=0.1)
    assert math.isnan(found.bias_low)
    assert math.isnan(found.bound)
    assert found.holds[1] == FAILS
    assert found.shift == pytest.approx(0.25, abs=1e-4)
    assert found.gap < 1e-4
    assert found.line_minimum == pytest.approx(0.0, abs=1e-4)
    assert "silent" in shift.words(found)[0]


def test_of_equal_asymmetries_the_widest_is_taken() -> None:
    found = measured(kit.linear(4.0, 1.0), moved=0.3, sam=0.1, rho=0.1)
    assert found.radius == 1.0
    assert found.holds[[3, 7]].tolist() == [HOLDS, HOLDS]


def test_a_neighbourhood_where_p_and_c_do_not_hold_fails() -> None:
    class Ridge(kit.Known):
        """7.2 | 1 on the axis, 1.2 | 1 beside it."""

        def forward(self, inputs: Tensor) -> Tensor:
            z = (self.w - inputs[:, :3] - kit.MINIMUM.to(inputs)) @ kit.ROTATION.to(inputs)
            steep = 1.2 + 6 * torch.exp(-((z[:, 1] / 0.02) ** 2))
            return torch.where(z[:, 0] < 0, -steep * z[:, 0], z[:, 0]) + z[:, 1:].square().sum(1)

    problem = replace(kit.problem(kit.linear(1.0, 1.0)), model=lambda: Ridge(kit.linear(1.0, 1.0)))
    pair = (kit.at(kit.MINIMUM - 0.05 * kit.AXIS, "a"), kit.at(kit.MINIMUM + 0.1 * kit.AXIS, "b"))
    options = shift.Options(rho=0.2, radius=1.0, neighbours=5)
    found = shift.compute(problem, *pair, options=options, dtype="float64")
    assert found.c == pytest.approx(7.2, rel=0.01)
    assert found.holds[5] == FAILS


def test_without_a_rho_nothing_is_predicted() -> None:
    found = measured(kit.linear(3.0, 1.0), moved=0.3, sam=0.1, rho=None, neighbours=0)
    assert math.isnan(found.rho)
    assert math.isnan(found.bound)
    assert found.holds[5] == UNKNOWN
    assert "No prediction" in shift.words(found)[0]


def test_what_cannot_be_asked_is_refused_or_said() -> None:
    one = kit.at(kit.MINIMUM)
    problem = kit.problem(kit.quadratic(1.0, 1.0))
    with pytest.raises(UsageError, match="2 checkpoints"):
        shift.compute(problem, one)
    with pytest.raises(UsageError, match="same point"):
        shift.compute(problem, one, replace(one, name="again"))
    hidden = (kit.at(kit.MINIMUM, "a"), kit.at(kit.MINIMUM + kit.AXIS, "b"))
    flat = shift.compute(kit.problem(lambda z: torch.exp(-z)), *hidden, options=shift.Options(neighbours=0))
    assert flat.status != 0  # what rises there is float32's rounding
    found = measured(lambda z: -z, moved=0.0, sam=0.1)
    assert found.status == 1
    assert shift.words(found)[0].startswith("Not measured")
    assert shift.figure(found).data == ()
