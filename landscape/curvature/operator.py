"""The Hessian of a mean loss as a linear operator: products with vectors, never the matrix.

Source of the product by differentiating twice: Pearlmutter, Fast exact multiplication by the Hessian (1994).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from landscape.curvature.chunked import CurvatureOperator
from landscape.curvature.pieces import Linear, are_several


class HessianOperator(CurvatureOperator):
    """The Hessian of the objective, by differentiating the gradient along a vector.

    The second derivative of a loss with kinks (ReLU, max-pooling) is that of the smooth pieces; the kinks themselves
    are a set of measure zero and contribute nothing.

    Source: Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6 (1994).
    """

    def linearise(self, start: int, stop: int, keep: bool) -> Linear:
        """Build the graph of the gradient; its transposed Jacobian is the Hessian, which is symmetric.

        Args:
            start: First example.
            stop: One past the last example.
            keep: Whether the graph must survive a product.

        Returns:
            The product with the Hessian of these examples' losses divided by N.
        """
        loss = self.losses(start, stop).sum() / len(self.objective.data)
        nothing: list[Tensor | None] = [None] * len(self._parameters)
        if not loss.requires_grad:
            return lambda pieces: nothing
        gradient = torch.autograd.grad(loss, self._parameters, create_graph=True, allow_unused=True)
        curved = [(i, slope) for i, slope in enumerate(gradient) if slope is not None and slope.requires_grad]
        if not curved:  # a loss that is linear in the weights
            return lambda pieces: nothing
        order, slopes = [i for i, _ in curved], [slope for _, slope in curved]
        parameters = self._parameters  # not self, which holds this map: a cycle would keep the graph alive

        def product(pieces: Sequence[Tensor]) -> Sequence[Tensor | None]:
            along = [pieces[i] for i in order]
            several = are_several(pieces, parameters)
            return torch.autograd.grad(
                slopes, parameters, along, retain_graph=keep, allow_unused=True, is_grads_batched=several
            )

        return product
