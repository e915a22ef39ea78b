"""The house stands as it was drawn: three floors, arrows down, fences kept, a command line that starts at once."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ("landscape", "analyses", "cli")
FILES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))
FENCES = {
    "click": ("cli/",),
    "h5py": ("landscape/store.py", "landscape/surface_file.py", "landscape/curvature/"),
    "pyhessian": ("landscape/curvature/",),
    "jinja2": ("landscape/report.py",),
    "plotly": ("landscape/report.py", "landscape/style.py", "analyses/"),
    "rich": ("cli/",),
    "sklearn": (),
    "pickle": ("landscape/weights.py",),
}
COMPOSED = {
    "run",
    "pages",
    "compare",
    "demo",
    "exchange",
}  # what puts analyses together, beside the analyses themselves


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name)
def test_imports_point_down_and_stay_inside_the_fences(path: Path) -> None:
    floor = FLOORS.index(name(path).split("/")[0])
    above = FLOORS[floor + 1 :]
    for found in imports(path):
        top = found.split(".")[0]
        assert top not in above, f"{name(path)} imports {found} from a floor above"
        if top in FENCES:
            assert name(path).startswith(FENCES[top]), f"{name(path)} imports {found}"


def test_an_analysis_imports_no_other_analysis() -> None:
    from analyses import REGISTRY

    questions = {analysis.NAME for analysis in REGISTRY}
    for question in questions:
        path = ROOT / "analyses" / f"{question}.py"
        others = {f"analyses.{other}" for other in (questions | COMPOSED) - {question}}
        assert not others & set(imports(path))
        assert "analyses" not in set(imports(path))


def test_help_answers_in_half_a_second_without_torch_or_plotly() -> None:
    code = (
        "import sys; sys.argv = ['landscape', '--help']\n"
        "from cli.main import landscape\n"
        "try: landscape()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'plotly', 'h5py', 'scipy', 'jinja2'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    seconds = []
    for _ in range(5):
        began = sum(os.times()[2:4])  # of children: a loaded machine does not count
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
        seconds.append(sum(os.times()[2:4]) - began)
        assert done.returncode == 0, done.stderr
        assert "landscape demo --out demo/" in done.stdout
    assert min(seconds) < 0.5, f"took {seconds}"


def test_version_and_command_help_do_not_import_torch() -> None:
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom cli.main import landscape\n"
        "for words in (['--version'], *([name, '--help'] for name in landscape.commands)):\n"
        "    assert CliRunner().invoke(landscape, words).exit_code == 0, words\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_every_package_is_typed_and_no_module_is_too_long() -> None:
    for floor in FLOORS:
        assert (ROOT / floor / "py.typed").is_file()
    long = {name(path): lines for path in FILES if (lines := path.read_text().count("\n")) > 400}
    assert not long
