"""Does SAM find the flatter minimum of the review's two toy functions, and does it converge as fast as is said?

Figure 2 of the review: (x − 1)²y², whose minima are two lines of all curvatures, with its η, its ρ and larger ones.
Figure 1: x²(x − 1)²/(x² + 1e-4), a slit at 0 beside a wide minimum at 1, whose η and ρ are not stated: they are
searched. Theorem 2: the mean squared gradient of SAM with η₀/√t and ρ₀/√t, on a smooth function that is not convex
and has bounded gradients, against its bound.

Source: review of SAM, figures 1 and 2, theorem 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analyses.experiments.view import View
from landscape.claim import Claim, counted, verdict
from landscape.options import option
from landscape.result import Array, quantity
from landscape.types import Progress, quiet
from landscape.wording import bounded, number

if TYPE_CHECKING:
    from torch import Generator, Tensor

NAME = "toy-minima"
TITLE = "Minima of toy functions"
QUESTION = "Does SAM find the flatter minimum where the review says so?"
TEXT = "the review's two toy functions, with its settings and a search around them, and the rate of its theorem 2"
EXAMPLE = "landscape toy toy-minima --steps 60000 --out toy-minima.h5"
CLAIMED_GD, CLAIMED_SAM = 1.225, 0.016  # figure 2: largest eigenvalue at the end
CROSS_LR, CROSS_STEPS, CROSS_CLAIMED_RHO = 0.1, 1000, 1e-5
CROSS_RHO = (0.0, 1e-5, 1e-3, 1e-2, 0.05, 0.1, 0.2)
CROSS_START = (0.0, 1.3)  # from which gradient descent ends where the figure says
NEAR = 0.15  # how near to the figure's eigenvalue gradient descent must end for a start to count
SLIT_LR = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3)
SLIT_RHO = (0.0, 1e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2)
SLIT_STARTS = tuple(np.linspace(-1, -0.02, 9).tolist())  # left of the slit, with the minimum at 1 behind it
RATE_LR, RATE_RHO, RATE_NOISE, RATE_SIZE = 0.2, (0.0, 0.1, 0.4), 1.0, 10


@dataclass(frozen=True)
class Options:
    """Options of the searches."""

    starts: int = option(400, "random starts on (x − 1)²y²", low=10)
    steps: int = option(60_000, "steps on the slit", low=100)
    horizon: int = option(20_000, "steps T of theorem 2", low=100)
    repeats: int = option(64, "runs of theorem 2 over which the expectation is taken", low=2)
    seed: int = option(0, "seed of starts and noise", low=0)


@dataclass(frozen=True)
class ToyMinima:
    """What SAM and gradient descent find.

    Attributes:
        starts: Random starts on (x − 1)²y².
        repeats: Runs of theorem 2.
        cross_rho: ρ on (x − 1)²y², 0 for gradient descent, shape (R,).
        sharpness: Largest eigenvalue at the end, from the figure's start, shape (R,).
        spread_sharpness: The same from those random starts whose gradient descent ends as in the figure, shape (S, R).
        slit_lr: η on the slit, shape (H,).
        slit_rho: ρ, 0 for gradient descent, shape (Q,).
        slit_start: Starts, shape (P,).
        slit_end: Where each ends, shape (H, Q, P).
        step: T, shape (T,).
        rate_rho: ρ₀ of theorem 2, 0 for SGD, shape (M,).
        gradient: Mean of ‖∇f‖² up to T, mean over runs, shape (M, T).
        gradient_error: Its standard error.
        bound: The theorem's bound, shape (M, T).
        exponent: Fitted power of T over its last decade, shape (M,).
        exponent_error: Its standard error over runs.
    """

    starts: int
    repeats: int
    cross_rho: Array = quantity("θ", "ρ on (x − 1)²y²", "cross_rho")
    sharpness: Array = quantity("1/θ²", "largest eigenvalue at the end", "cross_rho")
    spread_sharpness: Array = quantity("1/θ²", "the same from random starts", "random_start", "cross_rho")
    slit_lr: Array = quantity("θ²", "learning rate on the slit", "slit_lr")
    slit_rho: Array = quantity("θ", "ρ on the slit", "slit_rho")
    slit_start: Array = quantity("θ", "starts", "slit_start")
    slit_end: Array = quantity("θ", "where they end", "slit_lr", "slit_rho", "slit_start")
    step: Array = quantity("steps", "steps T", "step")
    rate_rho: Array = quantity("θ", "ρ₀ of theorem 2", "rate_rho")
    gradient: Array = quantity("1/θ²", "mean squared gradient up to T", "rate_rho", "step")
    gradient_error: Array = quantity("1/θ²", "its standard error", "rate_rho", "step")
    bound: Array = quantity("1/θ²", "bound of theorem 2", "rate_rho", "step")
    exponent: Array = quantity("1", "fitted power of T", "rate_rho")
    exponent_error: Array = quantity("1", "its standard error", "rate_rho")


Result = ToyMinima


def compute(
    *, options: Options = Options(), progress: Progress = quiet, device: str = "cpu", dtype: str = "float64"
) -> ToyMinima:
    """Run gradient descent and SAM with the review's settings and around them.

    Args:
        options: Options of the searches.
        progress: Told (parts done, parts in all, what).
        device: Where to compute.
        dtype: Floating point type.

    Returns:
        Where they end.
    """
    import torch

    like = torch.zeros((), dtype=getattr(torch, dtype), device=device)
    generator = torch.Generator(device).manual_seed(options.seed)
    parts: dict[str, Array] = {}
    todo = (_cross, _slit, _rate)
    for done, part in enumerate(todo):
        progress(done, len(todo), part.__name__.strip("_"))
        parts |= part(options, like, generator)
    return ToyMinima(starts=options.starts, repeats=options.repeats, **parts)


def _cross(options: Options, like: Tensor, generator: Generator) -> dict[str, Array]:
    """Largest eigenvalue of (x − 1)²y² at the end, for each ρ."""
    import torch

    from landscape.toys.descent import descend
    from landscape.toys.functions import CROSS

    scatter = torch.rand(options.starts, 2, generator=generator, dtype=like.dtype, device=like.device)
    random = scatter * like.new_tensor([2.5, 3.0]) - like.new_tensor([0.75, 1.5])  # [−0.75, 1.75] × [−1.5, 1.5]
    start = torch.cat([like.new_tensor([CROSS_START]), random])
    rho = like.new_tensor(CROSS_RHO)[:, None, None]
    path = descend(
        CROSS.gradient, start.expand(len(CROSS_RHO), -1, -1), [CROSS_STEPS], lr=CROSS_LR, rho=rho, normalised=True
    )
    sharpness = torch.linalg.eigvalsh(CROSS.hessian(path[0]))[..., -1].T  # (1 + S, R)
    like_figure = (sharpness[1:, 0] - CLAIMED_GD).abs() < NEAR
    return {
        "cross_rho": np.array(CROSS_RHO), "sharpness": sharpness[0].cpu().numpy(),
        "spread_sharpness": sharpness[1:][like_figure].cpu().numpy(),
    }  # fmt: skip


def _slit(options: Options, like: Tensor, generator: Generator) -> dict[str, Array]:
    """Where walks into the slit end, for each η, ρ and start."""
    from landscape.toys.descent import descend
    from landscape.toys.functions import SLIT

    lr = like.new_tensor(SLIT_LR)[:, None, None, None]
    rho = like.new_tensor(SLIT_RHO)[:, None, None]
    start = like.new_tensor(SLIT_STARTS)[:, None].expand(len(SLIT_LR), len(SLIT_RHO), -1, -1)
    end = descend(SLIT.gradient, start, [options.steps], lr=lr, rho=rho, normalised=True)[0, ..., 0]
    return {
        "slit_lr": np.array(SLIT_LR), "slit_rho": np.array(SLIT_RHO), "slit_start": np.array(SLIT_STARTS),
        "slit_end": end.cpu().numpy(),
    }  # fmt: skip


def _rate(options: Options, like: Tensor, generator: Generator) -> dict[str, Array]:
    """Mean squared gradient of SAM with falling η and ρ, with the theorem's bound."""
    import torch

    from landscape.toys.functions import BOWL
    from landscape.toys.stochastic import bound, squared_gradients

    step = np.unique(np.geomspace(10, options.horizon, 40).astype(int))
    rho = like.new_tensor(RATE_RHO)[:, None, None]
    start = like.new_ones(len(RATE_RHO), options.repeats, RATE_SIZE)
    mean, end = squared_gradients(start, step.tolist(), RATE_LR, rho, RATE_NOISE, generator)  # (T, M, S), (M, S)
    fall = (BOWL.value(start[:, 0]) - end.mean(-1)).tolist()
    steps = torch.as_tensor(step).to(like)
    late = steps >= options.horizon / 10
    x = steps[late].log() - steps[late].log().mean()
    power = torch.einsum("t,tms->ms", x / (x @ x), mean[late].log())
    root = options.repeats**0.5
    bounds = [bound(steps, f, RATE_LR, r, RATE_NOISE, RATE_SIZE) for f, r in zip(fall, RATE_RHO, strict=True)]
    return {
        "step": step, "rate_rho": np.array(RATE_RHO), "gradient": mean.mean(-1).T.cpu().numpy(),
        "gradient_error": (mean.std(-1).T / root).cpu().numpy(), "bound": torch.stack(bounds).cpu().numpy(),
        "exponent": power.mean(-1).cpu().numpy(), "exponent_error": (power.std(-1) / root).cpu().numpy(),
    }  # fmt: skip


