"""How long a step is: in theta, or relative to the weights, which no rescaling of the network can change.

Scaling one ReLU layer by α and the next by 1/α leaves the network as it is but changes every length in theta, and with
it every sharpness in a ball of theta. Lengths ‖T⁻¹ε‖₂ with T made of the weights scale along.

Source: Dinh et al. 2017, arXiv 1703.04933 (rescaling); Kwon et al. 2021, arXiv 2102.11600, definition 2 and section 3
(elementwise and filter-wise T).
"""

from __future__ import annotations

import torch
from torch import Tensor

from landscape.vector import Layout

ADAPTIVE = ("elementwise", "filter-wise")


def scaling(metric: str, theta: Tensor, layout: Layout) -> Tensor:
    """The diagonal of T.

    Elementwise it is |w|; filter-wise the norm of the filter that a weight belongs to, and |w| for weights in no
    filter (biases, BatchNorm). Nothing is added to |w|: a weight
    that is zero stays where it is, and the metric is invariant exactly. Elementwise lengths survive a rescaling of
    single units, filter-wise ones that of whole layers.

    Args:
        metric: One of `ADAPTIVE`.
        theta: Weights, shape (D,).
        layout: Where each tensor lies.

    Returns:
        T, at least 0, shape (D,).
    """
    if metric == "elementwise":
        return theta.abs()
    filters = layout.filters(theta, singly=True)
    norms = [torch.linalg.vector_norm(rows, dim=1, keepdim=True).expand_as(rows) for rows in filters]
    return torch.cat([each.reshape(-1) for each in norms])


def length(theta: Tensor, scale: Tensor) -> float:
    """‖T⁻¹θ‖₂ over the weights that T lets move: √D elementwise, √(filters and single weights) filter-wise."""
    share = torch.where(scale > 0, theta.double() / scale.double(), 0)
    return float(torch.linalg.vector_norm(share))
