"""Wilson's interval for a proportion.

Source: Wilson 1927, Journal of the American Statistical Association 22, 209.
"""

from __future__ import annotations

import numpy as np

from landscape.result import Array

Z = 1.959963984540054
"""Two-sided 95 % point of the normal distribution."""


def wilson(part: Array, n: Array | int) -> tuple[Array, Array]:
    """The 95 % interval of a proportion: not empty at 0 and 1, never outside [0, 1].

    Args:
        part: Observed proportions, NaN where there is none, any shape.
        n: Numbers of trials, at least 1, of a shape that fits.

    Returns:
        Lower and upper end, same shape.
    """
    share = Z**2 / (n + Z**2)
    middle = (1 - share) * part + share / 2
    half = Z / (n + Z**2) * np.sqrt(n * part * (1 - part) + Z**2 / 4)
    return np.where(part == 0, 0.0, middle - half), np.where(part == 1, 1.0, middle + half)
