"""What is said and drawn of SAM's bias: words, lines, figure and table of `analyses.shift`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from landscape.profile import Profile
from landscape.result import Array, arrays, unit_of
from landscape.theorem import FAILS, HOLDS, VERDICTS
from landscape.training.methods import labels
from landscape.valley import OK, STATUS
from landscape.wording import nats, number, spread

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from landscape.bias import Shift
    from landscape.report import Table


def words(*results: Shift) -> tuple[str, str]:
    """Where SAM sits against the prediction, over seeds.

    Args:
        *results: One line for each seed.

    Returns:
        The answer, and the shift with the bound.
    """
    measured = [r for r in results if r.status == OK]
    if not measured:
        return f"Not measured: {STATUS[int(results[0].status)]}", ""
    sam = labels(measured[0].names, measured[0].methods)[1]
    told = [f"{sam} sits {spread([float(r.displacement) for r in measured])} from the minimum of the training loss"]
    known = [r for r in measured if not math.isnan(float(r.rho))]
    spoken = [r for r in known if not math.isnan(float(r.bias_low))]
    if not known:
        answer = f"No prediction: the last steps of {sam} were not SAM's (--rho gives a ρ)"
    elif not spoken:
        strongest = [float(r.c) for r in known if not math.isnan(float(r.c))]
        most = f"the largest c is {spread(strongest)}" if strongest else "no r and ζ make it a valley"
        answer = f"Theorem 3.3.2 is silent: no r > ρ and ζ have c ≥ 1; {most}"
    else:
        inside = sum(bool(r.bias_low <= r.displacement < r.bias_high) for r in spoken)
        part = f"inside in {inside} of {len(spoken)} runs" if inside else "outside"
        where = "inside" if inside == len(spoken) else part
        ends = f"[{spread([float(r.bias_low) for r in spoken])}, {spread([float(r.bias_high) for r in spoken])})"
        answer = f"SAM's bias is {where} theorem 3.3.2's interval {ends}".replace("runs theorem", "runs of theorem")
        if not all(r.holds[2] == HOLDS for r in spoken):
            does = "does not" if any(r.holds[2] == FAILS for r in spoken) else "is not known to"
            answer += f" for c = {spread([float(r.c) for r in spoken])}, which {does} hold down to ζ = 0"
    if known:
        told.append(f"ρ = {spread([float(r.rho) for r in known])}")
        minima = [float(r.line_minimum) for r in known if not math.isnan(float(r.line_minimum))]
        told += [f"SAM's loss on this line alone has its minimum at {spread(minima)}"] if minima else []
    told.append(_shift_words(measured))
    return answer, f"{', '.join(told)}. {_bound_words(measured)}"


def _shift_words(results: Sequence[Shift]) -> str:
    """The shift and the gap that it leaves, of the runs where both are known."""
    known = [r for r in results if not math.isnan(float(r.gap))]
    if not known:
        return "test loss and training loss have no common place within reach: the shift is not known"
    least, largest = min(float(r.gap_low) for r in known), max(float(r.gap_high) for r in known)
    gaps = spread([float(r.gap) for r in known], nats(known[0]))
    gaps += f" ({number(least)} to {number(largest)} given the error between points)"
    return f"test loss fits best when shifted by {spread([float(r.shift) for r in known])}, leaving a gap of {gaps}"


def _bound_words(results: Sequence[Shift]) -> str:
    """The bound of theorem 3.3.3 beside the measured gain, and how many assumptions hold."""
    gain = f"measured gain in test loss {spread([float(r.gain) for r in results], nats(results[0]))}"
    bounds = [float(r.bound) for r in results if not math.isnan(float(r.bound))]
    least = [float(r.bound_low) for r in results if not math.isnan(float(r.bound_low))]
    claimed = [bool((r.holds == HOLDS).sum() >= len(r.holds) - 1) for r in results]
    first = results[0]
    count = f"{int((first.holds == HOLDS).sum())} of {len(first.holds)} assumptions hold"
    if not bounds:
        return f"Theorem 3.3.3 gives no bound ({count}); {gain}"
    may = "promises" if all(claimed) else "would promise"
    sure = f", {spread(least)} with all errors against it" if least else ""
    return f"Theorem 3.3.3 {may} {spread(bounds, nats(first))} or more{sure} ({count}); {gain}"


def listing(result: Shift) -> list[str]:
    """Each assumption with its status and number."""
    return [
        f"{VERDICTS[int(verdict)]}: {text.removesuffix(' (θ)') if math.isnan(value) else text}"
        + ("" if math.isnan(value) else f" {number(float(value))}")
        for text, verdict, value in zip(result.assumptions, result.holds, result.number, strict=True)
    ]


CAPTION = (
    "Above: training loss, and test loss moved vertically so that both minima are level, around the training loss's "
    "minimum (0); the diamond is the second checkpoint, the band the interval where theorem 3.3.2 expects it, the "
    "dashed line the minimum of SAM's loss on this line. Below: the gap that is left between both when the test loss "
    "is shifted by δ, its smallest value marked; the band is what it may be, given the error between measured points."
)


def figure(*results: Shift) -> Figure:
    """Both losses near the minimum, and the shift gap against δ."""
    from plotly.subplots import make_subplots

    from landscape.style import NEUTRAL, layout, mark

    drawn = make_subplots(rows=2, cols=1, vertical_spacing=0.16, row_heights=[0.6, 0.4])
    for run, r in enumerate(results):
        if r.status != OK:
            continue
        _losses(drawn, r, shown=run == 0)
        if math.isnan(float(r.gap)):
            continue
        profile = Profile(r.offset, r.train, r.test)
        reach = 0.98 * (min(-r.offset[0], r.offset[-1]) - float(r.reach))
        around = min(reach, 4 * max(abs(float(r.shift)), abs(float(r.displacement))))
        places = np.linspace(-around, around, 121)
        gaps = [profile.gap(float(x), float(r.reach)) for x in places]
        _band(drawn, places, np.array([profile.bounds(float(x), float(r.reach)) for x in places]))
        drawn.add_scatter(
            x=places, y=gaps, mode="lines", name="shift gap", showlegend=False, line=mark(0).line(2), row=2, col=1
        )
        drawn.add_scatter(
            x=[float(r.shift)], y=[float(r.gap)], mode="markers", name="smallest gap", showlegend=False,
            marker=mark(0).marker(9), row=2, col=1,
        )  # fmt: skip
        if run == 0 and not math.isnan(float(r.bias_low)):
            drawn.add_vrect(
                x0=float(r.bias_low), x1=float(r.bias_high), fillcolor=NEUTRAL, opacity=0.18, line_width=0, row=1, col=1
            )
        if run == 0 and not math.isnan(float(r.line_minimum)):
            drawn.add_vline(x=float(r.line_minimum), line={"color": NEUTRAL, "dash": "dash", "width": 1}, row=1, col=1)
    unit = nats(results[0], " ({})")
    layout(drawn, ("ℓ − ℓ₀ (units of θ)", "δ (units of θ)"), (f"above minimum{unit}", f"shift gap ξ{unit}"), height=620)
    return drawn


def _band(drawn: Figure, places: Array, bounds: Array) -> None:
    """What the gap may be at each shift, bounds of shape (T, 2)."""
    from landscape.style import mark

    drawn.add_scatter(
        x=np.concatenate([places, places[::-1]]), y=np.concatenate([bounds[:, 1], bounds[::-1, 0]]), fill="toself",
        mode="none", fillcolor=mark(0).color, opacity=0.2, showlegend=False, hoverinfo="skip", row=2, col=1,
    )  # fmt: skip


def _losses(drawn: Figure, r: Shift, shown: bool) -> None:
    """Training and test loss above their minima, on the part of the line where the checkpoints sit."""
    from landscape.style import NEUTRAL, TEST, TRAIN

    width = 2 * max(abs(float(r.displacement)), abs(float(r.minima_shift)), float(r.reach))
    near = np.abs(r.offset) <= max(width, float(np.sort(np.abs(r.offset))[min(6, len(r.offset) - 1)]))
    for name, values, color in (("training loss", r.train, TRAIN), ("test loss", r.test, TEST)):
        drawn.add_scatter(
            x=r.offset[near], y=(values - values.min())[near], mode="lines+markers", name=name, legendgroup=name,
            showlegend=shown, line={"color": color, "width": 2}, marker={"size": 4}, row=1, col=1,
        )  # fmt: skip
    places = [-float(r.centre), float(r.displacement)]
    drawn.add_scatter(
        x=places, y=np.interp(places, r.offset, r.train - r.train.min(), math.nan, math.nan),
        mode="markers", text=list(labels(r.names, r.methods)), hoverinfo="text", showlegend=False,
        marker={"color": NEUTRAL, "size": 10, "symbol": ["circle", "diamond"]}, row=1, col=1,
    )  # fmt: skip


def table(*results: Shift) -> Table:
    """Every number of every run, and every assumption."""
    from landscape.report import Table

    fields = {name: field.metadata for name, field in arrays(results[0]).items()}
    texts = {name: about["text"] for name, about in fields.items() if not about["dims"]}
    rows: list[tuple[str | float | int, ...]] = []
    for run, r in enumerate(results, 1):
        rows += [
            (run, text, float(getattr(r, name)), "" if unit_of(r, name) == "1" else unit_of(r, name))
            for name, text in texts.items()
        ]
        rows += [
            (run, text, float(value), VERDICTS[int(verdict)])
            for text, verdict, value in zip(r.assumptions, r.holds, r.number, strict=True)
        ]
    return Table("Prediction and measurement", ("run", "what", "number", "unit or status"), tuple(rows))
