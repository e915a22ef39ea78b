"""What does taking the worst loss within ρ do to a minimum?

L̃(w) = max over ‖ε‖ ≤ ρ of L(w + ε), exact, for losses on one and two parameters, against what the thesis says of it:
depth ΔL̃ = ΔL − ½λρ² and curvature λ̃ ≥ (1 + ρ/(r − ρ))λ on a quadratic (theorem 3.2.1), and a shift of the minimum
into [(c − 1)/(c + 1)·ρ, ρ) on the flat side of an asymmetric valley (theorem 3.3.2).

The proof's λ̃ is a finite difference over δ = r − ρ, and that is what is measured; L̃ has a kink at its minimum, where
no second derivative exists and the difference grows as 1/δ. A smooth function has no slope at its minimum, so no
smooth valley meets theorem 3.3.2's hypothesis; the c taken here is the ratio of slopes at distance ρ.

Source: thesis, figures 3.1, 3.2 and 7.1, theorems 3.2.1 and 3.3.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from analyses.experiments.view import View
from landscape.claim import Claim, counted, verdict
from landscape.options import option
from landscape.result import Array, quantity
from landscape.types import Progress, quiet
from landscape.wording import number

NAME = "perturbed-loss"
TITLE = "The perturbed loss"
QUESTION = "Does the worst loss within ρ make a minimum sharper and shallower, and move it to the flat side?"
TEXT = "L̃ = max of L within ρ on toy losses: depth, curvature and shift of minima against the thesis's theorems"
EXAMPLE = "landscape toy perturbed-loss --out perturbed-loss.h5"
ROUNDING = 1e-7  # to which a minimum of rounded values is found, and what is computed from its place


@dataclass(frozen=True)
class Options:
    """Options of the perturbed loss."""

    largest: float = option(1.0, "largest ρ, in units of w", low=0.05, high=2.0)
    radii: int = option(21, "how many ρ, from 0", low=3, high=101)
    points: int = option(241, "points of each curve", low=11)
    plane: int = option(41, "points of the plane along each axis", low=5, high=201)


@dataclass(frozen=True)
class PerturbedLoss:
    """L and L̃ with the minima of both.

    Attributes:
        valleys: Names of the valleys on one parameter.
        drawn: Names of the functions that are drawn.
        rho: Radii, ascending from 0, shape (R,).
        place: Where each function is drawn, shape (F, P).
        loss: L there, shape (F, P).
        perturbed: L̃ there, shape (F, R, P).
        start: Minimum w* of L in each valley, shape (V,).
        reach: Distance r from it to the nearest end of the valley, shape (V,).
        minimum: Minimum of L̃, shape (V, R); NaN where the valley has none.
        depth: ΔL̃, how deep it lies below the lower end of the valley, shape (V, R).
        depth_claimed: ΔL − ½λρ², shape (V, R); NaN where ρ ≥ r.
        curvature: λ̃, second difference of L̃ over r − ρ, shape (V, R).
        curvature_claimed: (1 + ρ/(r − ρ))λ, shape (V, R).
        kink: Jump of the slope of L̃ at its minimum, shape (V, R).
        shift_claimed: (c − 1)/(c + 1)·ρ, shape (V, R).
        axis: Places along each axis of the plane, shape (X,).
        plane: L on the plane, shape (X, X), second parameter first.
        plane_perturbed: L̃ on the plane, shape (R, X, X).
        plane_minimum: Minimum of L̃ on the plane, shape (R, 2).
        condition: Condition numbers of quadratics on the unit disc, shape (K,).
        disc_depth: ΔL̃ over the disc of radius 1 − ρ, shape (K, R); NaN where ρ ≥ 1.
        disc_claimed: ΔL − ½λρ² for them, shape (K, R).
    """

    labelled: ClassVar[Mapping[str, str]] = {"valley": "valleys", "function": "drawn"}

    valleys: tuple[str, ...]
    drawn: tuple[str, ...]
    rho: Array = quantity("θ", "radius ρ", "rho")
    place: Array = quantity("θ", "place", "function", "point")
    loss: Array = quantity("1", "loss L", "function", "point")
    perturbed: Array = quantity("1", "perturbed loss", "function", "rho", "point")
    start: Array = quantity("θ", "minimum of L", "valley")
    reach: Array = quantity("θ", "distance to the nearest end of the valley", "valley")
    minimum: Array = quantity("θ", "minimum of the perturbed loss", "valley", "rho")
    depth: Array = quantity("1", "depth of the perturbed loss", "valley", "rho")
    depth_claimed: Array = quantity("1", "depth by theorem 3.2.1 (i)", "valley", "rho")
    curvature: Array = quantity("1/θ²", "second difference of the perturbed loss over r − ρ", "valley", "rho")
    curvature_claimed: Array = quantity("1/θ²", "bound of theorem 3.2.1 (ii)", "valley", "rho")
    kink: Array = quantity("1/θ", "jump of the slope at the minimum", "valley", "rho")
    shift_claimed: Array = quantity("θ", "lower bound of theorem 3.3.2", "valley", "rho")
    axis: Array = quantity("θ", "place along each axis of the plane", "axis")
    plane: Array = quantity("1", "loss L on the plane", "ordinate", "axis")
    plane_perturbed: Array = quantity("1", "perturbed loss on the plane", "rho", "ordinate", "axis")
    plane_minimum: Array = quantity("θ", "minimum of the perturbed loss on the plane", "rho", "coordinate")
    condition: Array = quantity("1", "condition number", "condition")
    disc_depth: Array = quantity("1", "depth of the perturbed loss on the disc", "condition", "rho")
    disc_claimed: Array = quantity("1", "depth by theorem 3.2.1 (i)", "condition", "rho")


Result = PerturbedLoss
CONDITIONS = (1.0, 2.0, 5.0, 20.0)


def compute(
    *, options: Options = Options(), progress: Progress = quiet, device: str = "cpu", dtype: str = "float64"
) -> PerturbedLoss:
    """Compute L̃, its minima and what the theorems say of them.

    Args:
        options: Options of the perturbed loss.
        progress: Told (parts done, parts in all, what).
        device: Where to compute.
        dtype: Floating point type.

    Returns:
        Curves, planes, minima and claims.
    """
    import torch

    from landscape.toys import perturbed, valleys

    like = torch.zeros((), dtype=getattr(torch, dtype), device=device)
    rho = torch.linspace(0, options.largest, options.radii).to(like)
    drawn, tracked = valleys.DRAWN, valleys.VALLEYS
    place = torch.stack([torch.linspace(v.view[0], v.view[1], options.points).to(like) for v in drawn])
    curves = [perturbed.on_line(v.toy, w, rho[:, None], v.maxima) for v, w in zip(drawn, place, strict=True)]
    progress(1, 3, "curves")
    found = [valleys.measure(valley, rho) for valley in tracked]
    axis = torch.linspace(-2.5, 2.5, options.plane).to(like)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)  # (X, X, 2)
    field = torch.stack([perturbed.on_plane(valleys.PLANE, grid, r) for r in rho])
    progress(2, 3, "plane")
    centre = torch.zeros(len(rho), 2).to(like)
    reach = options.largest + 0.1  # the minimum moves by less than ρ
    lowest = perturbed.lowest(lambda w: perturbed.on_plane(valleys.PLANE, w, rho[:, None]), centre, reach)
    discs = [valleys.disc_depth(k, rho) for k in CONDITIONS]
    progress(3, 3, "minima")
    stacked = {key: np.stack([each[key].cpu().numpy() for each in found]) for key in found[0]}
    return PerturbedLoss(
        valleys=tuple(v.name for v in tracked), drawn=tuple(v.toy.name for v in drawn), rho=rho.cpu().numpy(),
        place=place.cpu().numpy(),
        loss=torch.stack([v.toy.value(w[:, None]) for v, w in zip(drawn, place, strict=True)]).cpu().numpy(),
        perturbed=torch.stack(curves).cpu().numpy(), start=np.array([v.minimum for v in tracked]),
        reach=np.array([v.reach for v in tracked]), axis=axis.cpu().numpy(),
        plane=valleys.PLANE.value(grid).cpu().numpy(), plane_perturbed=field.cpu().numpy(),
        plane_minimum=lowest.cpu().numpy(), condition=np.array(CONDITIONS),
        disc_depth=np.stack([d.cpu().numpy() for d, _ in discs]),
        disc_claimed=np.stack([c.cpu().numpy() for _, c in discs]), **stacked,
    )  # fmt: skip


def label(result: PerturbedLoss) -> str:
    """What was looked at."""
    return "Toy valleys"


def claims(*results: PerturbedLoss) -> tuple[Claim, ...]:
    """What the thesis says beside what was found; the computation is exact, so one result decides.

    Args:
        *results: Results; the first is taken.

    Returns:
        One claim for each statement.
    """
    r = results[0]
    at = {name: i for i, name in enumerate(r.valleys)}
    quadratic, linex, kinked = at["quadratic w²"], at["LINEX, a = −0.3"], at["kinked, c = 3"]
    above = float((r.perturbed - r.loss[:, None]).min())
    shallower = all(bool((np.diff(d[np.isfinite(d)]) < 0).all()) for d in r.depth)
    off = float(np.nanmax(abs(r.depth - r.depth_claimed)[quadratic]))
    disc = r.disc_depth[-1] - r.disc_claimed[-1]
    worst = int(np.argmin(abs(r.rho - 0.5)))
    excess = (r.curvature[quadratic] / 2 - 1)[1:] / (r.curvature_claimed[quadratic] / 2 - 1)[1:]
    moved = (r.minimum[:, -1] - r.start)[[linex, kinked]]
    bound = r.shift_claimed[[linex, kinked], -1]
    width, gone = float(2 * r.reach[at["sextic at 1"]]), np.isnan(r.minimum[at["sextic at 1"]])
    vanished = f"gone from ρ = {number(float(r.rho[gone][0]))} on" if gone.any() else "not gone"
    diagonal = r.plane_minimum[-1]
    largest = f"ρ = {number(float(r.rho[-1]))}"
    return (
        Claim("thesis, figure 3.1", "L̃ floats above L, and valleys become shallower", "L̃ ≥ L; ΔL̃ falls with ρ",
              f"smallest L̃ − L {number(max(above, 0.0))}; ΔL̃ {'falls' if shallower else 'does not fall'} everywhere",
              verdict(above >= -ROUNDING and shallower)),
        Claim("thesis, theorem 3.2.1 (i)", "Depth on a quadratic of one parameter", "ΔL − ½λρ²",
              f"the same to {number(off)}", verdict(off < ROUNDING)),
        Claim("thesis, theorem 3.2.1 (i)", f"Depth on a quadratic on ℝ², λmax/λmin = {r.condition[-1]:g}",
              f"ΔL − ½λmax·ρ², {number(float(r.disc_claimed[-1, worst]))} at ρ = {number(float(r.rho[worst]))}",
              f"{number(float(r.disc_depth[-1, worst]))}; equal only up to ρ = r·λmin/λmax",
              verdict(bool(np.nanmax(abs(disc)) < ROUNDING))),
        Claim("thesis, theorem 3.2.1 (ii)", "Curvature on a quadratic, as a difference over r − ρ",
              "λ̃ ≥ (1 + ρ/(r − ρ))λ",
              f"(1 + {number(float(np.nanmean(excess)))}·ρ/(r − ρ))λ; a kink, so it depends on the step",
              verdict(bool(np.nanmin(excess) >= 1 - ROUNDING))),
        Claim("thesis, section 3.2", "A valley narrower than ρ is eliminated",
              f"sextic at 1, {number(width)} wide: gone at ρ > {number(width)}", vanished,
              verdict(bool((gone | (r.rho <= width)).all()))),
        Claim("thesis, theorem 3.3.2", f"Shift in a kinked valley, {largest}",
              f"at least {number(float(bound[1]))}", number(float(moved[1])), verdict(moved[1] >= bound[1] - ROUNDING)),
        Claim("thesis, figure 3.1 c, d", f"Minimum of LINEX moves to the flat side, {largest}", "right of 0",
              f"{number(float(moved[0]))}", verdict(moved[0] > 0)),
        Claim("thesis, theorem 3.3.2", f"Shift of LINEX with the slopes at distance ρ, {largest}",
              f"at least {number(float(bound[0]))}", number(float(moved[0])), verdict(moved[0] >= bound[0] - ROUNDING)),
        Claim("thesis, figure 3.2", f"With two asymmetric directions the shift is the sum, {largest}",
              "flat side of both", f"({number(float(diagonal[0]))}, {number(float(diagonal[1]))})",
              verdict(bool((diagonal > 0).all()))),
    )  # fmt: skip


def words(*results: PerturbedLoss) -> tuple[str, str]:
    """Whether minima become shallower and move, and what the theorems miss.

    Args:
        *results: Results; the first is taken.

    Returns:
        The answer, and the numbers behind it.
    """
    made = claims(*results)
    found = {claim.text: claim.found for claim in made}
    linex = next(text for text in found if text.startswith("Minimum of LINEX"))
    detail = f"{linex}: {found[linex]}. {'; '.join(c.text + ': ' + c.verdict for c in made if c.verdict != 'holds')}"
    return f"Shallower in every valley and moved to the flat side; {counted(made)}", detail


CAPTION = (
    "Loss L and perturbed loss L̃, the worst loss within ρ, exact. Circles: minimum of L; stars: minimum of L̃, "
    "left out where the valley is gone. Lower right: L̃ on the plane for a valley with two asymmetric "
    "directions. Move the slider."
)


def views(*results: PerturbedLoss) -> tuple[View, ...]:
    """The curves with a slider for ρ, and what was measured against the formulas.

    Args:
        *results: Results; the first is taken.

    Returns:
        Two views.
    """
    from analyses.experiments.drawings import perturbed_loss as drawings

    curves = View("L and L̃", drawings.curves(results[0]), CAPTION)
    return curves, View("Depth, curvature and shift", drawings.formulas(results[0]), drawings.FORMULAS)


def note(*results: PerturbedLoss) -> str:
    """What is to be known of all claims."""
    return "L̃ is computed without SAM's approximation; units are those of the toy function."
