"""Replayed products are the products, or they are not used: judged without a GPU, with recorders that only pretend."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from curvature_nets import objective, point, problem

from analyses import hessian
from landscape.curvature import FisherOperator, HessianOperator, chunked, eigenpairs, engines
from landscape.curvature.graphs import CudaRecorder
from landscape.errors import UsageError


class Pretends:
    """Replays by doing the work again; `spoil` may change what a replay does."""

    def __init__(self, spoil: Callable[[int, Callable[[], None]], object] = lambda turn, run: run()) -> None:
        self.spoil, self.replays, self.records, self.building_now = spoil, 0, 0, False
        self.built_inside: list[bool] = []

    @contextmanager
    def building(self) -> Iterator[None]:
        self.building_now = True
        yield
        self.building_now = False

    def record(self, run: Callable[[], None]) -> Callable[[], object]:
        self.records += 1

        def replay() -> None:
            self.replays += 1
            self.spoil(self.replays, run)

        return replay


@pytest.fixture(autouse=True)
def _small_chunks_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "_PASS", 0)


@pytest.fixture
def vector() -> torch.Tensor:
    size = objective("cnn-trained").size
    return torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


PASSES, CHECKS = 3, 2


@pytest.mark.parametrize("make", [HessianOperator, FisherOperator])
def test_replays_that_are_right_are_used_for_products_and_not_for_blocks(make: Any, vector: torch.Tensor) -> None:
    made, recorder = objective("cnn-trained"), Pretends()
    expected = make(made).product(vector)
    operator = make(made)
    operator.record(recorder)
    assert torch.equal(operator.product(vector), expected)
    assert recorder.records == PASSES
    assert recorder.replays == PASSES * (CHECKS + 1)
    assert torch.equal(operator.block(torch.stack([vector, 2 * vector])), torch.stack([expected, 2 * expected]))
    assert recorder.replays == PASSES * (CHECKS + 1)
    assert torch.equal(operator.product(vector), expected)
    assert recorder.replays == PASSES * (CHECKS + 2)


def test_what_is_captured_was_built_where_it_is_captured(monkeypatch: pytest.MonkeyPatch, vector: torch.Tensor) -> None:
    recorder, inside = Pretends(), []
    linearise = HessianOperator.linearise

    def watched(self: HessianOperator, *call: Any, **named: Any) -> Any:
        inside.append(recorder.building_now)
        return linearise(self, *call, **named)

    monkeypatch.setattr(HessianOperator, "linearise", watched)
    operator = HessianOperator(objective("cnn-trained"))
    operator.record(recorder)
    operator.product(vector)
    assert inside == [True] * (PASSES + 1)  # the passes, and the few examples whose graph is weighed


def test_a_pass_that_is_not_kept_is_not_captured(vector: torch.Tensor) -> None:
    made, recorder = objective("cnn-trained"), Pretends()
    operator = HessianOperator(made, memory_budget=100_000)
    operator.record(recorder)
    assert torch.equal(operator.product(vector), HessianOperator(made).product(vector))
    assert 0 < recorder.records < PASSES


def image(run: Callable[[], None]) -> torch.Tensor:
    found: torch.Tensor = inspect.getclosurevars(run).nonlocals["image"]
    return found


def slightly_off(turn: int, run: Callable[[], None]) -> None:
    run()
    image(run).mul_(1 + 1e-9)  # in float64: a thousand times what rounding explains


def not_finite(turn: int, run: Callable[[], None]) -> None:
    image(run).fill_(float("nan"))


def stale_the_second_time(turn: int, run: Callable[[], None]) -> None:
    if turn <= PASSES:
        run()


def fail(error: Exception) -> Callable[[int, Callable[[], None]], None]:
    def raising(turn: int, run: Callable[[], None]) -> None:
        raise error

    return raising


WRONG = {
    "nothing written": lambda turn, run: None,
    "slightly off": slightly_off,
    "not finite": not_finite,
    "stale the second time": stale_the_second_time,
    "a CUDA error": fail(RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore lines")),
    "out of memory": fail(torch.OutOfMemoryError("CUDA out of memory")),
}


@pytest.mark.parametrize("fault", WRONG)
@pytest.mark.parametrize("early", [False, True], ids=["replaying", "recording"])
def test_what_is_wrong_or_fails_is_told_of_once_and_not_used(
    fault: str, early: bool, vector: torch.Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    recorder, made = Pretends(WRONG[fault]), objective("cnn-trained")
    if early:  # the capture itself fails, or goes wrong as the replay does
        record = recorder.record
        recorder.record = lambda run: (recorder.spoil(1, run), record(run))[1]  # type: ignore[method-assign]
    operator = HessianOperator(made)
    operator.record(recorder)
    expected = HessianOperator(made).product(vector)
    for _ in range(2):
        assert torch.equal(operator.product(vector), expected)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert told[0].startswith("CUDA graphs are not used: ")
    assert "\n" not in told[0]
    assert all((operator._kept or {}).values())  # built anew, away from the stream of the failed capture
    assert not recorder.building_now


def test_nothing_to_capture_is_told_of(vector: torch.Tensor, caplog: pytest.LogCaptureFixture) -> None:
    operator = HessianOperator(objective("cnn-trained"), memory_budget=0)
    operator.record(Pretends())
    operator.product(vector)
    assert [record.getMessage() for record in caplog.records] == ["CUDA graphs are not used: no pass is kept in memory"]


def test_memory_that_runs_out_in_a_replay_is_answered_with_fewer_kept_passes(vector: torch.Tensor) -> None:
    made = objective("cnn-trained")

    def once(turn: int, run: Callable[[], None]) -> None:
        if turn == PASSES * CHECKS + 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        run()

    recorder, operator = Pretends(once), HessianOperator(made)
    operator.record(recorder)
    assert torch.equal(operator.product(vector), HessianOperator(made).product(vector))
    assert recorder.records == 2 * PASSES


@pytest.mark.parametrize("engine", ["lanczos", "power"])
def test_the_certificate_is_made_of_plain_products(monkeypatch: pytest.MonkeyPatch, engine: engines.Engine) -> None:
    recorder = Pretends()
    monkeypatch.setattr(engines, "CudaRecorder", lambda device: recorder)
    made = objective("tanh-trained", chunk=60)
    plain, found = (eigenpairs(made, 2, engine, cuda_graphs=on) for on in (False, True))
    assert found.values.tobytes() == plain.values.tobytes()
    assert recorder.replays - CHECKS == found.products - 3


def test_a_cpu_and_engines_with_products_of_their_own_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="CUDA graphs need a CUDA device, got 'cpu'"):
        CudaRecorder(torch.device("cpu"))
    with pytest.raises(UsageError, match="need a CUDA device"):
        eigenpairs(objective("tanh-init"), 1, cuda_graphs=True)
    with pytest.raises(UsageError, match="'dense' has products of its own"):
        eigenpairs(objective("tanh-init"), 1, "dense", cuda_graphs=True)
    stripes = problem()
    with pytest.raises(UsageError, match="need a CUDA device"):
        hessian.compute(stripes, point(stripes, 0), options=hessian.Options(cuda_graphs=True))


def test_a_capture_keeps_to_the_order_that_pytorch_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    class Stream:
        device = torch.device("cuda", 0)

        def __init__(self, device: object = None, name: str = "side") -> None:
            self.name = name

        def wait_stream(self, other: Stream) -> None:
            events.append(f"{self.name} waits for {other.name}")

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        events.append(f"on {stream.name}")
        try:
            yield
        finally:
            events.append("back")

    @contextmanager
    def capture(graph: Graph, pool: object, stream: Stream) -> Iterator[None]:
        events.append(f"capture on {stream.name} into {pool}")
        yield
        events.append("captured")

    class Graph:
        def replay(self) -> None:
            events.append("replayed")

    for name, fake in {
        "Stream": Stream,
        "stream": on,
        "graph": capture,
        "CUDAGraph": Graph,
        "graph_pool_handle": lambda: "the pool",
        "current_stream": lambda device: Stream(name="main"),
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    recorder = CudaRecorder(torch.device("cuda", 0))
    replay = recorder.record(lambda: events.append("run"))
    replay()
    whole = ["side waits for main", "on side", *["run"] * 3, "capture on side into the pool", "run", "captured"]
    assert events == [*whole, "back", "main waits for side", "replayed"]

    def broken() -> None:
        raise RuntimeError("CUDA error")

    events.clear()
    with pytest.raises(RuntimeError, match="CUDA error"):
        recorder.record(broken)
    assert events == ["side waits for main", "on side", "back"]
