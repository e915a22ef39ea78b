"""Experiments: questions that need no checkpoint, as landscapes with a formula; one file each."""

from __future__ import annotations

from typing import Any

EXPERIMENTS: tuple[Any, ...] = ()
"""Modules as those of `analyses.REGISTRY`, but `compute(*, options, progress, device, dtype)`."""
