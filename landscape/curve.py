"""Curves of low loss between two checkpoints: a control point that bends the line, trained by SGD.

A quadratic Bézier curve is θ(t) = (1 − t)² a + 2t(1 − t) c + t² b; a chain goes straight from a to c and from c to b.
Both are a combination of three points, so that the gradient of L(θ(t)) for the control point c is the weight of c at t
times ∇L(θ(t)): no layer has to know of the curve. Each step takes one batch and one t drawn evenly from [0, 1].

Source: Garipov et al. 2018, arXiv 1802.10026, sections 3.1 to 3.3.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.batchnorm import batch_statistics, frozen_statistics
from landscape.checkpoint import Checkpoint
from landscape.errors import DivergedError
from landscape.surface import Surface
from landscape.training.state import versions
from landscape.types import Progress, quiet

SHAPES = ("bezier", "chain")
MOMENTUM = 0.9


def weights(shape: str, t: float) -> tuple[float, float, float]:
    """Weights of a, c and b in the point at t; they add up to one.

    Args:
        shape: "bezier" or "chain".
        t: Place on the curve, in [0, 1].

    Returns:
        Three weights: (1, 0, 0) at t = 0, (0, 0, 1) at t = 1.
    """
    if shape == "bezier":
        return (1 - t) ** 2, 2 * t * (1 - t), t**2
    return max(0.0, 1 - 2 * t), 1 - abs(1 - 2 * t), max(0.0, 2 * t - 1)


@dataclass(frozen=True)
class Curve:
    """A curve between two checkpoints.

    Attributes:
        shape: "bezier" or "chain".
        a: Where t is 0.
        b: Where t is 1.
        control: c, shape (D,), on the surface's device.
    """

    shape: str
    a: Checkpoint
    b: Checkpoint
    control: Tensor

    def at(self, surface: Surface, t: float) -> tuple[Tensor, dict[str, Tensor]]:
        """The point at t: exactly a at 0 and exactly b at 1.

        Args:
            surface: Where the point is to be used; sets device and dtype.
            t: Place on the curve.

        Returns:
            Theta, shape (D,), and buffers by name; those that are no BatchNorm statistics are mixed as on a line.
        """
        straight, buffers = surface.between(self.a, self.b, t)
        if t in {0.0, 1.0}:
            return straight, buffers
        x, y, z = weights(self.shape, t)
        return x * surface.vector(self.a.theta) + y * self.control + z * surface.vector(self.b.theta), buffers

    def length(self) -> float:
        """Length of the curve in units of theta: ∫ ‖θ'(t)‖ dt."""
        from scipy.integrate import quad

        c = self.control.double().cpu()
        u, v = c - self.a.theta.double().cpu(), self.b.theta.double().cpu() - c
        uu, uv, vv = float(u @ u), float(u @ v), float(v @ v)
        if self.shape == "chain":
            return math.sqrt(uu) + math.sqrt(vv)

        def speed(t: float) -> float:
            square = (1 - t) ** 2 * uu + 2 * t * (1 - t) * uv + t**2 * vv
            return 2 * math.sqrt(max(square, 0.0))

        return float(quad(speed, 0, 1)[0])


def point(surface: Surface, curve: Curve, t: float) -> Checkpoint:
    """The point at t as a checkpoint of its own, BatchNorm statistics recomputed there as a measurement does.

    Args:
        surface: Its network is moved there.
        curve: The curve.
        t: Place on it, in [0, 1].

    Returns:
        Weights that no training run ends at, told in `origin`, on the CPU.
    """
    a, b = curve.a, curve.b
    surface.place(*curve.at(surface, t), recalibrated=True)
    kind = "Bézier curve" if curve.shape == "bezier" else "chain"
    return Checkpoint(
        theta=surface.flat.theta.detach().cpu().clone(),
        buffers={name: value.detach().cpu().clone() for name, value in surface.flat.model.named_buffers()},
        layout=a.layout,
        problem=a.problem,
        data=a.data,
        origin=f"t = {t:g} on a {kind} from {a.name} ({a.sha256[:16]}) to {b.name} ({b.sha256[:16]})",
        versions=versions(),
    )


