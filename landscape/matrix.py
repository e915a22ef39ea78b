"""Which curvature matrix of a checkpoint is meant: kind, parameters, examples and BatchNorm statistics.

Every analysis of curvature takes these options. Weight decay is never part of the matrix: it adds its coefficient to
each eigenvalue of the Hessian exactly, and its coefficient times D to the trace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from landscape.options import option
from landscape.training.methods import labels

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.checkpoint import Checkpoint
    from landscape.curvature import BatchNormMode, CurvatureOperator, Kind, Objective
    from landscape.surface import Surface

TITLES = {
    "hessian": "Hessian",
    "ggn": "Gauss–Newton matrix",
    "fisher": "Fisher matrix",
    "empirical-fisher": "empirical Fisher matrix",
    "sam": "Hessian of SAM's loss",
}
STATISTICS = ("recalibrated", "stored", "train")
_GIB = 1 << 30
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Matrix:
    """Options that say which matrix."""

    operator: str = option(
        "hessian",
        "matrix: Hessian, Gauss-Newton, Fisher of the model or the data, or the Hessian where SAM takes its gradient",
        choices=tuple(TITLES),
    )
    rho: float = option(0.15, "length of SAM's perturbation for --operator sam, in units of theta", low=0.0)
    layer: str = option("*", "shell pattern on parameter names: only the block of these parameters")
    examples: int = option(0, "random training examples to use, eigenvalues with sampling error; 0 for all", low=0)
    batchnorm: str = option(
        "recalibrated",
        "BatchNorm statistics: fixed, recomputed on the training data or as stored; or those of each batch (train)",
        choices=STATISTICS,
    )
    memory: float | None = option(
        None, "GiB for kept gradient graphs; 4 on a CPU, half of what is free on a GPU", kind=float, low=0.0
    )
    deterministic: bool = option(False, "only algorithms that give the same bits each time; on a GPU some are slower")
    seed: int = option(0, "seed of random vectors and of --examples", low=0)
    batch_size: int = option(
        500, "examples in a pass; with fixed statistics it changes results by rounding only", low=1
    )

    @property
    def mode(self) -> BatchNormMode:
        """Whose statistics the network uses while it is differentiated."""
        return "train" if self.batchnorm == "train" else "eval"

    @property
    def kind(self) -> Kind:
        """The name of the matrix in `landscape.curvature`: SAM's is a Hessian at another point."""
        return cast("Kind", "hessian" if self.operator == "sam" else self.operator)

    @property
    def budget(self) -> int | None:
        """Bytes for kept graphs, None for the device's default."""
        return None if self.memory is None else int(self.memory * _GIB)

    def objective(self, surface: Surface) -> Objective:
        """What is differentiated where the surface is now.

        Args:
            surface: At a checkpoint, with the statistics that belong there.

        Returns:
            Mean loss over the chosen examples as a function of the chosen parameters.
        """
        from landscape.curvature import perturbed, subset

        chosen = replace(surface.objective(), parameters=self.layer)
        if self.examples:
            chosen = subset(chosen, self.examples, self.seed)
        return perturbed(chosen, self.rho, self.mode) if self.operator == "sam" else chosen

    def product_with(self, surface: Surface) -> CurvatureOperator:
        """The matrix where the surface is now, checked to be the same at each product.

        Args:
            surface: At a checkpoint, with the statistics that belong there.

        Returns:
            The matrix as an operator.
        """
        from landscape.curvature import check_determinism, make_operator

        operator = make_operator(self.kind, self.objective(surface), self.mode, self.budget)
        check_determinism(operator)
        return operator

    def at(self, surface: Surface, checkpoint: Checkpoint) -> None:
        """Move a surface to a checkpoint with the statistics that were asked for."""
        surface.at(checkpoint, recalibrated=self.batchnorm == "recalibrated")

    def about(self, surface: Surface, checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
        """The fields of `Measured`."""
        return {
            "names": tuple(c.name for c in checkpoints),
            "methods": tuple(c.method for c in checkpoints),
            "operator": self.operator,
            "layer": self.layer,
            "batchnorm": self.batchnorm if surface.has_batchnorm else "none",
            "examples": self.examples or len(surface.problem.train),
            "classifies": surface.classifies,
            "rho": self.rho if self.operator == "sam" else float("nan"),
        }

    def part(self, objective: Objective, checkpoint: Checkpoint) -> Tensor:
        """The chosen parameters of a checkpoint's theta, in the order of eigenvectors, shape (block,), float64."""
        import torch

        chosen = set(objective.names)
        pieces = [checkpoint.theta[place] for name, _, place in checkpoint.layout.slices() if name in chosen]
        return torch.cat(pieces).double()


def reproducible(compute: Callable[P, R]) -> Callable[P, R]:
    """Let the option `deterministic` hold while an analysis computes.

    Args:
        compute: A function with an argument `options`, given by name.

    Returns:
        The same, inside `landscape.curvature.deterministic` where the option asks for it.
    """

    @wraps(compute)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        options = kwargs.get("options")
        if not (isinstance(options, Matrix) and options.deterministic):
            return compute(*args, **kwargs)
        from landscape.curvature import deterministic

        with deterministic():
            return compute(*args, **kwargs)

    return run


def weight_decay(checkpoint: Checkpoint) -> float:
    """What weight decay adds to every eigenvalue of the Hessian; NaN where the settings are not known."""
    return float(checkpoint.settings.get("weight_decay") or 0.0) if checkpoint.settings else float("nan")


@dataclass(frozen=True)
class Measured:
    """What every result on curvature says of itself, arrays apart.

    Attributes:
        names: Labels of the checkpoints.
        methods: Their training methods.
        operator: Which matrix.
        layer: Pattern of the parameters that form the block.
        batchnorm: The rule for BatchNorm statistics.
        examples: Training examples that were used.
        rho: Length of SAM's perturbation; NaN for other matrices.
        classifies: Whether errors are parts of one, and losses in nats.
    """

    names: tuple[str, ...]
    methods: tuple[str, ...]
    operator: str
    layer: str
    batchnorm: str
    examples: int
    rho: float
    classifies: bool

    @property
    def label(self) -> str:
        """What the checkpoints are called, and the matrix where it is not the plain Hessian."""
        about = [] if self.operator == "hessian" else [TITLES[self.operator]]
        about += [] if self.layer == "*" else [f"block {self.layer}"]
        about += {"stored": ["stored statistics"], "train": ["batch statistics"]}.get(self.batchnorm, [])
        return " | ".join(labels(self.names, self.methods)) + (f" ({', '.join(about)})" if about else "")

    @property
    def looks(self) -> tuple[int | str, ...]:
        """The key of each checkpoint's mark in figures: its method where all differ, else its place."""
        distinct = len(set(self.methods)) == len(self.methods)
        return self.methods if distinct else tuple(range(len(self.names)))
