"""Contexts in which a second derivative is exact and after which nothing is changed.

A curvature measurement must not be able to alter what it measures, nor the training that goes on afterwards:
every flag that is set here is set back on the way out, also when an exception passes through.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.curvature.bilinear import TwiceDifferentiable

BatchNormMode = Literal["eval", "train"]


@contextmanager
def evaluation(model: nn.Module, batchnorm: BatchNormMode) -> Iterator[None]:
    """Put the modules in the mode of a measurement, whatever mode each was in.

    The flags are set one by one and not by `model.train()`, which a subclass may have given side effects.
    Only BatchNorm ever trains here: dropout would make the objective random.

    Args:
        model: Network whose `training` flags are set and set back.
        batchnorm: "eval" for the running statistics, "train" for those of the batch.

    Yields:
        Nothing.
    """
    flags = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in flags:
            module.training = batchnorm == "train" and isinstance(module, _BatchNorm)
        yield
    finally:
        for module, flag in flags:
            module.training = flag


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Run with random numbers that start at a seed; the global generators come back bitwise.

    Args:
        device: Device of the model; its generator is set and set back, other devices are left alone.
        seed: Where the generators of the CPU and of this device start.

    Yields:
        Nothing.
    """
    generators = [torch.default_generator]
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    states = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(seed)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


@contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """Multiply float32 as IEEE float32: no TF32, no bfloat16, no autocast; and with gradients enabled.

    TF32 keeps 10 bits of the mantissa and is PyTorch's default for convolutions on a GPU. It moves eigenvalues by
    up to 3e-3 and no residual that is computed with the same products can show it.

    Args:
        device: Device for which autocast is turned off.

    Yields:
        Nothing.
    """
    flags = _float32_flags()
    try:
        _forbid_reduced_precision()
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        _restore_float32(flags)


@contextmanager
def deterministic() -> Iterator[None]:
    """Use only algorithms that give the same bits each time; PyTorch refuses those that have none.

    A matter of GPUs: cuBLAS needs a workspace of its own for it, which it reads from the environment when its first
    handle is made.

    Yields:
        Nothing.
    """
    flags = (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())
    cudnn = (_CUDNN.deterministic, _CUDNN.benchmark)
    workspace = os.environ.get(_WORKSPACE)
    try:
        os.environ.setdefault(_WORKSPACE, ":4096:8")
        torch.use_deterministic_algorithms(True)
        _CUDNN.deterministic, _CUDNN.benchmark = True, False
        yield
    finally:
        _CUDNN.deterministic, _CUDNN.benchmark = cudnn
        torch.use_deterministic_algorithms(flags[0], warn_only=flags[1])
        if workspace is None:
            os.environ.pop(_WORKSPACE, None)


_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_CUDNN: Any = torch.backends.cudnn
_MKLDNN: Any = torch.backends.mkldnn
_BACKENDS: tuple[Any, ...] = (
    torch.backends.cuda.matmul,
    *(_CUDNN.conv, _CUDNN.rnn),
    *(_MKLDNN.matmul, _MKLDNN.conv, _MKLDNN.rnn),
)


def _float32_flags() -> tuple[tuple[str, bool] | None, list[str]]:
    """Read both interfaces to the precision of float32; the older one refuses after the newer one was used."""
    try:
        older = (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
    except RuntimeError:
        older = None
    return older, [backend.fp32_precision for backend in _BACKENDS]


def _forbid_reduced_precision() -> None:
    if _float32_flags()[0] is not None:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
    for backend in _BACKENDS:
        if backend.fp32_precision not in {"ieee", "none"}:
            backend.fp32_precision = "ieee"


def _restore_float32(flags: tuple[tuple[str, bool] | None, list[str]]) -> None:
    older, newer = flags
    if older is not None:
        torch.set_float32_matmul_precision(older[0])
        torch.backends.cudnn.allow_tf32 = older[1]
    for backend, precision in zip(_BACKENDS, newer, strict=True):
        if backend.fp32_precision != precision:
            backend.fp32_precision = precision


@contextmanager
def forward_pass(model: nn.Module, device: torch.device, batchnorm: BatchNormMode, seed: int) -> Iterator[None]:
    """Run the network deterministically, through operations that can be differentiated twice.

    Fused attention has no second derivative in PyTorch, so the plain formula takes its place.

    Args:
        model: Network whose `training` flags are set and set back.
        device: Where it runs.
        batchnorm: See `evaluation`.
        seed: See `seeded`.

    Yields:
        Nothing.
    """
    with evaluation(model, batchnorm), seeded(device, seed), sdpa_kernel(SDPBackend.MATH), TwiceDifferentiable():
        yield