def label(result: ToyMinima) -> str:
    """Whose toy functions."""
    return "The review's toy functions"


def fates(end: Array, rho: Array) -> dict[str, Array]:
    """Part of the starts on the slit that end in each place.

    Args:
        end: Ends, shape (H, Q, P).
        rho: ρ, shape (Q,).

    Returns:
        By name, each of shape (H, Q): in the slit, at x = ρ, where SAM's gradient is 0 and the loss's is not, and at 1.
    """
    slit = abs(end) < 5e-3
    return {
        "at 0": slit.mean(-1),
        "at ρ": (~slit & (abs(end - rho[:, None]) < 0.2 * rho[:, None])).mean(-1),
        "at 1": (abs(end - 1) < 0.05).mean(-1),
    }


def claims(*results: ToyMinima) -> tuple[Claim, ...]:
    """What the review claims beside what was found.

    Args:
        *results: Results that differ in the seed.

    Returns:
        One claim for each statement.
    """
    r = results[0]
    ratio = np.concatenate([o.spread_sharpness for o in results])
    ratio = ratio / ratio[:, :1]
    tiny = int(np.argmin(abs(r.cross_rho - CROSS_CLAIMED_RHO)))
    flattened = np.flatnonzero(r.sharpness <= 1.5 * CLAIMED_SAM)
    least = "no ρ does it"
    if len(flattened):
        first = flattened[0]
        least = f"ρ = {r.cross_rho[first]:g} does it: {number(float(r.sharpness[first]))}"
    stuck = abs(r.slit_end[:, :1]) < 5e-3  # gradient descent
    through = stuck & (abs(r.slit_end[:, 1:] - 1) < 0.05)
    rho_ends = fates(r.slit_end, r.slit_rho)["at ρ"][:, 1:]
    power = [bounded(float(np.mean([o.exponent[i] for o in results])), float(r.exponent_error[i])) for i in range(3)]
    below = bool(all((o.gradient <= o.bound).all() for o in results))
    settings = f"η = {CROSS_LR:g}, {CROSS_STEPS} steps"
    figure1 = "review, figure 1"
    return (
        Claim("review, figure 2", f"SAM ends at a flatter minimum of (x − 1)²y², ρ = 1e-5, {settings}",
              f"{CLAIMED_GD} and {CLAIMED_SAM}",
              f"{number(float(r.sharpness[0]))} and {number(float(r.sharpness[tiny]))}; {least}",
              verdict(bool(r.sharpness[tiny] < 0.5 * r.sharpness[0]))),
        Claim("review, figure 2", "The same from random starts whose gradient descent ends as in the figure, ρ = 1e-5",
              f"ratio {number(CLAIMED_SAM / CLAIMED_GD)}",
              f"median {number(float(np.median(ratio[:, tiny])))} of {len(ratio)} starts",
              verdict(bool(np.median(ratio[:, tiny]) < 0.5))),
        Claim("review, section 2.3.1", "SAM prefers flatter minima: the same starts, ρ = 0.1", "ratio below 1",
              f"median {number(float(np.median(ratio[:, list(r.cross_rho).index(0.1)])))}",
              verdict(bool(np.median(ratio[:, list(r.cross_rho).index(0.1)]) < 0.9))),
        Claim(figure1, "Gradient descent stops in the slit at 0 and SAM goes on to 1, any η, ρ and start",
              "at least once",
              f"{int(through.sum())} of {through.size} runs; {int(stuck.sum())} of {stuck.size} stop without SAM",
              verdict(bool(through.any()))),
        Claim("review, section 2.1.1", "SAM stops where the gradient at w + ε is 0 and that at w is not",
              "possible", f"at x = ρ in {int((rho_ends > 0).sum())} of {rho_ends.size} pairs of η and ρ",
              verdict(bool((rho_ends > 0).any()))),
        Claim("review, theorem 2", "Mean squared gradient below C₁/√T + C₂ ln T/√T, all T", "below",
              f"{number(float(np.max(r.gradient / r.bound)))} of the bound at most", verdict(below)),
        Claim("review, theorem 2", "Power of T in the mean squared gradient, last decade", "−1/2 or lower, up to ln T",
              ", ".join(f"{p} at ρ₀ = {rho:g}" for p, rho in zip(power, r.rate_rho, strict=True)),
              verdict(bool((r.exponent < -0.4).all()))),
    )  # fmt: skip


