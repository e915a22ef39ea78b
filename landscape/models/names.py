"""Names of networks: the grammar, the list, and the error for a name that is neither. Imports no torch.

A name is a family and its numbers: `resnet8-w16` is a ResNet of depth 8 whose first stage is 16 channels wide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from landscape.errors import UsageError, nearest


@dataclass(frozen=True)
class Family:
    """Networks that differ in numbers only.

    Attributes:
        name: Key of the family.
        form: How its names are written.
        pattern: Regular expression of a whole name.
        step: Depths are step·n + offset for n ≥ 1; 0 where the numbers are no depths.
        offset: See `step`.
        also: A further depth, outside the rule; 0 for none.
    """

    name: str
    form: str
    pattern: str
    step: int = 0
    offset: int = 0
    also: int = 0


_NUMBER = "([1-9][0-9]{0,4})"  # up to 99,999: a slip of the finger must not ask for a terabyte

FAMILIES = (
    Family("mlp", "mlp-WIDTH-WIDTH-…", f"mlp(?:-{_NUMBER})*"),
    Family("resnet", "resnetDEPTH-wWIDTH", f"resnet{_NUMBER}(?:-w{_NUMBER})?", 6, 2, also=18),
    Family("preactresnet", "preactresnet-DEPTH", f"preactresnet-{_NUMBER}", 9, 2),
    Family("wrn", "wrn-DEPTH-FACTOR", f"wrn-{_NUMBER}-{_NUMBER}", 6, 4),
    Family("pyramidnet", "pyramidnet-DEPTH-ALPHA", f"pyramidnet-{_NUMBER}-{_NUMBER}", 6, 2),
)

_KNOWN = {
    "mlp": "fully connected, hidden layers of 500 and 300 units",
    "mlp-64-32": "fully connected, hidden layers of 64 and 32 units; any number of any widths",
    "resnet8": "ResNet, one block in each of three stages, 8-16-32 channels",
    "resnet8-w16": "the same with 16-32-64 channels; any width",
    "resnet20-w16": "ResNet as first published for CIFAR, 16-32-64 channels; any depth 6n+2, any width",
    "resnet18": "ResNet-18 in its CIFAR form, 64-128-256-512 channels",
    "resnet18-w16": "the same with 16-32-64-128 channels; any width",
    "preactresnet-20": "pre-activation ResNet, two bottlenecks a stage; any depth 9n+2",
    "preactresnet-164": "pre-activation ResNet, eighteen bottlenecks a stage",
    "wrn-10-1": "wide ResNet, one block a stage, 16-32-64 channels; any depth 6n+4, any factor",
    "wrn-28-10": "wide ResNet, four blocks a stage, 160-320-640 channels",
    "pyramidnet-20-48": "PyramidNet, three basic blocks a stage, 16 to 64 channels; any depth 6n+2, any alpha",
    "pyramidnet-110-270": "PyramidNet, eighteen basic blocks a stage, 16 to 286 channels",
}


def known_names() -> dict[str, str]:
    """List networks worth naming, each with one line on what it is; `FAMILIES` says which others exist."""
    return dict(_KNOWN)


def parse(name: str) -> tuple[str, tuple[int, ...]]:
    """Split a name into its family and numbers, defaults filled in.

    Args:
        name: As the user wrote it, `wrn-10-1`.

    Returns:
        Key of the family and its numbers, `("wrn", (10, 1))`.

    Raises:
        UsageError: If no family writes its names so, or the family has no such depth.
    """
    for family in FAMILIES:
        if re.fullmatch(family.pattern, name):
            numbers = tuple(int(digits) for digits in re.findall(r"\d+", name))
            _check_depth(name, family, numbers)
            return family.name, _with_defaults(family.name, numbers)
    forms = ", ".join(family.form for family in FAMILIES)
    raise UsageError(f"no network is called {name!r}; names are written {forms}", nearest(name, _KNOWN))


def _check_depth(name: str, family: Family, numbers: tuple[int, ...]) -> None:
    """Refuse a depth that does not divide into whole blocks.

    Raises:
        UsageError: With the depths that do.
    """
    if family.step == 0 or numbers[0] == family.also:
        return
    blocks, rest = divmod(numbers[0] - family.offset, family.step)
    if blocks < 1 or rest:
        first = ", ".join(str(family.step * n + family.offset) for n in (1, 2, 3))
        also = f" or {family.also}" if family.also else ""
        rule = f"{family.step}n+{family.offset} ({first}, …){also}"
        raise UsageError(f"{name!r}: expected a depth of {rule}, got {numbers[0]}", nearest(name, _KNOWN))


def _with_defaults(family: str, numbers: tuple[int, ...]) -> tuple[int, ...]:
    """Fill in what the short names leave out: widths of `mlp`, width of the first stage of `resnetDEPTH`."""
    if family == "mlp":
        return numbers or (500, 300)
    if family == "resnet" and len(numbers) == 1:
        return (*numbers, {8: 8, 18: 64}.get(numbers[0], 16))  # 16 and 64 are the published widths
    return numbers
