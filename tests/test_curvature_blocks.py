"""Several vectors multiplied at once: the same products, in whichever way was measured to be faster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from curvature_nets import Tied, Unused, cross_entropy, gap, mlp, objective, points
from torch import Tensor, nn

from landscape.curvature import (
    CurvatureOperator,
    FisherOperator,
    GaussNewtonOperator,
    HessianOperator,
    Objective,
    blocks,
    chunked,
    estimate_trace,
)
from landscape.curvature.blocks import BLOCK, Choice


@pytest.fixture(autouse=True)
def _small_chunks_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "_PASS", 0)


def frozen() -> Objective:
    model = mlp().double()
    model[0].requires_grad_(False)
    return Objective(model, cross_entropy, points(), 25)


PROBLEMS = {
    "mlp": lambda: objective("tanh-trained"),
    "cnn": lambda: objective("cnn-trained"),
    "block of a matrix": lambda: replace(objective("cnn-trained"), parameters="3.*"),
    "frozen": frozen,
    "unused": lambda: Objective(Unused().double(), cross_entropy, points(), 25),
    "tied": lambda: Objective(Tied().double(), cross_entropy, points(), 25),
    "linear": lambda: Objective(
        nn.Linear(6, 1, bias=False).double(), lambda outputs, targets: outputs[:, 0] * targets, points(), 25
    ),
}


def draws(operator: CurvatureOperator, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, operator.size, dtype=torch.float64, generator=generator).to(operator.dtype)


def stacked(operator: CurvatureOperator, vectors: Tensor) -> Tensor:
    return torch.stack([operator.product(vector) for vector in vectors])


@pytest.mark.parametrize("budget", [0, 100_000, None], ids=["recomputed", "partly kept", "kept"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_block_is_the_products_side_by_side(problem: str, budget: int | None) -> None:
    made = PROBLEMS[problem]()
    single, operator = (HessianOperator(made, memory_budget=budget) for _ in range(2))
    vectors = draws(single, 5)
    expected = stacked(single, vectors)
    assert torch.equal(operator.block(vectors), expected)  # one after the other in each pass: to the bit
    assert operator.products == 5
    # together each number is the sum of the same terms in another order: some 1e3 roundings of 1e-16
    assert (operator._together(vectors) - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("make", [GaussNewtonOperator, FisherOperator, lambda p: FisherOperator(p, "data")])
def test_the_other_matrices_and_batch_statistics_have_blocks_too(make: type[CurvatureOperator]) -> None:
    operator = make(objective("cnn-trained"))
    vectors = draws(operator, 5)
    assert gap(operator._together(vectors), stacked(operator, vectors)) < 1e-12
    by_batch = HessianOperator(objective("cnn-trained"), "train")
    by_batch.choice.together = True
    vectors = draws(by_batch, 5)
    assert gap(by_batch.block(vectors), stacked(by_batch, vectors)) < 1e-12


class Recorded:
    """A diagonal matrix that notes how many vectors it was given, and a clock that these calls move."""

    def __init__(self, seconds: float, alone: float = 1.0, fails: Exception | None = None) -> None:
        self.now, self.seconds, self.alone, self.fails = 0.0, seconds, alone, fails
        self.calls: list[tuple[str, int]] = []

    def clock(self, device: torch.device) -> float:
        return self.now

    def singly(self, vectors: Tensor) -> Tensor:
        self.calls.append(("singly", len(vectors)))
        self.now += self.alone * len(vectors) * (1 if len(self.calls) > 1 else 9)  # the first is cold
        return 2 * vectors

    def together(self, vectors: Tensor) -> Tensor:
        self.calls.append(("together", len(vectors)))
        if self.fails:
            raise self.fails
        self.now += self.seconds * len(vectors)
        return 2 * vectors


def images(choice: Choice, recorded: Recorded, count: int, most: int = 100) -> None:
    vectors = torch.arange(3.0 * count).reshape(count, 3)
    assert torch.equal(choice.images(vectors, recorded.singly, recorded.together, most), 2 * vectors)


@pytest.fixture
def choice() -> Iterator[Choice]:
    return Choice(torch.device("cpu"))


TRIAL = [("singly", 1), ("together", 4), ("singly", 1)]


@pytest.mark.parametrize(
    ("seconds", "most", "after"),
    [
        (0.5, 100, [("together", 8), ("together", 6)]),
        (0.5, 5, [("together", 5), ("together", 5), ("together", 4)]),
        (0.7, 100, [("singly", 8), ("singly", 6)]),  # faster, but not by the margin
        (1.3, 100, [("singly", 8), ("singly", 6)]),
    ],
)
def test_what_was_measured_to_be_faster_by_half_is_done(
    monkeypatch: pytest.MonkeyPatch, choice: Choice, seconds: float, most: int, after: list[tuple[str, int]]
) -> None:
    recorded = Recorded(seconds)
    monkeypatch.setattr(blocks, "clock", recorded.clock)
    images(choice, recorded, 20, most)
    assert recorded.calls == TRIAL + after
    assert choice.together is (seconds < 1 / 1.5)
    recorded.calls.clear()
    images(choice, recorded, 5, most)
    assert recorded.calls == [("together" if choice.together else "singly", 5)]


def test_products_of_milliseconds_are_left_alone(monkeypatch: pytest.MonkeyPatch, choice: Choice) -> None:
    # two measurements of such a product differ by half for no reason, and with them the last bits would
    recorded = Recorded(0.001, alone=0.01)
    monkeypatch.setattr(blocks, "clock", recorded.clock)
    images(choice, recorded, 20)
    assert recorded.calls == [*TRIAL, ("singly", 8), ("singly", 6)]


def test_nothing_is_measured_where_it_could_not_pay_or_must_not_matter(
    monkeypatch: pytest.MonkeyPatch, choice: Choice
) -> None:
    recorded = Recorded(0.1)
    monkeypatch.setattr(blocks, "clock", recorded.clock)
    images(choice, recorded, 7)  # too few vectors
    images(choice, recorded, 20, most=3)  # too little memory
    try:
        torch.use_deterministic_algorithms(True)
        images(choice, recorded, 20)
    finally:
        torch.use_deterministic_algorithms(False)
    assert {way for way, _ in recorded.calls} == {"singly"}
    assert max(count for _, count in recorded.calls) == BLOCK
    assert choice.together is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "memory ran out on 4 vectors at once"),
        (RuntimeError("vmap: no rule"), "cannot differentiate the network along 4 vectors at once"),
    ],
)
def test_what_fails_together_is_done_one_by_one_from_then_on(
    choice: Choice, caplog: pytest.LogCaptureFixture, error: Exception, words: str
) -> None:
    recorded = Recorded(0.1, fails=error)
    caplog.set_level("INFO")
    images(choice, recorded, 20)
    images(choice, recorded, 20)
    assert [way for way, _ in recorded.calls].count("together") == 1
    assert choice.together is False
    assert [record.getMessage() for record in caplog.records if words in record.getMessage()]
    assert len(caplog.records) == 1


def test_a_choice_that_was_made_before_repeats_the_same_calls(choice: Choice) -> None:
    first, again, resumed = Recorded(0.0), Recorded(9.0), Choice(torch.device("cpu"))
    choice.together = True  # as the clock would say
    images(choice, first, 20)
    resumed.together = choice.together
    images(resumed, again, 20)  # here the clock says otherwise
    assert first.calls == again.calls
    assert resumed.together


def test_memory_limits_how_many_vectors_are_multiplied_at_once() -> None:
    problem = objective("cnn-trained")
    graphs = HessianOperator(problem).graph_bytes()
    one_more = 17 * graphs // 48 + chunked._ROWS * problem.size * 8
    assert [HessianOperator(problem, memory_budget=b)._at_once() for b in (0, graphs // 2)] == [1, 1]
    assert HessianOperator(problem, memory_budget=graphs + 100 + 3 * one_more)._at_once() == 4
    assert HessianOperator(problem)._at_once() > BLOCK


def test_memory_that_runs_out_on_a_block_leaves_the_kept_graphs_and_the_numbers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    operator = HessianOperator(objective("cnn-trained"))
    vectors = draws(operator, 9)
    expected = stacked(operator, vectors)
    kept = operator._kept

    def full(vectors: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(operator, "_together", full)
    assert torch.equal(operator.block(vectors), expected)
    assert operator._kept is kept
    assert operator.products == 18
    assert len(caplog.records) == 1


@pytest.mark.parametrize("sketch", [0, 10])
def test_a_trace_by_blocks_is_that_of_its_products(sketch: int) -> None:
    operator = HessianOperator(objective("tanh-trained"))
    options = {"sketch": sketch, "dtype": torch.float64}
    plain = estimate_trace(operator.product, operator.size, **options)
    operator.choice.together = True
    found = estimate_trace(operator.product, operator.size, block=operator.block, **options)
    assert found.value == pytest.approx(plain.value, rel=1e-10)
    assert found.standard_error == pytest.approx(plain.standard_error, rel=1e-8)
    assert operator.products == plain.products + found.products


def test_a_block_of_the_wrong_shape_is_refused() -> None:
    operator = HessianOperator(objective("tanh-trained"))
    with pytest.raises(ValueError, match="shape"):
        operator.block(torch.ones(2, 3))
