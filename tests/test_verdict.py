"""The verdict on a pair says no more than its measurements bear, and names what speaks against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from conftest import Pair
from scipy.stats import binom

from analyses import asymmetry, distance, evaluate, hessian, interpolate, sharpness
from analyses.verdict import barrier, better, explained, sharper, side, strange, verdict
from landscape.result import arrays
from landscape.wording import number


@pytest.fixture(scope="module")
def sides(pair: Pair) -> asymmetry.Result:
    options = asymmetry.Options(eigenvectors=0, gaussian=1, sign_matched=0, points=4)
    found = asymmetry.compute(pair.problem, *pair.checkpoints, options=options)
    null = np.linspace(-0.9, 0.9, 99)
    return replace(
        found, null_ratio=null, null_family=("Gaussian",) * 99, null_rule=found.rules[:1] * 99,
        log_ratio=np.array([-3.0]), decayed_log_ratio=np.array([-2.5]), held_out_ratio=np.array([-2.0]),
    )  # fmt: skip


@pytest.fixture(scope="module")
def curved(pair: Pair) -> hessian.Result:
    found = hessian.compute(pair.problem, *pair.checkpoints, options=hessian.Options(top=1))
    lam = np.array([[10.0], [2.0]])
    return replace(found, eigenvalue=lam, interval_low=lam - 0.1, interval_high=lam + 0.1)


@pytest.fixture(scope="module")
def errors(pair: Pair) -> evaluate.Evaluation:
    found = evaluate.compute(pair.problem, *pair.checkpoints)
    return replace(found, only_wrong=np.array([[0, 30], [10, 0]]), error=np.array([[0, 0.05], [0, 0.03]]))


def test_a_side_is_named_where_few_random_directions_are_as_unequal(sides: asymmetry.Result) -> None:
    flat, steep = side(sides), side(replace(sides, log_ratio=np.array([3.0])))
    assert "SGD→SAM lies on the flat side of SGD's valley" in flat.text
    assert "p = 0.01)" in flat.sure  # (0 + 1) / (99 + 1)
    assert "the steep side" in steep.text
    assert (flat.sign, steep.sign) == (-1, 1)


def test_no_side_is_named_where_random_directions_are_as_unequal(sides: asymmetry.Result) -> None:
    found = side(replace(sides, log_ratio=np.array([-0.8])))
    assert "no clear side" in found.text
    assert found.sign == 0
    small = side(replace(sides, null_ratio=sides.null_ratio / 10, log_ratio=np.array([-0.5])))
    assert "no clear side" in small.text  # sure, but not a factor of two


def test_no_side_is_named_beside_too_few_random_directions(sides: asymmetry.Result) -> None:
    for count, told in ((18, "18 random directions are too few to compare it with"), (19, "lies on the flat side")):
        few = replace(
            sides, null_ratio=sides.null_ratio[:count] / 10, null_family=("Gaussian",) * count,
            null_rule=sides.rules[:1] * count,
        )  # fmt: skip
        assert told in asymmetry.words(few)[0]


def test_what_speaks_against_a_side_is_said(sides: asymmetry.Result) -> None:
    assert not [text for text in side(sides).open if "log rise ratio" in text]
    found = side(replace(sides, decayed_log_ratio=np.array([1.5]), held_out_ratio=np.array([-0.1]))).open
    assert any("with weight decay the log rise ratio is 1.50" in text for text in found)
    assert any("on the test loss the log rise ratio is −0.1" in text for text in found)


@pytest.mark.parametrize(
    ("rises", "told"),
    [
        ((0.9, -0.02), None),  # toward the flat side it falls: no contradiction
        ((-0.02, 0.9), "the test loss falls on the steep side"),
        ((-0.01, -0.02), "the test loss falls on both sides"),
        ((0.9, 0.1), None),
    ],
)
def test_a_test_loss_that_falls_on_the_steep_side_speaks_against_it(
    sides: asymmetry.Result, rises: tuple[float, float], told: str | None
) -> None:
    held = np.interp(sides.part, [-1, 0, 1], [rises[0], 0, rises[1]])[None] + 0.1
    gone = replace(sides, held_out=held, held_out_ratio=np.array([np.nan if min(rises) < 0 else -2.0]))
    assert [text for text in side(gone).open if "test loss" in text] == ([told] if told else [])
    where = {-0.02: "ahead"}.get(rises[1], "behind") if rises[0] * rises[1] < 0 else "on both sides"
    expected = f"the test loss falls {where}" if min(rises) < 0 else "on test data −2"
    assert expected in asymmetry.words(gone)[1]
    assert (expected.removeprefix("the ") if min(rises) < 0 else "test −2") in asymmetry.listing(gone)[0]
    assert "on test data −2" in asymmetry.words(gone, sides)[1]


def test_a_side_that_could_not_be_measured_is_none(sides: asymmetry.Result) -> None:
    assert "could not be measured" in side(replace(sides, log_ratio=np.array([np.nan]))).text


def shaped(sides: asymmetry.Result, f: Callable[[np.ndarray], np.ndarray], at: float) -> asymmetry.Result:
    """A line with the loss f(ℓ/r), the first network at its minimum and the other at ℓ/r = at."""
    r, step = float(sides.radius[0]), 1e-6
    x = sides.offset / r
    slope = (f(x + step) - f(x - step)) / (2 * step * r)
    height = f(np.array([0.0, at]))
    return replace(sides, loss=f(x), slope=slope, height=height, centre=np.zeros(1), distance=at * r)


def bowl(x: np.ndarray) -> np.ndarray:
    return np.where(x < 0, 0.95, 0.05) * x**2


def test_no_side_is_named_where_the_line_leaves_the_valley(sides: asymmetry.Result) -> None:
    whole = shaped(sides, bowl, 0.6)
    assert side(whole).sign == -1
    ridge = shaped(sides, lambda x: np.where(x < 0, bowl(x), 0.3 * np.sin(np.pi * x / 0.6) ** 2), 0.6)
    assert "does not lie in one valley with SGD: between the two the loss rises to 0.2" in side(ridge).text
    assert side(ridge).sign == 0
    assert asymmetry.words(ridge)[0].startswith("No single valley")  # the two say the same
    hidden = shaped(sides, lambda x: np.where(x < 0, bowl(x), np.sin(np.pi * x / 0.6) ** 2 + np.abs(x)), 0.7)
    assert side(hidden).sign == 0  # a second minimum before the other network, which sits on its far side
    far = shaped(sides, lambda x: np.where(x < 0.5, bowl(x), 0.0125 - 0.1 * (x - 0.5)), 0.3)
    assert "is not told: the loss falls again before r" in side(far).text
    assert "though not between the two" in side(far).text
    assert side(replace(far, sampling=np.array([10.0]))).sign == -1  # the slopes there are within their error
    shallow = shaped(sides, lambda x: bowl(x) + 0.002 * np.sin(40 * x) ** 2, 0.6)  # 0.5 is the mean rise at r
    assert side(shallow).sign == -1
    outside = shaped(sides, bowl, 3.0)
    assert "is not told: SGD→SAM lies at" in side(outside).text
    lower = replace(outside, height=np.array([0.0, 0.01]))
    assert "does not lie in one valley with SGD: SGD→SAM lies at" in side(lower).text
    assert "beyond the wall of 0.05" in side(lower).text


def test_a_network_short_of_the_minimum_lies_on_no_side_that_is_ahead(sides: asymmetry.Result) -> None:
    r = float(sides.radius[0])
    whole = shaped(sides, bowl, 0.3)
    assert "SGD→SAM lies on the flat side of SGD's valley" in side(whole).text
    assert "SGD→SAM lies on the flat side of SGD's valley" in asymmetry.words(whole)[0]
    height = bowl(np.array([-0.3, -0.1]))
    before = replace(whole, centre=np.array([0.3 * r]), distance=0.2 * r, height=height, decayed_centre=np.array([r]))
    for told in (side(before).text, asymmetry.words(before)[0]):
        assert told.startswith("SGD's valley is flatter toward SGD→SAM")
        assert f"SGD→SAM itself is {number(0.1 * r)} short of the minimum" in told
        assert "past that" not in told
    decayed = replace(before, decayed_centre=np.array([0.1 * r]))
    assert f"{number(0.1 * r)} past that of the loss with weight decay" in side(decayed).text


def test_a_side_rests_on_random_directions_and_on_enough_examples(sides: asymmetry.Result) -> None:
    alone = replace(sides, null_ratio=np.array([]), null_family=(), null_rule=())
    assert side(alone).sign == 0
    assert "compared with no random direction" in asymmetry.words(alone)[0]
    few = replace(sides, log_ratio_error=np.array([2.0]))
    assert side(few).sign == 0
    assert asymmetry.words(few)[0].startswith("No clear side")
    assert "−3.00 ± 2.00" in asymmetry.words(few)[1]
    assert side(replace(sides, log_ratio_error=np.array([1.0]))).sign == -1
    assert side(replace(sides, log_ratio_error=np.array([np.nan]))).sign == 0


def test_a_side_that_another_batchnorm_rule_denies_is_not_named(sides: asymmetry.Result) -> None:
    lines = [name for name, field in arrays(sides).items() if field.metadata["dims"][:1] == ("direction",)]
    two = {name: np.repeat(getattr(sides, name), 2, 0) for name in lines if name != "log_ratio"}
    name = sides.directions[0]
    both = replace(
        sides, **two, rules=("recalibrate", "keep"), directions=(f"{name} (recalibrate)", f"{name} (keep)"),
        log_ratio=np.array([-3.0, 1.0]),
    )  # fmt: skip
    assert asymmetry.words(both)[0].startswith("Which side is flat toward SGD→SAM depends on the BatchNorm rule")
    assert side(both).sign == 0
    for first, second in ((0.02, -0.01), (-3.0, 0.001)):  # nothing is told, or nothing denied
        small = replace(both, log_ratio=np.array([first, second]))
        assert "depends" not in asymmetry.words(small)[0]
    unknown = replace(both, log_ratio=np.array([-3.0, np.nan]))
    assert asymmetry.words(unknown, both)[0].startswith("Which side is flat")
    agree = replace(both, log_ratio=np.array([-3.0, -1.0]))
    assert side(agree).sign == -1
    assert "with BatchNorm keep −1.00" in asymmetry.words(agree)[1]


def test_sharper_is_said_where_intervals_lie_apart(curved: hessian.Result) -> None:
    found = sharper(curved)
    assert "SGD→SAM is 5.00 times flatter in λ₁ than SGD" in found.text
    assert "[4.71, 5.32]" in found.sure  # 9.9 / 2.1 and 10.1 / 1.9
    wide = replace(curved, interval_high=curved.eigenvalue + 9)
    assert "not told apart" in sharper(wide).text
    assert sharper(wide).sign == 0


def test_an_eigenvalue_below_zero_has_no_ratio(curved: hessian.Result) -> None:
    lam = np.array([[10.0], [-0.02]])
    found = sharper(replace(curved, eigenvalue=lam, interval_low=lam - 0.001, interval_high=lam + 0.001))
    assert found.text.startswith("SGD→SAM has the smaller λ₁, −0.0200 against 10.0")
    assert found.sign == -1
    below = replace(curved, eigenvalue=lam, interval_low=lam - 0.001, interval_high=lam + 0.001)
    told = "SGD→SAM has the smaller λ₁: the loss there rises in no direction by curvature"
    assert hessian.words(below)[0] == told


def test_a_rise_of_the_loss_alone_is_told(pair: Pair) -> None:
    options = interpolate.Options(low=0.0, high=1.0, points=5, slopes=False)
    line = interpolate.compute(pair.problem, *pair.checkpoints, options=options)
    risen = replace(line, barrier_loss=np.full(2, 0.467), barrier_loss_between=np.full(2, 0.01))
    assert barrier(risen).text == "No barrier of the error lies between them, but one of 0.467 nats in the loss"


def test_scale_free_forms_support_the_eigenvalue_or_speak_against_it(pair: Pair, curved: hessian.Result) -> None:
    options = sharpness.Options(radii="0.05", boxes="0.001", relative="0.003,0.01", steps=2, restarts=0, pairs=2, m=0)
    rises = sharpness.compute(pair.problem, *pair.checkpoints, options=options)
    flatter = np.array([3.0, 1.0])[:, None, None] * np.ones_like(rises.adaptive_worst)
    agree = sharper(curved, replace(rises, adaptive_worst=flatter))
    assert "orders them so at every radius" in agree.sure
    assert agree.open == ()
    lost = replace(rises, adaptive_rounding=flatter)
    assert "lost in rounding" in sharper(curved, lost).open[0]
    mixed = flatter.copy()
    mixed[:, 0, 0] = mixed[::-1, 0, 0]
    against = sharper(curved, replace(rises, adaptive_worst=mixed))
    assert "every radius" not in against.sure
    assert f"in {mixed[0].size - 1} of {mixed[0].size} cases" in against.open[0]
    assert "landscape sharpness" in sharper(curved).open[0]


def test_a_pair_without_a_common_stem_is_warned_of(pair: Pair) -> None:
    apart = distance.compute(pair.problem, *pair.checkpoints, options=distance.Options(barrier=0))
    assert strange(apart) is None
    lost = replace(apart, stem=np.full_like(apart.stem, np.nan))
    assert "They share no known stem" in verdict({"distance": lost}).answer
    assert verdict({"distance": apart}).answer == ""
    assert strange(replace(lost, aligned=np.ones_like(lost.aligned))) is None


def test_better_is_said_where_mcnemars_test_says_so(errors: evaluate.Evaluation) -> None:
    found = better(errors)
    assert "SGD→SAM errs less, by 2 points" in found.text
    assert f"p = {2 * binom.sf(29, 40, 0.5):.2g}" in found.sure
    close = better(replace(errors, only_wrong=np.array([[0, 12], [10, 0]])))
    assert "not told apart" in close.text
    assert close.open == ("more test examples",)


def test_flatness_explains_only_what_is_shown(curved: hessian.Result, errors: evaluate.Evaluation) -> None:
    flat, good = sharper(curved), better(errors)
    assert "as flatness would have it" in explained(flat, good)
    assert "does not explain" in explained(flat, replace(good, sign=1))
    assert "no difference" in explained(flat, replace(good, sign=0))


def test_the_verdict_holds_every_part(
    pair: Pair, sides: asymmetry.Result, curved: hessian.Result, errors: evaluate.Evaluation
) -> None:
    options = interpolate.Options(low=0.0, high=1.0, points=5, slopes=False)
    line = interpolate.compute(pair.problem, *pair.checkpoints, options=options)
    assert barrier(line).text == "No barrier lies between them"
    found = verdict({"asymmetry": sides, "hessian": curved, "interpolate": line, "evaluate": errors})
    assert found.answer.count(". ") == 4
    assert found.detail.startswith("How sure: ")
    assert found.detail.endswith("runs from other seeds: this is one pair")


def test_a_rise_of_the_error_alone_that_few_examples_explain_decides_nothing(pair: Pair) -> None:
    found = interpolate.compute(pair.problem, *pair.checkpoints, options=interpolate.Options(points=5))
    told = {
        "barrier_error": 0.0425,
        "barrier_error_sampling": 0.027,
        "barrier_loss": 0.0,
        "barrier_loss_sampling": 0.01,
    }
    few = replace(found, **{name: np.full(2, value) for name, value in told.items()})
    assert interpolate.words(few)[0].startswith("Not decided")
    assert barrier(few).text == "Whether a barrier lies between them is not decided"
    for name, value, rest in (
        ("barrier_error_sampling", 0.01, ", none in the loss"),
        ("barrier_loss", 0.3, ": two valleys"),
    ):
        sure = replace(few, **{name: np.full(2, value)})
        assert interpolate.words(sure)[0] == f"A barrier in the error (2 points or more){rest}"
        assert barrier(sure).text.startswith("A barrier of")
    assert interpolate.words(few, sure)[0] == "A barrier in the error in 1 of 2 seeds"


def test_eigenvalues_that_hardly_differ_are_about_equal_however_sure(curved: hessian.Result) -> None:
    lam = np.array([[10.0], [9.6]])
    near = replace(curved, eigenvalue=lam, interval_low=lam - 1e-3, interval_high=lam + 1e-3)
    found = sharper(near)
    assert found.text == "SGD and SGD→SAM are about equally flat in λ₁"
    assert found.sure == "their λ₁ differ by a factor of 1.04, in [1.04, 1.04]"
    assert found.sign == 0
    assert hessian.words(near)[0] == "SGD and SGD→SAM are about equally flat in λ₁: a factor of 1.04"
