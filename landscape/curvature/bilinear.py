"""Layers that are linear in their input and in their weight, written so that the second derivative costs no more.

For y = B(x, w) with B bilinear, the derivatives towards x and w are again bilinear, and so are theirs. A product
with the Hessian therefore needs nothing but B and its two adjoints, with tangents in the place of x or w: six calls
to the kernels that the forward and the backward pass use. PyTorch's own second derivative assembles convolutions
and BatchNorm from smaller pieces instead.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_NARROW = 8


class BilinearMap(ABC):
    """A bilinear B with its adjoints."""

    @abstractmethod
    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Apply B.

        Args:
            x: Input, shape (B, ...).
            w: Weight.

        Returns:
            B(x, w), shape (B, ...).
        """

    @abstractmethod
    def adjoints(self, g: Tensor, x: Tensor, w: Tensor, wanted: tuple[bool, bool]) -> Sequence[Tensor | None]:
        """Pull a slope at the output back to the input and to the weight.

        Args:
            g: Slope at the output, shape of B(x, w).
            x: Input.
            w: Weight.
            wanted: Whether the slope at the input and the one at the weight are needed.

        Returns:
            The gradients of <g, B(x, w)> in x and in w; None where not wanted.
        """


@dataclass(frozen=True)
class Convolution(BilinearMap):
    """Convolution in one, two or three dimensions.

    Attributes:
        stride: Step of the window in each dimension.
        padding: Zeros added on both sides of each dimension.
        dilation: Step between the weights of the window.
        groups: Blocks of channels that do not mix.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def forward(self, x: Tensor, w: Tensor) -> Tensor:  # noqa: D102
        return torch.convolution(
            x, w, None, self.stride, self.padding, self.dilation, False, (0,) * len(self.stride), self.groups
        )

    def adjoints(self, g: Tensor, x: Tensor, w: Tensor, wanted: tuple[bool, bool]) -> Sequence[Tensor | None]:  # noqa: D102
        geometry = (self.stride, self.padding, self.dilation, False, (0,) * len(self.stride), self.groups)
        split_up = wanted[0] and self._is_narrow(x)
        slopes: Sequence[Tensor | None] = (None, None)
        if not split_up or wanted[1]:
            asked = (wanted[0] and not split_up, wanted[1], False)
            slopes = torch.ops.aten.convolution_backward(g, x, w, None, *geometry, asked)
        return (by_phases(g, w, x.shape[2:], self.stride[0], self.padding), slopes[1]) if split_up else slopes[:2]

    def _is_narrow(self, x: Tensor) -> bool:
        """Whether the slope at the input is found faster by phases: measured, see `by_phases`."""
        plain = len(self.stride) == 2 and self.groups == 1 and self.dilation == (1, 1)
        here = x.device.type == "cpu" and x.dtype == torch.float32
        return plain and here and 1 < self.stride[0] == self.stride[1] and x.shape[1] <= _NARROW


def by_phases(g: Tensor, w: Tensor, shape: Sequence[int], stride: int, padding: Sequence[int]) -> Tensor:
    """The slope at the input of a convolution with a stride, as a convolution without one.

    Pixels at the same place modulo the stride see the same part of the kernel. All phases are channels of one
    convolution, and are then laid in between each other. On a CPU that takes about half as long as oneDNN's own
    kernel for up to eight channels, though up to stride² times the arithmetic; with more channels it is slower.

    Args:
        g: Slope at the output, shape (B, channel out, height out, width out).
        w: Kernel, shape (channel out, channel, height, width).
        shape: Height and width of the input.
        stride: Step of the window in both dimensions.
        padding: Zeros added on both sides of each dimension.

    Returns:
        Shape (B, channel, height, width).

    Source: Shi et al., Is the deconvolution layer the same as a convolutional layer?, arXiv 1609.07009.
    """
    (rows, top), (columns, left) = (_taps(k, stride, p) for k, p in zip(w.shape[2:], padding, strict=True))
    kernels = nn.functional.pad(w, (0, 1, 0, 1))[:, :, rows[:, None, :, None], columns[None, :, None, :]]
    kernels = kernels.permute(1, 2, 3, 0, 4, 5)
    kernels = kernels.reshape(-1, *kernels.shape[3:])  # (channel · stride², channel out, taps, taps)
    ends = [
        -(-n // stride) - m + taps.shape[1] - 1 for n, m, taps in zip(shape, g.shape[2:], (rows, columns), strict=True)
    ]
    g = nn.functional.pad(g, (left, ends[1] - left, top, ends[0] - top))
    phases = nn.functional.conv2d(g, kernels)
    return nn.functional.pixel_shuffle(phases, stride)[:, :, : shape[0], : shape[1]]


@cache
def _taps(k: int, stride: int, padding: int) -> tuple[Tensor, int]:
    """The element of the kernel that each phase takes at each output near it, and how many outputs lie before.

    Returns:
        Indices into the kernel, k for none, shape (stride, taps), and how many of these outputs come before its own.
    """
    reach = [(r + padding - t) // stride for r in range(stride) for t in range(k) if (r + padding - t) % stride == 0]
    first, last = min(*reach, 0), max(*reach, 0)
    taken = [[r + padding - stride * d for d in range(first, last + 1)] for r in range(stride)]
    return torch.tensor([[t if 0 <= t < k else k for t in row] for row in taken]), -first


@dataclass(frozen=True)
class ChannelScale(BilinearMap):
    """One factor for each channel: x of shape (B, channel, ...), w of shape (channel,).

    Attributes:
        zero: Zeros, shape (channel,).
        one: Ones, shape (channel,).
    """

    zero: Tensor
    one: Tensor

    def forward(self, x: Tensor, w: Tensor) -> Tensor:  # noqa: D102
        return x * w.view(1, -1, *(1,) * (x.dim() - 2))

    def adjoints(self, g: Tensor, x: Tensor, w: Tensor, wanted: tuple[bool, bool]) -> Sequence[Tensor | None]:  # noqa: D102
        # BatchNorm with mean 0 and variance 1 is this map, and its backward pass is one kernel
        slopes: Sequence[Tensor | None] = torch.ops.aten.native_batch_norm_backward(
            g, x, w, self.zero, self.one, None, None, False, 0.0, (*wanted, False)
        )
        return slopes[:2]


class _Bilinear(torch.autograd.Function):
    """B(x, w)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: BilinearMap) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.b = b
        return b.forward(x, w)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w = ctx.saved_tensors
        return *_Adjoints.apply(g, x, w, ctx.b, ctx.needs_input_grad[:2]), None  # type: ignore[no-untyped-call]


