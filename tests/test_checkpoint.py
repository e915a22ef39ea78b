"""A checkpoint comes back as it was, or not at all; nothing in a file is ever run."""

from __future__ import annotations

import os
import pickle
import random
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import Pair
from torch import nn

from landscape import checkpoint as checkpoints
from landscape.errors import InputError, ResourceError, UsageError
from landscape.opening import open_checkpoints
from landscape.weights import read_tensors


def test_a_checkpoint_comes_back_equal(pair: Pair, tmp_path: Path) -> None:
    made = pair.checkpoints[1]
    saved = checkpoints.save(made, tmp_path / "again.pt")
    read = checkpoints.load(tmp_path / "again.pt")
    assert read.sha256 == saved.sha256 == made.sha256
    assert torch.equal(read.theta, made.theta)
    assert read.layout == made.layout
    assert read.settings == made.settings
    assert read.name == "again"
    assert all(torch.equal(read.optimizer[k], v) for k, v in made.optimizer.items())
    assert (read.step, read.steps, read.cost, read.state) == (100, 100, 1.4, "complete")


def test_every_flipped_byte_of_weights_is_noticed(pair: Pair, tmp_path: Path) -> None:
    whole = pair.paths[0].read_bytes()
    draw = random.Random(0)
    for _ in range(60):
        place = draw.randrange(len(whole))
        path = tmp_path / "flipped.pt"
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :])
        try:
            read = checkpoints.load(path)
        except InputError:
            continue
        original = pair.checkpoints[0]  # the byte was padding: what was read is what was written
        assert read.sha256 == original.sha256
        assert torch.equal(read.theta, original.theta)
        assert all(torch.equal(read.buffers[k], v) for k, v in original.buffers.items())


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(pair: Pair, tmp_path: Path, part: float) -> None:
    whole = pair.paths[0].read_bytes()
    path = tmp_path / "cut.pt"
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(InputError, match=r"cut short|empty"):
        checkpoints.load(path)


