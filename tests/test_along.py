"""A ridge of λ₁ is said to be there only where intervals lie apart, and so is a flatter end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import Pair

from analyses import along, hessian


@pytest.fixture(scope="module")
def ridge(pair: Pair) -> along.Ridge:
    found = along.compute(pair.problem, *pair.checkpoints, options=along.Options(top=1, points=3))
    values = np.array([[2.0], [2.1], [1.0]])
    return replace(found, eigenvalue=values, interval_low=values - 0.01, interval_high=values + 0.01)


def test_a_ridge_is_higher_than_both_ends_by_more_than_the_intervals(ridge: along.Ridge) -> None:
    assert along.words(ridge)[0].startswith("Sharper between them than at either: 1.05 times")
    wide = replace(ridge, interval_low=ridge.eigenvalue - 0.1)
    assert along.words(wide)[0] == "Sharpest at SGD: no ridge between them"
    assert along.words(ridge, wide)[0] == "A ridge between them in 1 of 2 seeds"


def test_two_points_have_no_ridge_between_them(pair: Pair) -> None:
    found = along.compute(pair.problem, *pair.checkpoints, options=along.Options(top=1, low=0, high=1, points=2))
    assert found.alpha.tolist() == [0, 1]
    assert along.words(found)[0].endswith("no ridge between them")


def test_the_flatter_end_is_named_where_intervals_lie_apart(pair: Pair) -> None:
    found = hessian.compute(pair.problem, *pair.checkpoints, options=hessian.Options(top=1))
    values = np.array([[2.0], [1.0]])
    apart = replace(found, eigenvalue=values, interval_low=values - 0.1, interval_high=values + 0.1)
    assert hessian.words(apart)[0].startswith("SGD→SAM is 2.00 times flatter than SGD")
    near = replace(apart, interval_high=values + 1)
    assert hessian.words(near)[0] == "SGD and SGD→SAM are not told apart: the intervals of λ₁ overlap"
