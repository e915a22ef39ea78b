"""Data readers: what is published is read exactly, what is damaged is named, and subsets never depend on chance."""

import gzip
import hashlib
import lzma
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from landscape.datasets import CLASSES, cifar, digits, load
from landscape.datasets.balance import balanced_order, balanced_subset, is_settled
from landscape.errors import InputError, UsageError
from landscape.split import channels_last

DATA = Path(os.environ.get("LANDSCAPE_DATA", Path(__file__).parents[2] / "shared" / "data"))
IMAGE_BYTES = 28 * 28


def moments(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of pixels / 255 per channel, exact from the 256 counts."""
    value = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.transpose(0, 1):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = (share * value).sum()
        means.append(mean.item())
        stds.append((share * (value - mean) ** 2).sum().sqrt().item())
    return means, stds


# --- digits -----------------------------------------------------------------------------------------------------


def test_packaged_digits_are_the_published_ones() -> None:
    with np.load(Path(digits.__file__).with_name("digits.npz"), allow_pickle=False) as file:
        images, labels = file["images"], file["labels"]
    assert images.dtype == labels.dtype == np.uint8
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    assert digest == "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


def test_packaged_digits_equal_the_copy_of_scikit_learn() -> None:
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    with np.load(Path(digits.__file__).with_name("digits.npz"), allow_pickle=False) as file:
        assert np.array_equal(file["images"], theirs.images)
        assert np.array_equal(file["labels"], theirs.target)


def test_images_lie_in_memory_as_networks_that_flatten_by_view_expect() -> None:
    for split in load("digits", None):
        grey = split.batch(0, 4)[0]
        assert torch.conv2d(grey, torch.ones(2, 1, 3, 3)).view(4, -1).shape == (4, 72)
        assert not torch.conv2d(channels_last(grey), torch.ones(2, 1, 3, 3)).is_contiguous()
        assert torch.equal(channels_last(grey), grey)


def test_digits_split_is_recorded() -> None:
    with np.load(Path(digits.__file__).with_name("digits.npz"), allow_pickle=False) as file:
        train, test = digits.split_indices(file["labels"])
    assert sorted([*train, *test]) == list(range(1797))
    digest = hashlib.sha256(train.astype("<u2").tobytes()).hexdigest()
    assert digest == "f6593a6755fcb8f37187ee6d9ff081bdb861a8912a4e9232c31dc6ba7480e9b9"


def test_digits_are_stratified_and_normalised() -> None:
    train, test = load("digits", None)
    assert (len(train), len(test)) == (500, 1297)
    assert train.shape == test.shape == (1, 8, 8)
    assert train.targets.dtype == torch.int64
    assert train.targets.bincount().tolist() == [50] * 10
    assert int(train.inputs.max()) == 16
    mean, std = moments(train.inputs)
    assert train.mean == test.mean == pytest.approx(mean, abs=5e-9)  # the eighth decimal, rounded
    assert train.std == test.std == pytest.approx(std, abs=5e-9)
    x, _ = train.batch(0, 500, torch.float64)
    assert x.mean().item() == pytest.approx(0, abs=1e-6)
    assert x.std(correction=0).item() == pytest.approx(1, abs=1e-6)


def test_smaller_digits_are_nested_and_share_the_test_set() -> None:
    full, test = load("digits", None)
    for size in (1, 10, 123, 500):
        train, same = load("digits", None, train_size=size)
        assert torch.equal(train.inputs, full.inputs[:size])
        assert torch.equal(train.targets, full.targets[:size])
        counts = train.targets.bincount(minlength=10)
        assert int(counts.max() - counts.min()) <= 1
        assert same.fingerprint() == test.fingerprint()


# --- choosing a subset ------------------------------------------------------------------------------------------


def test_balanced_order_takes_turns_and_spills_when_a_class_runs_out() -> None:
    labels = np.array([2, 2, 0, 2, 1, 0, 2], np.uint8)
    assert balanced_order(labels).tolist() == [2, 4, 0, 5, 1, 3, 6]
    assert balanced_subset(labels, 4).tolist() == [0, 2, 4, 5]
    assert balanced_subset(labels, 7).tolist() == list(range(7))


def test_a_settled_subset_does_not_change_with_what_follows() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 400).astype(np.uint8)
    for size in (1, 7, 50, 200):
        stop = next(n for n in range(len(labels) + 1) if is_settled(labels[:n], size, 5))
        assert np.array_equal(balanced_subset(labels[:stop], size), balanced_subset(labels, size))
        assert not is_settled(labels[: stop - 1], size, 5)


# --- files made by hand -----------------------------------------------------------------------------------------


def idx_labels(count: int) -> bytes:
    return struct.pack(">II", 2049, count) + (np.arange(count) % 10).astype(np.uint8).tobytes()


def idx_images(count: int) -> bytes:
    """Images whose pixels all hold the position modulo 251, so that rows cannot be mixed up unseen."""
    pixels = np.repeat((np.arange(count) % 251).astype(np.uint8), IMAGE_BYTES)
    return struct.pack(">IIII", 2051, count, 28, 28) + pixels.tobytes()


def cifar_file(count: int, *label_values: int) -> bytes:
    records = np.repeat((np.arange(count) % 251).astype(np.uint8)[:, None], len(label_values) + 3072, axis=1)
    for column, values in enumerate(label_values):
        records[:, column] = np.arange(count) % values
    return records.tobytes()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory with well-formed files of the four sets, plain and packed, one CIFAR-10 batch of five."""
    folder = tmp_path_factory.mktemp("good")
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_labels(60_000))
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_images(60_000), 1))
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_labels(10_000)))
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx_images(10_000))
    batches = folder / "cifar-10-batches-bin"
    batches.mkdir()
    batch = cifar_file(10_000, 10)
    (batches / "data_batch_1.bin.gz").write_bytes(gzip.compress(batch, 1))
    (batches / "test_batch.bin").write_bytes(batch)
    (folder / "train.bin.gz").write_bytes(gzip.compress(cifar_file(50_000, 20, 100), 1))
    (folder / "test.bin.xz").write_bytes(lzma.compress(cifar_file(10_000, 20, 100), preset=0))
    return folder


