"""Eigenvalues agree with the dense Hessian, and the printed intervals hold the truth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from curvature_nets import NETS, Unused, cross_entropy, disordered_model, fingerprint, images, objective, points, train
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from landscape.curvature import (
    Eigenpairs,
    HessianOperator,
    Objective,
    dense_hessian,
    eigenpairs,
    power_eigenpairs,
    top_eigenpairs,
)
from landscape.curvature.lanczos import Search, gaps_are_empty
from landscape.errors import DivergedError, UsageError


def diagonal(entries: np.ndarray, k: int, dtype: torch.dtype = torch.float64, **options: object) -> Eigenpairs:
    d = torch.as_tensor(entries).to(dtype)
    return top_eigenpairs(lambda v: d * v, len(d), k, dtype=dtype, **options)  # type: ignore[arg-type]


def spectrum(top: list[float], n: int = 2000, low: float = -0.5) -> np.ndarray:
    """A bulk between `low` and 1 with the given eigenvalues above it."""
    bulk = np.random.default_rng(0).uniform(low, 1, n)
    bulk[: len(top)] = top
    return bulk


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("net", NETS)
def test_lanczos_is_within_tolerance_of_the_dense_hessian(net: str, dtype: torch.dtype) -> None:
    problem = objective(net, dtype)
    truth = torch.linalg.eigvalsh(dense_hessian(problem)).flip(0).numpy()
    for seed in range(3):
        found = eigenpairs(problem, 5, seed=seed)
        assert found.converged, found.advice
        np.testing.assert_allclose(found.values, truth[:5], rtol=1e-3)
        assert (found.intervals[:, 0] <= truth[:5]).all()
        assert (truth[:5] <= found.intervals[:, 1]).all()
        assert abs(found.smallest - truth[-1]) <= found.smallest_residual + 3e-3 * truth[0]
        assert (np.diff(found.values) <= 0).all()
        gram = found.vectors.double() @ found.vectors.double().T
        assert (gram - torch.eye(5)).abs().max() < 1e-5
        assert found.products <= 70


@pytest.mark.parametrize(
    "top",
    [[50, 30, 20, 12, 8], [10, 10, 8, 8, 8], [10, 9.98, 9.96, 9.94, 9.91], [5, 5, 5, 5, 5]],
    ids=["separate", "double-triple", "one-percent-cluster", "fivefold"],
)
def test_the_right_multiset_is_found(top: list[float]) -> None:
    entries = spectrum(top)
    truth = np.sort(entries)[::-1][:5]
    for seed in range(5):
        found = diagonal(entries, 5, seed=seed)
        assert found.converged
        np.testing.assert_allclose(found.values, truth, rtol=1e-4)


def test_copies_are_found_where_spaces_end_after_a_few_steps() -> None:
    few, more = [0, 2, 1.5, 0, 0, 0, 0, 4, 5, 5, 1], [2.0, 1.5, 1.01] + [0.0] * 20 + [1.0] * 10 + [2.0] * 2 + [0.5] * 7
    for seed in range(20):
        assert diagonal(np.array(few), 2, seed=seed).values.tolist() == pytest.approx([5, 5], rel=1e-4)
        assert diagonal(np.array(more), 4, seed=seed).values.tolist() == pytest.approx([2, 2, 2, 1.5], rel=1e-4)


def test_missing_copies_of_zero_and_copies_beyond_the_wanted_do_not_matter() -> None:
    low = np.concatenate([[3, 2, 1], np.zeros(2000), [-1, -2]])
    more = spectrum([10, 9, 8, 7, 5, 5, 5, 5])
    for entries, dtype in ((low, torch.float64), (low, torch.float32), (more, torch.float64), (more, torch.float32)):
        found = diagonal(entries, 5, dtype=dtype)
        assert found.converged, found.advice
        np.testing.assert_allclose(found.values, np.sort(entries)[::-1][:5], atol=1e-5)
        assert found.products < 60


def krylov_blocks(entries: np.ndarray, seed: int, steps: int) -> Iterator[np.ndarray]:
    """The operator in the Krylov basis of a random start, after each step, shape (j, j)."""
    start = np.random.default_rng(seed).standard_normal(len(entries))
    rows = np.array([start / np.linalg.norm(start)])
    for _ in range(steps):
        image = entries * rows[-1]
        for _ in range(2):
            image -= rows.T @ (rows @ image)
        rows = np.vstack([rows, image / np.linalg.norm(image)])
        yield np.diag((rows**2 * entries).sum(1)) + sum(
            np.diag(((rows[:-1] * entries) * rows[1:]).sum(1), side) for side in (-1, 1)
        )


@pytest.mark.parametrize("guard", ["above all", "in a gap"])
def test_each_guard_rules_out_at_its_probability(guard: str) -> None:
    # 400 Krylov spaces of an operator that does have the eigenvalue 1.3: 0.5 % of them, 2, may deny it
    entries = np.concatenate([np.linspace(-1, 1, 300), [1.3, 2.0]])[: 301 if guard == "above all" else 302]
    values = np.array([1.29] if guard == "above all" else [2.0, 1.1])
    denied = 0
    for seed in range(400):
        blocks = krylov_blocks(entries, seed, 14)
        denied += any(gaps_are_empty(values, np.full(len(values), 0.01), block, len(entries)) for block in blocks)
    assert denied <= 7  # beyond 7 lies a Poisson tail of 0.1 % at the mean 2


@pytest.mark.parametrize("tol", [1e-3, 0.03, 0.1])
def test_a_coarse_tolerance_does_not_pass_over_an_eigenvalue(tol: float) -> None:
    # separate eigenvalues, of which some lean little to the start: a guard of the complement alone misses 3 in 100
    entries = spectrum([5.53, 1.7, 1.1, 0.925, 0.761, 0.641, 0.4, 0.384], 670, low=-0.2)
    entries[8:] *= 0.36
    missed = sum(diagonal(entries, 5, tol=tol, seed=seed).values[4] < 0.7 for seed in range(200))
    assert missed <= 6  # a Poisson tail of 0.5 % at the mean 2


def test_every_copy_of_a_repeated_eigenvalue_has_its_own_vector() -> None:
    found = diagonal(spectrum([10, 10, 8, 8, 8]), 5)
    weight = (found.vectors[:, :5] ** 2).sum(1)  # all of each vector lies in the five coordinates
    assert float(weight.min()) > 1 - 1e-6
    assert torch.linalg.matrix_rank(found.vectors[:, :5], atol=1e-3) == 5


def test_no_eigenvalue_is_reported_more_often_than_it_occurs() -> None:
    # a Krylov basis that loses orthogonality reports the largest eigenvalue many times
    found = diagonal(spectrum([100, 90, 80, 70, 60, 50, 40, 30, 20, 10]), 10, tol=1e-8)
    np.testing.assert_allclose(found.values, np.arange(100, 0, -10), rtol=1e-10)


def test_thick_restart_reaches_the_same_values() -> None:
    entries = np.linspace(0, 1, 400) ** 2
    wide, narrow = (diagonal(entries, 3, tol=1e-6, capacity=c, max_products=3000) for c in (400, 20))
    assert wide.converged
    assert narrow.converged
    assert narrow.products > 40
    np.testing.assert_allclose(narrow.values, np.sort(entries)[::-1][:3], rtol=1e-10)
    np.testing.assert_allclose(wide.values, narrow.values, rtol=1e-10)


@settings(max_examples=40, deadline=None)
@given(
    entries=st.lists(st.floats(-10, 10).map(lambda x: round(x, 2)), min_size=1, max_size=70),
    seed=st.integers(0, 5),
    data=st.data(),
)
def test_any_small_spectrum_is_found_with_its_multiplicities(
    entries: list[float], seed: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(entries)))
    found = diagonal(np.array(entries), k, seed=seed, max_products=1000)
    assert found.converged
    truth = np.sort(entries)[::-1]
    scale = max(1e-300, np.abs(truth).max())
    np.testing.assert_allclose(found.values, truth[:k], atol=1e-3 * scale)
    assert abs(found.smallest - truth[-1]) <= found.smallest_residual + found.rounding + 1e-3 * scale


def test_near_ties_of_opposite_sign_are_told_apart() -> None:
    # power iteration mixes them; a search by magnitude takes one for the other
    found = diagonal(spectrum([10, 5, 3.1317], low=-3.1306), 3)
    np.testing.assert_allclose(found.values, [10, 5, 3.1317], rtol=1e-4)
    assert found.by_magnitude is not None
    lopsided = diagonal(np.concatenate([spectrum([10, 5, 3]), [-8.0]]), 3)
    assert abs(lopsided.smallest + 8) < 1e-3
    assert lopsided.by_magnitude is None


def test_intervals_and_gap_bounds_hold_the_truth() -> None:
    entries = spectrum([50, 30, 20, 12, 8])
    truth = np.sort(entries)[::-1][:5]
    for seed in range(5):
        found = diagonal(entries, 5, tol=1e-2, seed=seed)
        error = np.abs(found.values - truth)
        assert (error <= found.residuals + found.rounding).all()
        assert (error <= 1.1 * found.gap_bound + found.rounding).all()
        assert (found.gap_bound <= found.residuals).all()


def test_the_certificate_is_recomputed() -> None:
    problem = objective("relu-trained")
    found = eigenpairs(problem, 3)
    dense = dense_hessian(problem)
    measured = torch.linalg.vector_norm(
        found.vectors @ dense - torch.tensor(found.values)[:, None] * found.vectors, dim=1
    )
    np.testing.assert_allclose(found.residuals, measured.numpy(), rtol=1e-6, atol=1e-12)


def test_a_search_that_ran_out_of_products_says_so() -> None:
    found = diagonal(np.linspace(0, 1, 2000), 5, max_products=40)
    assert found.products == 40
    assert not found.converged
    assert "after 40 products" in found.advice
    late = diagonal(spectrum([50, 30, 20, 12, 8]), 5, max_products=18)
    assert not late.converged
    assert "missed eigenvalues" in late.advice
    np.testing.assert_allclose(late.values, [50, 30, 20, 12, 8], rtol=1e-2)


def test_a_request_that_the_precision_cannot_meet_is_refused() -> None:
    problem = objective("tanh-trained", torch.float32)
    for engine in ("lanczos", "power", "pyhessian"):
        with pytest.raises(UsageError, match=r"floor of torch\.float32"):
            eigenpairs(problem, 2, engine, tol=1e-7)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="1 to 155 eigenpairs"):
        eigenpairs(problem, 156)
    with pytest.raises(UsageError, match="1 to 155 eigenpairs"):
        eigenpairs(problem, 0, "dense")
    with pytest.raises(UsageError, match="did you mean 'lanczos'"):
        eigenpairs(problem, 1, "lanzcos")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="float32 or float64"):
        diagonal(np.ones(5), 2, dtype=torch.bfloat16)


def test_a_product_that_is_not_finite_stops_the_search() -> None:
    problem = objective("tanh-trained")
    problem.model[0].weight.data[0, 0] = float("nan")  # type: ignore[index, union-attr]
    for engine in ("lanczos", "power"):
        with pytest.raises(DivergedError, match="not finite"):
            eigenpairs(problem, 2, engine)  # type: ignore[arg-type]


def test_a_hessian_that_is_zero_has_eigenvalues_zero() -> None:
    for found in (diagonal(np.zeros(50), 3), diagonal(np.array([2.0] + [0.0] * 49), 3)):
        assert found.converged
        np.testing.assert_allclose(found.values[1:], 0, atol=1e-12)


def test_the_same_seed_gives_the_same_bits() -> None:
    problem = objective("cnn-trained", torch.float32)
    first, second, other = (eigenpairs(problem, 3, seed=seed) for seed in (0, 0, 1))
    assert first.values.tobytes() == second.values.tobytes()
    assert torch.equal(first.vectors, second.vectors)
    assert first.values.tobytes() != other.values.tobytes()


@pytest.mark.parametrize("top", [[50, 30, 20, 12, 8], [10, 10, 8, 8, 8]])
@pytest.mark.parametrize("capacity", [20, 60])
def test_a_search_resumed_after_any_step_ends_in_the_same_bits(top: list[float], capacity: int) -> None:
    entries = spectrum(top)
    states = []
    whole = diagonal(entries, 5, capacity=capacity, save=lambda search: states.append(deepcopy(search.arrays())))
    assert len(states) == whole.products
    for state in states[::7] + states[-1:]:
        resumed = diagonal(entries, 5, capacity=capacity, state=state)
        assert torch.equal(resumed.vectors, whole.vectors)
        assert resumed.values.tobytes() == whole.values.tobytes()
        assert resumed.products == whole.products


def test_a_search_on_a_network_is_resumed_in_the_same_bits() -> None:
    problem = objective("cnn-trained", torch.float32)
    states = []
    whole = eigenpairs(problem, 3, save=lambda search: states.append(deepcopy(search.arrays())))
    resumed = eigenpairs(problem, 3, state=states[len(states) // 2])
    assert resumed.values.tobytes() == whole.values.tobytes()
    assert torch.equal(resumed.vectors, whole.vectors)
    with pytest.raises(ValueError, match="cannot be resumed"):
        eigenpairs(problem, 3, "power", state=states[0])


def test_a_state_of_another_operator_is_refused() -> None:
    kept: list[Search] = []
    diagonal(np.arange(50.0), 2, save=kept.append)
    with pytest.raises(ValueError, match="rows of 60 numbers"):
        diagonal(np.arange(60.0), 2, state=kept[0].arrays())


def test_progress_is_told_the_products_and_a_residual_that_falls() -> None:
    told: list[tuple[int, float]] = []
    found = eigenpairs(objective("tanh-trained"), 3, progress=lambda done, residual: told.append((done, residual)))
    assert [done for done, _ in told] == list(range(1, found.products - 3))
    assert told[-1][1] <= 1e-3
    assert json.dumps(told[-1])


@pytest.mark.parametrize("net", ["tanh-trained", "cnn-trained"])
def test_power_iteration_finds_what_lanczos_finds(net: str) -> None:
    problem = objective(net, chunk=100)
    slow, fast = eigenpairs(problem, 2, "power", tol=1e-2), eigenpairs(problem, 2)
    truth = torch.linalg.eigvalsh(dense_hessian(problem)).numpy()
    assert slow.converged, slow.advice
    np.testing.assert_allclose(slow.values, fast.values, rtol=1e-2)
    assert (np.abs(slow.values - truth[::-1][:2]) <= slow.residuals).all()
    assert abs(slow.smallest - truth[0]) <= slow.smallest_residual + 3e-2 * truth[-1]
    assert slow.order == "magnitude"


def test_power_iteration_says_when_it_does_not_converge() -> None:
    d = torch.tensor([1.0, -0.999999, 0.1], dtype=torch.float64)
    found = power_eigenpairs(lambda v: d * v, 3, 1, dtype=torch.float64, max_products=100)
    assert not found.converged
    assert "engine 'lanczos'" in found.advice
    assert found.residuals[0] > 0.1  # the mixture of the two is no eigenvector, and this shows it


@pytest.mark.parametrize("net", ["tanh-trained", "cnn-trained"])
def test_pyhessian_agrees_and_its_residuals_are_ours(net: str) -> None:
    problem = objective(net)
    theirs, ours = eigenpairs(problem, 3, "pyhessian", tol=1e-6), eigenpairs(problem, 3)
    np.testing.assert_allclose(theirs.values, ours.values, rtol=1e-3)
    dense = dense_hessian(problem)
    v = theirs.vectors[0]
    assert abs(theirs.residuals[0] - float((dense @ v - (v @ dense @ v) * v).norm())) < 1e-12
    assert np.isnan(theirs.smallest)
    assert theirs.smallest_vector is None


def test_pyhessians_tolerance_is_not_an_error_and_ours_is() -> None:
    problem = objective("cnn-init")
    theirs, ours = eigenpairs(problem, 5, "pyhessian"), eigenpairs(problem, 5)
    assert not theirs.converged
    assert "residual" in theirs.advice
    assert (theirs.residuals / np.abs(theirs.values)).max() > 1e-2
    assert (ours.residuals / ours.values).max() <= 1e-3


def test_pyhessian_gives_the_same_again() -> None:
    problem = objective("tanh-trained")
    first, second = (eigenpairs(problem, 2, "pyhessian", tol=1e-4) for _ in range(2))
    assert first.values.tobytes() == second.values.tobytes()


@pytest.mark.parametrize("engine", ["lanczos", "power", "pyhessian", "dense"])
def test_no_engine_leaves_a_trace(engine: str) -> None:
    model = disordered_model()
    problem = Objective(model, cross_entropy, images().to("cpu", torch.float32), 16)
    before = fingerprint(model)
    eigenpairs(problem, 2, engine, tol=1e-2)  # type: ignore[arg-type]
    assert fingerprint(model) == before


def test_pyhessian_refuses_what_it_cannot_do() -> None:
    problem = Objective(Unused().double(), cross_entropy, points(), 25)
    with pytest.raises(UsageError, match=r"idle\.weight, idle\.bias"):
        eigenpairs(problem, 2, "pyhessian")
    with pytest.raises(UsageError, match="BatchNorm"):
        eigenpairs(objective("cnn-init"), 2, "pyhessian", batchnorm="train")
    assert eigenpairs(problem, 2).converged


def test_every_engine_sees_a_pattern() -> None:
    whole = objective("tanh-trained")
    part = replace(whole, parameters="2.*")
    truth = torch.linalg.eigvalsh(dense_hessian(whole)[56:128, 56:128]).flip(0).numpy()[:2]
    for engine in ("lanczos", "power", "pyhessian", "dense"):
        found = eigenpairs(part, 2, engine, tol=1e-6)  # type: ignore[arg-type]
        np.testing.assert_allclose(found.values, truth, rtol=1e-4)


def test_batchnorm_modes_are_different_matrices() -> None:
    problem = objective("cnn-trained", chunk=24)
    modes = {mode: eigenpairs(problem, 1, batchnorm=mode).values[0] for mode in ("eval", "train")}
    truth = {mode: float(torch.linalg.eigvalsh(dense_hessian(problem, mode))[-1]) for mode in ("eval", "train")}
    assert modes == pytest.approx(truth, rel=1e-3)
    assert abs(modes["train"] / modes["eval"] - 1) > 0.1


def test_rounding_of_float32_is_measured_and_said() -> None:
    # where the loss is next to zero, p - 1 has lost its digits in float32, and so has the Hessian
    problem = objective("relu-trained")
    easy = points(spread=3.0)
    train(problem.model, easy, 300)
    wide = eigenpairs(replace(problem, data=easy), 4)
    narrow = eigenpairs(replace(problem, model=problem.model.float(), data=easy.to("cpu", torch.float32)), 4)
    assert wide.converged
    assert not narrow.converged
    assert "use float64" in narrow.advice
    assert narrow.rounding > 20 * torch.finfo(torch.float32).eps * narrow.values[0]
    assert (np.abs(narrow.values - wide.values) <= narrow.residuals + narrow.rounding).all()


def test_a_second_run_on_the_same_model_is_not_doubled() -> None:
    problem = objective("tanh-trained")
    first, second = (eigenpairs(problem, 1, "pyhessian", tol=1e-5).values[0] for _ in range(2))
    assert second == pytest.approx(first, rel=1e-12)


def test_operators_count_their_products() -> None:
    operator = HessianOperator(objective("tanh-trained"))
    found = top_eigenpairs(operator.product, operator.size, 2, dtype=torch.float64)
    assert operator.products == found.products


def test_host_numbers_are_float64_whatever_the_model() -> None:
    found = eigenpairs(objective("tanh-trained", torch.float32), 2)
    assert found.values.dtype == found.residuals.dtype == found.gap_bound.dtype == np.float64
    assert isinstance(found.vectors, Tensor)
    assert found.vectors.dtype == torch.float32
