"""Does SAM stay at saddles that gradient descent leaves?

Gradient descent and SAM, with ε = ρ∇L as in the stability analysis and with ε = ρ∇L/‖∇L‖ as in the original, on x² − y²
and Beale's function: paths, basins, and the threshold ρ = 1/|λ| below which a saddle repels SAM too.

Source: Kim et al. 2023, arXiv 2301.06308, as told by the blog on the stability of SAM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analyses.experiments.view import View
from landscape.claim import Claim, counted, verdict
from landscape.options import option
from landscape.result import Array, quantity
from landscape.types import Progress, quiet
from landscape.wording import number, percent

if TYPE_CHECKING:
    from torch import Tensor

NAME = "saddle"
TITLE = "Saddles"
QUESTION = "Does SAM stay at saddles that gradient descent leaves?"
TEXT = "gradient descent and SAM at saddles: paths, basins and the threshold"
EXAMPLE = "landscape toy saddle --steps 10000 --out saddle.h5"
METHODS = ("gradient descent", "SAM, ε = ρ∇L", "SAM, ε = ρ∇L/‖∇L‖")
FUNCTIONS = ("x² − y²", "Beale")
LR = (0.02, 1e-3)  # of the two functions
RADIUS = ((0.0, 0.8, 0.5), (0.0, 0.1, 0.3))  # of the methods on the two functions
STARTS = (
    ((-1.4, 0.3), (-0.9, -0.15), (-0.3, 0.05), (0.4, -0.3), (0.8, 0.1), (1.3, -0.02)),
    ((-1.6, 0.6), (-0.9, 1.3), (-0.4, 0.2), (0.5, 1.2), (1.0, -0.6), (1.7, 0.0)),
)
WINDOW = (((-1.6, 1.6), (-1.2, 1.2)), ((-2.0, 3.6), (-1.0, 2.0)))
SETTINGS = (
    (0.0, False),
    (0.01, False),
    (0.03, False),
    (0.04, False),
    (0.05, False),
    (0.1, False),
    (0.1, True),
    (0.3, True),
)
FATES = ("elsewhere", "at the saddle", "at the minimum", "diverged")


@dataclass(frozen=True)
class Options:
    """Options of the saddles."""

    steps: int = option(10_000, "steps of the basin map on Beale's function, at η = 0.001", low=100)
    grid: int = option(31, "starts along each axis of the basin map", low=3, high=301)


@dataclass(frozen=True)
class Saddle:
    """What happens at saddles.

    Attributes:
        functions: Names of the functions.
        methods: Names of the methods.
        settings: Methods with their ρ, of the basin map.
        fates: Where a start can end.
        step: Steps at which paths are written down, shape (F, T).
        path: Paths, shape (F, M, P, T, 2).
        abscissa: First coordinate of the ground, shape (F, X).
        ordinate: Second coordinate, shape (F, X).
        ground: Value of the functions, shape (F, X, X), second coordinate first.
        column: First coordinate of the basin map, shape (G,).
        row: Second coordinate, shape (G,).
        basin: Index of the fate of each start, shape (C, G, G), second coordinate first.
        share: Part of the starts with each fate, shape (C, 4).
        rho: ρ over 1/|λ|, shape (R,).
        growth: Factor by which one step of SAM, ε = ρ∇L, leaves the saddle, over 1 and over η|λ|, shape (F, R).
        growth_claimed: 1 − ρ|λ|, shape (F, R).
        threshold: ρ at which it is 1, shape (F,).
        threshold_claimed: 1/|λ| of the Hessian, shape (F,).
    """

    labelled: ClassVar[Mapping[str, str]] = {
        "function": "functions", "method": "methods", "setting": "settings", "fate": "fates",
    }  # fmt: skip

    functions: tuple[str, ...]
    methods: tuple[str, ...]
    settings: tuple[str, ...]
    fates: tuple[str, ...]
    step: Array = quantity("steps", "steps", "function", "moment")
    path: Array = quantity("θ", "where the path is", "function", "method", "start", "moment", "coordinate")
    abscissa: Array = quantity("θ", "first coordinate", "function", "place")
    ordinate: Array = quantity("θ", "second coordinate", "function", "place")
    ground: Array = quantity("1", "value", "function", "high", "place")
    column: Array = quantity("θ", "first coordinate of the start", "column")
    row: Array = quantity("θ", "second coordinate of the start", "row")
    basin: Array = quantity("1", "index of the fate", "setting", "row", "column")
    share: Array = quantity("1", "part of the starts", "setting", "fate")
    rho: Array = quantity("1", "ρ|λ|", "rho")
    growth: Array = quantity("1", "growth at the saddle, (factor − 1)/(η|λ|)", "function", "rho")
    growth_claimed: Array = quantity("1", "the same by the formula", "function", "rho")
    threshold: Array = quantity("θ²", "ρ at which the saddle neither repels nor attracts", "function")
    threshold_claimed: Array = quantity("θ²", "1/|λ|", "function")


Result = Saddle


def compute(
    *, options: Options = Options(), progress: Progress = quiet, device: str = "cpu", dtype: str = "float64"
) -> Saddle:
    """Follow paths, measure growth and map basins.

    Args:
        options: Options of the saddles.
        progress: Told (parts done, parts in all, what).
        device: Where to compute.
        dtype: Floating point type.

    Returns:
        What happened.
    """
    import torch

    like = torch.zeros((), dtype=getattr(torch, dtype), device=device)
    parts: dict[str, Array] = {}
    todo = (_paths, _thresholds, _basins)
    for done, part in enumerate(todo):
        progress(done, len(todo), part.__name__.strip("_"))
        parts |= part(options, like)
    settings = tuple(_named(rho, normalised) for rho, normalised in SETTINGS)
    return Saddle(functions=FUNCTIONS, methods=METHODS, settings=settings, fates=FATES, **parts)


def _named(rho: float, normalised: bool) -> str:
    return f"{METHODS[1 + normalised]}, ρ = {rho:g}" if rho else METHODS[0]


def _paths(options: Options, like: Tensor) -> dict[str, Array]:
    """Paths of the methods from a few starts, and the ground under them."""
    import torch

    from landscape.toys.descent import descend
    from landscape.toys.functions import BEALE, SADDLE

    normalised = torch.tensor([False, False, True], device=like.device)[:, None, None]
    found: dict[str, list[Array]] = {"step": [], "path": [], "abscissa": [], "ordinate": [], "ground": []}
    for toy, lr, radius, starts, window in zip((SADDLE, BEALE), LR, RADIUS, STARTS, WINDOW, strict=True):
        last = 300 if toy is SADDLE else 10_000
        step = _moments(last)
        rho = like.new_tensor(radius)[:, None, None]
        start = like.new_tensor(starts).expand(len(METHODS), -1, -1)
        path = descend(toy.gradient, start, step, lr=lr, rho=rho, normalised=normalised)  # (T, M, P, 2)
        x, y = (torch.linspace(*edge, 81).to(like) for edge in window)
        points = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
        found["step"].append(np.array(step))
        drawn = {"path": path.permute(1, 2, 0, 3), "abscissa": x, "ordinate": y, "ground": toy.value(points)}
        for key, value in drawn.items():
            found[key].append(value.cpu().numpy())
    return {key: np.stack(value) for key, value in found.items()}


def _moments(last: int, count: int = 60) -> list[int]:
    """Steps from 0 on, all different, that grow about geometrically."""
    powers = np.unique(np.geomspace(1, last, 400).astype(int))
    return [0, *powers[np.linspace(0, len(powers) - 1, count).round().astype(int)].tolist()]


def _thresholds(options: Options, like: Tensor) -> dict[str, Array]:
    """Growth of a small displacement along the direction of negative curvature, over ten steps of SAM."""
    import torch

    from landscape.toys.descent import descend
    from landscape.toys.functions import BEALE, BEALE_SADDLE, SADDLE

    reach = torch.linspace(0, 2, 21).to(like)
    growth, threshold, claimed = [], [], []
    for toy, place, lr in ((SADDLE, (0.0, 0.0), LR[0]), (BEALE, BEALE_SADDLE, LR[1])):
        values, vectors = torch.linalg.eigh(toy.hessian(like.new_tensor(place)))
        curvature = -float(values[0])
        start = like.new_tensor(place) + 1e-6 * vectors[:, 0].expand(len(reach), -1)
        rho = reach[:, None] / curvature
        end = descend(toy.gradient, start, [10], lr=lr, rho=rho, normalised=False)[0] - like.new_tensor(place)
        factor = ((end @ vectors[:, 0]) / 1e-6) ** 0.1
        rate = ((factor - 1) / (lr * curvature)).cpu().numpy()
        growth.append(rate)
        line = np.polyfit(rho[:, 0].cpu().numpy(), rate, 1)
        threshold.append(-line[1] / line[0])
        claimed.append(1 / curvature)
    rho_over = reach.cpu().numpy()
    return {
        "rho": rho_over, "growth": np.stack(growth), "growth_claimed": np.stack([1 - rho_over] * 2),
        "threshold": np.array(threshold), "threshold_claimed": np.array(claimed),
    }  # fmt: skip


def _basins(options: Options, like: Tensor) -> dict[str, Array]:
    """Where starts on a grid end on Beale's function."""
    import torch

    from landscape.toys.descent import descend
    from landscape.toys.functions import BEALE, BEALE_MINIMUM, BEALE_SADDLE

    x, y = torch.linspace(-2, 2, options.grid).to(like), torch.linspace(-1, 2, options.grid).to(like)
    points = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)  # (G, G, 2)
    rho = like.new_tensor([r for r, _ in SETTINGS])[:, None, None, None]
    normalised = torch.tensor([n for _, n in SETTINGS], device=like.device)[:, None, None, None]
    start = points.expand(len(SETTINGS), -1, -1, -1)
    end = descend(BEALE.gradient, start, [options.steps], lr=LR[1], rho=rho, normalised=normalised)[0]
    near = torch.where(normalised, 1.5 * rho, 0.05).squeeze(-1)  # normalised SAM circles within about ρ
    fate = torch.zeros(end.shape[:-1], dtype=torch.int64, device=like.device)
    fate[(end - like.new_tensor(BEALE_MINIMUM)).norm(dim=-1) < 0.5] = 2
    fate[(end - like.new_tensor(BEALE_SADDLE)).norm(dim=-1) < near] = 1
    fate[~end.isfinite().all(-1) | (end.norm(dim=-1) > 1e3)] = 3
    basin = fate.cpu().numpy()
    share = np.stack([(basin == k).mean((1, 2)) for k in range(len(FATES))], -1)
    return {"column": x.cpu().numpy(), "row": y.cpu().numpy(), "basin": basin, "share": share}


