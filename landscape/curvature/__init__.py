"""Curvature: eigenvalues of the Hessian of a mean loss, each with a bound on its error.

Values are in nats per unit of theta squared. The loss is that of the error curves: BatchNorm statistics are held fixed
unless asked otherwise, and no weight decay is included (it shifts every eigenvalue by exactly its coefficient).
"""

from landscape.curvature.certificate import Eigenpairs
from landscape.curvature.dense import dense_eigenpairs, dense_hessian
from landscape.curvature.engines import Engine, eigenpairs
from landscape.curvature.isolation import BatchNormMode
from landscape.curvature.lanczos import Search, top_eigenpairs
from landscape.curvature.objective import Losses, Objective
from landscape.curvature.operator import HessianOperator
from landscape.curvature.power import power_eigenpairs
from landscape.curvature.pyhessian_engine import pyhessian_eigenpairs

__all__ = [
    "BatchNormMode",
    "Eigenpairs",
    "Engine",
    "HessianOperator",
    "Losses",
    "Objective",
    "Search",
    "dense_eigenpairs",
    "dense_hessian",
    "eigenpairs",
    "power_eigenpairs",
    "pyhessian_eigenpairs",
    "top_eigenpairs",
]
