"""The small set that comes with the package: 1,797 handwritten digits, 8×8 pixels, values 0 to 16.

It is the test part of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak (1998), UCI Machine
Learning Repository, https://doi.org/10.24432/C50P49, licensed under CC BY 4.0; the same images, in the same order,
that scikit-learn ships. `digits.npz` holds them unchanged as bytes: `images` (1797, 8, 8) and `labels` (1797,).

500 images train, the other 1,297 test. Which ones is fixed by a rule that knows no random number generator: order
the indices by the SHA-256 of their decimal digits ("0" to "1796"), then take 50 of each class from the front. The
training images stay in the balanced order (class 0 to 9, and again), the test images in the order of the file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landscape.datasets.balance import balanced_order
from landscape.datasets.files import Examples

TRAIN = 500


def read(train_size: int) -> tuple[Examples, Examples]:
    """Read training and test images with their labels.

    Args:
        train_size: How many of the 500 training images to keep; the test images are always the same.

    Returns:
        Training and test examples: images (N, 1, 8, 8) and labels (N,).
    """
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        images, labels = file["images"], file["labels"]
    train, test = split_indices(labels)
    train = train[:train_size]
    images = images.reshape(-1, 1, *images.shape[1:])  # [:, None] would give strides that PyTorch takes for NHWC
    return (images[train], labels[train]), (images[test], labels[test])


def split_indices(labels: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Divide the images into training and test by the rule above.

    Args:
        labels: Classes in the order of the file, shape (1797,).

    Returns:
        Indices of the training images, shape (500,), and of the test images, shape (1297,).
    """
    hashed = np.array(sorted(range(len(labels)), key=lambda index: hashlib.sha256(b"%d" % index).digest()))
    order = hashed[balanced_order(labels[hashed])]
    return order[:TRAIN], np.sort(order[TRAIN:])
