"""Tells rounding from wrong second derivatives where products with a matrix are not symmetric.

A network that fits an example with probability p next to 1 has second derivatives of about 1 − p there, which are
differences of numbers of about 1. In float32 such a product may hold no digit, and it may be wrong in the same way
each time: no product in float32 tells of it, a float64 one does.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from landscape.curvature.certificate import AsymmetryError
from landscape.curvature.chunked import CurvatureOperator
from landscape.curvature.isolation import BatchNormMode
from landscape.curvature.kinds import Kind, make_operator
from landscape.curvature.objective import Objective
from landscape.errors import UsageError

_SKEW = 1e-4  # of float64 products: rounding is below where 1 − p is above 1e-12, and wrong ones are far above


@contextmanager
def rounding_told(objective: Objective, kind: Kind = "hessian", batchnorm: BatchNormMode = "eval") -> Iterator[None]:
    """Ask float64 before an operation of the network is said to have wrong second derivatives.

    Args:
        objective: What is differentiated inside.
        kind: Which matrix, see `make_operator`.
        batchnorm: See `CurvatureOperator`.

    Raises:
        UsageError: If products are not symmetric inside, and are in float64: it was rounding.
        AsymmetryError: If they are not symmetric in float64 either.
    """
    try:
        yield
    except AsymmetryError as error:
        if objective.dtype == torch.float64 or skewness(_in_float64(objective, kind, batchnorm)) > _SKEW:
            raise
        raise UsageError(
            "products in float32 are lost in rounding on the examples used, which the network fits too well "
            f"(not symmetric by {error.share:.1%}, and symmetric in float64)",
            "use --dtype float64",
        ) from error


def skewness(operator: CurvatureOperator) -> float:
    """How far an operator is from symmetric, for a random vector v: |⟨v, H(Hv)⟩/‖Hv‖² − 1|, 0 for symmetric ones.

    Args:
        operator: H.

    Returns:
        The share; 0 if Hv is.
    """
    v: Tensor = torch.randn(operator.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    image = operator.product(v.to(operator.device)).double()
    square = float(image @ image)
    again = operator.product(image / max(square, torch.finfo(torch.float64).tiny) ** 0.5).double().cpu()
    return abs(float(v @ again) / square**0.5 - 1) if square else 0.0


def _in_float64(objective: Objective, kind: Kind, batchnorm: BatchNormMode) -> CurvatureOperator:
    """The same operator in float64, on the CPU, where every machine has it."""
    model = copy.deepcopy(objective.model).to("cpu", torch.float64)
    return make_operator(kind, replace(objective, model=model, data=objective.data.to("cpu", torch.float64)), batchnorm)
