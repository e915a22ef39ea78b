"""Permutation symmetries of a network: found by following units through a forward pass, and matched between networks.

Hidden units have no natural order: permuting them together with all that reads and writes them leaves the function
as it is. `trace` finds which weights belong to which units for any `nn.Module`, `matching` finds the permutation
that brings one network's units into the order of another's.

Source: Ainsworth et al. 2022, arXiv 2209.04836.
"""

from landscape.symmetry.activations import match_activations
from landscape.symmetry.matching import Matching, match, product
from landscape.symmetry.permutation import Permutation, identity, permuted, shuffled
from landscape.symmetry.trace import Probe, Traced, traced
from landscape.symmetry.units import Group, Place

__all__ = [
    "Group",
    "Matching",
    "Permutation",
    "Place",
    "Probe",
    "Traced",
    "identity",
    "match",
    "match_activations",
    "permuted",
    "product",
    "shuffled",
    "traced",
]
