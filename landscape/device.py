"""Which device a command runs on, decided once."""

from __future__ import annotations

import contextlib
import ctypes
import sys

import torch

from landscape.errors import UsageError


def choose(name: str) -> str:
    """Turn "auto", "cpu", "cuda", "cuda:1" or "mps" into a device that is there.

    Args:
        name: What the user asked for; "auto" is a GPU where there is one, else the CPU.

    Returns:
        The device's name.

    Raises:
        UsageError: If there is no such device.
    """
    keep_memory()
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in {"cpu", "cuda", "mps"} or (index and not index.isdecimal()):
        raise UsageError(f"unknown device '{name}'", "known: auto, cpu, cuda, cuda:0, mps")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[kind]
    if not there or (kind == "cuda" and int(index or 0) >= torch.cuda.device_count()):
        raise UsageError(f"this machine has no device '{name}'", "use --device cpu, or auto")
    return name


def keep_memory() -> None:
    """Let freed memory stay with the process, where the C library is glibc.

    It gives blocks of more than 32 MiB, and what is free at the end of the heap, back at once; a network asks for the
    same blocks again, and to have them cleared page by page takes up to a third of a forward pass.
    """
    if sys.platform != "linux":
        return
    trim_threshold, mmap_threshold, arena_max = -1, -3, -8  # malloc.h
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(mmap_threshold, 1 << 30)
        library.mallopt(trim_threshold, (1 << 31) - 1)
        library.mallopt(arena_max, 1)
