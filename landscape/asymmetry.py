"""What was measured on both sides of a minimum, along lines through one checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from landscape.result import Array, quantity

if TYPE_CHECKING:
    from landscape.asymmetric import Sides
    from landscape.detector import Direction, Terms


@dataclass(frozen=True)
class Asymmetry:
    """Valleys along V lines through one checkpoint, and M random ones.

    Attributes:
        names: Labels of the checkpoint, and of the one that the first direction points to, if any.
        methods: Their training methods.
        classifies: Whether errors are parts of one, and losses in nats.
        directions: Names of the lines.
        rules: Their BatchNorm rules.
        batchnorm: The rules asked for.
        metric: What a direction has length 1 in. The unit "metric" of offsets and radii is its length: that of theta
            for "euclidean".
        distance: Distance to the other checkpoint in the metric; NaN if there is none.
        decay: Weight decay λ of the regularised loss.
        examples: Training examples used.
        chosen: ζ of the neighbourhood test and of the symmetric bounds, as a part of r.
        neighbourhood: R′ as a part of ‖w‖; NaN if not asked for.
        null_family: Family of each random direction.
        null_rule: Its BatchNorm rule.
        zeta: ζ as parts of r, shape (Z,).
        reach: Radii of the map as parts of r, shape (R,).
        part: Places of the held-out losses as parts of r, shape (H,).
        status: See `landscape.valley.STATUS`, shape (V,).
        centre: ℓ₀, the minimum along the line, measured from the checkpoint, shape (V,).
        radius: r, shape (V,).
        log_ratio: log of the rise at +r over the rise at −r, shape (V,): negative where u points to the flat side.
        log_ratio_error: Its standard error due to the sample of examples, shape (V,); 0 on all of them.
        height: Training loss of each checkpoint above the minimum of the first line, shape (M,): M checkpoints.
        decayed_centre: ℓ₀ of the loss with weight decay, shape (V,).
        decayed_log_ratio: Log rise ratio of the loss with weight decay, about its own minimum, shape (V,).
        curvature: Second derivative behind and ahead of the minimum, shape (V, 2).
        skewness: L‴ r / L″ at the minimum, shape (V,).
        c: Largest c for which u is asymmetric, shape (V, R, Z); NaN where it is for none.
        c_low: What it exceeds with 95 %, shape (V, R, Z).
        c_back: The largest c for −u, shape (V, R, Z).
        c_back_low: What that exceeds with 95 %, shape (V, R, Z).
        certified: Whether refinement can move no slope's bound by more than 1 %, shape (V, R, Z).
        symmetric_low: a of the symmetric direction at the chosen ζ and the full r, shape (V,).
        symmetric_high: b of it, shape (V,).
        rounding: Error of slopes by rounding, shape (V,).
        sampling: Standard error of the slope at the chosen ζ due to the sample of examples, shape (V,).
        same_sign: Part of the entries of u with the weight's sign, shape (V,).
        share: Parts of ‖u‖² in weights, biases and BatchNorm, shape (V, 3).
        near_part: Part of the neighbouring points where the flat side is asymmetric for some c ≥ 1, shape (V,).
        near_c: Smallest c* of them, shape (V,).
        near_common: The c that holds with one p for all of them, shape (V,).
        held_out: Test loss at the parts of r, shape (V, H).
        held_out_ratio: Log rise ratio of the test loss between the same three points, shape (V,).
        held_out_error: Its standard error over test examples, shape (V,).
        null_ratio: Log rise ratios of the random directions, shape (M,).
        offset: ℓ − ℓ₀, shape (V, P).
        loss: Training loss there, shape (V, P).
        slope: Its exact derivative along u, shape (V, P).
    """

    labelled: ClassVar[Mapping[str, str]] = {"direction": "directions", "checkpoint": "names"}

    names: tuple[str, ...]
    methods: tuple[str, ...]
    classifies: bool
    directions: tuple[str, ...]
    rules: tuple[str, ...]
    batchnorm: str
    metric: str
    distance: float
    decay: float
    examples: int
    chosen: float
    neighbourhood: float
    null_family: tuple[str, ...]
    null_rule: tuple[str, ...]
    zeta: Array = quantity("1", "inner radius over outer radius", "zeta")
    reach: Array = quantity("1", "outer radius of the map over r", "reach")
    part: Array = quantity("1", "place of a held-out loss over r", "part")
    status: Array = quantity("1", "0 measured, else see the documentation", "direction")
    centre: Array = quantity("metric", "minimum along the line, from the checkpoint", "direction")
    radius: Array = quantity("metric", "outer radius r", "direction")
    log_ratio: Array = quantity("1", "log of rise ahead over rise behind", "direction")
    log_ratio_error: Array = quantity("1", "its standard error due to the sample", "direction")
    height: Array = quantity("nats", "training loss above the minimum of the first line", "checkpoint")
    decayed_centre: Array = quantity("metric", "minimum along the line with weight decay", "direction")
    decayed_log_ratio: Array = quantity("1", "log rise ratio with weight decay", "direction")
    curvature: Array = quantity("nats / metric^2", "second derivative behind and ahead", "direction", "side")
    skewness: Array = quantity("1", "third derivative times r over the second", "direction")
    c: Array = quantity("1", "largest c of the direction", "direction", "reach", "zeta")
    c_low: Array = quantity("1", "its lower 95 % bound", "direction", "reach", "zeta")
    c_back: Array = quantity("1", "largest c of the opposite direction", "direction", "reach", "zeta")
    c_back_low: Array = quantity("1", "its lower 95 % bound", "direction", "reach", "zeta")
    certified: Array = quantity("1", "whether bounds of slopes are certified to 1 %", "direction", "reach", "zeta")
    symmetric_low: Array = quantity("nats / metric", "a of the symmetric direction", "direction")
    symmetric_high: Array = quantity("nats / metric", "b of the symmetric direction", "direction")
    rounding: Array = quantity("nats / metric", "rounding error of slopes", "direction")
    sampling: Array = quantity("nats / metric", "sampling error of the slope at zeta", "direction")
    same_sign: Array = quantity("1", "part of entries with the weight's sign", "direction")
    share: Array = quantity("1", "part of the squared norm in weights, biases, BatchNorm", "direction", "kind")
    near_part: Array = quantity("1", "part of neighbouring points with c of at least 1", "direction")
    near_c: Array = quantity("1", "smallest c at neighbouring points", "direction")
    near_common: Array = quantity("1", "c with one p for all neighbouring points", "direction")
    held_out: Array = quantity("nats", "test loss", "direction", "part")
    held_out_ratio: Array = quantity("1", "log rise ratio of the test loss", "direction")
    held_out_error: Array = quantity("1", "standard error of it", "direction")
    null_ratio: Array = quantity("1", "log rise ratio along random directions", "random")
    offset: Array = quantity("metric", "distance from the minimum along the line", "direction", "point")
    loss: Array = quantity("nats", "training loss", "direction", "point")
    slope: Array = quantity("nats / metric", "derivative of the loss along the direction", "direction", "point")


def columns(found: Sequence[Direction], terms: Terms) -> dict[str, Array]:
    """Fields of `Asymmetry` that come from the records of its lines.

    Args:
        found: What was found along each of the V lines.
        terms: What was asked of them.

    Returns:
        Arrays by the names of the fields, with the coordinates `zeta`, `reach` and `part`.
    """
    from landscape.detector import HELD

    def column(value: Callable[[Direction], object]) -> Array:
        return np.array([value(record) for record in found], dtype=float)

    def bounds(value: Callable[[Sides], float]) -> Array:
        nothing = [[np.nan] * len(terms.zeta)] * len(terms.radii)
        return column(lambda d: [[value(sides) for sides in row] for row in d.sides] or nothing)

    return {
        "zeta": np.array(terms.zeta),
        "reach": np.array(terms.radii),
        "part": np.array(HELD),
        "status": np.array([record.valley.status for record in found]),
        "centre": column(lambda d: d.valley.centre),
        "radius": column(lambda d: d.valley.radius),
        "log_ratio": column(lambda d: d.valley.log_ratio),
        "log_ratio_error": column(lambda d: d.ratio_error),
        "decayed_centre": column(lambda d: d.decayed.centre),
        "decayed_log_ratio": column(lambda d: d.decayed.log_ratio),
        "curvature": column(lambda d: d.valley.curvatures),
        "skewness": column(lambda d: d.valley.skewness),
        "c": bounds(lambda s: s.c),
        "c_low": bounds(lambda s: s.c_low),
        "c_back": bounds(lambda s: s.reversed.c),
        "c_back_low": bounds(lambda s: s.reversed.c_low),
        "certified": bounds(lambda s: s.certified),
        "symmetric_low": column(lambda d: d.symmetric(terms)[0]),
        "symmetric_high": column(lambda d: d.symmetric(terms)[1]),
        "rounding": column(lambda d: d.rounding),
        "sampling": column(lambda d: d.sampling),
        "near_part": column(lambda d: d.around.asymmetric if d.around else np.nan),
        "near_c": column(lambda d: d.around.smallest if d.around else np.nan),
        "near_common": column(lambda d: d.around.common if d.around else np.nan),
        "held_out": column(lambda d: d.held_out),
        "held_out_ratio": column(lambda d: d.held_out_ratio),
        "held_out_error": column(lambda d: d.held_out_error),
        "offset": column(lambda d: d.valley.offsets),
        "loss": column(lambda d: d.valley.losses),
        "slope": column(lambda d: d.valley.slopes),
    }
