"""m-sharpness: chunks of m examples each climb for themselves, and the mean of what they find is told.

Source: Foret et al. 2021, arXiv 2010.01412, section 4.1 (m-sharpness).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from landscape.result import Array
from landscape.search import Rules

if TYPE_CHECKING:
    from landscape.ball import Peak
    from landscape.curvature import Objective
    from landscape.split import Split
    from landscape.surface import Surface


def chunked(
    surface: Surface, objective: Objective, peaks: Sequence[Peak], rules: Rules
) -> tuple[dict[str, Array], float]:
    """Measure m-sharpness: each chunk climbs from its own SAM step and from the highest point of all examples.

    The second start makes the mean over chunks no smaller than the rise found for all of them.

    Args:
        surface: Where the point is.
        objective: The loss over all examples used.
        peaks: Its highest point in each ball.
        rules: The chunks' size, and how long climbs are.

    Returns:
        Fields of shape (R,), and the evaluations of all examples that it took.
    """
    blank = np.full(len(peaks), np.nan)
    if not rules.m:
        return {"chunked": blank, "chunked_error": blank}, 0.0
    found, sizes, made = [], [], 0.0
    for part in chunks(objective.data, rules.m):
        heights, evaluations = _chunk(surface, replace(objective, data=part), peaks, rules)
        found.append(heights)
        sizes.append(len(part))
        made += evaluations * len(part) / len(objective.data)
    error = np.std(found, axis=0, ddof=1) / math.sqrt(len(sizes)) if len(sizes) > 1 else blank
    return {"chunked": np.average(found, axis=0, weights=sizes), "chunked_error": error}, made


def _chunk(surface: Surface, objective: Objective, peaks: Sequence[Peak], rules: Rules) -> tuple[list[float], int]:
    """The largest rise found for one chunk in each ball, and the evaluations it took."""
    import torch

    from landscape.ball import Ball, climb
    from landscape.nearby import Nearby

    nearby = Nearby(surface.flat, objective, rules.mode)
    slope = nearby(torch.zeros_like(surface.flat.theta))[1]
    heights = []
    for ball, peak in zip(map(Ball, rules.radius.tolist()), peaks, strict=True):
        starts = (ball.farthest(slope), peak.point)
        heights.append(max(climb(nearby, start, ball, rules.steps, rules.tol).height for start in starts))
    return heights, nearby.evaluations


def chunks(data: Split, m: int) -> Iterator[Split]:
    """Cut data front to back into parts of m examples; a remainder of one joins the part before it.

    Args:
        data: What is cut.
        m: Examples in a part.

    Yields:
        The parts.
    """
    for start, stop in data.places(m):
        yield data.between(start, stop)