def bend(
    surface: Surface,
    a: Checkpoint,
    b: Checkpoint,
    *,
    shape: str,
    epochs: int,
    lr: float,
    batch: int,
    seed: int,
    progress: Progress = quiet,
) -> tuple[Curve, Tensor]:
    """Train the control point, from the middle of the straight line on.

    SGD with Nesterov momentum 0.9, its learning rate falling to 0 as a cosine. BatchNorm uses the statistics of each
    batch, dropout is off and images are not augmented. Order and places are drawn from the seed alone.

    Args:
        surface: What is descended.
        a: Where the curve begins.
        b: Where it ends.
        shape: "bezier" or "chain".
        epochs: Passes over the training data.
        lr: First learning rate.
        batch: Examples in a step.
        seed: Seed of order and places.
        progress: Told (epochs done, epochs in all).

    Returns:
        The curve, and the mean training loss of each epoch over the places drawn, float64, shape (epochs,).

    Raises:
        DivergedError: If the control point is not finite in the end; says so if the loss on the line was not finite.
    """
    a, b = _resident(surface, a), _resident(surface, b)
    curve = Curve(shape, a, b, (surface.vector(a.theta) + surface.vector(b.theta)) / 2)
    generator = torch.Generator().manual_seed(seed)
    velocity = torch.zeros_like(curve.control)
    train, told = surface.problem.train, []
    starts = range(0, max(1, len(train) - batch // 2), batch)  # less than half a batch at the end is left out
    total = epochs * len(starts)
    for epoch in range(epochs):
        order = torch.randperm(len(train), generator=generator).to(train.inputs.device)
        places = torch.rand(len(starts), generator=generator).tolist()
        for i, (start, t) in enumerate(zip(starts, places, strict=True)):
            loss, gradient = slope(surface, curve, t, order[start : start + batch])
            velocity.mul_(MOMENTUM).add_(gradient)
            rate = lr * (1 + math.cos(math.pi * (epoch * len(starts) + i) / total)) / 2
            curve.control.sub_(rate * (gradient + MOMENTUM * velocity))
            told.append(loss)
        progress(epoch + 1, epochs, "bending the line")
    if not bool(torch.isfinite(curve.control).all()):
        raise DivergedError(*_cause(surface, a, b, order[:batch], lr))
    return curve, torch.stack(told).view(epochs, -1).mean(1).cpu()


def _cause(surface: Surface, a: Checkpoint, b: Checkpoint, chosen: Tensor, lr: float) -> tuple[str, str]:
    """Why no control point was found: the line it begins on has a hole, or the steps were too long."""
    line = Curve("bezier", a, b, (surface.vector(a.theta) + surface.vector(b.theta)) / 2)
    places = [t / 8 for t in range(9)]
    holes = [f"{t:g}" for t in places if not bool(slope(surface, line, t, chosen)[0].isfinite())]
    if holes:
        text = f"the loss is not finite on the straight line, where the curve begins, at t = {', '.join(holes)}"
        return text, "look at the line with landscape interpolate; no --lr helps here"
    return "the control point of the curve is not finite", f"lower --lr from {lr:g}"


def _resident(surface: Surface, end: Checkpoint) -> Checkpoint:
    """The same checkpoint on the surface's device, so that no step has to bring it there."""
    device = surface.flat.theta.device
    buffers = {name: value.to(device) for name, value in end.buffers.items()}
    return dataclasses.replace(end, theta=surface.vector(end.theta), buffers=buffers)


def slope(surface: Surface, curve: Curve, t: float, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Loss on some examples at t and its gradient for the control point.

    Args:
        surface: What is descended; its network is moved there.
        curve: The curve.
        t: Place on it.
        chosen: Indices of training examples, shape (B,).

    Returns:
        Mean loss, float64, and gradient, shape (D,): the weight of c at t times the gradient at θ(t).
    """
    flat, train = surface.flat, surface.problem.train
    flat.load(*curve.at(surface, t))
    flat.gradient.zero_()
    inputs = train.prepare(train.inputs[chosen], flat.theta.dtype)
    with batch_statistics(flat.model), frozen_statistics(flat.model):
        loss = surface.problem.task.losses(flat.model(inputs), train.targets[chosen]).mean()
        loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach().double(), weights(curve.shape, t)[1] * flat.gradient
