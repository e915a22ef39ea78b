"""The barrier between two ends of a curve, and how sure it and a proportion are, against closed forms and noise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from conftest import Pair

from analyses import evaluate, interpolate, verdict
from landscape import barrier, hermite
from landscape.binomial import wilson
from landscape.interpolation import collect
from landscape.line import Line
from landscape.surface import Surface
from landscape.task import CrossEntropy


def test_the_barrier_is_the_largest_height_above_the_chord() -> None:
    x = np.linspace(-1, 2, 13)
    made = hermite.fit(x, 2 - x - (x - 0.4) ** 2 * 4, -1 - 8 * (x - 0.4))  # above its chord by 4 x (1 - x)
    rise = np.repeat((4 * x * (1 - x))[:, None], 2, 1)
    found = barrier.measure(made, rise, np.full(13, 0.1), smooth=True)
    assert (found.height, found.place) == pytest.approx((1.0, 0.5), abs=1e-12)
    assert found.between < 1e-12
    assert (found.sampling, found.halves) == pytest.approx((0.1, 1.0))
    convex = barrier.measure(hermite.fit(x, x**2, 2 * x), -rise, np.zeros(13), smooth=True)
    assert (convex.height, convex.halves) == (0.0, 0.0)
    assert math.isnan(barrier.measure(hermite.fit(x + 0.1, x), rise, rise[:, 0], smooth=True).height)


def test_a_rise_by_rounding_is_none(pair: Pair) -> None:
    x = np.linspace(0, 1, 5)
    values = np.array([
        [0.2, 0.2 + 7e-9, 0.2, 0.2, 0.2],
        [0.2, 0.2 + 1e-6, 0.2, 0.2, 0.2],
        [9e3, 9e3 + 5e-4, 9e3, 9e3, 9e3],
    ])
    eps = Surface(pair.problem).rounding
    assert barrier.height(x, values, eps) == pytest.approx([0, 1e-6, 0], rel=1e-6)
    assert (barrier.height(x, values) > 0).all()


def test_choosing_the_place_on_the_other_half_takes_the_bias_out_of_a_maximum() -> None:
    random = np.random.default_rng(0)
    x = np.linspace(0, 1, 41)
    plain, halves = [], []
    for _ in range(400):  # noise alone: the height is 0 on the whole population
        rise = random.normal(size=(41, 2)) * (x * (1 - x))[:, None]
        made = hermite.Curve(x, rise.mean(1), np.zeros(41), log=False, error=np.zeros(40))
        found = barrier.measure(made, rise, np.ones(41), smooth=False)
        plain.append(found.height)
        halves.append(found.halves)
    assert np.mean(plain) > 10 * abs(np.mean(halves))
    assert abs(np.mean(halves)) < 4 * np.std(halves) / 20


def test_the_spread_of_a_barrier_is_that_of_paired_differences(pair: Pair) -> None:
    surface = Surface(pair.problem)
    found = Line(surface, *pair.checkpoints, "keep").measure(0.3)
    losses = []
    for alpha in (0.0, 0.3, 1.0):
        surface.place(*surface.between(*pair.checkpoints, alpha), recalibrated=False)
        losses.append(CrossEntropy().losses(surface.outputs("test"), surface.problem.test.targets).double())
    height = losses[1] - 0.7 * losses[0] - 0.3 * losses[2]
    assert found.spread[0, 1] == pytest.approx(float(height.std()) / math.sqrt(len(height)), rel=1e-5)
    assert found.rise[0, 1] == pytest.approx([float(height[::2].mean()), float(height[1::2].mean())], rel=1e-5)


def test_the_interval_of_a_proportion_is_wilsons() -> None:
    low, high = wilson(np.array([0.0, 0.2, 1.0]), 50)
    # Wilson 1927 as tabulated by Brown, Cai and DasGupta 2001 for 10 of 50: [0.1124, 0.3304]
    assert (low[1], high[1]) == pytest.approx((0.1124, 0.3304), abs=5e-5)
    assert low[0] == 0.0
    assert high[2] == 1.0
    assert high[0] == pytest.approx(1 - low[2])
    assert high[0] == pytest.approx(3.8415 / 53.8415, abs=1e-4)


def test_over_a_hole_only_measured_points_count_and_nothing_is_said_of_the_uncertainty(pair: Pair) -> None:
    line = Line(Surface(pair.problem), *pair.checkpoints, "recalibrate")
    points = [line.measure(x) for x in np.linspace(0, 1, 9)]
    whole = collect(line, points, math.nan, adaptive=False)
    blank = replace(points[4], status=2, mean=np.full((2, 2), np.nan), rise=np.full((2, 2, 2), np.nan),
                    spread=np.full((2, 2), np.nan))  # fmt: skip
    holed = collect(line, [*points[:4], blank, *points[5:]], math.nan, adaptive=False)
    assert np.isfinite(whole.barrier_loss_between).all()
    assert np.isnan(holed.barrier_loss_between).all()
    chord = holed.loss[:, :1] * (1 - holed.alpha) + holed.loss[:, -1:] * holed.alpha
    assert np.allclose(holed.barrier_loss, np.maximum(np.nanmax(holed.loss - chord, 1), 0), rtol=1e-12)


def test_one_test_example_has_losses_and_no_standard_error(pair: Pair) -> None:
    problem = replace(pair.problem, test=pair.problem.test.sample(1, 0))
    line = interpolate.compute(problem, *pair.checkpoints, options=interpolate.Options(points=7, low=-1, high=2))
    assert np.isfinite(line.loss).all()
    assert np.isfinite(line.barrier_loss).all()
    assert np.isfinite(line.barrier_loss_sampling).tolist() == [True, False]
    assert np.isfinite(line.barrier_loss_halves).tolist() == [True, False]
    assert "in test by sampling: not measured" in interpolate.listing(line)[0]
    assert "nan" not in " ".join((*interpolate.words(line), *interpolate.listing(line), verdict.barrier(line).sure))
    assert "not told apart" in verdict.better(evaluate.compute(problem, *pair.checkpoints)).text
    assert line.loss[1, line.alpha == 0] == pytest.approx(
        evaluate.compute(problem, *pair.checkpoints).loss[:1, 1], rel=1e-3
    )
