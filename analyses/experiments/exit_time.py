"""How long does Gaussian SGD stay in a quadratic valley, and how long SAM?

Walks w ← w − η∇L + √(η/B)·N(0, ηC) with C = λ on ½λw², from 0 until ½λw² > ΔL: the mean exit time over many seeds
beside two exact values, one of the walk with its finite steps and one of its limit η → 0, and beside theorem 2.2.5's
exponent 2(B/η)ΔL·λ^(−1/2). SAM takes the same walk with normalised perturbations, seen with or without the noise of
the batch, out of the same valley.

Source: thesis, equation 2.4, definition 2.2.1, theorem 2.2.5 and the conclusion of theorem 3.2.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analyses.experiments.view import View
from landscape.claim import Claim, counted, pooled, verdict
from landscape.options import option
from landscape.result import Array, quantity
from landscape.types import Progress, quiet
from landscape.wording import bounded, number

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from landscape.toys.gaussian_sgd import GaussianSGD

NAME = "exit-time"
TITLE = "Exit time"
QUESTION = "How long does noise take to leave a valley, and does SAM leave it sooner?"
TEXT = "mean exit time of Gaussian SGD and SAM from a quadratic valley: simulated, exact, and by theorem 2.2.5"
EXAMPLE = "landscape toy exit-time --walkers 1000 --out exit-time.h5"
CURVATURES = (0.5, 1.0, 2.0)
HEIGHTS = (1.0, 2.0, 3.0, 4.0, 5.0)  # 2(B/η)ΔL/λ of the walks that are simulated
SCALES = (5.0, 20.0, 80.0, 320.0)  # the same, where the limit is read off the exact value
RADII = (0.0, 0.02, 0.05, 0.1, 0.2)  # of SAM, in units of half the valley's width
SAM_HEIGHT = 4.0
PATIENCE = 25  # mean exit times after which a walk is given up


@dataclass(frozen=True)
class Options:
    """Options of the walks."""

    walkers: int = option(1000, "walks for each setting", low=10)
    lr: float = option(0.05, "learning rate η", low=1e-4, high=0.5)
    depth: float = option(0.01, "depth ΔL of the valley", low=1e-6)
    seed: int = option(0, "seed of the noise", low=0)


@dataclass(frozen=True)
class ExitTime:
    """Exit times, simulated and exact. Times are steps times η, as in definition 2.2.1.

    Attributes:
        lr: Learning rate η.
        depth: Depth ΔL.
        walkers: Walks for each setting.
        curvature: λ, shape (Λ,).
        height: 2(B/η)ΔL/λ, the exact exponent, shape (U,).
        batch: B, shape (Λ, U).
        mean: Mean simulated exit time of SGD, shape (Λ, U).
        error: Its standard error.
        chain: Exact mean of the walk with finite steps.
        limit: Exact mean for η → 0 at the same η/B.
        censored: Walks given up, shape (Λ, U).
        scale: Larger exact exponents, shape (W,).
        exponent: (η/B)·ln of the exact mean there, shape (Λ, W).
        claimed: Theorem 2.2.5's limit of it, 2ΔL·λ^(−1/2), shape (Λ,).
        rho: SAM's ρ in units of half the valley's width, shape (R,).
        ascent: What SAM's ascent sees: "all data" or "the batch".
        sam: Mean simulated exit time of SAM at λ = 1, shape (2, R).
        sam_error: Its standard error.
        sam_chain: Exact mean, shape (2, R).
        step: After how many steps survival is written down, shape (T,).
        survival: Part of the walks that is inside still, at λ = 1, shape (2, R, T).
        survival_exact: The same, exact.
    """

    lr: float
    depth: float
    walkers: int
    curvature: Array = quantity("1/θ²", "curvature of the valley", "curvature")
    height: Array = quantity("1", "exact exponent 2(B/η)ΔL/λ", "height")
    batch: Array = quantity("1", "batch size B", "curvature", "height")
    mean: Array = quantity("steps·η", "mean exit time of SGD", "curvature", "height")
    error: Array = quantity("steps·η", "standard error of the mean", "curvature", "height")
    chain: Array = quantity("steps·η", "exact mean exit time of the walk", "curvature", "height")
    limit: Array = quantity("steps·η", "exact mean exit time for small steps", "curvature", "height")
    censored: Array = quantity("1", "walks given up", "curvature", "height")
    scale: Array = quantity("1", "exact exponent where the limit is read off", "scale")
    exponent: Array = quantity("1", "(η/B) ln of the mean exit time", "curvature", "scale")
    claimed: Array = quantity("1", "its limit by theorem 2.2.5", "curvature")
    rho: Array = quantity("1", "radius in units of half the valley's width", "rho")
    ascent: Array = quantity("1", "what the ascent sees", "ascent")
    sam: Array = quantity("steps·η", "mean exit time of SAM", "ascent", "rho")
    sam_error: Array = quantity("steps·η", "standard error of the mean", "ascent", "rho")
    sam_chain: Array = quantity("steps·η", "exact mean exit time of SAM's walk", "ascent", "rho")
    step: Array = quantity("steps", "steps", "step")
    survival: Array = quantity("1", "part of the walks inside", "ascent", "rho", "step")
    survival_exact: Array = quantity("1", "probability of being inside", "ascent", "rho", "step")


Result = ExitTime


def compute(
    *, options: Options = Options(), progress: Progress = quiet, device: str = "cpu", dtype: str = "float64"
) -> ExitTime:
    """Walk out of valleys, and compute how long it takes.

    Args:
        options: Options of the walks.
        progress: Told (parts done, parts in all, what).
        device: Where to compute.
        dtype: Floating point type.

    Returns:
        Exit times.
    """
    import torch

    from landscape.toys.gaussian_sgd import GaussianSGD, claimed_exponent
    from landscape.toys.passage import chain_exit, chain_survival, ou_exit

    lr, depth, walkers = options.lr, options.depth, options.walkers
    generator = torch.Generator(device).manual_seed(options.seed)
    like = torch.zeros((), dtype=getattr(torch, dtype), device=device)
    heights, curvatures = np.array(HEIGHTS), np.array(CURVATURES)
    batch = heights * lr * curvatures[:, None] / (2 * depth)  # (Λ, U)
    half = np.sqrt(2 * depth / curvatures)
    settings = list(zip(CURVATURES, half, batch, strict=True))
    exact = [[chain_exit(GaussianSGD(c, lr, b).below, h) for b in row] for c, h, row in settings]
    chain = lr * np.array(exact)
    progress(1, 4, "exact exit times of SGD")
    walk = GaussianSGD(
        torch.as_tensor(curvatures).to(like)[:, None, None], lr, torch.as_tensor(batch).to(like)[..., None]
    )
    edge = torch.as_tensor(half).to(like)[:, None, None]
    left = _walk(walk, edge, (*batch.shape, walkers), chain.max() / lr, generator)
    progress(2, 4, "walks of SGD")
    rho, b, width = np.array(RADII), SAM_HEIGHT * lr / (2 * depth), float(np.sqrt(2 * depth))
    sams = [[GaussianSGD(1.0, lr, b, float(r) * width, shared) for r in rho] for shared in (False, True)]
    sam_chain = lr * np.array([[chain_exit(each.below, width) for each in row] for row in sams])
    progress(3, 4, "exact exit times of SAM")
    shared = torch.tensor([False, True], device=device)[:, None, None]
    sam = GaussianSGD(1.0, lr, b, torch.as_tensor(rho * width).to(like)[:, None], shared)
    sam_left = _walk(sam, like + width, (2, len(rho), walkers), sam_chain.max() / lr, generator)
    step = np.unique(np.round(np.geomspace(1, 3 * np.median(sam_chain) / lr, 40)).astype(int))
    progress(4, 4, "walks of SAM")
    mean, error, censored = _means(left, lr, chain.max() / lr)
    sam_mean, sam_error, _ = _means(sam_left, lr, sam_chain.max() / lr)
    return ExitTime(
        lr=lr, depth=depth, walkers=walkers, curvature=curvatures, height=heights, batch=batch,
        mean=mean, error=error, censored=censored, chain=chain,
        limit=np.array([[ou_exit(c, np.sqrt(lr * c / x), h) for x in row] for c, h, row in settings]),
        scale=np.array(SCALES),
        exponent=np.array([[np.log(ou_exit(c, h * np.sqrt(c / u), h)) * 2 * depth / (c * u) for u in SCALES]
                           for c, h in zip(CURVATURES, half, strict=True)]),
        claimed=np.array([claimed_exponent(c, depth) for c in CURVATURES]),
        rho=rho, ascent=np.array(["all data", "the batch"]), sam=sam_mean, sam_error=sam_error, sam_chain=sam_chain,
        step=step, survival=np.stack([(sam_left > s).mean(-1) for s in step], -1),
        survival_exact=np.array([[chain_survival(each.below, width, step) for each in row] for row in sams]),
    )  # fmt: skip


def _walk(walk: GaussianSGD, half: Tensor, shape: tuple[int, ...], mean: float, generator: Generator) -> Array:
    """Steps until each of many walkers, begun at 0, is outside (−half, half)."""
    import torch

    from landscape.toys.passage import exit_steps

    start = torch.zeros(shape, dtype=half.dtype, device=half.device)

    def move(w: Tensor) -> Tensor:
        return walk.move(w, torch.randn(shape, generator=generator, dtype=half.dtype, device=half.device))

    return exit_steps(move, start, lambda w: w.abs() < half, limit(mean)).cpu().numpy()


def limit(mean: float) -> int:
    """After how many steps a walk is given up: a part e^(−25) of them is."""
    return int(PATIENCE * mean)


def _means(left: Array, lr: float, mean: float) -> tuple[Array, Array, Array]:
    """Mean and standard error of exit times, and how many walks were given up."""
    times = left * lr
    return times.mean(-1), times.std(-1, ddof=1) / np.sqrt(left.shape[-1]), (left > limit(mean)).sum(-1)


def label(result: ExitTime) -> str:
    """What the walks walk in."""
    return "Quadratic valley"


def power(mean: Array, error: Array, height: Array) -> tuple[float, float]:
    """With which power of λ the exponent of the mean exit time goes, at equal depth.

    For each λ the slope of ln E[ν] against B/η is fitted; the walks have height = 2(B/η)ΔL/λ, so a slope against
    height that is the same for all λ means λ⁻¹.

    Args:
        mean: Mean exit times, shape (Λ, U).
        error: Their standard errors.
        height: Heights, shape (U,).

    Returns:
        The power and its standard error, to first order in the errors.
    """
    weights = (height - height.mean()) / np.square(height - height.mean()).sum()  # of the fitted slope
    slope, slope_error = np.log(mean) @ weights, np.sqrt(np.square(error / mean) @ np.square(weights))
    x = np.log(CURVATURES) - np.mean(np.log(CURVATURES))
    across = x / (x @ x)
    return float(across @ np.log(slope) - 1), float(np.sqrt(np.square(across) @ np.square(slope_error / slope)))


def claims(*results: ExitTime) -> tuple[Claim, ...]:
    """What is claimed of exit times beside what was found.

    Args:
        *results: Results that differ in the seed.

    Returns:
        One claim for each statement.
    """
    r = results[0]
    mean, error = pooled([o.mean for o in results], [o.error for o in results])
    sam, sam_error = pooled([o.sam for o in results], [o.sam_error for o in results])
    found, spread = power(mean, error, r.height)
    ends = [f"{number(float(e))} at λ = {c:g}" for c, e in zip(r.curvature, r.exponent[:, -1], strict=True)]
    said = [f"{number(float(e))} at λ = {c:g}" for c, e in zip(r.curvature, r.claimed, strict=True)]
    one = int(np.argmin(abs(r.curvature - 1)))
    off = abs(r.exponent[:, -1] / r.claimed - 1)
    last = len(r.rho) - 1
    times = [bounded(float(s[last]), float(e[last])) for s, e in zip(sam, sam_error, strict=True)]
    base = bounded(float(sam[0, 0]), float(sam_error[0, 0]))
    faster = [float(s[0] - s[last]) > 2 * float(np.hypot(e[0], e[last])) for s, e in zip(sam, sam_error, strict=True)]
    return (
        Claim("thesis, theorem 2.2.5", "(η/B)·ln E[ν] tends to 2ΔL·λ^(−1/2), λ = 1", said[one], ends[one],
              verdict(bool(off[one] < 0.03))),
        Claim("thesis, theorem 2.2.5", "(η/B)·ln E[ν] tends to 2ΔL·λ^(−1/2), other λ",
              ", ".join(said[:one] + said[one + 1 :]), ", ".join(ends[:one] + ends[one + 1 :]) + ": 2ΔL/λ",
              verdict(bool((off < 0.03).all()))),
        Claim("thesis, theorem 2.2.5", "Power of λ in the exponent, from the walks", "−1/2",
              bounded(found, spread), verdict(abs(found + 0.5) < 3 * spread)),
        Claim("thesis, section 2.2", "Of equally deep valleys the sharper one is left sooner",
              "the exponent falls with λ", ", ".join(ends), verdict(bool((np.diff(r.exponent[:, -1]) < 0).all()))),
        Claim("thesis, section 3.2", f"SAM leaves sooner, ascent on all data, ρ = {r.rho[last]:g} of half the width",
              f"below SGD's {base}", times[0], verdict(faster[0])),
        Claim("thesis, section 3.2", f"SAM leaves sooner, ascent on the batch, ρ = {r.rho[last]:g} of half the width",
              f"below SGD's {base}", times[1], verdict(faster[1])),
    )  # fmt: skip


def words(*results: ExitTime) -> tuple[str, str]:
    """Which power of λ rules the exit time, and what SAM changes.

    Args:
        *results: Results that differ in the seed.

    Returns:
        The answer, and the numbers behind it.
    """
    made = claims(*results)
    r = results[0]
    factor = np.mean([o.sam for o in results], axis=0)[:, -1] / np.mean([o.sam[0, 0] for o in results])
    z = np.abs(np.concatenate([((o.mean - o.chain) / o.error).ravel() for o in results]))
    answer = (
        f"SAM stays {number(float(factor[0]))} times as long as SGD if its ascent sees all data and "
        f"{number(float(factor[1]))} times if it sees the batch's noise; {counted(made)}"
    )
    detail = (
        f"Exponent of the exit time: 2(B/η)ΔL·λ to the power {made[2].found}, claimed {made[2].claimed}. "
        f"Simulated means lie within {number(float(z.max()))} standard errors of the exact ones; "
        f"{int(sum(o.censored.sum() for o in results))} walks given up; ρ = {r.rho[-1]:g} of half the width"
    )
    return answer, detail


CAPTION = (
    "Mean exit time of Gaussian SGD against B/η for three curvatures of equally deep valleys. Marks: simulated, with "
    "two standard errors; lines: exact for the walk's finite steps; dotted: the slope of theorem 2.2.5 through the "
    "first point. Right: (η/B) ln E[ν] over the theorem's limit, from the exact value for small steps; 1 is agreement."
)


def views(*results: ExitTime) -> tuple[View, ...]:
    """Exit times of SGD, and what SAM does to them.

    Args:
        *results: Results that differ in the seed.

    Returns:
        Two views.
    """
    from analyses.experiments.drawings import exit_time as drawings

    return (
        View("exit time of SGD", drawings.exits(*results), CAPTION),
        View("SAM out of the same valley", drawings.sam(*results), drawings.SAM),
    )


def note(*results: ExitTime) -> str:
    """What is to be known of all claims."""
    r = results[0]
    return f"η = {r.lr:g}, ΔL = {r.depth:g}, {len(results) * r.walkers} walks for each setting; ± one standard error."
