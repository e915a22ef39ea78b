"""Does the flat minimum generalise better, and does SAM's loss choose it?

Empirical losses are drawn around a population loss that has a sharp and a flat minimum. At each of the two minima of
each empirical loss the population loss is read off; then the minimum of L̃, the worst loss within ρ, is taken as what
SAM would choose, for several ρ, with both minima equally deep in the population and with the sharp one deeper.

Source: blog on flatness and SAM; Foret et al. 2021, arXiv 2010.01412, equation 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from analyses.experiments.view import View
from landscape.claim import Claim, counted, pooled, verdict
from landscape.options import option
from landscape.result import Array, quantity
from landscape.types import Progress, quiet
from landscape.wording import bounded, number, percent, plural

NAME = "flatness"
TITLE = "Flatness and generalization"
QUESTION = "Does the flat minimum generalise better, and does SAM choose it?"
TEXT = "empirical losses drawn around a population loss: spread of its value at sharp and flat minima, and SAM's choice"
EXAMPLE = "landscape toy flatness --draws 400 --out flatness.h5"
WINDOW, SPACING = 4.0, 0.005
RADII = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75)
CHOICE = 4  # index of the ρ that claims are about
ADVANTAGES = (0.0, 0.1, 0.2, 0.4)  # by how much the sharp minimum is deeper in the population
SHOWN = 10


@dataclass(frozen=True)
class Options:
    """Options of the losses."""

    draws: int = option(400, "empirical losses for each setting", low=SHOWN)
    examples: int = option(10, "examples in each empirical loss, n", low=1)
    spread: float = option(0.4, "standard deviation τ of an example's shift, in units of w", low=0.01, high=2.0)
    seed: int = option(0, "seed of the draws", low=0)


@dataclass(frozen=True)
class Flatness:
    """Minima of empirical losses and their worth in the population.

    Attributes:
        minima: "sharp" and "flat".
        draws: Empirical losses for each setting.
        examples: Examples in each.
        place: Grid, shape (P,).
        population: Population loss with equally deep minima, shape (P,).
        empirical: The first empirical losses, shape (10, P).
        rho: ρ, shape (R,).
        perturbed: L̃ of the first empirical loss, shape (R, P).
        minimum: Where the two minima of each empirical loss are, shape (S, 2).
        worth: Population loss there, shape (S, 2).
        rise: L̃ − L at the minima of each empirical loss, mean over draws, shape (R, 2).
        advantage: How much deeper the sharp minimum is in the population, shape (A,).
        flat: Part of the draws in which L̃ is lowest at the flat minimum, shape (A, R).
        loss: Mean population loss of what L̃ chooses, shape (A, R).
        gain: Mean of that less the same for ρ = 0, paired, shape (A, R).
        gain_error: Its standard error.
    """

    labelled: ClassVar[Mapping[str, str]] = {"minimum_kind": "minima"}

    minima: tuple[str, ...]
    draws: int
    examples: int
    place: Array = quantity("θ", "place", "place")
    population: Array = quantity("1", "population loss", "place")
    empirical: Array = quantity("1", "empirical losses", "shown", "place")
    rho: Array = quantity("θ", "radius ρ", "rho")
    perturbed: Array = quantity("1", "perturbed empirical loss", "rho", "place")
    minimum: Array = quantity("θ", "minima of the empirical losses", "draw", "minimum_kind")
    worth: Array = quantity("1", "population loss there", "draw", "minimum_kind")
    rise: Array = quantity("1", "rise of the perturbed loss at the minima", "rho", "minimum_kind")
    advantage: Array = quantity("1", "depth of the sharp minimum less that of the flat one", "advantage")
    flat: Array = quantity("1", "part of the draws in which the flat minimum is chosen", "advantage", "rho")
    loss: Array = quantity("1", "mean population loss of the choice", "advantage", "rho")
    gain: Array = quantity("1", "change of the population loss against ρ = 0", "advantage", "rho")
    gain_error: Array = quantity("1", "its standard error", "advantage", "rho")


Result = Flatness


def compute(
    *, options: Options = Options(), progress: Progress = quiet, device: str = "cpu", dtype: str = "float64"
) -> Flatness:
    """Draw empirical losses and choose minima.

    Args:
        options: Options of the losses.
        progress: Told (settings done, settings in all, what).
        device: Where to compute.
        dtype: Floating point type.

    Returns:
        Minima and choices.
    """
    import torch

    from landscape.toys.wells import Wells, worst

    generator = torch.Generator(device).manual_seed(options.seed)
    w = torch.arange(-WINDOW, WINDOW + SPACING / 2, SPACING, dtype=getattr(torch, dtype), device=device)
    reach = [round(rho / SPACING) for rho in RADII]
    z = torch.randn(options.draws, options.examples, generator=generator, dtype=w.dtype, device=device) * options.spread
    rows = torch.arange(options.draws, device=device)
    flat, loss, gain, error = [], [], [], []
    for i, advantage in enumerate(ADVANTAGES):
        wells = Wells((1 + advantage, 1.0), options.spread)
        empirical, population = wells.empirical(w, z), wells.population(w)
        choice = torch.stack([worst(empirical, r).argmin(-1) for r in reach])  # (R, S)
        chosen = population[choice]
        change = chosen - chosen[0]
        flat.append((w[choice] > 0).double().mean(-1))
        loss.append(chosen.mean(-1))
        gain.append(change.mean(-1))
        error.append(change.std(-1) / options.draws**0.5)
        if i == 0:
            half = len(w) // 2
            sides = torch.stack([empirical[:, :half].argmin(-1), empirical[:, half:].argmin(-1) + half], -1)
            rise = [(worst(empirical, r) - empirical)[rows[:, None], sides].mean(0) for r in reach]
            kept = {
                "population": population, "empirical": empirical[:SHOWN], "minimum": w[sides],
                "worth": population[sides], "perturbed": torch.stack([worst(empirical[:1], r)[0] for r in reach]),
                "rise": torch.stack(rise),
            }  # fmt: skip
        progress(i + 1, len(ADVANTAGES), f"sharp minimum deeper by {advantage:g}")
    stacked = {"flat": flat, "loss": loss, "gain": gain, "gain_error": error}
    return Flatness(
        minima=("sharp", "flat"), draws=options.draws, examples=options.examples, place=w.cpu().numpy(),
        rho=np.array(RADII), advantage=np.array(ADVANTAGES),
        **{key: value.cpu().numpy() for key, value in kept.items()},
        **{key: torch.stack(value).cpu().numpy() for key, value in stacked.items()},
    )  # fmt: skip


def label(result: Flatness) -> str:
    """What the losses are."""
    return f"Two wells, {plural(result.examples, 'example')}"


def claims(*results: Flatness) -> tuple[Claim, ...]:
    """What is claimed of flatness beside what was found.

    Args:
        *results: Results that differ in the seed.

    Returns:
        One claim for each statement.
    """
    r = results[0]
    worth = np.concatenate([o.worth for o in results])
    sharp, smooth = worth.std(0, ddof=1)
    rise = np.mean([o.rise[CHOICE] for o in results], axis=0)
    flat = np.mean([o.flat for o in results], axis=0)
    gain, error = pooled([o.gain for o in results], [o.gain_error for o in results])
    blog, rho = "blog on flatness", f"ρ = {r.rho[CHOICE]:g}"
    made = [
        Claim(blog, "The population loss varies less at the flat minimum of empirical losses", "less",
              f"standard deviation {number(float(smooth))}, at the sharp one {number(float(sharp))}",
              verdict(bool(smooth < sharp))),
        Claim(blog, f"L̃ rises more at the sharp minimum, {rho}", "more",
              f"{number(float(rise[0]))}, at the flat one {number(float(rise[1]))}", verdict(bool(rise[0] > rise[1]))),
        Claim(blog, f"SAM's loss chooses the flat minimum, both equally deep, {rho}", "flat",
              f"flat in {percent([float(flat[0, CHOICE])])} of draws, {percent([float(flat[0, 0])])} without SAM",
              verdict(bool(flat[0, CHOICE] > max(0.9, flat[0, 0])))),
    ]  # fmt: skip
    for i, advantage in enumerate(r.advantage):
        deeper = f"the sharp one deeper by {advantage:g}" if advantage else "both equally deep"
        change = bounded(float(gain[i, CHOICE]), float(error[i, CHOICE]))
        made.append(
            Claim(blog, f"What SAM's loss chooses generalises better, {deeper}, {rho}", "population loss falls",
                  f"changes by {change}", verdict(bool(gain[i, CHOICE] < -2 * error[i, CHOICE])))
        )  # fmt: skip
    return tuple(made)


def words(*results: Flatness) -> tuple[str, str]:
    """Whether SAM chooses the flat minimum and whether that helps.

    Args:
        *results: Results that differ in the seed.

    Returns:
        The answer, and the numbers behind it.
    """
    made = claims(*results)
    r = results[0]
    fates: dict[str, list[str]] = {}
    for advantage, claim in zip(r.advantage, made[3:], strict=True):
        fates.setdefault(claim.verdict, []).append(f"{advantage:g}")
    gains = "; ".join(
        f"deeper by {', '.join(a)}: {'better' if v == 'holds' else 'not better'}" for v, a in fates.items()
    )
    answer = (
        f"At equal depth yes, {made[2].found}; what SAM chooses where the sharp minimum is {gains}; {counted(made)}"
    )
    return answer, f"{made[0].text}: {made[0].found}. {made[3].text}: {made[3].found}"


CAPTION = (
    "Population loss (thick) and ten empirical losses. Marks: the population loss at the sharp and at the flat minimum "
    "of every empirical loss that was drawn."
)


def views(*results: Flatness) -> tuple[View, ...]:
    """Losses with their minima, L̃ with a slider for ρ, and the choice.

    Args:
        *results: Results that differ in the seed.

    Returns:
        Three views.
    """
    from analyses.experiments.drawings import flatness as drawings

    return (
        View("population and empirical losses", drawings.losses(*results), CAPTION),
        View("the perturbed loss of one draw", drawings.perturbed(results[0]), drawings.PERTURBED),
        View("what SAM's loss chooses", drawings.choice(*results), drawings.CHOICE),
    )


def note(*results: Flatness) -> str:
    """What is to be known of all claims."""
    r = results[0]
    losses = f"{len(results) * r.draws} empirical losses of {plural(r.examples, 'example')}"
    return f"{losses}; ± one standard error, paired with ρ = 0."