class _Adjoints(torch.autograd.Function):
    """The gradients of <g, B(x, w)> in x and w.

    Their product with tangents (tx, tw) is <g, B(tx, w)> + <g, B(x, tw)>, whose gradients are B(tx, w) + B(x, tw)
    in g, the adjoint with tw in x, and the adjoint with tx in w.
    """

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, w: Tensor, b: BilinearMap, wanted: tuple[bool, bool]) -> Any:
        ctx.save_for_backward(g, x, w)
        ctx.b = b
        ctx.set_materialize_grads(False)
        return tuple(b.adjoints(g, x, w, wanted))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, tx: Tensor | None, tw: Tensor | None) -> Any:
        g, x, w = ctx.saved_tensors
        along = [ctx.b.forward(*pair) for pair in ((tx, w), (x, tw)) if pair[0] is not None and pair[1] is not None]
        wanted = (tw is not None and ctx.needs_input_grad[1], tx is not None and ctx.needs_input_grad[2])
        slopes = (None, None)
        if any(wanted):
            slopes = ctx.b.adjoints(g, x if tx is None else tx, w if tw is None else tw, wanted)
        return along[0].add_(along[1]) if len(along) == 2 else along[0] if along else None, *slopes, None, None


class TwiceDifferentiable(TorchFunctionMode):
    """Runs convolutions, and BatchNorm with fixed statistics, through `BilinearMap`. The functions stay the same.

    BatchNorm right behind a convolution is folded into it: scale and shift of a channel are a factor of the kernel
    and a bias, which spares the products all work on activations, and the graph the activations between the two.
    """

    def __init__(self) -> None:
        super().__init__()
        # the newest convolution, its version, which counts changes in place, and what it was called with
        self._last: tuple[Tensor, int, dict[str, Any]] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Replace the functions where the replacement can do what is asked of it."""
        kwargs = kwargs or {}
        result: Tensor | None = None
        if func in _CONVOLUTIONS:
            result = convolve(*args, **kwargs)
            called = signature(convolve).bind(*args, **kwargs).arguments
            self._last = None if result is None else (result, result._version, called)
        elif func is nn.functional.batch_norm:
            result = fixed_batch_norm(
                *args, **(kwargs | {"behind": self._behind(kwargs["input"] if "input" in kwargs else args[0])})
            )
            self._last = None
        elif func is torch._weight_norm:
            result = weight_norm(*args, **kwargs)
        return func(*args, **kwargs) if result is None else result

    def _behind(self, input: Tensor) -> dict[str, Any] | None:
        """How the convolution was called that made this input, if nothing has changed it since."""
        if self._last is None or self._last[0] is not input or self._last[1] != input._version:
            return None
        return self._last[2]


def convolve(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """Convolution as a `BilinearMap`, with the arguments of `torch.conv2d`.

    Args:
        input: Shape (B, channel, ...).
        weight: Shape (channel out, channel / groups, ...).
        bias: Shape (channel out,).
        stride: One number or one for each dimension.
        padding: Likewise; the words "same" and "valid" are left to PyTorch.
        dilation: Likewise.
        groups: Blocks of channels.

    Returns:
        The convolution, or None where it is left to PyTorch.
    """
    dimensions = weight.dim() - 2
    if isinstance(padding, str) or input.dim() != weight.dim():
        return None
    geometry = [tuple(g) if isinstance(g, Sequence) else (int(g),) for g in (stride, padding, dilation)]
    stride, padding, dilation = (g * dimensions if len(g) == 1 else g for g in geometry)
    y: Tensor = _Bilinear.apply(input, weight, Convolution(stride, padding, dilation, groups))  # type: ignore[no-untyped-call]
    return y if bias is None else y + bias.view(1, -1, *(1,) * dimensions)


def fixed_batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    behind: Mapping[str, Any] | None = None,
) -> Tensor | None:
    """BatchNorm with fixed statistics as one scale and one shift for each channel.

    Args:
        input: Activations, shape (B, channel, ...).
        running_mean: Means, shape (channel,).
        running_var: Variances, shape (channel,).
        weight: Factor after normalisation, shape (channel,).
        bias: Added last, shape (channel,).
        training: Whether the statistics are those of the batch; then this is left to PyTorch.
        momentum: Here for the signature of the function that is replaced; without effect.
        eps: Added to the variances.
        behind: What the convolution was called with that made the input, if one did: it is folded into that.

    Returns:
        What `torch.nn.functional.batch_norm` returns, shape (B, channel, ...), or None in training.
    """
    if training or running_mean is None or running_var is None:
        return None
    scale = torch.rsqrt(running_var + eps)  # (channel,)
    scale = scale if weight is None else weight * scale
    shift = -running_mean * scale if bias is None else bias - running_mean * scale
    if behind is not None:
        return _scaled(behind, scale, shift)
    constants = ChannelScale(torch.zeros_like(running_var), torch.ones_like(running_var))
    scaled: Tensor = _Bilinear.apply(input, scale, constants)  # type: ignore[no-untyped-call]
    return scaled + shift.view(1, -1, *(1,) * (input.dim() - 2))


def weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """A weight of given length and direction; PyTorch's own has a wrong second derivative (as of 2.13).

    Args:
        v: Direction.
        g: Length along each place of `dim`.
        dim: The dimension that is not summed over; -1 for none.

    Returns:
        g v / |v|, shape of v.

    Source: Salimans and Kingma 2016, arXiv 1602.07868, equation 2.
    """
    summed = [axis for axis in range(v.dim()) if axis != dim]
    return v * (g / v.square().sum(summed, keepdim=True).sqrt())


def _scaled(convolution: Mapping[str, Any], scale: Tensor, shift: Tensor) -> Tensor | None:
    """A convolution whose channels are then scaled and shifted, as one."""
    weight, bias = convolution["weight"], convolution.get("bias")
    weight = weight * scale.view(-1, *(1,) * (weight.dim() - 1))
    bias = shift if bias is None else bias * scale + shift
    return convolve(**{**convolution, "weight": weight, "bias": bias})


_CONVOLUTIONS = {torch.conv1d, torch.conv2d, torch.conv3d}
