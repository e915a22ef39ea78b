"""Numbers as words: three digits, the mean over seeds and what it spans."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

import numpy as np


def number(value: float) -> str:
    """Three significant digits, without an exponent between 0.001 and 100,000; "not computed" for NaN."""
    if math.isnan(value):
        return "not computed"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
        return f"{value:,.{min(digits, 5)}f}".replace("-", "−")
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa.replace('-', '−')}·10{exponent_text(int(exponent))}"


def bounded(value: float, error: float) -> str:
    """A value ± an error, both written so that what is printed holds the whole interval.

    The value gets as many digits as the error tells, seven at most; the error has two and is rounded up, the value's
    own rounding included.

    Args:
        value: Middle of the interval; NaN is "not computed".
        error: Half of its width, at least 0.

    Returns:
        For instance "0.67512 ± 0.00031".
    """
    if math.isnan(value) or math.isnan(error):
        return "not computed"
    top = math.floor(math.log10(max(abs(value), error))) if value or error else 0
    last = max(math.floor(math.log10(error)) - 1 if error else -math.inf, top - 6)
    places = max(0, -int(last))
    printed = f"{value:.{places}f}" if -8 <= last and top < 6 else f"{value:.{max(1, int(top - last))}e}"
    reach = error + abs(float(printed) - value)
    if not reach:
        return printed.replace("-", "−")
    power = math.floor(math.log10(reach)) - 1
    reach = math.ceil(reach / 10.0**power * (1 - 1e-9)) * 10.0**power
    told = f"{reach:.{max(0, -power)}f}" if -9 < power < 6 else f"{reach:.1e}"
    return f"{printed.replace('-', '−')} ± {told}"


def exponent_text(power: int) -> str:
    """An integer in superscript digits."""
    return str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def spread(values: Iterable[float], unit: str = "") -> str:
    """The mean with its unit, and the smallest and largest where there are several values that differ.

    Args:
        values: Numbers; one that is NaN makes it "not computed".
        unit: Their unit.

    Returns:
        For instance "0.5 nats (0.4 to 0.6)".
    """
    found = np.asarray(list(values), dtype=float)
    if np.isnan(found).any():
        return number(math.nan)
    mean = f"{number(float(found.mean()))}{f' {unit}' if unit else ''}"
    low, high = number(float(found.min())), number(float(found.max()))
    return mean if low == high else f"{mean} ({low} to {high})"


class OfLoss(Protocol):
    """A result that says what its loss is."""

    @property
    def classifies(self) -> bool:
        """Whether it is a classification's, in nats; a regression's has no unit."""
        ...


def nats(result: OfLoss, form: str = "{}") -> str:
    """The unit of a result's loss in a form such as " ({})"; "" for a regression, whose loss has none."""
    return form.format("nats") if result.classifies else ""


def curvature(result: OfLoss) -> str:
    """The unit of second derivatives of a result's loss."""
    return "nats/θ²" if result.classifies else "1/θ²"


def percent(values: Iterable[float]) -> str:
    """Parts of one as percents, two decimals, with the range where there are several values that differ.

    Args:
        values: Parts of one; one that is NaN makes it "not computed".

    Returns:
        For instance "1.00 % (0.50 to 1.50)".
    """
    found = np.asarray(list(values), dtype=float) * 100
    if np.isnan(found).any():
        return number(math.nan)
    mean, low, high = (f"{v:.2f}" for v in (found.mean(), found.min(), found.max()))
    return f"{mean} %" if low == high else f"{mean} % ({low} to {high})"


def points(values: Iterable[float]) -> str:
    """Differences of parts of one in percentage points, with sign, and the range where there are several."""
    found = np.asarray(list(values), dtype=float) * 100
    mean, low, high = (f"{v:+.2f}".replace("-", "−") for v in (found.mean(), found.min(), found.max()))
    return mean if low == high else f"{mean} ({low} to {high})"


def duration(seconds: float) -> str:
    """A time in the unit that fits it: 9.5 s, 12 min, 3.1 h or 40 days.

    Args:
        seconds: Seconds, at least 0.

    Returns:
        Two digits and the unit.
    """
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.{0 if seconds >= 10 * length else 1}f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def plural(n: int, one: str) -> str:
    """How many there are, the noun with an s unless there is one: "1 example", "2 examples"."""
    return f"{n} {one}{'s' * (n != 1)}"


def seeds(n: int) -> str:
    """How many runs a mean is over: nothing for one, " over 3 seeds" for three."""
    return "" if n == 1 else f" over {n} seeds"