@pytest.fixture
def damaged(good: Path, tmp_path: Path) -> Path:
    """Links to the good files, to be replaced one by one."""
    for path in good.rglob("*"):
        if path.is_file():
            link = tmp_path / path.relative_to(good)
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(path)
    return tmp_path


def test_idx_files_are_read_plain_and_packed(good: Path) -> None:
    train, test = load("mnist", good)
    assert (tuple(train.inputs.shape), tuple(test.inputs.shape)) == ((60_000, 1, 28, 28), (10_000, 1, 28, 28))
    assert torch.equal(train.targets, torch.arange(60_000) % 10)
    assert torch.equal(test.inputs[:, 0, 27, 27], (torch.arange(10_000) % 251).to(torch.uint8))
    small, same = load("fashion-mnist", good, train_size=25)
    assert torch.equal(small.inputs, train.inputs[:25])  # labels go round, so the balanced subset is the front
    assert torch.equal(same.inputs, test.inputs)
    assert small.mean != train.mean


def test_cifar10_reads_no_more_files_than_the_subset_needs(good: Path) -> None:
    train, test = load("cifar10", good, train_size=9_995)
    assert tuple(train.inputs.shape) == (9_995, 3, 32, 32)
    assert torch.equal(train.targets, torch.arange(9_995) % 10)
    assert torch.equal(test.inputs[:, 2, 31, 31], (torch.arange(10_000) % 251).to(torch.uint8))
    assert train.inputs.is_contiguous()
    assert test.inputs.is_contiguous()
    with pytest.raises(InputError, match=r"has no data_batch_2\.bin"):
        load("cifar10", good, train_size=10_001)


def test_cifar10_reads_on_where_a_class_is_rare(good: Path, damaged: Path) -> None:
    rare = np.frombuffer(cifar_file(10_000, 10), np.uint8).reshape(-1, 3073).copy()
    rare[rare[:, 0] == 9, 0] = 8
    folder = damaged / "cifar-10-batches-bin"
    (folder / "data_batch_1.bin").write_bytes(rare.tobytes())  # plain files go before packed ones
    (folder / "data_batch_2.bin.gz").symlink_to(good / "cifar-10-batches-bin" / "data_batch_1.bin.gz")
    train, _ = load("cifar10", damaged, train_size=20)
    assert train.targets.bincount().tolist() == [2] * 10
    assert train.inputs[-2:, 0, 0, 0].tolist() == [9, 19]  # rows 9 and 19 of the second file


