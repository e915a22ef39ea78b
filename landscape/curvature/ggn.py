"""The generalized Gauss-Newton matrix: the Hessian without the curvature of the network itself.

With outputs z = f(theta) and losses l(z), H = J^T l''(z) J + (the curvature of f, weighted by l'(z)). The first
part is positive semi-definite where the loss is convex in the outputs, and all of H where the residuals l' vanish.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from landscape.curvature.chunked import CurvatureOperator
from landscape.curvature.pieces import Linear, are_several


class GaussNewtonOperator(CurvatureOperator):
    """J^T l'' J, averaged over the examples; shape (D, D), in nats per unit of theta squared.

    Source: Schraudolph, Fast curvature matrix-vector products for second-order gradient descent (2002).
    """

    def linearise(self, start: int, stop: int, keep: bool) -> Linear:
        """Linearise the network at the weights and the loss at the outputs.

        Args:
            start: First example.
            stop: One past the last example.
            keep: Whether the map will be used more than once.

        Returns:
            The product with these examples' part, divided by N.
        """
        outputs, targets = self.outputs(start, stop)
        free = outputs.detach().requires_grad_()
        loss = self.objective.per_example(free, targets).sum() / len(self.objective.data)
        (slope,) = torch.autograd.grad(loss, free, create_graph=True)

        def curve(tangent: Tensor) -> Tensor:
            if not slope.requires_grad:  # a loss that is linear in the outputs
                return torch.zeros_like(tangent)
            several = tangent.dim() > free.dim()
            return torch.autograd.grad(slope, free, tangent, retain_graph=keep, is_grads_batched=several)[0]

        return sandwich(outputs, self._parameters, curve, keep)


def sandwich(outputs: Tensor, parameters: Sequence[Tensor], inner: Callable[[Tensor], Tensor], keep: bool) -> Linear:
    """Multiply by J^T M J, where J is the Jacobian of outputs with respect to parameters and M acts on outputs.

    J^T u is a backward pass that is linear in u; so differentiating it towards u, which costs another backward pass
    and no forward mode, gives J.

    Args:
        outputs: Function of the parameters, any shape.
        parameters: What it is differentiated by.
        inner: M, a linear map on tensors of the outputs' shape, also with one more dimension in front.
        keep: Whether the graph must survive a product.

    Returns:
        The product.
    """
    nothing: list[Tensor | None] = [None] * len(parameters)
    if not outputs.requires_grad:
        return lambda pieces: nothing
    probe = torch.zeros_like(outputs, requires_grad=True)
    backward = torch.autograd.grad(outputs, parameters, probe, create_graph=True, allow_unused=True)
    used = [(i, slope) for i, slope in enumerate(backward) if slope is not None and slope.requires_grad]
    order, slopes = [i for i, _ in used], [slope for _, slope in used]

    def product(pieces: Sequence[Tensor]) -> Sequence[Tensor | None]:
        several, along = are_several(pieces, parameters), [pieces[i] for i in order]
        (tangent,) = torch.autograd.grad(slopes, probe, along, retain_graph=True, is_grads_batched=several)
        return torch.autograd.grad(
            outputs, parameters, inner(tangent), retain_graph=keep, allow_unused=True, is_grads_batched=several
        )

    return product
