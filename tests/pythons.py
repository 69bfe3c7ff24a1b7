"""Try the project in every Python that it says it runs on, outside of this clone; `make test-pythons` runs it.

    python tests/pythons.py [INTERPRETER...]

Of each version one interpreter is taken: one that was named, else what is on the path or pyenv has. In a fresh
environment it installs the wheel for edge use, translates the example videos, and keypoints of one of them. An
interpreter that has PyTorch and pytest of its own also exports a tiny checkpoint; for the others these gigabytes are
not installed. Where there is no interpreter, the install is resolved for its version, from wheels alone, and nothing
runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
CONSTRAINTS = ("--constraint", str(ROOT / "constraints.txt"))
EXPORT = "tests/export/test_export.py::test_export_equals_pytorch_on_fresh_input"
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")


class FailedError(Exception):
    """Something did not do what it should; what."""


def main(named: Sequence[str]) -> int:
    """Try every version, say how each went, and return the exit code."""
    failures = 0
    environments = {_version(name): name for name in named}
    with tempfile.TemporaryDirectory() as scratch:
        wheel = _build(Path(scratch))
        for version in VERSIONS:
            found = environments.get(version) or next(_interpreters(version), None)
            try:
                done = _try(found, wheel, Path(scratch) / version) if found else _resolve(version, wheel)
            except FailedError as error:
                failures += 1
                done = f"FAILED: {error}"
            print(f"Python {version}: {done}", flush=True)
    return 1 if failures else 0


def _interpreters(version: str) -> Iterator[str]:
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for candidate in (shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"))):
        if candidate and _version(str(candidate)) == version:
            yield str(candidate)


def _version(interpreter: str) -> str | None:
    code = "import sys; print('{}.{}'.format(*sys.version_info))"
    done = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None  # pyenv's stand-ins fail where none is chosen


def _build(scratch: Path) -> Path:
    """Build the wheel from a copy, for what an earlier build left in the clone would get into it."""
    unwanted = shutil.ignore_patterns(".*", "build", "data", "runs", "shared", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, scratch / "source", ignore=unwanted)
    _run(sys.executable, *PIP, "wheel", "--no-deps", "--wheel-dir", scratch, scratch / "source", within=scratch)
    (wheel,) = scratch.glob("*.whl")
    if not wheel.name.endswith("-py3-none-any.whl"):
        raise SystemExit(f"{wheel.name} is not for every Python and system")
    return wheel


def _try(interpreter: str, wheel: Path, place: Path) -> str:
    _run(interpreter, "-m", "venv", place, within=place.parent)
    scripts = place / ("Scripts" if sys.platform == "win32" else "bin")
    _run(scripts / "python", *PIP, "install", *CONSTRAINTS, f"{wheel}[edge]", within=place)
    _run(scripts / "python", "-m", "signet_runtime.pose.models", within=place)

    def translate(*arguments: object) -> str:
        return _run(scripts / "signet-translate", "--offline", *arguments, within=place)

    videos = sorted((ROOT / "examples").glob("*.mp4"))
    _expect(translate(*videos), (ROOT / "examples/expected.txt").read_text(encoding="utf-8"), "the example videos")
    keypoints = place / "keypoints.npz"
    text = translate(videos[0], "--keypoints-out", keypoints)
    _expect(translate(keypoints), text, "the keypoints of a video")
    exported = _export(interpreter)
    shutil.rmtree(place)
    return f"installed, translated videos and keypoints, {exported} ({interpreter})"


def _export(interpreter: str) -> str:
    if subprocess.run([interpreter, "-c", "import torch, pytest"], capture_output=True, check=False).returncode:
        return "exported nothing, for it has no PyTorch and pytest"
    _run(interpreter, "-m", "pytest", "-q", "-p", "no:cacheprovider", EXPORT, within=ROOT)
    return "exported a tiny checkpoint"


def _resolve(version: str, wheel: Path) -> str:
    with tempfile.TemporaryDirectory() as nothing:
        for extra in ("edge", "train"):
            of_version = ("--python-version", version, "--only-binary=:all:", "--target", nothing)
            dry = ("install", "--dry-run", "--ignore-installed", *of_version, *CONSTRAINTS, f"{wheel}[{extra}]")
            _run(sys.executable, *PIP, *dry, within=Path(nothing))
    return "there is no interpreter; what edge and train install was resolved from wheels, and nothing was run"


def _run(*command: object, within: Path) -> str:
    """Return what a command printed; it does not see this clone unless it runs in it."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    line = [str(part) for part in command]
    done = subprocess.run(line, capture_output=True, text=True, encoding="utf-8", cwd=within, env=environment)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing said").splitlines()
        raise FailedError("\n".join([f"{' '.join(line)} (exit code {done.returncode})", *said[-15:]]))
    return done.stdout


def _expect(found: str, expected: str, what: str) -> None:
    if found != expected:
        raise FailedError(f"{what}: {found!r}, not {expected!r}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
