"""Numbers in words hold what they claim."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from landscape.wording import bounded, duration, number, percent, plural, spread

MIDDLES = st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6)


@given(MIDDLES, st.floats(1e-12, 1e3))
def test_a_printed_interval_holds_the_whole_interval(value: float, error: float) -> None:
    middle, reach = (float(part.replace("−", "-")) for part in bounded(value, error).split(" ± "))
    slack = 1e-8 * reach + 1e-15 * abs(value)
    assert middle - reach <= value - error + slack
    assert middle + reach >= value + error - slack
    digits = max(abs(value), error) * 1e-6
    assert reach <= 1.3 * error + 2 * digits  # and is no wider than its digits make it


def test_intervals_read_well() -> None:
    assert bounded(0.675078, 0.000013) == "0.675078 ± 0.000013"
    assert bounded(-0.0084, 0.0017) == "−0.0084 ± 0.0017"
    assert bounded(12.0, 0.0) == "12.00000"
    assert bounded(math.nan, 0.1) == "not computed"


def test_times_come_in_the_unit_that_fits() -> None:
    told = [duration(t) for t in (0.0123, 9.5, 59.9, 119, 120, 7199, 7200, 172_800, 9.2e7)]
    assert told == ["0.012 s", "9.5 s", "60 s", "119 s", "2.0 min", "120 min", "2.0 h", "2.0 days", "1065 days"]


def test_what_is_beyond_all_numbers_is_written_so() -> None:
    assert [number(x) for x in (math.inf, -math.inf, math.nan)] == ["∞", "−∞", "not computed"]
    assert [spread([math.nan, 1.0], "nats"), percent([math.nan])] == ["not computed"] * 2


def test_one_is_singular() -> None:
    assert [plural(n, "example") for n in (0, 1, 2)] == ["0 examples", "1 example", "2 examples"]