class Payload:
    """What a hostile file would hold: unpickling it makes a directory."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.mark,)


@pytest.mark.parametrize("writer", [torch.save, lambda value, path: Path(path).write_bytes(pickle.dumps(value))])
def test_code_in_a_file_is_not_run(tmp_path: Path, writer: object) -> None:
    path, mark = tmp_path / "hostile.pt", tmp_path / "ran"
    writer({"state_dict": {"w": torch.zeros(2)}, "x": Payload(mark)}, path)  # type: ignore[operator]
    with pytest.raises(InputError):
        read_tensors(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "LFS pointer"),
        (b"\x89HDF\r\n\x1a\n", "result"),
        (b"hello", "cannot be read"),
    ],
)
def test_other_kinds_of_file_are_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        checkpoints.load(path)


def test_a_name_nearly_right_is_suggested(pair: Pair) -> None:
    with pytest.raises(InputError, match=r"did you mean .*sgd-sam\.pt"):
        checkpoints.load(pair.paths[0].with_name("sgd_sam.pt"))


def test_a_newer_format_is_refused(pair: Pair, tmp_path: Path) -> None:
    content = read_tensors(pair.paths[0])
    torch.save(content | {"format": "landscape/checkpoint/99"}, tmp_path / "new.pt")
    with pytest.raises(InputError, match="checkpoint/99"):
        checkpoints.load(tmp_path / "new.pt")


def weights(pair: Pair) -> dict[str, torch.Tensor]:
    model = pair.problem.build(0)
    c = pair.checkpoints[0]
    model.load_state_dict(c.layout.views(c.theta) | dict(c.buffers))
    return model.state_dict()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: w,
        lambda w: OrderedDict(w),
        lambda w: {"state_dict": w, "epoch": 3},
        lambda w: {"model": w},
        lambda w: {"model_state_dict": {f"module.{k}": v for k, v in w.items()}},
        lambda w: {f"module._orig_mod.{k}": v for k, v in w.items()},
        lambda w: {"net": {k: v.half() if v.is_floating_point() else v for k, v in w.items()}},
    ],
    ids=["bare", "ordered", "state_dict", "model", "data parallel", "nested prefixes", "half"],
)
def test_weights_from_elsewhere_find_their_place(pair: Pair, tmp_path: Path, wrap: object) -> None:
    path = tmp_path / "theirs.pt"
    torch.save(wrap(weights(pair)), path)  # type: ignore[operator]
    said: list[str] = []
    problem, (found,) = open_checkpoints([path], "digits/resnet8", said.append)
    assert torch.allclose(found.theta, pair.checkpoints[0].theta, rtol=2e-3, atol=1e-6)  # half has 11 bits
    assert found.buffers.keys() == pair.checkpoints[0].buffers.keys()
    assert problem.spec == "digits/resnet8"
    assert (found.state, found.method) == ("weights", "unknown")
    content = torch.load(path, weights_only=True)
    assert bool(said) == (set(content) != set(weights(pair)))  # every guess is said


def test_weights_that_do_not_fit_say_how(pair: Pair, tmp_path: Path) -> None:
    broken = weights(pair)
    first = next(iter(broken))
    broken["extra"] = broken.pop(first)
    torch.save(broken, tmp_path / "bad.pt")
    with pytest.raises(InputError, match=f"{first} is missing; extra is not in the network"):
        open_checkpoints([tmp_path / "bad.pt"], "digits/resnet8", print)


def test_two_sets_of_weights_are_not_guessed_between(pair: Pair, tmp_path: Path) -> None:
    torch.save({"model": weights(pair), "state_dict": weights(pair)}, tmp_path / "two.pt")
    with pytest.raises(InputError, match="several sets of weights"):
        open_checkpoints([tmp_path / "two.pt"], "digits/resnet8", print)


def test_weights_without_a_problem_ask_for_one(pair: Pair, tmp_path: Path) -> None:
    torch.save(weights(pair), tmp_path / "bare.pt")
    with pytest.raises(InputError, match="--problem"):
        open_checkpoints([tmp_path / "bare.pt"], None, print)


def test_different_problems_shapes_and_data_are_refused(pair: Pair, tmp_path: Path) -> None:
    other = checkpoints.save(replace(pair.checkpoints[0], problem="digits/mlp"), tmp_path / "mlp.pt")
    assert other.problem == "digits/mlp"
    with pytest.raises(InputError, match="different problems"):
        open_checkpoints([pair.paths[0], tmp_path / "mlp.pt"], None, print)
    with pytest.raises(InputError, match="does not fit the network"):
        open_checkpoints([tmp_path / "mlp.pt"], None, print)
    checkpoints.save(replace(pair.checkpoints[0], data="0" * 64), tmp_path / "data.pt")
    with pytest.raises(InputError, match="other data"):
        open_checkpoints([tmp_path / "data.pt"], None, print)


def test_nothing_is_overwritten_and_nothing_half_written_stays(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.pt"
    checkpoints.save(pair.checkpoints[0], path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        checkpoints.save(pair.checkpoints[1], path)

    def full(*_: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ResourceError, match="could not be written"):
        checkpoints.save(pair.checkpoints[1], path, force=True)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["mine.pt"]


def test_tied_and_frozen_weights_are_counted_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 3, bias=False)
            self.b = nn.Linear(3, 3, bias=False)
            self.b.weight = self.a.weight
            self.frozen = nn.Linear(3, 2).requires_grad_(False)

    from landscape.vector import FlatModel

    flat = FlatModel(Tied())
    assert flat.layout.names == ("a.weight",)
    assert set(flat.buffers()) == {"frozen.weight", "frozen.bias"}
    flat.load(torch.arange(9.0))
    assert float(flat.model.b.weight.detach()[2, 2]) == 8.0  # type: ignore[union-attr, index]
