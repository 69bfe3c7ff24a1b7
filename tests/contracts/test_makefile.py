"""`make` says it when `.venv` is another Python's than the one that was asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def make(tmp_path: Path):
    if shutil.which("make") is None:
        pytest.skip("there is no make here")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    for interpreter, version in ((".venv/bin/python", "3.11"), ("same", "3.11"), ("other", "3.12")):
        path = tmp_path / interpreter
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\necho {version}\n")
        path.chmod(0o755)

    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "MAKEFLAGS", "MAKELEVEL")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["make", "-n", "demo", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=clean)

    return run


def test_an_environment_of_another_python_is_not_used(make) -> None:
    done = make("PYTHON=./other")
    assert done.returncode == 2
    assert ".venv has Python 3.11, and ./other is Python 3.12: remove .venv first" in done.stderr


def test_one_of_the_same_python_is_and_so_is_any_where_none_is_asked_for(make) -> None:
    for arguments in (["PYTHON=./same"], []):
        done = make(*arguments)
        assert done.returncode == 0, done.stderr
        assert "signet-translate examples" in done.stdout


@pytest.mark.parametrize(("version", "works"), [("3.10", False), ("3.15", False), ("3.11", True), ("3.14", True)])
def test_a_python_that_is_too_old_or_new_is_said_before_pip_is_asked(make, tmp_path: Path, version, works) -> None:
    shutil.rmtree(tmp_path / ".venv")
    (tmp_path / "other").write_text(f"#!/bin/sh\necho {version}\n")
    done = make("PYTHON=./other")
    assert (done.returncode == 0) == works
    if not works:
        assert f"SIGNET needs Python 3.11 to 3.14, and ./other is {version}: install one" in done.stderr
    assert "and ./none is not there" in make("PYTHON=./none").stderr
