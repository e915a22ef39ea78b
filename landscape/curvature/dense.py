"""The whole matrix in float64, one row after the other: slow, obviously right, the judge of everything else."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from landscape.curvature.bilinear import weight_norm
from landscape.curvature.certificate import Eigenpairs, check_request, check_symmetry, gap_bounds, rounding_floor
from landscape.curvature.fisher import check_classes
from landscape.curvature.isolation import BatchNormMode, evaluation, exact_arithmetic, seeded
from landscape.curvature.kinds import Kind
from landscape.curvature.objective import Objective
from landscape.errors import LandscapeError

LIMIT = 3000
_SKEW = 1e-6


def dense_hessian(objective: Objective, batchnorm: BatchNormMode = "eval") -> Tensor:
    """The Hessian, see `dense_matrix`."""
    return dense_matrix(objective, "hessian", batchnorm)


def dense_matrix(objective: Objective, kind: Kind = "hessian", batchnorm: BatchNormMode = "eval") -> Tensor:
    """Write down the matrix from derivatives of one number each, in float64 whatever the model's type.

    No product, no Krylov space, no kept graph and no rewriting of layers: this shares with the operators nothing
    but PyTorch's derivative, and that of `weight_norm`, where PyTorch's is wrong.

    Args:
        objective: What is differentiated, D at most 3000.
        kind: Which matrix, see `make_operator`.
        batchnorm: See `CurvatureOperator`.

    Returns:
        The matrix, shape (D, D), float64, on the CPU, in nats per unit of theta squared.

    Raises:
        LandscapeError: If D is larger.
    """
    if objective.size > LIMIT:
        raise LandscapeError(
            f"a dense matrix of {objective.size} parameters was asked for, {LIMIT} is the most",
            "use engine 'lanczos', or restrict the parameters",
        )
    model = copy.deepcopy(objective.model).to("cpu", torch.float64)
    twin = replace(objective, model=model, data=objective.data.to("cpu", torch.float64))
    matrix = torch.zeros(twin.size, twin.size, dtype=torch.float64)
    cpu = torch.device("cpu")
    with exact_arithmetic(cpu), evaluation(model, batchnorm), seeded(cpu, 0), _RightWeightNorm():
        for start, stop in twin.chunks():
            matrix += _chunk(twin, kind, start, stop) / len(twin.data)
    check_symmetry(float((matrix - matrix.T).abs().max()), float(matrix.abs().max()), _SKEW)
    return (matrix + matrix.T) / 2


class _RightWeightNorm(TorchFunctionMode):
    """Puts `weight_norm` in the place of PyTorch's."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Replace that one function."""
        return (weight_norm if func is torch._weight_norm else func)(*args, **(kwargs or {}))


def _chunk(objective: Objective, kind: Kind, start: int, stop: int) -> Tensor:
    """The matrix of the summed losses of some examples, shape (D, D)."""
    inputs, targets = objective.data.batch(start, stop, torch.float64)
    weights = dict(objective.model.named_parameters())
    theta = [weights[name] for name in objective.names]
    buffers = {name: buffer.clone() for name, buffer in objective.model.named_buffers()}
    outputs = functional_call(objective.model, buffers, (inputs,))
    if kind == "hessian":
        return _second(objective.per_example(outputs, targets).sum(), theta)
    if kind == "ggn":
        free = outputs.detach().requires_grad_()
        curve = _second(objective.per_example(free, targets).sum(), [free])  # (B C, B C)
        jacobian = _rows(outputs, theta)  # (B C, D)
        return jacobian.T @ curve @ jacobian
    if kind == "empirical-fisher":
        slopes = _rows(objective.per_example(outputs, targets), theta)  # (B, D)
        return slopes.T @ slopes
    check_classes(outputs, targets)
    total = torch.zeros(objective.size, objective.size, dtype=torch.float64)
    for c, chance in enumerate(torch.softmax(outputs.detach(), dim=1).T):  # (B,)
        slopes = _rows(F.cross_entropy(outputs, torch.full_like(targets, c), reduction="none"), theta)
        total += slopes.T @ (chance[:, None] * slopes)
    return total


def _second(value: Tensor, variables: Sequence[Tensor]) -> Tensor:
    """Second derivatives of a number, shape (D, D) with D the variables' entries."""
    slopes = torch.autograd.grad(value, variables, create_graph=True, materialize_grads=True)
    return _rows(torch.cat([slope.reshape(-1) for slope in slopes]), variables)


def _rows(values: Tensor, variables: Sequence[Tensor]) -> Tensor:
    """First derivatives of each of M values, shape (M, D)."""
    rows = torch.zeros(values.numel(), sum(v.numel() for v in variables), dtype=torch.float64)
    for row, value in zip(rows, values.reshape(-1), strict=True):
        if value.requires_grad:
            columns = torch.autograd.grad(value, variables, retain_graph=True, materialize_grads=True)
            row.copy_(torch.cat([column.reshape(-1) for column in columns]))
    return rows


def dense_eigenpairs(
    objective: Objective, k: int, batchnorm: BatchNormMode = "eval", tol: float = 1e-3, kind: Kind = "hessian"
) -> Eigenpairs:
    """Eigenpairs of the dense matrix.

    Args:
        objective: What is differentiated, D at most 3000.
        k: Eigenpairs wanted, 1 to D.
        batchnorm: See `HessianOperator`.
        tol: Recorded only: the pairs are as exact as float64 is.
        kind: Which matrix, see `make_operator`.

    Returns:
        The k largest and the smallest, in float64 on the CPU, with their residuals.
    """
    check_request(k, objective.size, tol, torch.float64)
    matrix = dense_matrix(objective, kind, batchnorm)
    values, columns = torch.linalg.eigh(matrix)
    values, vectors = values.flip(0), columns.flip(1).T.contiguous()
    residuals = torch.linalg.vector_norm(vectors @ matrix - values[:, None] * vectors, dim=1).numpy()
    spectrum = values.numpy()
    return Eigenpairs(
        values=spectrum[:k].copy(),
        vectors=vectors[:k],
        residuals=residuals[:k].copy(),
        gap_bound=gap_bounds(spectrum[:k], residuals[:k], spectrum[k:]),
        smallest=float(spectrum[-1]),
        smallest_residual=float(residuals[-1]),
        smallest_vector=vectors[-1],
        rounding=rounding_floor(float(np.abs(spectrum).max()), torch.float64),
        products=objective.size,
        converged=True,
        advice="",
        tol=tol,
        engine="dense",
        order="algebraic",
    )