def test_cifar100_targets_are_the_fine_labels(good: Path) -> None:
    train, test = load("cifar100", good, train_size=250)
    assert train.targets.bincount().tolist() == [3] * 50 + [2] * 50
    assert torch.equal(test.targets, torch.arange(10_000) % 100)
    assert torch.equal(test.inputs[:, 0, 0, 0], (torch.arange(10_000) % 251).to(torch.uint8))


Break = Callable[[Path], object]
T10K = "t10k-images-idx3-ubyte"


def replace(name: str, content: bytes) -> Break:
    def apply(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(content)

    return apply


def remove(name: str) -> Break:
    return lambda folder: (folder / name).unlink()


def pickled(folder: Path) -> None:
    remove("cifar-10-batches-bin/test_batch.bin")(folder)
    (folder / "test_batch").write_bytes(b"\x80\x02c")


def cifar_with_label(label: int, *values: int, column: int = 0) -> bytes:
    content = bytearray(cifar_file(10_000, *values))
    content[5 * (len(values) + 3072) + column] = label
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "spoil", "cause", "remedy"),
    [
        ("mnist", remove(T10K), f"has no {T10K}", "magic 2051, then 10000 × 28 × 28 bytes"),
        ("mnist", remove("train-labels-idx1-ubyte"), "has no train-labels-idx1-ubyte", "magic 2049"),
        ("mnist", replace(T10K, idx_labels(10_000)), "expected the header (2051, 10000, 28, 28), got (2049", T10K),
        ("mnist", replace(T10K, idx_images(10)), "got (2051, 10, 28, 28)", T10K),
        ("mnist", replace(T10K, idx_images(10_000)[:-1]), "expected 7,840,016 bytes unpacked, got 7,840,015", T10K),
        ("mnist", replace(T10K, idx_images(10_000) + b"x"), "expected 7,840,016 bytes unpacked, got more", T10K),
        ("mnist", replace(T10K, b"\0\0"), "expected 7,840,016 bytes unpacked, got 2", T10K),
        ("mnist", replace("t10k-labels-idx1-ubyte.gz", b"no gzip"), "labels-idx1-ubyte.gz cannot be read", "2049"),
        (
            "mnist",
            replace("t10k-labels-idx1-ubyte.gz", gzip.compress(idx_labels(10_000))[:-9]),
            "t10k-labels-idx1-ubyte.gz cannot be read",
            "2049",
        ),
        (
            "mnist",
            replace("t10k-labels-idx1-ubyte.gz", gzip.compress(idx_labels(10_000))[:-8] + b"\0" * 8),
            "CRC check failed",
            "2049",
        ),
        ("mnist", replace("train-labels-idx1-ubyte", idx_labels(60_000)[:-1] + b"\n"), "label 10 at position", "again"),
        ("cifar10", pickled, "pickled", "binary version"),
        ("cifar10", remove("cifar-10-batches-bin/test_batch.bin"), "has no test_batch.bin", "30,730,000 bytes"),
        ("cifar10", replace("data_batch_1.bin", b"\0" * 3073), "data_batch_1.bin: expected 30,730,000", "records"),
        (
            "cifar10",
            replace("test_batch.bin", cifar_with_label(10, 10)),
            "label 10 in record 5, expected 0 to 9",
            "test",
        ),
        ("cifar100", replace("test.bin.xz", b"\xfd7zXZ\0 and no more"), "test.bin.xz cannot be read", "test.bin"),
        (
            "cifar100",
            replace("test.bin.xz", lzma.compress(b"\0" * 30_740_000, preset=0)[:-40]),
            "cannot be read",
            "test.bin",
        ),
        ("cifar100", replace("test.bin", cifar_with_label(20, 20, 100)), "label 20 in record 5, expected 0 to 19", ""),
        (
            "cifar100",
            replace("test.bin", cifar_with_label(100, 20, 100, column=1)),
            "label 100 in record 5",
            "test.bin",
        ),
    ],
)
def test_every_defect_is_told_in_a_line_with_the_file_and_what_was_expected(
    name: str, spoil: Break, cause: str, remedy: str, damaged: Path
) -> None:
    spoil(damaged)
    with pytest.raises(InputError) as caught:
        load(name, damaged, train_size=10)
    assert cause in caught.value.cause
    assert remedy in caught.value.remedy
    assert "\n" not in caught.value.cause + caught.value.remedy


