"""The curvature matrices by name, and the loss that SAM descends.

Source of SAM's loss: Foret et al. 2021, arXiv 2010.01412, equations 1 and 3.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Literal

import torch

from landscape.curvature.chunked import CurvatureOperator
from landscape.curvature.fisher import FisherOperator
from landscape.curvature.ggn import GaussNewtonOperator
from landscape.curvature.isolation import BatchNormMode
from landscape.curvature.objective import Objective
from landscape.curvature.operator import HessianOperator
from landscape.training.perturbation import sam_perturbation

Kind = Literal["hessian", "ggn", "fisher", "empirical-fisher"]


def make_operator(
    kind: Kind, objective: Objective, batchnorm: BatchNormMode = "eval", memory_budget: int | None = None
) -> CurvatureOperator:
    """The operator of that name.

    Args:
        kind: "hessian", "ggn" (generalized Gauss-Newton), "fisher" (targets drawn from the model) or
            "empirical-fisher" (targets of the data).
        objective: What is differentiated.
        batchnorm: See `CurvatureOperator`.
        memory_budget: See `CurvatureOperator`.

    Returns:
        The operator.
    """
    if kind == "hessian":
        return HessianOperator(objective, batchnorm, memory_budget)
    if kind == "ggn":
        return GaussNewtonOperator(objective, batchnorm, memory_budget)
    return FisherOperator(objective, "model" if kind == "fisher" else "data", batchnorm, memory_budget)


def perturbed(objective: Objective, rho: float, batchnorm: BatchNormMode = "eval") -> Objective:
    """The objective at w + e(w), where SAM takes its gradient, with e(w) = rho g / |g| of all of the data.

    SAM treats e as a constant when it differentiates L(w + e(w)); its curvature is therefore the Hessian there.
    BatchNorm statistics stay those of w: the loss whose neighbourhood is searched is one function.

    Args:
        objective: Mean loss at w. Its pattern says which parameters are differentiated, and not which are perturbed:
            e moves all trainable ones.
        rho: Length of the perturbation, in the units of theta.
        batchnorm: See `CurvatureOperator`.

    Returns:
        The same objective on a copy of the network at w + e.
    """
    whole = HessianOperator(replace(objective, parameters="*"), batchnorm, memory_budget=0)
    step = sam_perturbation(whole.gradient(), rho)
    model = copy.deepcopy(objective.model)
    moved = [p for p in model.parameters() if p.requires_grad]
    with torch.no_grad():
        for parameter, piece in zip(moved, torch.split(step, [p.numel() for p in moved]), strict=True):
            parameter.add_(piece.view_as(parameter))
    return replace(objective, model=model)
