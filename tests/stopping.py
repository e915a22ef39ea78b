"""Commands that are told to stop on the way, or are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

CODE = "import sys; from cli.main import landscape; sys.argv[0] = 'landscape'; landscape()"


def stop(words: Sequence[str | Path], begun: Callable[[], object], number: signal.Signals) -> str:
    """Run a command in a process of its own, send it a signal once it has begun, and return what it said."""
    running = subprocess.Popen(
        [sys.executable, "-c", CODE, *map(str, words)],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while not begun():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    running.send_signal(number)
    _, told = running.communicate(timeout=200)
    assert running.returncode == (-9 if number == signal.SIGKILL else 75), told
    return told
