"""What `make lint` asks of types, it asks of calls to every package of ours."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
PACKAGES = {"signet_runtime": ROOT, "signet_train": ROOT, "signet_export": ROOT / "export"}


def check(snippet: str, directory: Path) -> str:
    """What mypy says of a module with the project's settings; without other packages' types, which takes seconds."""
    path = directory / "snippet.py"
    path.write_text(snippet, encoding="utf-8")
    fast = ["--no-site-packages", "--disable-error-code", "import-not-found", "--cache-dir", str(directory / "cache")]
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), *fast, str(path)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.returncode in (0, 1), said.stdout + said.stderr
    return "\n".join(line for line in said.stdout.splitlines() if path.name in line)


def test_a_wrong_argument_is_noticed(tmp_path: Path) -> None:
    call = "from pathlib import Path\nfrom signet_export.archive import write_archive\nwrite_archive({}, Path('x'))\n"
    right = "from signet_runtime.bundle import Bundle\n" + call.format("Bundle.load(None)")
    assert check(right, tmp_path) == ""
    wrong = check(call.format("3"), tmp_path)
    assert 'Argument 1 to "write_archive" has incompatible type "int"' in wrong


def test_a_module_of_ours_that_is_not_there_is_an_error() -> None:
    settings = SETTINGS["mypy"]
    assert "ignore_missing_imports" not in settings and settings["disallow_untyped_defs"]
    excused = {name.split(".")[0] for override in settings["overrides"] for name in override["module"]}
    assert not excused & {*PACKAGES, "benchmarks", "*"}
    assert {Path(directory).name for directory in settings["files"]} == {*PACKAGES, "benchmarks", "manual"}


def test_packages_say_that_they_have_types() -> None:
    for package, home in PACKAGES.items():
        assert (home / package / "py.typed").is_file()
        assert "py.typed" in SETTINGS["setuptools"]["package-data"][package]
