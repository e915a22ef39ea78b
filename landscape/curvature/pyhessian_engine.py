"""PyHessian (Yao, Gholami, Keutzer, Mahoney, arXiv 1912.07145) as an engine that leaves no trace.

It runs on a copy of the model, and its vectors are measured again with our own operator: PyHessian stops where
the Rayleigh quotient changes little between two steps, which is no bound on the error, and returns the value of
one step with the vector of the next.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from landscape.curvature.certificate import Eigenpairs, certify, check_request
from landscape.curvature.isolation import evaluation, exact_arithmetic, seeded
from landscape.curvature.objective import Objective
from landscape.curvature.operator import HessianOperator
from landscape.errors import UsageError


def pyhessian_eigenpairs(
    operator: HessianOperator, k: int, tol: float = 1e-3, *, seed: int = 0, max_products: int | None = None
) -> Eigenpairs:
    """Let PyHessian find the k eigenvectors of largest magnitude, and measure them.

    Args:
        operator: The Hessian, with fixed BatchNorm statistics.
        k: Eigenpairs wanted, 1 to D.
        tol: PyHessian's tolerance: relative change of the Rayleigh quotient between two steps.
        seed: Seed of its start vectors, which it draws from the global generator.
        max_products: Steps that PyHessian may use for all pairs. Default 1000 k.

    Returns:
        Eigenpairs in order "magnitude" without a smallest one, which PyHessian does not look for; `converged` is judged
        by the recomputed residuals.

    Raises:
        UsageError: If BatchNorm statistics are those of the batch, or a parameter is not used by the network.
    """
    objective, device = operator.objective, operator.device
    check_request(k, operator.size, tol, operator.dtype)
    if operator.batchnorm != "eval":
        raise UsageError(
            "PyHessian always holds BatchNorm statistics fixed", "use engine 'lanczos' with batchnorm train"
        )
    steps = (1000 * k if max_products is None else max_products) // k
    model = _copied(operator)
    batches = [objective.data.batch(start, stop, operator.dtype) for start, stop in objective.chunks()]
    counted = _Loader(batches)
    with exact_arithmetic(device), evaluation(model, "eval"), seeded(device, seed), _contained(operator):
        from pyhessian import hessian

        _check_used(model, objective, batches[0])
        criterion = _Mean(objective)
        search = hessian(model, criterion, dataloader=counted, cuda=device.type == "cuda")
        _, vectors = search.eigenvalues(maxIter=max(steps, 1), tol=tol, top_n=k)
    rows = torch.stack([torch.cat([piece.reshape(-1) for piece in vector]) for vector in vectors]).to(operator.dtype)
    rows = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return certify(operator.product, rows, None, np.empty(0), counted.passes, tol, "pyhessian", order="magnitude")


class _Loader:
    """Batches that are read again and again, and how many times they were."""

    def __init__(self, batches: list[tuple[Tensor, Tensor]]) -> None:
        self.batches, self.passes = batches, 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.passes += 1
        return iter(self.batches)


class _Mean(nn.Module):
    """Mean of the losses of one batch; PyHessian weights it by the batch's size."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.objective.per_example(outputs, targets).mean()


def _copied(operator: HessianOperator) -> nn.Module:
    """A copy of the model with the operator's weights, whose gradients PyHessian may fill."""
    model = copy.deepcopy(operator.objective.model)
    model.zero_grad(set_to_none=True)
    chosen = set(operator.objective.names)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
        parameter.data.copy_(operator.weights[name].detach())
    return model


@contextmanager
def _contained(operator: HessianOperator) -> Iterator[None]:
    """Keep PyHessian's effects on the process inside: default dtype, default device and warnings."""
    dtype = torch.get_default_dtype()
    device = torch.cuda.device(operator.device) if operator.device.type == "cuda" else nullcontext()
    try:
        torch.set_default_dtype(operator.dtype)  # its vectors have the default dtype
        with warnings.catch_warnings(), device:
            warnings.simplefilter("ignore")  # of a reference cycle that dies with the copy
            yield
    finally:
        torch.set_default_dtype(dtype)


def _check_used(model: nn.Module, objective: Objective, batch: tuple[Tensor, Tensor]) -> None:
    """Refuse what PyHessian would fail on with an AssertionError or a RuntimeError."""
    inputs, targets = batch
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    loss = objective.per_example(model(inputs), targets).mean()
    slopes = torch.autograd.grad(loss, list(named.values()), create_graph=True, allow_unused=True)
    unused = [name for name, slope in zip(named, slopes, strict=True) if slope is None or not slope.requires_grad]
    if unused:
        raise UsageError(
            f"PyHessian cannot handle parameters without a second derivative: {', '.join(unused)}",
            "use engine 'lanczos', which treats them as zero blocks",
        )