def label(result: Saddle) -> str:
    """Which functions the saddles are of."""
    return "Saddles of x² − y² and Beale's function"


def claims(*results: Saddle) -> tuple[Claim, ...]:
    """What is claimed of saddles beside what was found; nothing is random, so one result decides.

    Args:
        *results: Results; the first is taken.

    Returns:
        One claim for each statement.
    """
    r = results[0]
    stuck = dict(zip(r.settings, r.share[:, 1].tolist(), strict=True))
    gd, small, large, unit = (stuck[_named(*each)] for each in ((0.0, False), (0.01, False), (0.1, False), (0.3, True)))
    home = np.linalg.norm(r.path[0, 1, :, -1], axis=-1) < 0.01  # on x² − y²
    off = float(abs(r.threshold / r.threshold_claimed - 1).max())
    lost = float(r.share[r.settings.index(_named(0.1, False)), 3])
    beale, quadratic = "blog on stability, Beale's function", "blog on stability, x² − y²"
    return (
        Claim(beale, "SAM is stuck at the saddle, gradient descent is not, ρ = 0.1",
              "stuck: SAM yes, gradient descent no",
              f"{percent([large])} of starts with SAM, {percent([gd])} without; {percent([lost])} of SAM's diverge",
              verdict(large > 0 and gd == 0)),
        Claim(quadratic, "The saddle becomes an attractor, ρ = 0.8, ε = ρ∇L", "all starts end there",
              f"{int(home.sum())} of {len(home)} end within 0.01", verdict(bool(home.all()))),
        Claim("stability analysis", "A saddle attracts SAM with ε = ρ∇L from ρ = 1/|λ| on",
              _list(r.threshold_claimed), _list(r.threshold), verdict(off < 1e-3)),
        Claim(beale, "SAM is stuck at the saddle, ρ = 0.01, below the threshold", "stuck",
              f"{percent([small])} of starts", verdict(small > 0)),
        Claim(beale, "SAM as it is used, ε = ρ∇L/‖∇L‖, is stuck, ρ = 0.3", "stuck, within 1.5ρ",
              f"{percent([unit])} of starts", verdict(unit > 0)),
    )  # fmt: skip


