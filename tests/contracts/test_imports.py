"""Imports go one way between packages, and in no circle between modules.

Wherever in a module they are written: an import in a function, or one for type checkers alone, ties two modules as much
as any other.
"""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# From the lowest up: each may import what stands before it, and itself.
PACKAGES = {
    "signet_runtime": ROOT,
    "signet_train": ROOT,
    "signet_export": ROOT / "export",
    "benchmarks": ROOT,
    "manual": ROOT,
}


def imports(packages: dict[str, Path]) -> dict[str, set[str]]:
    """Of every module of some packages, which others of these modules it imports."""
    trees = {}
    for package, home in packages.items():
        for path in sorted((home / package).rglob("*.py")):
            parts = path.relative_to(home).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            trees[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    found: dict[str, set[str]] = {name: set() for name in trees}
    for name, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name}: imports are absolute here"
                named = [f"{node.module}.{alias.name}" for alias in node.names]
                found[name] |= {module if module in trees else str(node.module) for module in named}
    return {name: (modules & set(trees)) - {name} for name, modules in found.items()}


def upward(found: dict[str, set[str]], order: list[str]) -> list[str]:
    """Which modules import one of a higher package."""
    rank = {package: i for i, package in enumerate(order)}
    return sorted(
        f"{name} imports {module}"
        for name, modules in found.items()
        for module in modules
        if rank[module.split(".")[0]] > rank[name.split(".")[0]]
    )


def circle(found: dict[str, set[str]]) -> list[str]:
    """One circle, if there is any: each of these modules is imported by the next."""
    try:
        TopologicalSorter(found).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.fixture(scope="module")
def project() -> dict[str, set[str]]:
    return imports(PACKAGES)


def test_no_package_imports_a_higher_one(project: dict[str, set[str]]) -> None:
    assert upward(project, list(PACKAGES)) == []


def test_there_is_no_circle(project: dict[str, set[str]]) -> None:
    assert circle(project) == []


def test_every_kind_of_import_is_seen(project: dict[str, set[str]], tmp_path: Path) -> None:
    assert {name.split(".")[0] for name in project} == set(PACKAGES)
    assert "signet_runtime.errors" in project["benchmarks.latency"]  # in a function

    def write(name: str, code: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)

    packages = {"low": tmp_path, "high": tmp_path}
    write("low/a.py", "def f():\n    try:\n        from low import b\n    finally:\n        pass\n")
    write("low/b.py", "import low.c as c\n")
    write("low/c.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from high.d import D\n")
    write("high/d.py", "from low.a import f\n")
    assert upward(imports(packages), list(packages)) == ["low.c imports high.d"]
    assert set(circle(imports(packages))) == {"low.a", "low.b", "low.c", "high.d"}
    write("low/c.py", "")
    assert upward(imports(packages), list(packages)) == circle(imports(packages)) == []
