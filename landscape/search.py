"""What is searched around a checkpoint: which balls, climbs from where and for how long, over which examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from landscape.errors import UsageError
from landscape.matrix import STATISTICS
from landscape.options import option
from landscape.result import Array

if TYPE_CHECKING:
    from landscape.curvature import BatchNormMode, Objective
    from landscape.surface import Surface


@dataclass(frozen=True)
class Rules:
    """Options of the search around a checkpoint."""

    radii: str = option("0.01,0.02,0.05,0.1,0.2", "radii ρ of the balls in theta, separated by commas")
    relative: str = option(
        "0.001,0.003",
        "radii of the scale-free balls, as parts of the length of the weights in their metric, and of boxes and "
        "Gaussian steps, as parts of each weight",
    )
    boxes: str = option("0.0003,0.001", "half-widths ρ of the boxes in theta, and σ of the Gaussian steps")
    restarts: int = option(1, "climbs from random points, beside those from SAM's step and along ±v₁", low=0)
    steps: int = option(30, "evaluations of loss and gradient in a climb at most", low=2)
    tol: float = option(1e-3, "end a climb where the first-order gap is this part of the rise", low=0.0)
    pairs: int = option(10, "random steps of each average, each taken both ways", low=2)
    m: int = option(100, "examples in a chunk of m-sharpness; 0 leaves it out", low=0)
    delta: float = option(
        0.05, "δ of the PAC-Bayes bounds, the probability that any fails: δ/R at each of R radii", low=1e-12, high=0.999
    )
    examples: int = option(0, "random training examples to use, with sampling error; 0 for all", low=0)
    batchnorm: str = option(
        "recalibrated",
        "BatchNorm statistics: fixed in the ball, recomputed at the checkpoint or as stored; or each batch's (train)",
        choices=STATISTICS,
    )
    seed: int = option(0, "seed of random directions and of --examples", low=0)
    batch_size: int = option(
        500, "examples in a pass; with fixed statistics it changes results by rounding only", low=2
    )

    @property
    def radius(self) -> Array:
        """The radii in theta, ascending, shape (R,)."""
        return numbers("radii", self.radii)

    @property
    def parts(self) -> Array:
        """The relative radii, ascending, shape (Q,)."""
        return numbers("relative", self.relative)

    @property
    def half_widths(self) -> Array:
        """The half-widths of the boxes in theta, ascending, shape (B,)."""
        return numbers("boxes", self.boxes)

    @property
    def mode(self) -> BatchNormMode:
        """Whose statistics the network uses in the ball."""
        return "train" if self.batchnorm == "train" else "eval"

    @property
    def starts(self) -> tuple[str, ...]:
        """Names of the starts of climbs."""
        random = (f"random {k + 1}" for k in range(self.restarts))
        return ("SAM's step", "+v₁", "−v₁", *random, "the smaller ball")

    def objective(self, surface: Surface) -> Objective:
        """The mean loss over the examples asked for, as a function of all weights."""
        from landscape.curvature import subset

        whole = surface.objective()
        return subset(whole, self.examples, self.seed) if self.examples else whole


def numbers(name: str, text: str) -> Array:
    """Read positive numbers.

    Args:
        name: What they are, for the message.
        text: Numbers separated by commas.

    Returns:
        Them in ascending order, each once.

    Raises:
        UsageError: If there is none, or one is not a positive number.
    """
    try:
        found = np.unique([float(word) for word in text.split(",")])
    except ValueError:
        found = np.array([np.nan])
    if not (np.isfinite(found).all() and (found > 0).all()):
        raise UsageError(f"{name}='{text}' is not understood", f"write {name} as positive numbers: 0.05,0.1")
    return found
