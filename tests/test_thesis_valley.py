"""The thesis's claim with its control, on the digits: SAM lies on the flat side of SGD's valley, SGD does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from analyses import asymmetry
from landscape.opening import open_checkpoints
from landscape.training.files import Order, train_to_file
from landscape.types import Setting

SPEC = "digits/resnet8?label_smoothing=0.3"
STEADY: dict[str, Setting] = {"lr": 0.02, "lr_schedule": "constant"}


def silent(text: str) -> None:
    """Say nothing."""


@pytest.mark.parametrize("seed", range(5))
def test_sam_lies_on_the_flat_side_and_another_sgd_does_not(seed: int, tmp_path: Path) -> None:
    sgd = tmp_path / "sgd.pt"
    train_to_file(SPEC, STEADY | {"method": "sgd", "seed": seed}, Order(sgd, save_at=("switch",)), silent)
    (stem,) = tmp_path.glob("sgd@*.pt")
    ratios = []
    for values in ({"method": "sgd-sam", "seed": seed}, {"method": "sgd", "seed": seed + 1000}):
        fork = tmp_path / "fork.pt"
        train_to_file(SPEC, values, Order(fork, fork=stem, force=True), silent)
        problem, pair = open_checkpoints([sgd, fork], None, silent)
        options = asymmetry.Options(eigenvectors=0, gaussian=0, sign_matched=0, points=4)
        ratios.append(asymmetry.compute(problem, *pair, options=options).log_ratio[0])
    assert ratios[0] <= -1  # along SGD→SAM − SGD: the loss rises less by a factor of e or more
    assert abs(ratios[1]) <= 0.5  # along SGD′ − SGD, another order after the switch
