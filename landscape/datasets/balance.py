"""Class-balanced choice of training images: a fixed order of which every prefix is as balanced as can be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def balanced_order(labels: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Order examples by (rank within their class, class): the first of each class, then the second of each, ….

    Args:
        labels: Classes, shape (N,).

    Returns:
        Indices, shape (N,).
    """
    rank = np.empty(len(labels), np.intp)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank[members] = np.arange(len(members))
    return np.lexsort((labels, rank))


def balanced_subset(labels: NDArray[np.uint8], size: int) -> NDArray[np.intp]:
    """Choose the first examples of the balanced order.

    Args:
        labels: Classes, shape (N,).
        size: How many, at most N.

    Returns:
        Indices in ascending order, shape (size,).
    """
    return np.sort(balanced_order(labels)[:size])


def is_settled(labels: NDArray[np.uint8], size: int, classes: int) -> bool:
    """Tell whether labels read so far decide the subset, so that the rest of the file cannot change it.

    They do once each class has ⌈size / C⌉ members: later ones have a rank that the subset does not reach.

    Args:
        labels: Classes of the examples at the front of the file, shape (any,).
        size: Size of the subset.
        classes: Number of classes C.

    Returns:
        Whether reading can stop.
    """
    return int(np.bincount(labels, minlength=classes).min()) >= -(-size // classes)
