"""Shared type aliases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Setting = str | int | float | bool | None
"""A value that a user may set, and that JSON can hold."""

Progress = Callable[[int, int, str], None]
"""Told (units done, units in all, what is going on) now and then; decides itself what to show."""


def quiet(done: int, total: int, text: str) -> None:
    """Progress shown to nobody."""
    del done, total, text


@dataclass(frozen=True)
class Work:
    """What a computation will take, before it is done.

    Attributes:
        text: What is done, in words.
        train: Forward passes over the training data; a backward pass counts as two.
        test: Forward passes over the test data.
        vectors: Vectors of the size of theta that are held at once.
        gradients: Gradients of training batches at most, beside the passes.
        batch: Examples in such a batch; None for as many as in the checkpoint's run.
        graphs: Bytes that kept gradient graphs may take at most, None for the device's default.
    """

    text: str
    train: int
    test: int = 0
    vectors: int = 3
    gradients: int = 0
    batch: int | None = None
    graphs: int | None = 0

    def examples(self, train: int, test: int, batch: int) -> int:
        """Forward passes of one example each at most; a backward pass counts as two.

        Args:
            train: Training examples.
            test: Test examples.
            batch: Examples in a batch of the checkpoint's run.

        Returns:
            How many.
        """
        return self.train * train + self.test * test + 3 * self.gradients * (self.batch or batch)
