"""The Fisher information matrix: the second moment of per-example gradients, under the data or under the model.

The two differ: with the targets of the data it is the noise of stochastic gradients and no curvature; with targets
drawn from the model it is a curvature. The latter knows the loss only as −log p of the drawn class, whatever is
trained on; for a cross-entropy on logits, its targets smoothed or not, it is the Gauss-Newton matrix.
Source: Kunstner, Balles, Hennig, Limitations of the empirical Fisher approximation (arXiv 1905.12558).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from landscape.curvature.chunked import CurvatureOperator
from landscape.curvature.ggn import sandwich
from landscape.curvature.isolation import BatchNormMode
from landscape.curvature.objective import Objective
from landscape.curvature.pieces import Linear
from landscape.errors import UsageError


class FisherOperator(CurvatureOperator):
    """1/N sum_i E[g_i g_i^T]; shape (D, D), in nats per unit of theta squared.

    The rows of the Jacobian of the vector of losses are the g_i, so this is J^T diag(weights) J for that J and
    no gradient of one example is ever formed.

    Attributes:
        targets: "data": g_i is the gradient of the loss with the target of the data. "model": g_i is the gradient of
            −log p(c), and the expectation goes over all C classes with the probabilities of the model, exactly.
    """

    def __init__(
        self,
        objective: Objective,
        targets: Literal["data", "model"] = "model",
        batchnorm: BatchNormMode = "eval",
        memory_budget: int | None = None,
    ) -> None:
        """Copy the weights.

        Args:
            objective: Whose gradients these are; with "model", a classification with logits of shape (B, C)
                and class indices of shape (B,).
            targets: Which targets the gradients are taken for.
            batchnorm: See `CurvatureOperator`.
            memory_budget: See `CurvatureOperator`.
        """
        super().__init__(objective, batchnorm, memory_budget)
        self.targets = targets

    def linearise(self, start: int, stop: int, keep: bool) -> Linear:
        """Linearise the losses at the weights.

        Args:
            start: First example.
            stop: One past the last example.
            keep: Whether the map will be used more than once.

        Returns:
            The product with these examples' part, divided by N.
        """
        outputs, targets = self.outputs(start, stop)
        if self.targets == "data":
            losses = self.objective.per_example(outputs, targets)  # (B,)
            weights = torch.ones_like(losses)
        else:
            losses, weights = self._every_class(outputs, targets)  # (C, B), (C, B)
        weights = weights.detach() / len(self.objective.data)
        return sandwich(losses, self._parameters, lambda tangent: weights * tangent, keep)

    def _every_class(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        check_classes(outputs, targets)
        logs = torch.log_softmax(outputs, dim=1).T
        return -logs, logs.exp()


def check_classes(outputs: Tensor, targets: Tensor) -> None:
    """Refuse outputs that are no logits of classes.

    Args:
        outputs: What the network returned.
        targets: The targets beside them.

    Raises:
        UsageError: If they are not of shape (B, C) and class indices of shape (B,).
    """
    if outputs.dim() != 2 or targets.dim() != 1 or targets.is_floating_point():
        raise UsageError(
            f"the model's Fisher matrix needs logits (B, C) and class indices (B,); got outputs of shape "
            f"{tuple(outputs.shape)} and targets of shape {tuple(targets.shape)}",
            "use the Gauss-Newton matrix, or the Fisher matrix of the data",
        )
