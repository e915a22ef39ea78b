"""The whole Hessian in float64, one row after the other: slow, obviously right, the judge of everything else."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from landscape.curvature.certificate import Eigenpairs, check_request, gap_bounds, rounding_floor
from landscape.curvature.isolation import BatchNormMode, evaluation, exact_arithmetic, seeded
from landscape.curvature.objective import Objective
from landscape.errors import LandscapeError

LIMIT = 3000


def dense_hessian(objective: Objective, batchnorm: BatchNormMode = "eval") -> Tensor:
    """Differentiate each entry of the gradient, in float64 whatever the model's type.

    No product, no Krylov space, no kept graph and no rewriting of layers: this shares with `HessianOperator`
    nothing but PyTorch's derivative.

    Args:
        objective: What is differentiated, D at most 3000.
        batchnorm: See `HessianOperator`.

    Returns:
        The Hessian, shape (D, D), float64, on the CPU, in nats per unit of theta squared.

    Raises:
        LandscapeError: If D is larger.
    """
    if objective.size > LIMIT:
        raise LandscapeError(
            f"a dense Hessian of {objective.size} parameters was asked for, {LIMIT} is the most",
            "use engine 'lanczos', or restrict the parameters",
        )
    model = copy.deepcopy(objective.model).to("cpu", torch.float64)
    twin = replace(objective, model=model, data=objective.data.to("cpu", torch.float64))
    hessian = torch.zeros(twin.size, twin.size, dtype=torch.float64)
    cpu = torch.device("cpu")
    with exact_arithmetic(cpu), evaluation(model, batchnorm), seeded(cpu, 0):
        for start, stop in twin.chunks():
            hessian += _chunk(twin, start, stop) / len(twin.data)
    return (hessian + hessian.T) / 2


def _chunk(objective: Objective, start: int, stop: int) -> Tensor:
    """Hessian of the summed losses of some examples, shape (D, D)."""
    inputs, targets = objective.data.batch(start, stop, torch.float64)
    weights = dict(objective.model.named_parameters())
    theta = [weights[name] for name in objective.names]
    buffers = {name: buffer.clone() for name, buffer in objective.model.named_buffers()}
    loss = objective.per_example(functional_call(objective.model, buffers, (inputs,)), targets).sum()
    slopes = torch.autograd.grad(loss, theta, create_graph=True, materialize_grads=True)
    gradient = torch.cat([slope.reshape(-1) for slope in slopes])  # (D,)
    rows = torch.zeros(objective.size, objective.size, dtype=torch.float64)
    for row, entry in zip(rows, gradient, strict=True):
        if entry.requires_grad:
            columns = torch.autograd.grad(entry, theta, retain_graph=True, materialize_grads=True)
            row.copy_(torch.cat([column.reshape(-1) for column in columns]))
    return rows


def dense_eigenpairs(objective: Objective, k: int, batchnorm: BatchNormMode = "eval", tol: float = 1e-3) -> Eigenpairs:
    """Eigenpairs of the dense Hessian.

    Args:
        objective: What is differentiated, D at most 3000.
        k: Eigenpairs wanted, 1 to D.
        batchnorm: See `HessianOperator`.
        tol: Recorded only: the pairs are as exact as float64 is.

    Returns:
        The k largest and the smallest, in float64 on the CPU, with their residuals.
    """
    check_request(k, objective.size, tol, torch.float64)
    hessian = dense_hessian(objective, batchnorm)
    values, columns = torch.linalg.eigh(hessian)
    values, vectors = values.flip(0), columns.flip(1).T.contiguous()
    residuals = torch.linalg.vector_norm(vectors @ hessian - values[:, None] * vectors, dim=1).numpy()
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
