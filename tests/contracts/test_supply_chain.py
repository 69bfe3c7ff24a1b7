"""What is installed is what was tested: locks with hashes, known licences, a wheel that is the same each time."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = {"edge": ("edge", "hub", "serve"), "dev": ("dev", "bench")}

# What the registry's build of PyTorch brings on Linux, and a CPU build does not; constraints.txt says "any build".
OF_A_BUILD = re.compile(r"(nvidia|cuda)-.*|triton|setuptools")

# Every licence of what is installed for tests, by the name that its package gives it, and why it may be: the project is
# Apache-2.0, and what it asks of others is installed beside it, not changed and not part of it.
PERMISSIVE = {
    *("0BSD", "Apache License 2.0", "Apache Software License", "Apache-2.0", "BSD", "BSD License", "BSD-2-Clause"),
    *(
        "3-Clause BSD License",
        "BSD 3-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "CNRI-Python",
        "ISC",
        "MIT",
        "MIT License",
    ),
    *("MIT-CMU", "PSF-2.0", "Python Software Foundation License", "Zlib", "Apache-2.0 WITH LLVM-exception"),
}
FILE_BY_FILE = {
    "Mozilla Public License 2.0 (MPL 2.0)": "who changes its files shows the changed files; nobody does here",
    "MPL-2.0": "the same",
}
# Packages whose metadata say nothing, or less than their licence file.
BY_HAND = {
    "axe-playwright-python": "MIT: its LICENSE; the axe.min.js in it is MPL-2.0, used as it is",
    "locate": "MIT: its LICENSE; the classifier says Other",
    "pose-anonymization": "MIT: its LICENSE",
    "pose-format": "MIT: the LICENSE of its repository; the package has none",
    "pympi-ling": "MIT: its LICENSE",
    "rouge": "Apache-2.0: its LICENSE; the metadata name the file",
    "spoken-to-signed": "MIT: its LICENSE",
}


def pins(lock: Path) -> dict[str, tuple[str, str, int]]:
    """Of a lock: package -> version, marker, number of hashes."""
    found = {}
    for entry in re.split(r"\n(?=[a-z0-9])", lock.read_text(encoding="utf-8")):
        match = re.match(r"([a-z0-9-]+)==(\S+)(?: ; ([^\\\n]+))?", entry)
        if match:
            found[match[1]] = (
                match[2],
                (match[3] or "").strip(),
                len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)),
            )
    return found


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def asked_for(extras: tuple[str, ...], everywhere: bool = False) -> set[str]:
    """All packages that these extras name, through extras of our own; ``everywhere``: those without a condition."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting, names, seen = [*project["dependencies"]], set(), set()
    waiting += [f"signet-slt[{','.join(extras)}]"]
    while waiting:
        requirement = Requirement(waiting.pop())
        if canonicalize_name(requirement.name) != "signet-slt" and not (everywhere and requirement.marker):
            names.add(canonicalize_name(requirement.name))
        for extra in requirement.extras - seen if requirement.name == "signet-slt" else ():
            seen.add(extra)
            waiting += project["optional-dependencies"][extra]
    return names


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_the_tested_set_with_hashes(name: str) -> None:
    lock, tested = ROOT / "locks" / f"{name}.txt", constraints()
    locked = pins(lock)
    assert asked_for(LOCKS[name]) <= set(locked)
    for package, (version, _, hashes) in locked.items():
        assert hashes, package
        if not OF_A_BUILD.fullmatch(package):
            assert tested.get(package) == version, f"{package}: `make locks` after a change of constraints.txt"
    assert "://" not in lock.read_text(encoding="utf-8")


def test_the_locks_are_for_every_python() -> None:
    """What is named by extras has no marker that leaves out a Python, though what these ask for may."""
    for name, extras in LOCKS.items():
        locked = pins(ROOT / "locks" / f"{name}.txt")
        for package in asked_for(extras, everywhere=True):
            assert "python_full_version" not in locked[package][1], package


def named_licences(package: str) -> set[str] | None:
    """The licences that an installed package states, by name; None where it is not installed."""
    try:
        metadata = distribution(package).metadata
    except PackageNotFoundError:
        return None
    stated = metadata.get("License-Expression")
    if not stated:
        classes = [line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier", []) if line[:7] == "License"]
        if classes:
            return set(classes)
        stated = (metadata.get("License") or "").strip().split("\n")[0]
    return {part.strip(" ()") for part in re.split(r" AND | OR ", stated) if part}


def test_the_licence_of_everything_that_is_installed_is_known() -> None:
    unknown, checked = {}, 0
    for package in pins(ROOT / "locks" / "dev.txt"):
        licences = named_licences(package)
        if licences is None or package in BY_HAND:
            continue
        checked += 1
        strange = licences - PERMISSIVE - set(FILE_BY_FILE)
        if strange or not licences:
            unknown[package] = sorted(strange)
    assert checked > 20
    assert unknown == {}, "read the licence, and add it with the reason, or do without the package"


@pytest.mark.slow
def test_a_wheel_is_the_same_whoever_builds_it(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists() or shutil.which("make") is None:
        pytest.skip("needs the repository, and make")
    wheels = []
    for number, mask in enumerate((0o022, 0o077)):
        clone = tmp_path / f"somewhere{number}" / "deep" / "signet"
        before = os.umask(mask)
        try:
            subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
            for path in clone.rglob("*"):
                if ".git" not in path.parts and path.is_file():
                    os.utime(path, (1e9 + number, 1e9 + number))
            (clone / "signet_runtime" / "not_committed.py").touch()
            make = [
                "make",
                "-o",
                ".venv/bin/python",
                "wheel",
                f"PYTHON={sys.executable}",
                f"PIP={sys.executable} -m pip",
            ]
            environment = {**os.environ, "PYTHONHASHSEED": str(number)}
            subprocess.run(make, cwd=clone, env=environment, check=True, timeout=600)
        finally:
            os.umask(before)
        (wheel,) = (clone / "dist").iterdir()
        wheels.append((wheel.name, hashlib.sha256(wheel.read_bytes()).hexdigest()))
    assert wheels[0] == wheels[1]
