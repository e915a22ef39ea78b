"""A second opinion on the operators: curvlinops, which shares no code with this project."""

from __future__ import annotations

import pytest
import torch
from curvature_nets import NETS, gap, objective
from torch import nn

from landscape.curvature import GaussNewtonOperator, HessianOperator

curvlinops = pytest.importorskip(
    "curvlinops", reason="not among the development packages, as it asks for torchvision: pip install --no-deps"
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("kind", ["Hessian", "GGN"])
def test_products_are_those_of_curvlinops(net: str, kind: str) -> None:
    problem = objective(net)
    model, data = problem.model.eval(), list(problem.data.batches(problem.chunk))
    parameters = list(model.parameters())
    theirs = getattr(curvlinops, f"{kind}LinearOperator")(
        model, nn.CrossEntropyLoss(), parameters, data, check_deterministic=False
    ).to_scipy()
    operator = {"Hessian": HessianOperator, "GGN": GaussNewtonOperator}[kind](problem)
    for seed in range(3):
        vector = torch.randn(operator.size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        assert gap(operator.product(vector), torch.as_tensor(theirs @ vector.numpy())) < 1e-12