def test_files_of_another_set_with_the_same_names_are_told_apart(damaged: Path) -> None:
    labels = bytearray(idx_labels(60_000))
    labels[8:28] = bytes([9, 0, 0, 3, 0, 2, 7, 2, 5, 5, 0, 9, 5, 5, 7, 9, 1, 0, 6, 4])
    (damaged / "train-labels-idx1-ubyte").unlink()
    (damaged / "train-labels-idx1-ubyte").write_bytes(labels)
    with pytest.raises(InputError, match="holds fashion-mnist, not mnist"):
        load("mnist", damaged)
    assert len(load("fashion-mnist", damaged, train_size=10)[0]) == 10


def test_a_missing_directory_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a directory"):
        load("mnist", tmp_path / "nowhere")
    archive = tmp_path / "cifar-10-binary.tar.gz"
    archive.touch()
    with pytest.raises(InputError, match="is not a directory"):
        load("cifar10", archive)


@pytest.mark.parametrize(
    ("name", "directory", "size", "cause"),
    [
        ("mnits", None, None, "no data set is called 'mnits'"),
        ("mnist", None, None, "not part of the package"),
        ("digits", Path(), None, "comes with the package"),
        ("digits", None, 0, "has 500 training images, asked for 0"),
        ("digits", None, 501, "has 500 training images, asked for 501"),
        ("cifar10", Path(), 50_001, "has 50000 training images, asked for 50001"),
    ],
)
def test_a_request_that_cannot_be_met_is_a_usage_error(
    name: str, directory: Path | None, size: int | None, cause: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load(name, directory, train_size=size)
    assert cause in caught.value.cause
    assert caught.value.remedy


def test_class_counts_agree_with_the_label_bytes() -> None:
    assert CLASSES == {"digits": 10, "mnist": 10, "fashion-mnist": 10, "cifar10": 10, "cifar100": 100}
    assert all(layout.labels[-1] == CLASSES[name] for name, layout in cifar.LAYOUTS.items())


# --- published data ---------------------------------------------------------------------------------------------


def published(folder: str) -> Path:
    if not (DATA / folder).is_dir():
        pytest.skip(f"no published data at LANDSCAPE_DATA ({DATA / folder})")
    return DATA / folder


MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "folder", "train_counts", "test_counts", "test_mean", "test_std"),
    [
        ("mnist", "mnist", MNIST_TRAIN, MNIST_TEST, [0.13251460], [0.31048025]),
        ("fashion-mnist", "fashion_mnist", [6000] * 10, [1000] * 10, [0.28684929], [0.35244415]),
        (
            "cifar10",
            "cifar10",
            [5000] * 10,
            [1000] * 10,
            [0.49421511, 0.48513155, 0.45040758],
            [0.24664914, 0.24289225, 0.26158978],
        ),
    ],
)
def test_published_sets_have_their_counts_and_moments(
    name: str,
    folder: str,
    train_counts: list[int],
    test_counts: list[int],
    test_mean: list[float],
    test_std: list[float],
) -> None:
    train, test = load(name, published(folder))
    assert train.targets.bincount().tolist() == train_counts
    assert test.targets.bincount().tolist() == test_counts
    mean, std = moments(train.inputs)
    assert train.mean == test.mean == pytest.approx(mean, abs=5e-8)  # the published table is good to seven decimals
    assert train.std == test.std == pytest.approx(std, abs=5e-8)
    mean, std = moments(test.inputs)
    assert mean == pytest.approx(test_mean, abs=5e-8)
    assert std == pytest.approx(test_std, abs=5e-8)
    small, _ = load(name, published(folder), train_size=1005)
    assert small.targets.bincount().tolist() == [101] * 5 + [100] * 5
    chosen = balanced_subset(train.targets.numpy().astype(np.uint8), 1005)
    assert torch.equal(small.inputs, train.inputs[chosen])