def words(*results: ToyMinima) -> tuple[str, str]:
    """Which of the review's toy results come out.

    Args:
        *results: Results that differ in the seed.

    Returns:
        The answer, and the numbers behind it.
    """
    made = claims(*results)
    answer = f"Not with the review's ρ: {made[0].found}; {counted(made)}"
    if made[0].verdict == "holds":
        answer = f"Yes: {made[0].found}; {counted(made)}"
    return answer, f"Figure 1: {made[3].found}. Theorem 2: {made[5].found}, powers {made[6].found}"


CAPTION = (
    "Largest eigenvalue of the Hessian of (x − 1)²y² at the end, against ρ: from the figure's start (line) and from "
    "random starts whose gradient descent ends at the same eigenvalue (median and quartiles). Dashed: what the review "
    "found with gradient descent and with SAM at ρ = 1e-5 (cross). Gradient descent is drawn at the left end."
)


def views(*results: ToyMinima) -> tuple[View, ...]:
    """Figure 2, figure 1 and theorem 2.

    Args:
        *results: Results that differ in the seed.

    Returns:
        Three views.
    """
    from analyses.experiments.drawings import toy_minima as drawings

    return (
        View("Figure 2", drawings.cross(*results), CAPTION),
        View("Figure 1", drawings.slit(results[0]), drawings.SLIT),
        View("Theorem 2", drawings.rate(results[0]), drawings.RATE),
    )


def note(*results: ToyMinima) -> str:
    """What is to be known of all claims."""
    return "The start of figure 2 and the settings of figure 1 are not stated by the review; ± one standard error."
