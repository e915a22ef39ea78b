"""Which part of a plane to look at: as given, around the checkpoints, or as far as the training loss rises."""

from __future__ import annotations

import math

import numpy as np

from landscape.errors import UsageError
from landscape.plane import span
from landscape.result import Array
from landscape.sheet import Sheet
from landscape.valley import find_radius


def lattice(
    sheet: Sheet, place: Array, given: tuple[str | None, str | None], shape: tuple[int, int], margin: float, rise: float
) -> tuple[Array, Array]:
    """Even places along both axes.

    An axis that checkpoints span reaches beyond them by the same margin as the other; along any other axis the window
    reaches as far as the training loss rises, and to the projected checkpoints at least.

    Args:
        sheet: The plane.
        place: Coordinates of the checkpoints, shape (M, 2).
        given: Ranges that the user gave, see `span`.
        shape: Points along x and y.
        margin: Room around the checkpoints as a part of the longer side of their extent.
        rise: Rise of the training loss in nats.

    Returns:
        x and y, ascending, float64.

    Raises:
        UsageError: If the loss does not rise that far.
    """
    extent = max((float(np.ptp(place[:, k])) for k in range(2) if sheet.axes.spanned[k]), default=0.0)
    found = []
    for k, text in enumerate(given):
        low, high = float(place[:, k].min()), float(place[:, k].max())
        if text:
            low, high = span("xy"[k], text)
        elif sheet.axes.spanned[k]:
            low, high = low - margin * extent, high + margin * extent
        else:
            far = reach(sheet, k, rise)
            low, high = min(-far, low), max(far, high)
        found.append(np.linspace(low, high, shape[k]))
    return found[0], found[1]


def reach(sheet: Sheet, k: int, rise: float) -> float:
    """How far along an axis the training loss, as the mean of both sides, rises by so much above the origin's.

    Args:
        sheet: The plane.
        k: 0 for x, 1 for y.
        rise: The rise in nats.

    Returns:
        The distance in units of theta, the rise met to 2 %.

    Raises:
        UsageError: If the loss does not rise that far.
    """

    def line(at: float) -> float:
        return sheet.train_loss(*((at, 0.0) if k == 0 else (0.0, at)))

    curvature = float(sheet.axes.eigenvalue[k])
    step = math.sqrt(2 * rise / curvature) if curvature > 0 else 0.03 * float(sheet.axes.length[k])
    found = find_radius(line, 0.0, step, rise)
    if found is None:
        raise UsageError(
            f"the training loss does not rise by {rise:g} along {'xy'[k]} ({sheet.axes.titles[k]})",
            f"lower --rise, or give the range with --{'xy'[k]} LOW:HIGH",
        )
    return found
