"""Curvature: eigenvalues of the Hessian of a mean loss, each with a bound on its error; its trace and its density.

Values are in nats per unit of theta squared. The loss is that of the error curves: BatchNorm statistics are held fixed
unless asked otherwise, and no weight decay is included (it shifts every eigenvalue by exactly its coefficient).
"""

from landscape.curvature.certificate import Eigenpairs
from landscape.curvature.chunked import CurvatureOperator
from landscape.curvature.dense import dense_eigenpairs, dense_hessian, dense_matrix
from landscape.curvature.density import Density, smooth, spectral_density
from landscape.curvature.determinism import check_determinism
from landscape.curvature.engines import Engine, eigenpairs
from landscape.curvature.fisher import FisherOperator
from landscape.curvature.ggn import GaussNewtonOperator
from landscape.curvature.isolation import BatchNormMode, deterministic
from landscape.curvature.kinds import Kind, make_operator, perturbed
from landscape.curvature.lanczos import Search, top_eigenpairs
from landscape.curvature.objective import Losses, Objective
from landscape.curvature.operator import HessianOperator
from landscape.curvature.power import power_eigenpairs
from landscape.curvature.pyhessian_engine import pyhessian_eigenpairs
from landscape.curvature.rest import Rest, packed, unpacked
from landscape.curvature.rounding import rounding_told
from landscape.curvature.sampling import sampling_error, subset
from landscape.curvature.trace import Trace, estimate_trace

__all__ = [
    "BatchNormMode",
    "CurvatureOperator",
    "Density",
    "Eigenpairs",
    "Engine",
    "FisherOperator",
    "GaussNewtonOperator",
    "HessianOperator",
    "Kind",
    "Losses",
    "Objective",
    "Rest",
    "Search",
    "Trace",
    "check_determinism",
    "dense_eigenpairs",
    "dense_hessian",
    "dense_matrix",
    "deterministic",
    "eigenpairs",
    "estimate_trace",
    "make_operator",
    "packed",
    "perturbed",
    "power_eigenpairs",
    "pyhessian_eigenpairs",
    "rounding_told",
    "sampling_error",
    "smooth",
    "spectral_density",
    "subset",
    "top_eigenpairs",
    "unpacked",
]
