"""One question, four ways to answer it: the largest eigenvalues of a curvature matrix of an objective."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, get_args

from numpy.typing import NDArray

from landscape.curvature.certificate import Eigenpairs, Progress
from landscape.curvature.dense import dense_eigenpairs
from landscape.curvature.determinism import check_determinism
from landscape.curvature.graphs import CudaRecorder
from landscape.curvature.isolation import BatchNormMode
from landscape.curvature.kinds import Kind, make_operator
from landscape.curvature.lanczos import Save, top_eigenpairs
from landscape.curvature.objective import Objective
from landscape.curvature.operator import HessianOperator
from landscape.curvature.power import power_eigenpairs
from landscape.curvature.pyhessian_engine import pyhessian_eigenpairs
from landscape.curvature.rounding import rounding_told
from landscape.errors import UsageError, nearest

Engine = Literal["lanczos", "power", "pyhessian", "dense"]


def eigenpairs(
    objective: Objective,
    k: int = 5,
    engine: Engine = "lanczos",
    tol: float = 1e-3,
    seed: int = 0,
    batchnorm: BatchNormMode = "eval",
    memory_budget: int | None = None,
    max_products: int | None = None,
    progress: Progress | None = None,
    state: Mapping[str, NDArray[Any]] | None = None,
    save: Save | None = None,
    kind: Kind = "hessian",
    cuda_graphs: bool = False,
) -> Eigenpairs:
    """Find the largest eigenvalues of the Hessian of the mean loss, or of another curvature matrix.

    Args:
        objective: The mean loss of a network over a data set.
        k: Eigenpairs wanted, 1 to D.
        engine: "lanczos" (fast, both ends, guarded against missed eigenvalues), "power" (largest magnitude, slow),
            "pyhessian" (the published tool, largest magnitude) or "dense" (the whole matrix in float64, D up to 3000).
        tol: Residual relative to each eigenvalue.
        seed: Seed of the start vectors; the same seed gives bitwise the same result on one device.
        batchnorm: "eval" with fixed statistics, or "train" with those of each chunk.
        memory_budget: Bytes for kept graphs, see `HessianOperator`.
        max_products: Products after which an iterative engine stops; each engine has its default.
        progress: Told (products done, largest estimated residual relative to its eigenvalue) as "lanczos" and
            "power" go on.
        state: State of an interrupted search of engine "lanczos" for the same objective, k, tol and seed.
        save: Called with the `Search` after each step of engine "lanczos"; what its `arrays()` returns is a `state`.
        kind: Which matrix, see `make_operator`; engine "pyhessian" knows the Hessian only.
        cuda_graphs: Whether engines "lanczos" and "power" replay their products from CUDA graphs; the certificate
            does not, so that it judges them.

    Returns:
        Certified eigenpairs.

    Raises:
        UsageError: If the engine is unknown or does not know the matrix, k or tol is out of range, the objective
            is random, CUDA graphs are asked for where there are none, or float32 products are lost in rounding.
        ValueError: If an engine other than "lanczos" is given a state to resume or to save.
    """
    if engine != "lanczos" and (state is not None or save is not None):
        raise ValueError(f"engine '{engine}' cannot be resumed; only 'lanczos' can")
    if engine not in get_args(Engine):
        raise UsageError(f"there is no engine '{engine}'", nearest(engine, get_args(Engine)))
    if kind != "hessian" and engine == "pyhessian":
        raise UsageError(f"engine 'pyhessian' knows no matrix but the Hessian, got '{kind}'", "use engine 'lanczos'")
    if cuda_graphs and engine in {"dense", "pyhessian"}:
        raise UsageError(f"engine '{engine}' has products of its own, without CUDA graphs", "use engine 'lanczos'")
    recorder = CudaRecorder(objective.device) if cuda_graphs else None
    if engine == "dense":
        return dense_eigenpairs(objective, k, batchnorm, tol, kind)
    operator = make_operator(kind, objective, batchnorm, memory_budget)
    check_determinism(operator)
    if recorder is not None:
        operator.record(recorder)
    if isinstance(operator, HessianOperator) and engine == "pyhessian":
        return pyhessian_eigenpairs(operator, k, tol, seed=seed, max_products=max_products)
    resumable = partial(top_eigenpairs, state=state, save=save, choice=operator.choice)
    search = resumable if engine == "lanczos" else power_eigenpairs
    with rounding_told(objective, kind, batchnorm):
        return search(
            operator.product,
            operator.size,
            k,
            tol,
            seed=seed,
            device=operator.device,
            dtype=operator.dtype,
            max_products=max_products,
            progress=progress,
            block=operator.block,
        )
