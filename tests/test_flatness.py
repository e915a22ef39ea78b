"""Rounding of rises, judged by closed forms and by float64, and what is said of rises that tell nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import curvature_nets as nets
import numpy as np
import pytest
import torch
from test_ball import corners, trust_region
from test_sharpness_ball import ROUGH, at, clouds, curvature, regression, slope, trained
from torch import Tensor, nn

from analyses import flatness, sharpness
from landscape.pacbayes import complexity
from landscape.problem import Problem
from landscape.rise import Rise

SMALL = "1e-8,1e-7,1e-6,1e-5,0.3"
QUICK = replace(ROUGH, radii="0.02,0.1,0.3", m=0, restarts=0)


def line() -> tuple[Problem, Tensor]:
    return regression(), torch.tensor([0.3, -1.0, 0.5, 2.0, 0.1], dtype=torch.float64)


@pytest.fixture(scope="module")
def found() -> dict[str, Rise]:
    problem, theta = line()
    options = replace(ROUGH, radii=SMALL, boxes=SMALL, relative=SMALL, m=0, steps=300, tol=1e-9)
    points = at(problem, theta)
    return {d: sharpness.compute(problem, points, options=options, dtype=d) for d in ("float32", "float64")}


class TestRounding:
    def test_no_rise_exceeds_the_maximum_by_more_than_its_rounding(self, found: dict[str, Rise]) -> None:
        problem, theta = line()
        g, h = slope(problem, theta), curvature(problem)
        whole = torch.full_like(theta, float(theta.norm()))
        for dtype, slack in (("float32", 1e-5), ("float64", 1e-6)):  # of the ball, and of its rise where that is 1e-8
            r, over = found[dtype], {}
            for k, rho in enumerate(r.radius):
                over["worst", k] = (r.worst[0, k], r.rounding[0, k], trust_region(g, h, rho)[0])
                for a, t in enumerate((theta.abs(), whole)):
                    length = rho * (math.sqrt(5) if a == 0 else 1.0)
                    most = trust_region(t * g, t[:, None] * h * t, length)[0]
                    over["adaptive", a, k] = (r.adaptive_worst[0, a, k], r.adaptive_rounding[0, a, k], most)
                for name, t in (("", torch.ones_like(theta)), ("adaptive_", theta.abs())):
                    z = rho * t * corners(5)
                    most = float((z @ g + (z @ h * z).sum(1) / 2).max())
                    worst, rounding = (getattr(r, f"{name}box_{end}")[0, k] for end in ("worst", "rounding"))
                    over[f"{name}box", k] = (worst, rounding, most)
            for key, (worst, rounding, most) in over.items():
                assert worst <= most * (1 + slack) + rounding, (dtype, key)
                assert worst >= most * (1 - slack) - 3 * rounding - (1e-9 if dtype == "float32" else 0), (dtype, key)

    def test_float32_loses_small_rises_and_float64_does_not(self, found: dict[str, Rise]) -> None:
        narrow, wide = found["float32"], found["float64"]
        assert narrow.lost[0, :2].all()
        assert not narrow.lost[0, -1]
        assert not wide.lost.any()
        assert wide.usable.all()
        assert (wide.rounding < 1e-6 * wide.worst).all()

    @pytest.mark.parametrize("rule", ["recalibrated", "stored", "train"])
    def test_both_precisions_use_the_same_statistics_examples_and_steps(self, rule: str) -> None:
        problem = nets.problem()
        options = replace(QUICK, batchnorm=rule, examples=20, radii="0.1", steps=4)
        r = sharpness.compute(problem, nets.point(problem, 0), options=options, dtype="float32")
        for body in ("", "box_", "adaptive_", "adaptive_box_"):
            worst, rounding = getattr(r, f"{body}worst"), getattr(r, f"{body}rounding")
            assert rounding.shape == worst.shape
            assert (rounding < 1e-2 * worst).all(), body

    def test_it_takes_one_pass_for_each_highest_point_and_one_at_the_checkpoint(self) -> None:
        seen = {torch.float32: 0, torch.float64: 0}

        class Counting(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(5, 1, bias=False)

            def forward(self, x: Tensor) -> Tensor:
                seen[x.dtype] += len(x)
                return self.layer(x)  # type: ignore[no-any-return]

        problem, theta = line()
        counted = replace(problem, model=Counting)
        r = sharpness.compute(counted, at(counted, theta), options=QUICK, dtype="float32")
        bodies = sum(getattr(r, f"{body}worst").size for body in ("", "box_", "adaptive_", "adaptive_box_"))
        assert seen[torch.float64] == (bodies + 1) * len(problem.train)
        without = 3 * (sharpness.CLIMB * bodies * len(r.starts) + 4) + 3 * 5 * 18 + 2 * QUICK.pairs * bodies + 3 + 2
        assert sharpness.work(QUICK, 1).train == without + bodies + 2  # with statistics

    def test_lost_rises_are_told_and_take_no_part(self, found: dict[str, Rise]) -> None:
        answer, detail = sharpness.words(found["float32"])
        usable = [
            f"{rho:g}" for rho, use in zip(found["float32"].radius, found["float32"].usable[0], strict=True) if use
        ]
        assert f"ρ = {usable[0]} " in answer
        assert "lost in rounding at ρ = 1e-08, 1e-07" in detail
        assert "--dtype float64" in detail
        assert "lost in rounding" in " ".join(
            sharpness.listing(replace(found["float32"], rounding=found["float32"].worst))
        )
        assert "lost" not in " ".join([*sharpness.words(found["float64"]), *sharpness.listing(found["float64"])])


@pytest.fixture(scope="module")
def pair() -> Rise:
    problem = clouds()
    return sharpness.compute(
        problem, trained(problem, 0, "a"), trained(problem, 1, "b"), options=QUICK, dtype="float64"
    )


def shaped(r: Rise, one: list[float], other: list[float], **fields: Any) -> Rise:
    """Two checkpoints with these rises at three radii, exact and at their tops."""
    worst = np.array([one, other])
    return replace(r, worst=worst, gap=np.zeros_like(worst), rounding=np.zeros_like(worst), **fields)


class TestWhoIsFlatter:
    def test_one_that_is_at_every_radius(self, pair: Rise) -> None:
        assert sharpness.words(shaped(pair, [1, 2, 4], [2, 6, 5]))[0] == "a is 3.00 times flatter than b at ρ = 0.1"

    def test_none_where_nothing_rises(self, pair: Rise) -> None:
        told = sharpness.words(shaped(pair, [0, 0, 0], [0, 0, 0]))[0]
        assert told == "a and b are not told apart: no rise was found at ρ = 0.1"

    def test_none_below_a_factor_of_1_05(self, pair: Rise) -> None:
        told = sharpness.words(shaped(pair, [1, 1, 1], [1, 1.04, 1.04]))[0]
        assert told == "a and b are about equally flat at ρ = 0.1: a factor of 1.04"

    @pytest.mark.parametrize("middle", [1.04, 1.2])
    def test_it_depends_on_the_radius_where_the_order_is_reversed(self, pair: Rise, middle: float) -> None:
        told = sharpness.words(shaped(pair, [1, 1, 2], [1.5, middle, 1]))[0]
        near = "0.02 to 0.1" if middle > 1.05 else "0.02"
        assert told == f"Which is flatter depends on ρ: a at {near}, b at 0.3"

    def test_it_depends_where_the_two_are_about_equal_at_the_middle_radius_only(self, pair: Rise) -> None:
        told = sharpness.words(shaped(pair, [2, 1, 2], [1, 1.04, 1]))[0]
        assert told == "Which is flatter depends on ρ: b at 0.02, 0.3, neither at 0.1"

    def test_radii_lost_in_rounding_decide_nothing(self, pair: Rise) -> None:
        r = shaped(pair, [2, 1, 1], [1, 3, 3])
        r = replace(r, rounding=np.array([[0.3, 0, 0], [0, 0, 0]]))
        answer, detail = sharpness.words(r)
        assert answer == "a is 3.00 times flatter than b at ρ = 0.1"
        assert "Factor by ρ: 3.00 at 0.1, 3.00 at 0.3" in detail
        lost = replace(r, rounding=np.ones((2, 3)))
        assert sharpness.words(lost)[0].startswith("Which is flatter is not told")


class TestOrder:
    def test_one_test_image_tells_no_errors_apart(self, pair: Rise) -> None:
        for wrong, n, clear in (((20, 21), 360, False), ((20, 60), 360, True), ((2, 0), 100, False)):
            error = np.array([[0.0, wrong[0] / n], [0.0, wrong[1] / n]])
            r = shaped(pair, [1, 1, 1], [2, 2, 2], error=error, test_examples=n)
            p, q = error[:, 1]
            z = abs(p - q) / math.sqrt((p * (1 - p) + q * (1 - q)) / n)
            assert (z > 1.96) == clear
            assert bool(flatness.told_apart(r)) == clear
            assert ("Test errors are not told apart" in sharpness.words(r)[1]) != clear

    def test_a_tie_of_a_form_is_no_wrong_order(self, pair: Rise) -> None:
        error = np.array([[0.0, 0.1], [0.0, 0.4]])
        about = {"error": error, "test_examples": 360, "average": np.ones_like(pair.average)}
        right = sharpness.words(shaped(pair, [1, 1, 1], [2, 2, 2], **about))[1]
        assert "1 of 1 by worst" in right
        said = right.split("ordered right: ")[1].split(". ")[0]
        assert " average" not in said.replace("elementwise average", "").replace("filter-wise average", "")
        tied = sharpness.words(shaped(pair, [1, 1, 1], [1, 1, 1], **about))[1]
        assert "worst" not in tied.split("ordered right: ")[1].split(". ")[0]


class TestBound:
    def test_a_search_that_found_nothing_bounds_nothing(self) -> None:
        problem = replace(clouds(), train=nets.points(600))
        options = replace(QUICK, radii="1e39")
        r = sharpness.compute(problem, trained(problem, 0, "a"), options=options, dtype="float32")
        assert not r.worst.any()
        assert r.bound.min() < 1
        assert not r.converged.any()
        assert "did not converge" in sharpness.words(r)[1]
        assert "at best" not in sharpness.words(r)[1]
        assert any("did not converge" in str(row[-1]) for row in sharpness.table(r).rows)

    def test_it_counts_where_the_climb_came_to_a_top(self, pair: Rise) -> None:
        small = {"complexity": np.full((2, 3), 0.1), "worst_error": np.full((2, 3), 0.2)}
        r = shaped(pair, [1, 1, 1], [2, 2, 2], **small)
        assert "PAC-Bayes bound on the test error: 0.300 at best" in sharpness.words(r)[1]
        for gap in (0.2, math.inf, math.nan):
            assert "did not converge" in sharpness.words(replace(r, gap=np.full((2, 3), gap)))[1]

    def test_all_radii_share_delta(self, pair: Rise) -> None:
        each = [complexity(155, 60, float(pair.norm[0]), rho, 0.05 / 3) for rho in pair.radius]
        assert pair.complexity[0] == pytest.approx(each)
        assert (pair.complexity[0] > [complexity(155, 60, float(pair.norm[0]), rho, 0.05) for rho in pair.radius]).all()

    def test_one_example_bounds_nothing_and_tells_no_sampling_error(self) -> None:
        assert complexity(10, 1, 1.0, 0.1, 0.05) == math.inf
        problem = clouds()
        single = replace(problem, train=problem.train.between(0, 1))
        for given, examples in ((problem, 1), (single, 0)):
            options = replace(QUICK, examples=examples)
            r = sharpness.compute(given, trained(problem, 0, "a"), options=options, dtype="float64")
            assert np.isinf(r.bound).all()
            assert np.isnan(r.sampling_error).all() == (examples == 1)
            told = sharpness.words(r)[1]
            assert "∞ or more, vacuous" in told
            assert "nan" not in told