def _list(values: Array) -> str:
    return ", ".join(number(float(v)) for v in values)


def words(*results: Saddle) -> tuple[str, str]:
    """Whether SAM stays at saddles, and from which ρ on.

    Args:
        *results: Results; the first is taken.

    Returns:
        The answer, and the numbers behind it.
    """
    r = results[0]
    held = ", ".join(f"{name} {percent([float(part[1])])}" for name, part in zip(r.settings, r.share, strict=True))
    held = held.replace(f"{METHODS[1]}, ", "").replace(METHODS[2], "normalised")
    low, high = (number(float(v)) for v in r.threshold)
    answer = f"Only above ρ = 1/|λ|, where ε = ρ∇L: {low} on x² − y², {high} on Beale's function; {counted(claims(r))}"
    return answer, f"Starts that end at Beale's saddle: {held}"


CAPTION = (
    "Paths from the same starts over the values of x² − y² (left) and, on a logarithmic colour scale, of Beale's "
    "function (right); the cross is the saddle, the star the minimum. Press play or move the slider: steps on "
    "x² − y² | on Beale's function, fewer between early ones so that these can be seen."
)


def views(*results: Saddle) -> tuple[View, ...]:
    """Animated paths, the basin map and the threshold.

    Args:
        *results: Results; the first is taken.

    Returns:
        Three views.
    """
    from analyses.experiments.drawings import saddle as drawings

    r = results[0]
    return (
        View("paths", drawings.paths(r), CAPTION),
        View("where starts on Beale's function end", drawings.basins(r), drawings.BASINS),
        View("threshold", drawings.threshold(r), drawings.THRESHOLD),
    )


def note(*results: Saddle) -> str:
    """What is to be known of all claims."""
    return "Beale's function: η = 0.001 and a grid of starts on [−2, 2] × [−1, 2]."
