"""Asks an experiment and keeps the answer: compute, provenance, file."""

from __future__ import annotations

import shlex
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscape import store
from landscape.files import check_target
from landscape.options import as_dict, as_flags
from landscape.result import Provenance
from landscape.types import Progress, quiet

if TYPE_CHECKING:
    from analyses.experiments import Experiment


def ask(
    experiment: Experiment,
    options: Any,
    out: Path,
    *,
    force: bool = False,
    device: str = "cpu",
    dtype: str = "float64",
    progress: Progress = quiet,
) -> Any:
    """Compute an experiment and write its result.

    Args:
        experiment: The question.
        options: The experiment's options.
        out: File to write.
        force: Whether it may be replaced.
        device: Where to compute.
        dtype: Floating point type, "float32" or "float64".
        progress: Told how far it is.

    Returns:
        The result.

    Raises:
        UsageError: If the file exists and `force` is not set, or an option is wrong.
        InputError: If the place cannot be written to.
        ResourceError: If the disk is full.
    """
    from landscape.training.state import versions

    check_target(out, force, ())
    began = time.monotonic()
    result = experiment.compute(options=options, progress=progress, device=device, dtype=dtype)
    provenance = Provenance(
        analysis=experiment.NAME,
        command=command(experiment, options, out, dtype),
        options=as_dict(options),
        problem="",
        data="",
        inputs={},
        trained={},
        device=device,
        dtype=dtype,
        versions=versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - began, 3),
    )
    store.save(out, result, provenance, force)
    return result


def command(experiment: Experiment, options: Any, out: Path, dtype: str) -> str:
    """The shell command that asks the same again, options at their defaults left out."""
    words = ["landscape", "toy", experiment.NAME, *as_flags(options)]
    if dtype != "float64":
        words += ["--dtype", dtype]
    return shlex.join([*words, "--out", str(out)])
