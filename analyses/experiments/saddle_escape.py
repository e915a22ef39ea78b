"""Does noise carry SAM away from a saddle that holds it, and do momentum and small batches help?

The stochastic differential equation dw = −∇L(w + ρ∇L(w))dt + √η dW at the saddle of x² − y², with its exact mean exit
time; the walk with finite steps, momentum β and gradients with noise N(0, 1/B), the same in both passes; and a small
network begun near a saddle that is known in closed form, trained on random batches.

Source: Kim et al. 2023, arXiv 2301.06308, as told by the blog on the stability of SAM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analyses.experiments.view import View
from landscape.claim import Claim, counted, pooled, verdict
from landscape.options import option
from landscape.result import Array, quantity
from landscape.types import Progress, quiet
from landscape.wording import bounded, number, percent

if TYPE_CHECKING:
    from torch import Generator, Tensor

NAME = "saddle-escape"
TITLE = "Escape from saddles"
QUESTION = "Do momentum and small batches carry SAM away from a saddle?"
TEXT = "noise at saddles: SAM's stochastic differential equation, momentum and batch size, on x² − y² and a network"
EXAMPLE = "landscape toy saddle-escape --walkers 200 --out saddle-escape.h5"
CURVATURE = -2.0  # of x² − y² along y
SDE_RHO = (0.0, 0.25, 0.5, 0.75, 1.0)
SDE_LR, SDE_EDGE, SDE_DT = 0.05, 0.3, 0.005
METHODS = ("SGD", "SAM, ε = ρ∇L", "SAM, ε = ρ∇L/‖∇L‖")
MOMENTUM = (0.0, 0.5, 0.9)
TOY_BATCH, NET_BATCH = (1, 2, 4, 8, 16), (1, 2, 4, 8)
TOY_RHO, NET_RHO = (0.0, 1.0, 0.3), (0.0, 1.25, 0.5)
TOY_LR, TOY_EDGE, NET_LR = 0.05, 0.2, 0.1


@dataclass(frozen=True)
class Options:
    """Options of the walks."""

    walkers: int = option(200, "walks and networks for each setting", low=10)
    limit: int = option(1000, "steps after which a walk counts as one that stayed", low=50)
    seed: int = option(0, "seed of noise, data and batches", low=0)


@dataclass(frozen=True)
class SaddleEscape:
    """How long noise takes to leave saddles.

    Attributes:
        methods: Names of the methods.
        walkers: Walks for each setting.
        limit: Steps after which one counts as stayed.
        sde_rho: ρ of the stochastic differential equation, shape (K,).
        sde: Mean time until |y| is beyond the edge, shape (K,).
        sde_error: Its standard error.
        sde_chain: Exact mean for the finite time step.
        sde_limit: Exact mean of the equation itself.
        momentum: β, shape (O,).
        toy_batch: Batch sizes on x² − y², shape (B,).
        toy_left: Part of the walks that left, shape (M, O, B).
        toy_median: Median steps until they left; the limit plus 1 where half stayed.
        net_batch: Batch sizes of the network, shape (N,).
        net_left: Part of the networks that left, shape (M, O, N).
        net_median: Median steps until they left.
        net_eigenvalue: Most negative eigenvalue of the network's Hessian at its saddle.
    """

    labelled: ClassVar[Mapping[str, str]] = {"method": "methods"}

    methods: tuple[str, ...]
    walkers: int
    limit: int
    sde_rho: Array = quantity("θ²", "ρ of the equation", "sde_rho")
    sde: Array = quantity("time", "mean exit time", "sde_rho")
    sde_error: Array = quantity("time", "its standard error", "sde_rho")
    sde_chain: Array = quantity("time", "exact mean for the time step", "sde_rho")
    sde_limit: Array = quantity("time", "exact mean of the equation", "sde_rho")
    momentum: Array = quantity("1", "momentum", "momentum")
    toy_batch: Array = quantity("1", "batch size on x² − y²", "toy_batch")
    toy_left: Array = quantity("1", "part of the walks that left", "method", "momentum", "toy_batch")
    toy_median: Array = quantity("steps", "median steps until they left", "method", "momentum", "toy_batch")
    net_batch: Array = quantity("1", "batch size of the network", "net_batch")
    net_left: Array = quantity("1", "part of the networks that left", "method", "momentum", "net_batch")
    net_median: Array = quantity("steps", "median steps until they left", "method", "momentum", "net_batch")
    net_eigenvalue: Array = quantity("1/θ²", "most negative eigenvalue at the network's saddle")


Result = SaddleEscape


def compute(
    *, options: Options = Options(), progress: Progress = quiet, device: str = "cpu", dtype: str = "float64"
) -> SaddleEscape:
    """Wait at saddles.

    Args:
        options: Options of the walks.
        progress: Told (parts done, parts in all, what).
        device: Where to compute.
        dtype: Floating point type.

    Returns:
        How long it took.
    """
    import torch

    like = torch.zeros((), dtype=getattr(torch, dtype), device=device)
    generator = torch.Generator(device).manual_seed(options.seed)
    parts: dict[str, Array] = {}
    todo = (_equation, _walks, _networks)
    for done, part in enumerate(todo):
        progress(done, len(todo), part.__name__.strip("_"))
        parts |= part(options, like, generator)
    return SaddleEscape(methods=METHODS, walkers=options.walkers, limit=options.limit, **parts)


def _equation(options: Options, like: Tensor, generator: Generator) -> dict[str, Array]:
    """The stochastic differential equation of SAM on x² − y², along y: dy = −λ(1 + ρλ)y dt + √η dW."""
    import torch
    from scipy.special import ndtr

    from landscape.toys.passage import chain_exit, exit_steps, ou_exit

    rates = [CURVATURE * (1 + rho * CURVATURE) for rho in SDE_RHO]
    noise = SDE_LR**0.5
    jump = noise * SDE_DT**0.5

    def below(rate: float, after: Array, before: Array) -> Array:
        found: Array = ndtr((after - (1 - rate * SDE_DT) * before) / jump)
        return found

    exact = [chain_exit(lambda a, b, k=k: below(k, a, b), SDE_EDGE) * SDE_DT for k in rates]  # type: ignore[misc]
    keep: Tensor = (1 - like.new_tensor(rates) * SDE_DT)[:, None]
    shape = (len(rates), 5 * options.walkers)

    def move(y: Tensor) -> Tensor:
        kick = torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
        return torch.addcmul(jump * kick, keep, y)

    start = like.new_zeros(shape)
    left = exit_steps(move, start, lambda y: y.abs() < SDE_EDGE, int(25 * max(exact) / SDE_DT)).cpu().numpy() * SDE_DT
    return {
        "sde_rho": np.array(SDE_RHO), "sde": left.mean(-1), "sde_chain": np.array(exact),
        "sde_error": left.std(-1, ddof=1) / np.sqrt(shape[1]),
        "sde_limit": np.array([ou_exit(k, noise, SDE_EDGE) for k in rates]),
    }  # fmt: skip


def _walks(options: Options, like: Tensor, generator: Generator) -> dict[str, Array]:
    """SGD and SAM with momentum on y of x² − y², begun at the saddle; gradients carry noise N(0, 1/B)."""
    import torch

    from landscape.toys.descent import heavy_ball
    from landscape.toys.passage import exit_steps

    rho = like.new_tensor(TOY_RHO).view(-1, 1, 1, 1, 1)
    momentum = like.new_tensor(MOMENTUM).view(-1, 1, 1, 1)
    scale = like.new_tensor(TOY_BATCH).view(-1, 1, 1).rsqrt()
    normalised = torch.tensor([False, False, True], device=like.device).view(-1, 1, 1, 1, 1)
    shape = (len(TOY_RHO), len(MOMENTUM), len(TOY_BATCH), options.walkers, 1)

    def move(state: Tensor) -> Tensor:
        noise = scale * torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
        return heavy_ball(
            state, lambda w: CURVATURE * w + noise, lr=TOY_LR, momentum=momentum, rho=rho, normalised=normalised
        )

    left = exit_steps(move, like.new_zeros(2, *shape), lambda s: s[0, ..., 0].abs() < TOY_EDGE, options.limit)
    return {"momentum": np.array(MOMENTUM), "toy_batch": np.array(TOY_BATCH)} | _left("toy", left, options.limit)


def _networks(options: Options, like: Tensor, generator: Generator) -> dict[str, Array]:
    """The small network begun near its saddle, trained on random batches until its loss is a tenth lower."""
    import torch

    from landscape.toys.descent import heavy_ball
    from landscape.toys.passage import exit_steps
    from landscape.toys.saddle_net import saddle_net

    net = saddle_net(generator, like)
    rho = like.new_tensor(NET_RHO).view(-1, 1, 1, 1)
    normalised = torch.tensor([False, False, True], device=like.device).view(-1, 1, 1, 1)
    momentum = like.new_tensor(MOMENTUM).view(-1, 1, 1)
    shape = (len(NET_RHO), len(MOMENTUM), options.walkers // 4)
    away = torch.randn(shape[-1], net.size, generator=generator, dtype=like.dtype, device=like.device)
    start = (0.1 * away / away.norm(dim=-1, keepdim=True)).expand(*shape, -1)
    enough = 0.9 * float(net.loss(start.new_zeros(net.size)))
    found = []
    for batch in NET_BATCH:

        def move(state: Tensor, batch: int = batch) -> Tensor:
            drawn = torch.randint(len(net.y), (*shape, batch), generator=generator, device=like.device)
            x, y = net.x[drawn], net.y[drawn]
            return heavy_ball(
                state, lambda w: net.gradient(w, x, y), lr=NET_LR, momentum=momentum, rho=rho, normalised=normalised
            )

        state = torch.stack([start, torch.zeros_like(start)])
        found.append(exit_steps(move, state, lambda s: net.loss(s[0]) > enough, options.limit))
    about = {"net_batch": np.array(NET_BATCH), "net_eigenvalue": np.array(net.eigenvalue)}
    return about | _left("net", torch.stack(found, -2), options.limit)


def _left(name: str, left: Tensor, limit: int) -> dict[str, Array]:
    """Part of the walks that left, and the median of their steps."""
    steps = left.cpu().numpy()
    return {f"{name}_left": (steps <= limit).mean(-1), f"{name}_median": np.median(steps, axis=-1)}


def label(result: SaddleEscape) -> str:
    """Which saddles are left."""
    return "Saddles of x² − y² and of a small network"


def claims(*results: SaddleEscape) -> tuple[Claim, ...]:
    """What is claimed of escape beside what was found.

    Args:
        *results: Results that differ in the seed.

    Returns:
        One claim for each statement.
    """
    r = results[0]
    sde, error = pooled([o.sde for o in results], [o.sde_error for o in results])
    toy, net = (np.mean([getattr(o, key) for o in results], axis=0) for key in ("toy_left", "net_left"))
    held = len(r.sde_rho) - 2  # ρ = 0.75, above the threshold of 0.5
    slower = float(sde[held] - sde[0]) > 3 * float(np.hypot(error[held], error[0]))
    made = [
        Claim("blog on stability, equation of SAM", f"SAM leaves the saddle of x² − y² later, ρ = {r.sde_rho[held]:g}",
              f"above {bounded(float(sde[0]), float(error[0]))} of ρ = 0",
              f"{bounded(float(sde[held]), float(error[held]))}; exact {number(float(r.sde_chain[held]))}",
              verdict(slower)),
    ]  # fmt: skip
    techniques = "blog on stability, training techniques"
    for where, left, batch in (("x² − y²", toy, r.toy_batch), ("the network", net, r.net_batch)):
        for method, part in zip(r.methods[1:], left[1:], strict=True):
            by_momentum, by_batch = part.mean(1), part.mean(0)
            made += [
                Claim(techniques, f"More momentum leaves more often: {where}, {method}",
                      "the part that leaves rises with β", _row(r.momentum, by_momentum, "β = "),
                      verdict(_rises(by_momentum))),
                Claim(techniques, f"Smaller batches leave more often: {where}, {method}",
                      "the part that leaves falls with B", _row(batch, by_batch, "B = "),
                      verdict(_rises(by_batch[::-1]))),
            ]  # fmt: skip
    worst = float(net[1:].mean((1, 2)).max())
    made.append(
        Claim("blog on stability, deep learning models", "SAM stays at a network's saddle more often than SGD",
              "fewer leave", f"SAM {percent([worst])} at most, SGD {percent([float(net[0].mean())])}",
              verdict(worst < float(net[0].mean())))
    )  # fmt: skip
    return tuple(made)


def _row(settings: Array, values: Array, name: str) -> str:
    return ", ".join(f"{name}{s:g}: {percent([float(v)])}" for s, v in zip(settings, values, strict=True))


def _rises(values: Array) -> bool:
    """Whether values never fall and rise in all."""
    return bool((np.diff(values) >= 0).all() and values[-1] > values[0])


def words(*results: SaddleEscape) -> tuple[str, str]:
    """Whether momentum and small batches help.

    Args:
        *results: Results that differ in the seed.

    Returns:
        The answer, and the numbers behind it.
    """
    made = claims(*results)
    r = results[0]
    z = np.abs(np.concatenate([(o.sde - o.sde_chain) / o.sde_error for o in results])).max()
    helped = [c for c in made if c.place.endswith("techniques")]
    answer = f"Momentum and small batches help in {sum(c.verdict == 'holds' for c in helped)} of {len(helped)} cases"
    gone = [percent([float(np.mean([o.net_left[m] for o in results]))]) for m in range(len(r.methods))]
    detail = (
        f"Networks that leave within {r.limit} steps: "
        + ", ".join(f"{method} {part}" for method, part in zip(r.methods, gone, strict=True))
        + f". Simulated exit times of the equation lie within {number(float(z))} standard errors of the exact ones"
    )
    return f"{answer}; {counted(made)}", detail


CAPTION = (
    "Part of the walks (x² − y², above) and of the networks (below) that leave the saddle within the limit, by method, "
    "momentum β and batch size B. ε = ρ∇L is above the threshold ρ = 1/|λ|, so the saddle attracts without noise."
)


def views(*results: SaddleEscape) -> tuple[View, ...]:
    """Momentum and batch size, and the equation of SAM.

    Args:
        *results: Results that differ in the seed.

    Returns:
        Two views.
    """
    from analyses.experiments.drawings import saddle_escape as drawings

    return (
        View("momentum and batch size", drawings.sweeps(*results), CAPTION),
        View("the equation of SAM", drawings.equation(*results), drawings.EQUATION),
    )


def note(*results: SaddleEscape) -> str:
    """What is to be known of all claims."""
    r = results[0]
    return f"Parts that left within {r.limit} steps, of {len(results) * r.walkers} walks for each setting."
