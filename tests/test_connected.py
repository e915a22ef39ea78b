"""What a line says of two networks: holes, what decided, and regressions; words and figure."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import Pair
from torch import Tensor, nn

from analyses import interpolate
from landscape import hermite
from landscape.checkpoint import Checkpoint
from landscape.interpolation import Interpolation
from landscape.problem import Problem
from landscape.result import Array
from landscape.split import Split
from landscape.task import SquaredError
from landscape.vector import layout_of


class Hole(nn.Module):
    """A linear classifier whose outputs are scaled by √(w² − 1): not a number for |w| < 1."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.w = nn.Linear(6, 2), nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * torch.sqrt(self.w**2 - 1)


def across() -> tuple[Problem, Checkpoint, Checkpoint]:
    """Two networks on either side of the hole, w = 2 and w = −2, the rest alike: no loss for 1/4 < α < 3/4."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 6, generator=generator)
    y = (x[:, 0] > 0).long()
    problem = Problem(model=Hole, train=Split(x[:40], y[:40]), test=Split(x[40:], y[40:]))
    layout, theta = layout_of(problem.build(0)), torch.randn(15, generator=generator)
    place = layout.views(torch.arange(15.0))["w"].long()

    def end(w: float, name: str) -> Checkpoint:
        return Checkpoint(theta.index_fill(0, place.reshape(1), w), {}, layout, name=name, sha256=name)

    return problem, end(2.0, "a"), end(-2.0, "b")


@pytest.fixture(scope="module")
def holed() -> Interpolation:
    problem, a, b = across()
    return interpolate.compute(problem, a, b, options=interpolate.Options(low=0.0, high=1.0), dtype="float64")


class TestHole:
    def test_a_line_with_a_hole_decides_nothing_and_says_so_once(self, holed: Interpolation) -> None:
        missing = holed.alpha[holed.status != 0]
        assert (missing.min(), missing.max()) == (0.25, 0.75)  # where the slope is not finite, and inside
        answer, detail = interpolate.words(holed)
        inside = int(((holed.alpha > 0) & (holed.alpha < 1)).sum())
        told = f"the loss was not computed at {len(missing)} of {inside} points between them"
        assert answer == f"Not decided: {told}"
        assert detail.startswith("Largest rise above the chord on the points measured in training: ")
        assert sum("not computed" in line for line in [detail, *interpolate.listing(holed)]) == 2
        assert interpolate.listing(holed)[-1].endswith("0.75 not computed, as the loss is not finite")
        assert "uncertain by what was not computed" in interpolate.listing(holed)[0]

    def test_few_points_lose_no_end(self) -> None:
        problem, a, b = across()
        found = interpolate.compute(problem, a, b, options=interpolate.Options(low=0.0, high=1.0, points=5))
        answer, detail = interpolate.words(found)
        assert answer == "Not decided: the loss was not computed at 3 of 3 points between them"
        assert detail == "Fewer than three points were measured: no barrier is told"

    def test_an_end_without_a_loss_is_named(self, holed: Interpolation) -> None:
        lost = replace(holed, loss=np.where(holed.alpha == 1, np.nan, holed.loss))
        assert interpolate.words(lost) == (
            "Not measured: the loss of an end could not be computed", "No finite loss: b",
        )  # fmt: skip

    def test_a_barrier_on_measured_points_is_one(self, holed: Interpolation) -> None:
        clear = replace(holed, barrier_error=np.full(2, 0.3), barrier_error_sampling=np.full(2, 0.01))
        assert interpolate.words(clear)[0].startswith("A barrier in the error")

    def test_no_curve_no_band_leads_across(self, holed: Interpolation) -> None:
        drawn = interpolate.figure(holed)
        for trace in drawn.data:
            if trace.mode == "lines" or trace.fill == "toself":
                known = np.isfinite(np.asarray(trace.y, dtype=float))
                x = np.asarray(trace.x, dtype=float)
                assert not known[(x > 0.19) & (x < 0.81)].any(), trace.name
            if trace.fill == "toself":
                assert not (min(trace.x) < 0.5 < max(trace.x))
        crosses = [trace for trace in drawn.data if trace.name == "not computed"]
        assert list(crosses[0].x) == holed.alpha[holed.status != 0].tolist()


def kinked(x: Array) -> Array:
    return np.where(x < 0, np.exp(-x), 3 + np.sin(3 * x))


@pytest.mark.parametrize("slopes", [True, False])
def test_points_beyond_a_hole_change_nothing_of_a_curve(slopes: bool) -> None:
    x = np.linspace(-1, 1, 21)
    measured = {float(v): (math.nan if abs(v) < 0.15 else float(kinked(v)), 0.0 if slopes else math.nan) for v in x}
    whole, part = hermite.through(measured), hermite.through({v: y for v, y in measured.items() if v < 0})
    assert whole is not None
    assert part is not None
    fine = np.linspace(-1, part.x[-1], 101)
    if whole.log == part.log:
        assert whole(fine) == pytest.approx(part(fine), rel=1e-12)
    if whole.log == part.log and slopes:
        assert np.array_equal(whole.error[: len(part.error)], part.error)
    gap = np.linspace(part.x[-1], whole.x[len(part.x)], 11)
    assert np.isnan(whole(gap[1:-1])).all()
    assert whole(gap[[0, -1]]).tolist() == whole.y[[len(part.x) - 1, len(part.x)]].tolist()
    assert np.isnan(whole.error[len(part.error)])
    assert whole.positive().hole is whole.hole


def test_two_points_between_holes_have_no_error_until_one_more_is_measured() -> None:
    found = {0.0: 1.0, 1.0: 2.0, 2.0: 4.0, 3.0: math.nan, 4.0: 1.0, 5.0: 2.0, 6.0: math.nan, 7.0: 3.0}
    made = hermite.through({x: (y, math.nan) for x, y in found.items()})
    assert made is not None
    assert made.x.tolist() == [0, 1, 2, 4, 5, 7]
    assert np.isfinite(made.error).tolist() == [True, True, False, False, False]
    assert made(np.array([4.5])) == pytest.approx([1.5 if not made.log else math.sqrt(2)])
    assert math.isfinite(made.worst())

    def measure(x: float) -> tuple[float, float]:
        return (math.nan if 0.3 < x < 0.62 or x > 0.9 else 1 + x, math.nan)

    asked = hermite.refine(measure, np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0]), 0.01, 60)
    assert 0.75 in asked  # the only interval of its run


@pytest.fixture(scope="module")
def line(pair: Pair) -> Interpolation:
    return interpolate.compute(pair.problem, *pair.checkpoints, options=interpolate.Options(points=5))


class TestWhatDecided:
    def told(self, line: Interpolation, **values: float) -> str:
        return interpolate.words(replace(line, **{name: np.full(2, value) for name, value in values.items()}))[0]

    def test_the_headline_contradicts_no_number(self, line: Interpolation) -> None:
        none = {"barrier_error": 0.003, "barrier_error_sampling": 0.003, "barrier_loss": 0.0,
                "barrier_loss_sampling": 0.01, "barrier_loss_between": 0.002}  # fmt: skip
        assert self.told(line, **none) == "No barrier in the error (below 2 points): one valley"
        in_loss = "No barrier in the error, one of 0.408 nats in the loss"
        assert self.told(line, **none | {"barrier_loss": 0.408}) == in_loss
        unsure = none | {"barrier_loss": 0.408, "barrier_loss_sampling": 0.3}
        assert self.told(line, **unsure) == "No barrier in the error (below 2 points): one valley"
        assert self.told(line, **none | {"barrier_error": 0.0802}) == (
            "A barrier in the error (2 points or more), none in the loss"
        )
        assert self.told(line, **none | {"barrier_error": 0.0802, "barrier_loss": 0.015}) == (
            "A barrier in the error (2 points or more), no sure one in the loss"
        )
        assert self.told(line, **none | {"barrier_error": 0.0802, "barrier_loss": 0.4}) == (
            "A barrier in the error (2 points or more): two valleys"
        )

    def test_over_seeds_it_says_in_how_many(self, line: Interpolation) -> None:
        def with_loss(value: float) -> Interpolation:
            return replace(line, barrier_error=np.zeros(2), barrier_loss=np.full(2, value),
                           barrier_loss_sampling=np.zeros(2), barrier_loss_between=np.zeros(2))  # fmt: skip

        assert interpolate.words(with_loss(0.5), with_loss(0.0))[0] == (
            "No barrier in the error, one of 0.500 nats in the loss in 1 of 2 seeds"
        )


@pytest.fixture(scope="module")
def regression() -> Interpolation:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 3, generator=generator)
    y = x.sum(1, keepdim=True)
    problem = Problem(
        model=lambda: nn.Linear(3, 1), train=Split(x[:30], y[:30]), test=Split(x[30:], y[30:]), task=SquaredError()
    )
    layout = layout_of(problem.build(0))
    a, b = (Checkpoint(torch.randn(4, generator=generator), {}, layout, name=n, sha256=n) for n in "ab")
    return interpolate.compute(problem, a, b, options=interpolate.Options(low=-1.0, high=2.0), dtype="float64")


class TestRegression:
    def test_nothing_is_told_in_nats_or_percent(self, regression: Interpolation) -> None:
        answer, detail = interpolate.words(regression)
        assert answer == "No barrier above the worse end: one valley"
        assert detail == "Largest rise above the chord in training: 0; in test: 0"
        told = " ".join([answer, detail, *interpolate.listing(regression), *interpolate.table(regression).columns])
        assert "nats" not in told
        assert "error" not in told

    def test_the_figure_is_one_panel_without_units(self, regression: Interpolation) -> None:
        drawn = interpolate.figure(regression)
        assert [axis.title.text for axis in drawn.select_yaxes()] == ["loss"]
        assert [trace.name for trace in drawn.data if trace.showlegend] == ["train", "test"]
        assert not any(trace.fill for trace in drawn.data)


def test_buffers_that_nothing_recomputes_are_the_reason_for_missing_slopes_and_points() -> None:
    def model() -> nn.Module:
        return nn.Sequential(
            nn.Conv1d(1, 2, 3),
            nn.InstanceNorm1d(2, affine=True, track_running_stats=True),
            nn.Flatten(),
            nn.Linear(8, 2),
        )

    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 1, 6, generator=generator), torch.arange(30) % 2
    problem = Problem(model=model, train=Split(x[:20], y[:20]), test=Split(x[20:], y[20:]))
    layout, network = layout_of(model()), model()
    made = []
    for name, scale in (("a", 1.0), ("b", 3.0)):
        buffers = {key: value * scale if value.is_floating_point() else value for key, value in network.named_buffers()}
        theta = torch.randn(layout.size, generator=generator)
        made.append(Checkpoint(theta, buffers, layout, name=name, sha256=name))
    found = interpolate.compute(problem, *made, options=interpolate.Options(low=-1.0, high=1.0, points=9))
    assert found.mixed == ("1.running_var",)  # the means are 0 in both
    told = interpolate.listing(found)
    assert told[-1] == "α = −1, −0.75 not computed, as a mixed variance is negative: no rule recomputes 1.running_var"
    assert any(line.startswith("no slopes: 1.running_var differ") for line in told)
