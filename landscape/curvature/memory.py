"""How much memory kept graphs may take, how much they take, and how running out of it is told from other failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

_CPU_BUDGET = 4 << 30
_MESSAGES = ("out of memory", "not enough memory", "can't allocate memory")


def default_budget(device: torch.device) -> int:
    """Bytes that kept graphs may occupy when the user did not say.

    Args:
        device: Where the graphs lie.

    Returns:
        Half of the free memory of a GPU, 4 GiB elsewhere.
    """
    return int(torch.cuda.mem_get_info(device)[0]) // 2 if device.type == "cuda" else _CPU_BUDGET


def saved_bytes(build: Callable[[], object], shared: Iterable[Tensor]) -> int:
    """Count what autograd saves while a graph is built.

    Args:
        build: Builds the graph, which is thrown away.
        shared: Tensors that exist anyway and do not count.

    Returns:
        Bytes of all storages that the graph keeps alive, each counted once.
    """
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> int:
        saved.append(tensor)
        return len(saved) - 1

    with saved_tensors_hooks(pack, saved.__getitem__):
        build()
    sizes = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in saved}
    for tensor in shared:
        sizes.pop(tensor.untyped_storage().data_ptr(), None)
    saved.clear()  # an operation that saves its own output would keep itself alive
    return sum(sizes.values())


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory ran out, on a GPU or, where PyTorch has no class for it, on a CPU.

    Args:
        error: What was raised.

    Returns:
        True if less work at once may help.
    """
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error).lower() for words in _MESSAGES)
