"""README's commands run, in order, and print what README says; `python tests/test_readme.py` writes it anew.

Digits are compared as digits only: another processor rounds differently.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
MAKE = ("make demo", "make test")


def run(command: str, directory: Path) -> str:
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, shell=True, cwd=directory, capture_output=True, text=True, check=False,
        env=os.environ | {"PATH": places, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def commands(block: str) -> list[tuple[str, str]]:
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def shape(text: str) -> str:
    """Words without numbers, which side of a comparison won, or long hashes."""
    text = re.sub(r"\b[0-9a-f]{16,}\b", "HASH", text)
    text = re.sub(r"[−-]?\d[\d.,]*(·10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)?", "N", text)
    return re.sub(r"N to N|N \(N\)", "N", text)


@pytest.mark.timeout(900)  # some twenty commands, the last of which asks everything
def test_the_commands_print_what_the_readme_says(tmp_path: Path) -> None:
    found = [pair for block in BLOCK.findall(README.read_text()) for pair in commands(block)]
    assert len(found) >= 10
    for command, expected in found:
        printed = run(command, tmp_path)
        assert expected.strip(), f"README shows no output of: {command}"
        told, shown = (shape(text).splitlines() for text in (printed, expected))
        assert [line.split(":")[0] for line in told] == [line.split(":")[0] for line in shown], command
    assert (tmp_path / "pair" / "report.html").is_file()


def test_the_two_commands_stand_first() -> None:
    text = README.read_text()
    makefile = (README.parent / "Makefile").read_text()
    for command in MAKE:
        assert f"    {command}" in text
        assert f"\n{command.split()[1]}:" in makefile
    assert text.index("docs/report.png") < text.index("    make demo") < text.index("$ landscape")
    assert (README.parent / "docs" / "report.png").stat().st_size < 1_000_000


def test_the_example_problem_works(tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert code is not None
    (tmp_path / "my_study.py").write_text(code[1])
    assert len(code[1].strip().splitlines()) <= 20
    printed = run("landscape train my_study.py:problem --method psam --epochs 2 --out a.pt", tmp_path)
    assert printed.startswith("a.pt: psam")


def write() -> None:
    with tempfile.TemporaryDirectory() as directory:

        def anew(match: re.Match[str]) -> str:
            parts = [f"$ {command}\n{run(command, Path(directory))}" for command, _ in commands(match[1])]
            return f"```console\n{''.join(parts)}```"

        README.write_text(BLOCK.sub(anew, README.read_text()))


if __name__ == "__main__":
    write()
