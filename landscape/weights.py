"""Weights from any file: what is in it, without running anything that is in it.

Reads this toolkit's checkpoints and the layouts found in the wild: a bare state_dict, one under the keys that
trainers use, with the prefixes that DataParallel and torch.compile add. Every guess is said.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError  # the error's type only; nothing is unpickled
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import InputError

_KEYS = ("state_dict", "model", "model_state_dict", "net", "network", "params", "weights")
_PLAIN = "save only the weights: torch.save(model.state_dict(), PATH)"
_PREFIXES = ("module.", "_orig_mod.")


def read_tensors(path: Path) -> Any:
    """Read a torch file with `weights_only=True`.

    Args:
        path: A file written by `torch.save`.

    Returns:
        Its content: tensors, numbers, texts and containers of them.

    Raises:
        InputError: If it is missing, damaged, of another kind, or holds anything that would have to be run.
    """
    _sniff(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about protocols of files that are refused anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except (
        OSError,
        RuntimeError,
        ValueError,
        KeyError,
        IndexError,
        EOFError,
        AssertionError,
        UnpicklingError,
    ) as error:
        text = str(error)
        if "Unsupported global" in text or ("weights_only" in text.lower() and "GLOBAL" in text):
            named = text.partition("GLOBAL ")[2].split(" ")[0] or "objects"
            raise InputError(
                f"{path} holds code or objects beside tensors ({named}); nothing of it was run",
                _PLAIN,
            ) from error
        if path.read_bytes()[:1] == b"\x80":
            raise InputError(f"{path} is a pickle of objects; nothing of it was run", _PLAIN) from error
        raise InputError(
            f"{path} cannot be read as a torch file; it is cut short, damaged or of another kind",
            "copy it again, or write it anew with torch.save",
        ) from error


def _sniff(path: Path) -> None:
    if not path.exists():
        close = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.pt")], n=1)
        remedy = f"did you mean {path.parent / close[0]}?" if close else "check the path"
        raise InputError(f"{path} does not exist", remedy)
    if path.is_dir():
        raise InputError(f"{path} is a directory, not a checkpoint file", "name the file inside it")
    if not path.is_file():
        raise InputError(f"{path} is not a regular file", "name a checkpoint file")
    with path.open("rb") as file:
        start = file.read(64)
    kinds = {
        b"": ("is empty", "copy it again"),
        b"\x89HDF\r\n": (
            "is a result (HDF5), not a checkpoint",
            "open it with: landscape inspect, or landscape report",
        ),
        b"version https://git-lfs": ("is a Git LFS pointer, not the file itself", "fetch it with: git lfs pull"),
        b"<": ("is a web page, not a checkpoint", "download the file itself"),
    }
    for magic, (what, remedy) in kinds.items():
        if start.lstrip().startswith(magic) if magic else not start:
            raise InputError(f"{path} {what}", remedy)


def state_dict_of(content: object, path: Path, say: Callable[[str], None]) -> dict[str, Tensor]:
    """Find the state_dict in a file's content.

    Args:
        content: What the file holds.
        path: Where it came from, for messages.
        say: Told of every guess made.

    Returns:
        Tensors by name, wrappers' prefixes stripped.

    Raises:
        InputError: If no state_dict, or more than one, is there.
    """
    if not isinstance(content, Mapping):
        raise InputError(
            f"{path} holds a {type(content).__name__}, not weights by name", "save model.state_dict() instead"
        )
    found = {key: content[key] for key in _KEYS if _is_state(content.get(key))}
    if _is_state(content):
        found = {"": content}
    if len(found) != 1:
        what = f"several sets of weights ({', '.join(found)})" if found else "no weights by name"
        raise InputError(f"{path} holds {what}", "save model.state_dict() alone")
    key, weights = next(iter(found.items()))
    if key:
        say(f"{path.name}: weights taken from the key '{key}'")
    names = list(weights)
    prefix = ""
    while step := next((p for p in _PREFIXES if all(n.startswith(prefix + p) for n in names)), ""):
        prefix += step
    if prefix:
        say(f"{path.name}: the prefix '{prefix}' was stripped from every name")
    return {name.removeprefix(prefix): value for name, value in weights.items()}


def _is_state(value: object) -> bool:
    return isinstance(value, Mapping) and len(value) > 0 and all(isinstance(v, Tensor) for v in value.values())


def load_into(model: nn.Module, weights: Mapping[str, Tensor], path: Path, say: Callable[[str], None]) -> None:
    """Load a state_dict into a network, all of it or nothing.

    Args:
        model: The network.
        weights: Tensors by name; half precision is widened to the network's type.
        path: Where they came from, for messages.
        say: Told if one prefix that all names share was stripped.

    Raises:
        InputError: If names or shapes are not the network's; all differences are counted, three are named.
    """
    own = model.state_dict()
    prefix = next(iter(weights)).partition(".")[0] + "."
    if own.keys() == {name.removeprefix(prefix) for name in weights} != set(weights):
        say(f"{path.name}: the prefix '{prefix}' was stripped from every name")
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    missing = sorted(own.keys() - weights.keys())
    foreign = sorted(weights.keys() - own.keys())
    shapes = [
        f"{name} has shape {tuple(weights[name].shape)}, expected {tuple(value.shape)}"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    ]
    faults = shapes + [f"{n} is missing" for n in missing] + [f"{n} is not in the network" for n in foreign]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise InputError(f"{path} does not fit the network: {'; '.join(faults[:3])}{more}", "check --problem")
    model.load_state_dict(dict(weights))
