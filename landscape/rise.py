"""How far the loss rises around a checkpoint: worst and average case in a ball, in theta and relative to the weights.

The worst case is κ_ρ(θ) = max over ‖ε‖₂ ≤ ρ of L(θ + ε) − L(θ). What is found is the rise at a point of the ball and
so a lower bound of κ_ρ; how far the climbs from different starts agree is told with it. In boxes every weight is free
by itself: |ε_i| ≤ ρ, or |ε_i| ≤ ρ|w_i|. The average goes over the sphere of radius ρ, and over Gaussian steps in the
usual definition: ε ~ N(0, ρ² I), whose length is about ρ√D, or ε_i ~ N(0, ρ² w_i²).

Source: Keskar et al. 2017, arXiv 1609.04836 (worst case in a ball); Foret et al. 2021, arXiv 2010.01412 (m-sharpness);
Andriushchenko et al. 2023, arXiv 2302.07011, equations 1 and 2 (boxes, Gaussian average, and their adaptive forms).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from landscape.result import Array, quantity
from landscape.training.methods import labels

TOP = 0.1  # of the rise: a climb that ends with a larger first-order gap has found no top
EQUAL = 1.05  # a smaller factor between rises or curvatures is about none: climbs from other starts differ by as much
LOST = 0.1  # of the rise: more rounding leaves less than one digit


def is_lost(worst: Array, rounding: Array) -> Array:
    """Whether rises are lost in rounding, any shape; they are not where the rounding is not known."""
    return rounding > LOST * worst


@dataclass(frozen=True)
class Rise:
    """Rises around M checkpoints: R radii and B boxes in theta, Q relative radii, A relative metrics, S starts.

    With `rescale` the second half of the checkpoints are copies of the first half: the same functions at other weights.

    Attributes:
        names: Labels of the checkpoints, copies last.
        methods: Their training methods.
        rescale: α of the copies; 1 if there are none.
        batchnorm: The rule for BatchNorm statistics in the ball.
        examples: Training examples that were used.
        m: Examples in a chunk of m-sharpness; 0 if it was not measured.
        delta: δ of all R bounds together; each holds with probability 1 − δ/R.
        classifies: Whether errors are parts of one.
        test_examples: Examples that test loss and error are means over.
        starts: Names of the starts of climbs.
        metrics: Names of the relative metrics.
        radius: ρ, ascending, shape (R,).
        box: ρ of the boxes and σ of Gaussian steps, ascending, shape (B,).
        relative: Radii as parts of the length of θ in the metric, ascending, shape (Q,).
        split: "train" and "test".
        loss: Mean loss on all data, shape (M, 2).
        error: Mean error on all data, shape (M, 2).
        norm: ‖θ‖₂, shape (M,).
        gradient_norm: ‖∇L‖ on the examples used, shape (M,).
        eigenvalue: λ₁ of the Hessian on the examples used, shape (M,).
        residual: Its recomputed residual, shape (M,).
        worst: Largest rise found in the ball, a lower bound of κ_ρ, shape (M, R).
        climbs: Rise at the end of each climb, shape (M, R, S).
        reach: ‖ε‖/ρ of the worst ε found: 1 on the sphere, shape (M, R).
        gap: max over the ball of ⟨∇L(θ + ε), s − ε⟩ as a part of the rise: 0 at a stationary point, infinite where
            none was found though there is a slope, shape (M, R).
        rounding: How far the largest rise may be wrong by rounding, from the same step in the other one of float32 and
            float64, shape (M, R); NaN where its loss is not finite.
        sampling_error: Standard error of the rise at the worst ε as an estimate of that on all training examples,
            shape (M, R); 0 where all were used, NaN with batch statistics.
        average: Mean rise over the sphere of radius ρ, shape (M, R).
        average_error: Its standard error, shape (M, R).
        gradient_sum: ‖∇L‖₁ on the examples used, shape (M,): ρ times it is the rise in a box to first order.
        box_worst: Largest rise found in the box |ε_i| ≤ ρ, shape (M, B).
        box_climbs: Rise at the end of each climb, shape (M, B, S).
        box_gap: Gap of the worst, as for the ball, shape (M, B).
        box_rounding: Rounding of the worst, as for the ball, shape (M, B).
        gaussian: Mean rise over ε ~ N(0, ρ² I), shape (M, B).
        gaussian_error: Its standard error, shape (M, B).
        chunked: m-sharpness, the mean over chunks of m examples of the largest rise found for each, shape (M, R).
        chunked_error: Its standard error over chunks, shape (M, R).
        length: ‖T⁻¹θ‖₂ in each relative metric, shape (M, A): a relative radius times this is ρ of ASAM.
        adaptive_gradient_norm: ‖T∇L‖, shape (M, A).
        adaptive_eigenvalue: Largest eigenvalue of T H T, shape (M, A).
        adaptive_residual: Its recomputed residual, shape (M, A).
        adaptive_worst: Largest rise found in the ball of each relative metric, shape (M, A, Q).
        adaptive_climbs: Rise at the end of each climb, shape (M, A, Q, S).
        adaptive_gap: Gap of the worst, shape (M, A, Q).
        adaptive_rounding: Rounding of the worst, shape (M, A, Q).
        adaptive_average: Mean rise over the sphere, shape (M, A, Q).
        adaptive_average_error: Its standard error, shape (M, A, Q).
        adaptive_gradient_sum: Σ |w_i ∂L/∂w_i|, shape (M,).
        adaptive_box_worst: Largest rise found in the box |ε_i| ≤ ρ|w_i|, ρ of `relative`, shape (M, Q).
        adaptive_box_climbs: Rise at the end of each climb, shape (M, Q, S).
        adaptive_box_gap: Gap of the worst, shape (M, Q).
        adaptive_box_rounding: Rounding of the worst, shape (M, Q).
        adaptive_gaussian: Mean rise over ε_i ~ N(0, ρ² w_i²), shape (M, Q).
        adaptive_gaussian_error: Its standard error, shape (M, Q).
        worst_error: Error on the examples used at the worst ε, shape (M, R).
        complexity: The square root in the PAC-Bayes bound with δ/R, infinite for one example, shape (M, R).
        evaluations: Evaluations of loss and gradient over the examples used, shape (M,).
    """

    labelled: ClassVar[Mapping[str, str]] = {"checkpoint": "names", "start": "starts", "metric": "metrics"}

    names: tuple[str, ...]
    methods: tuple[str, ...]
    rescale: float
    batchnorm: str
    examples: int
    m: int
    delta: float
    classifies: bool
    test_examples: int
    starts: tuple[str, ...]
    metrics: tuple[str, ...]
    radius: Array = quantity("theta", "radius of the ball", "radius")
    box: Array = quantity("theta", "half-width of the box, standard deviation of Gaussian steps", "box")
    relative: Array = quantity("1", "radius as a part of the length of theta in the metric", "relative")
    split: Array = quantity("1", "part of the data", "split")
    loss: Array = quantity("nats", "mean loss", "checkpoint", "split")
    error: Array = quantity("1", "mean error", "checkpoint", "split")
    norm: Array = quantity("theta", "norm of theta", "checkpoint")
    gradient_norm: Array = quantity("nats / theta", "norm of the gradient", "checkpoint")
    eigenvalue: Array = quantity("nats / theta^2", "largest eigenvalue of the Hessian", "checkpoint")
    residual: Array = quantity("nats / theta^2", "its recomputed residual", "checkpoint")
    worst: Array = quantity("nats", "largest rise found in the ball", "checkpoint", "radius")
    climbs: Array = quantity("nats", "rise at the end of each climb", "checkpoint", "radius", "start")
    reach: Array = quantity("1", "length of the worst step over rho", "checkpoint", "radius")
    gap: Array = quantity("1", "first-order gap as a part of the rise", "checkpoint", "radius")
    rounding: Array = quantity("nats", "rounding of the largest rise", "checkpoint", "radius")
    sampling_error: Array = quantity("nats", "standard error of sampling", "checkpoint", "radius")
    average: Array = quantity("nats", "mean rise over the sphere", "checkpoint", "radius")
    average_error: Array = quantity("nats", "its standard error", "checkpoint", "radius")
    gradient_sum: Array = quantity("nats / theta", "sum of the absolute entries of the gradient", "checkpoint")
    box_worst: Array = quantity("nats", "largest rise found in the box", "checkpoint", "box")
    box_climbs: Array = quantity("nats", "rise at the end of each climb", "checkpoint", "box", "start")
    box_gap: Array = quantity("1", "first-order gap as a part of the rise", "checkpoint", "box")
    box_rounding: Array = quantity("nats", "rounding of the largest rise", "checkpoint", "box")
    gaussian: Array = quantity("nats", "mean rise over Gaussian steps", "checkpoint", "box")
    gaussian_error: Array = quantity("nats", "its standard error", "checkpoint", "box")
    chunked: Array = quantity("nats", "m-sharpness", "checkpoint", "radius")
    chunked_error: Array = quantity("nats", "its standard error over chunks", "checkpoint", "radius")
    length: Array = quantity("1", "length of theta in the metric", "checkpoint", "metric")
    adaptive_gradient_norm: Array = quantity("nats", "norm of the gradient in the metric", "checkpoint", "metric")
    adaptive_eigenvalue: Array = quantity("nats", "largest eigenvalue in the metric", "checkpoint", "metric")
    adaptive_residual: Array = quantity("nats", "its recomputed residual", "checkpoint", "metric")
    adaptive_worst: Array = quantity("nats", "largest rise found in the ball", "checkpoint", "metric", "relative")
    adaptive_climbs: Array = quantity("nats", "end of each climb", "checkpoint", "metric", "relative", "start")
    adaptive_gap: Array = quantity("1", "its first-order gap as a part", "checkpoint", "metric", "relative")
    adaptive_rounding: Array = quantity("nats", "rounding of the largest rise", "checkpoint", "metric", "relative")
    adaptive_average: Array = quantity("nats", "mean rise over the sphere", "checkpoint", "metric", "relative")
    adaptive_average_error: Array = quantity("nats", "its standard error", "checkpoint", "metric", "relative")
    adaptive_gradient_sum: Array = quantity("nats", "sum of |weight times derivative|", "checkpoint")
    adaptive_box_worst: Array = quantity("nats", "largest rise in the relative box", "checkpoint", "relative")
    adaptive_box_climbs: Array = quantity("nats", "end of each climb", "checkpoint", "relative", "start")
    adaptive_box_gap: Array = quantity("1", "its first-order gap as a part", "checkpoint", "relative")
    adaptive_box_rounding: Array = quantity("nats", "rounding of the largest rise", "checkpoint", "relative")
    adaptive_gaussian: Array = quantity("nats", "mean over relative Gaussian steps", "checkpoint", "relative")
    adaptive_gaussian_error: Array = quantity("nats", "its standard error", "checkpoint", "relative")
    worst_error: Array = quantity("1", "error at the worst step", "checkpoint", "radius")
    complexity: Array = quantity("1", "square root in the PAC-Bayes bound", "checkpoint", "radius")
    evaluations: Array = quantity("1", "evaluations of loss and gradient", "checkpoint")

    @property
    def own(self) -> int:
        """How many checkpoints are no copies."""
        return len(self.names) // (1 if self.rescale == 1 else 2)

    @property
    def labels(self) -> tuple[str, ...]:
        """What figures call each checkpoint, copies with their factor."""
        plain = labels(self.names[: self.own], self.methods[: self.own])
        return (*plain, *(f"{name} ×{self.rescale:g}" for name in plain))[: len(self.names)]

    @property
    def label(self) -> str:
        """What the checkpoints are called, and the rule where it is not the usual one."""
        about = {"stored": " (stored statistics)", "train": " (batch statistics)"}.get(self.batchnorm, "")
        return " | ".join(self.labels[: self.own]) + about

    @property
    def looks(self) -> tuple[int | str, ...]:
        """The key of each checkpoint's mark in figures: its method where all differ, else its place."""
        distinct = len(set(self.methods)) == len(self.methods)
        return self.methods if distinct else tuple(range(len(self.names)))

    @property
    def linear(self) -> Array:
        """ρ‖∇L‖: the rise to first order, shape (M, R)."""
        return np.multiply.outer(self.gradient_norm, self.radius)

    @property
    def quadratic(self) -> Array:
        """½ρ²λ₁, shape (M, R): with `linear` it is the most that a quadratic of this slope and curvature can rise."""
        return np.multiply.outer(np.maximum(self.eigenvalue, 0), self.radius**2 / 2)

    @property
    def lost(self) -> Array:
        """Whether the largest rise is lost in rounding, shape (M, R)."""
        return is_lost(self.worst, self.rounding)

    @property
    def usable(self) -> Array:
        """Whether the largest rise is neither lost in rounding nor 0 for want of a search, shape (M, R)."""
        return ~self.lost & np.isfinite(self.gap)

    @property
    def converged(self) -> Array:
        """Whether the best climb came to a top: a gap of at most a tenth of the rise, shape (M, R)."""
        return self.gap <= TOP

    @property
    def bound(self) -> Array:
        """The right side of the PAC-Bayes bound with the error found, shape (M, R): the true one is no smaller."""
        return self.worst_error + self.complexity

    @property
    def blurred(self) -> dict[str, Array]:
        """For the forms that are largest rises, at their middle radius, whether they are lost in rounding, (M,)."""
        theta, box, part = (len(radii) // 2 for radii in (self.radius, self.box, self.relative))
        found = {"worst": self.lost[:, theta], "box": is_lost(self.box_worst, self.box_rounding)[:, box]}
        scaled = is_lost(self.adaptive_worst, self.adaptive_rounding)[:, :, part]
        found |= {metric: scaled[:, a] for a, metric in enumerate(self.metrics)}
        return found | {"elementwise box": is_lost(self.adaptive_box_worst, self.adaptive_box_rounding)[:, part]}

    @property
    def forms(self) -> dict[str, Array]:
        """Each form of sharpness at its middle radius, shape (M,)."""
        theta, box, part = (len(radii) // 2 for radii in (self.radius, self.box, self.relative))
        forms = {"worst": self.worst[:, theta], "average": self.average[:, theta]}
        if self.m:
            forms["m-sharpness"] = self.chunked[:, theta]
        forms |= {"box": self.box_worst[:, box], "Gaussian": self.gaussian[:, box]}
        for a, metric in enumerate(self.metrics):
            forms[metric] = self.adaptive_worst[:, a, part]
            forms[f"{metric} average"] = self.adaptive_average[:, a, part]
            if metric == "elementwise":
                forms["elementwise box"] = self.adaptive_box_worst[:, part]
                forms["elementwise Gaussian"] = self.adaptive_gaussian[:, part]
        return forms
