"""How each operation of torch carries units from its inputs to its outputs.

The rules are those of ATen, to which every forward pass comes down whatever modules and functions it is written in.
An operation without a rule is no obstacle as long as nothing that enters it can be moved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from landscape.symmetry.units import Ids, Label, Units

Look = Callable[[Tensor], Label]
"""The label of a tensor; of one that was never seen, that nothing in it moves."""

Rule = Callable[[Units, Look, Sequence[Any], Any], "Label | list[Label]"]
"""(units, look, arguments, result) -> label of the result, or labels of the results where they are several."""


def still(result: Tensor) -> Label:
    """The label of a tensor in which nothing moves."""
    return [np.zeros(n, dtype=np.int64) for n in result.shape]


def _pointwise(units: Units, look: Look, args: Sequence[Any], result: Any) -> Label:
    """Entry i of each input makes entry i of the result; an axis of length one goes with every entry."""
    label: list[Ids | None] = [None] * result.dim()
    for tensor in _tensors(args):
        for axis, ids in enumerate(reversed(look(tensor)), 1):
            known = label[-axis]
            if len(ids) != result.shape[-axis]:
                continue
            if known is None:
                label[-axis] = ids
            else:
                units.tie(known, ids)
    return [units.fresh(n) if ids is None else ids for n, ids in zip(result.shape, label, strict=True)]


def _tensors(args: Sequence[Any]) -> list[Tensor]:
    return [a for a in args if isinstance(a, Tensor)]


def _same(units: Units, look: Look, args: Sequence[Any], result: Any) -> Label:
    return list(look(args[0]))


def _constant(units: Units, look: Look, args: Sequence[Any], result: Any) -> Label:
    """Equal entries can change places at will."""
    return [units.fresh(n) for n in result.shape]


def _reduced(units: Units, look: Look, args: Sequence[Any], result: Any) -> Label:
    """Sums and extremes do not know the order of what they are over."""
    label = look(args[0])
    named = args[1] if len(args) > 1 and isinstance(args[1], (int, list, tuple)) else []
    dims = [named] if isinstance(named, int) else named
    over = {d % len(label) for d in dims} or set(range(len(label)))
    if result.dim() == len(label):
        return [np.zeros(1, dtype=np.int64) if axis in over else ids for axis, ids in enumerate(label)]
    return [ids for axis, ids in enumerate(label) if axis not in over]


def _convolution(units: Units, look: Look, args: Sequence[Any], result: Any) -> Label:
    x, weight, bias, *_, transposed, _, groups = args
    inputs, kernel = look(x), look(weight)
    for ids in kernel[2:]:
        units.pin(ids)
    before, after = (kernel[0], kernel[1]) if transposed else (kernel[1], kernel[0])
    if groups == 1:
        units.tie(before, inputs[1])
    elif len(before) == 1 and not transposed and groups == len(inputs[1]):
        units.tie(after, inputs[1].repeat(len(after) // groups))
    else:
        for ids in (before, after, inputs[1]):
            units.pin(ids)
        after = np.zeros(result.shape[1], dtype=np.int64)
    if bias is not None:
        units.tie(look(bias)[0], after)
    return [inputs[0], after, *still(result)[2:]]


def _batch_norm(units: Units, look: Look, args: Sequence[Any], result: Any) -> list[Label]:
    label = look(args[0])
    for tensor in _tensors(args[1:5]):
        units.tie(look(tensor)[0], label[1])
    return [list(label)]


def _layer_norm(units: Units, look: Look, args: Sequence[Any], result: Any) -> list[Label]:
    label = look(args[0])
    for tensor in _tensors(args[2:4]):
        for one, other in zip(look(tensor), label[-len(args[1]) :], strict=True):
            units.tie(one, other)
    return [list(label)]


def _group_norm(units: Units, look: Look, args: Sequence[Any], result: Any) -> list[Label]:
    label = look(args[0])
    for tensor in _tensors(args[1:3]):
        units.tie(look(tensor)[0], label[1])
    if args[6] > 1:
        units.pin(label[1])
    return [list(label)]


def _matrix(units: Units, look: Look, args: Sequence[Any], result: Any) -> Label:
    """Products of matrices, of batches of them, and of a matrix and a vector: inner axes are the same units."""
    one, other = look(args[0]), look(args[1])
    units.tie(one[-1], other[max(0, len(other) - 2)])
    if len(one) == 3:
        units.tie(one[0], other[0])
    return [*one[:-1], other[-1]] if len(other) > 1 else one[:-1]


def _add_matrix(units: Units, look: Look, args: Sequence[Any], result: Any) -> Label:
    label = _matrix(units, look, args[1:], result)
    for axis, ids in enumerate(reversed(look(args[0])), 1):
        if len(ids) == len(label[-axis]):
            units.tie(ids, label[-axis])
    return label


def _reshape(units: Units, look: Look, args: Sequence[Any], result: Any) -> Label:
    """Axes that stay keep their units; where several become one, each entry belongs to the one unit that can move."""
    label, shape, made = look(args[0]), list(args[0].shape), list(result.shape)
    if 0 in shape:
        return still(result)
    out: Label = []
    start = 0
    while len(out) < len(made):
        stop, first = start, len(out)
        last = first + 1
        while (before := math.prod(shape[start:stop])) != (after := math.prod(made[first:last])):
            stop, last = (stop + 1, last) if before < after else (stop, last + 1)
        out += _block(units, label[start:stop], made[first:last])
        start = stop
    return out


def _block(units: Units, label: Label, made: Sequence[int]) -> Label:
    """Units after axes of equal product are reshaped into each other."""
    long = [ids for ids in label if len(ids) > 1]
    if len(long) == 1 and sorted(made) == [*(1 for _ in made[1:]), len(long[0])]:
        return [long[0] if n > 1 else np.zeros(1, dtype=np.int64) for n in made]
    free = [ids for ids in long if units.movable([ids])]
    if len(made) == 1 and len(free) == 1:
        axis = next(i for i, ids in enumerate(label) if ids is free[0])
        sizes = [len(ids) for ids in label]
        view = free[0].reshape([-1 if i == axis else 1 for i in range(len(label))])
        return [np.broadcast_to(view, sizes).reshape(-1)]
    for ids in free:
        units.pin(ids)
    return [np.zeros(n, dtype=np.int64) for n in made]


def _transpose(units: Units, look: Look, args: Sequence[Any], result: Any) -> Label:
    label = list(look(args[0]))
    one, other = args[1:3] if len(args) > 1 else (0, -1)
    if label:
        label[one], label[other] = label[other], label[one]
    return label


def _permute(units: Units, look: Look, args: Sequence[Any], result: Any) -> Label:
    label = look(args[0])
    return [label[axis] for axis in args[1]]


def _unsqueeze(units: Units, look: Look, args: Sequence[Any], result: Any) -> Label:
    label = list(look(args[0]))
    label.insert(args[1] % result.dim(), np.zeros(1, dtype=np.int64))
    return label


def _squeeze(units: Units, look: Look, args: Sequence[Any], result: Any) -> Label:
    label = look(args[0])
    dims = range(len(label)) if len(args) == 1 else [args[1]] if isinstance(args[1], int) else args[1]
    gone = {d % len(label) for d in dims if len(label[d]) == 1}
    return [ids for axis, ids in enumerate(label) if axis not in gone]


def _expand(units: Units, look: Look, args: Sequence[Any], result: Any) -> Label:
    label = look(args[0])
    new = result.dim() - len(label)
    kept = [ids if len(ids) == n else units.fresh(n) for ids, n in zip(label, result.shape[new:], strict=True)]
    return [units.fresh(n) for n in result.shape[:new]] + kept


def _select(units: Units, look: Look, args: Sequence[Any], result: Any) -> Label:
    label = list(look(args[0]))
    gone = label.pop(args[1])
    units.pin(gone[[args[2]]])
    return label


def _slice(units: Units, look: Look, args: Sequence[Any], result: Any) -> Label:
    label = list(look(args[0]))
    axis, start, stop, step = list(args[1:]) + [0, None, None, 1][len(args) - 1 :]
    label[axis] = units.slice(label[axis], slice(start, stop, step))
    return label


def _split(units: Units, look: Look, args: Sequence[Any], result: Any) -> list[Label]:
    axis, labels, start = (args[2] if len(args) > 2 else 0), [], 0
    for part in result:
        label, n = list(look(args[0])), part.shape[axis]
        label[axis] = units.slice(label[axis], slice(start, start + n))
        labels.append(label)
        start += n
    return labels


def _cat(units: Units, look: Look, args: Sequence[Any], result: Any) -> Label:
    labels = [look(tensor) for tensor in args[0] if tensor.numel()]
    axis = (args[1] if len(args) > 1 else 0) % len(labels[0])
    for label in labels[1:]:
        for i in range(len(label)):
            if i != axis:
                units.tie(label[i], labels[0][i])
    out = list(labels[0])
    out[axis] = np.concatenate([label[axis] for label in labels])
    return out


def _pad(units: Units, look: Look, args: Sequence[Any], result: Any) -> Label:
    """Entries that a constant is put in are alike and new; an axis in which nothing moves gets more that does not."""
    label = list(look(args[0]))
    for i in range(len(args[1]) // 2):
        before, after = args[1][2 * i : 2 * i + 2]
        ids = label[-1 - i]
        ids = units.slice(ids, slice(max(0, -before), len(ids) - max(0, -after)))
        new = [units.fresh(max(0, n)) for n in (before, after)]
        if not units.movable([ids]):
            new = [np.zeros_like(each) for each in new]
        label[-1 - i] = np.concatenate([new[0], ids, new[1]])
    return label


def _image(units: Units, look: Look, args: Sequence[Any], result: Any) -> Label | list[Label]:
    """Pooling and resizing work on each channel alone; pixels do not move."""
    label = look(args[0])
    first = result[0] if isinstance(result, (tuple, list)) else result
    channels = len(label) - _SPATIAL_OF.get(len(label), 2)
    for ids in label[channels:]:
        units.pin(ids)
    out = [*label[:channels], *still(first)[channels:]]
    return [out, out] if isinstance(result, (tuple, list)) else out


_SPATIAL_OF = {5: 3}  # a batch of volumes; a batch of images and one image have two


def _embedding(units: Units, look: Look, args: Sequence[Any], result: Any) -> Label:
    words, width = look(args[0])
    units.pin(words)
    return [*look(args[1]), width]


def _table(*rows: tuple[Rule, str]) -> Mapping[str, Rule]:
    return {name: rule for rule, names in rows for name in names.split()}


RULES = _table(
    (
        _pointwise,
        "add sub mul div relu gelu silu sigmoid tanh hardtanh hardswish hardsigmoid leaky_relu elu softplus mish exp "
        "log sqrt rsqrt pow neg abs clamp clamp_min clamp_max maximum minimum where copy erf sin cos square reciprocal "
        "_prelu_kernel log1p expm1 threshold addcmul lerp",
    ),
    (_same, "clone alias detach contiguous _to_copy lift_fresh _softmax _log_softmax fill zero"),
    (
        _constant,
        "zeros ones full empty zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty",
    ),
    (_reduced, "mean sum amax amin var logsumexp"),
    (_convolution, "convolution"),
    (_batch_norm, "native_batch_norm _native_batch_norm_legit_no_training"),
    (_layer_norm, "native_layer_norm"),
    (_group_norm, "native_group_norm"),
    (_matrix, "mm bmm mv"),
    (_add_matrix, "addmm"),
    (_reshape, "view _unsafe_view reshape"),
    (_transpose, "t transpose"),
    (_permute, "permute"),
    (_unsqueeze, "unsqueeze"),
    (_squeeze, "squeeze"),
    (_expand, "expand"),
    (_select, "select"),
    (_slice, "slice"),
    (_split, "split split_with_sizes"),
    (_cat, "cat"),
    (_pad, "constant_pad_nd"),
    (
        _image,
        "avg_pool2d max_pool2d_with_indices _adaptive_avg_pool2d avg_pool3d max_pool3d_with_indices "
        "_adaptive_avg_pool3d upsample_nearest2d upsample_bilinear2d adaptive_max_pool2d",
    ),
    (_embedding, "embedding"),
)
"""Rules by the name of the operation, in place or not."""

COMPUTED = (_pointwise, _convolution, _matrix, _add_matrix)
"""Rules of operations that compute new activations; with one input, those of the first are nonlinearities."""
