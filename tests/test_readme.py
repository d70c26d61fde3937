"""The README's console blocks are what its commands print, and its Python examples run."""

import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"

pytestmark = pytest.mark.skipif(not README.is_file(), reason="no README beside the tests")


def _blocks(language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )


def test_console_blocks_of_the_readme_are_what_the_commands_print(tmp_path: Path) -> None:
    spec = spec_from_file_location("make_readme", ROOT / "docs" / "make_readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    text = README.read_text(encoding="utf-8")
    assert sum(block.count("$ crowdselect") for block in _blocks("console")) >= 5
    assert module.refreshed(text, tmp_path) == text, "run: python docs/make_readme.py"


def test_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = _blocks("python")
    assert blocks
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    subprocess.run(
        [str(Path(sys.executable).parent / "crowdselect"), "simulate", "-o", "pool.parquet"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-c", block],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (block, done.stderr)
