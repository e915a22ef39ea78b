"""Flat vectors: cut into one tensor for each parameter, put together again, and added up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

Linear = Callable[[Sequence[Tensor]], Sequence[Tensor | None]]
"""A linear map from one tensor for each parameter to one tensor, or None for zero, for each parameter; or, all with
one more dimension in front, from those of several vectors to those of several."""

_TOGETHER = 16


def split(vectors: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Cut vectors into pieces of the parameters' shapes.

    Args:
        vectors: One vector, shape (D,), or several, shape (M, D).
        parameters: The parameters that form theta.

    Returns:
        Views, one for each parameter, of its shape; behind a dimension of M where there are several vectors.
    """
    pieces = torch.split(vectors, [parameter.numel() for parameter in parameters], dim=-1)
    lead = vectors.shape[:-1]
    return [piece.view(*lead, *p.shape) for piece, p in zip(pieces, parameters, strict=True)]


def join(pieces: Sequence[Tensor | None], parameters: Sequence[Tensor], lead: Sequence[int] = ()) -> Tensor:
    """Undo `split`.

    Args:
        pieces: One tensor for each parameter, or None for zero.
        parameters: The parameters that form theta.
        lead: (M,) where these are the pieces of several vectors.

    Returns:
        A copy, shape (D,) or (M, D), without history.
    """
    filled = zip(pieces, parameters, strict=True)
    return torch.cat(
        [
            p.new_zeros(*lead, p.numel()) if piece is None else piece.detach().reshape(*lead, p.numel())
            for piece, p in filled
        ],
        dim=-1,
    )


def are_several(pieces: Sequence[Tensor], parameters: Sequence[Tensor]) -> bool:
    """Whether these are the pieces of several vectors.

    Args:
        pieces: What `split` returned.
        parameters: The parameters that form theta.

    Returns:
        True if each has one dimension more than its parameter.
    """
    return pieces[0].dim() > parameters[0].dim()


def add_up(parts: Iterable[Tensor], zeros: Tensor) -> Tensor:
    """Add up in float64, sixteen at a time in the parts' own type: sixteen roundings are few, conversions dear.

    Args:
        parts: Tensors of one shape.
        zeros: Zeros of that shape; they are written into.

    Returns:
        The sum, in the type of the zeros.
    """
    total = torch.zeros_like(zeros, dtype=accumulator(zeros.device))
    for i, part in enumerate(parts, start=1):
        zeros += part
        if i % _TOGETHER == 0:
            total += zeros
            zeros.zero_()
    return (total + zeros).to(zeros.dtype)


def accumulator(device: torch.device) -> torch.dtype:
    """The widest floating point type of a device, for sums over chunks and for certificates.

    Args:
        device: Where the sum is taken.

    Returns:
        float64, or float32 on Apple's GPUs, which have no float64.
    """
    return torch.float32 if device.type == "mps" else torch.float64
