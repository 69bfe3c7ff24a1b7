"""How much disk each way of installing takes: the files of every package that it pulls in, as they are installed here.

    python -m benchmarks.install_size                     the table
    python -m benchmarks.install_size --largest 10        and the largest packages of each
    python -m benchmarks.install_size --json

Nothing is installed and no network asked: the requirements are followed from package to package in this environment,
which must have them all (signet-slt[dev] does). pip itself, and the gigabytes of CUDA that a PyTorch made for it
brings, are not in the figures.
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import click
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[1]
PROJECT, PACKAGES = "signet-slt", ("signet_runtime", "signet_train", "export/signet_export")
# What is installed, and what it is for.
INSTALLS = {
    "": "keypoints to text",
    "edge": "video to text",
    "edge,optimum": "video to text, and the reference for generation",
    "train": "everything: train, export, run",
}


def pulled_in(name: str, extras: frozenset[str]) -> set[str]:
    """Names of the distributions that installing ``name`` with ``extras`` installs, its own included.

    Raises:
        PackageNotFoundError: one of them is not installed here.
    """
    found: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting: list[tuple[str, frozenset[str]]] = [(canonicalize_name(name), extras)]
    while waiting:
        package = waiting.pop()
        if package in seen:
            continue
        seen.add(package)
        found.add(package[0])
        waiting += _requirements(*package)
    return found


def _requirements(name: str, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    if name == PROJECT:  # as it is now, not as it was when it was installed
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        lines = [*project["dependencies"], *(line for e in extras for line in project["optional-dependencies"][e])]
    else:
        lines = distribution(name).requires or []
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


@cache
def files(name: str) -> frozenset[Path]:
    """List the files of an installed distribution."""
    if name == PROJECT:
        listed = {file for package in PACKAGES for file in (ROOT / package).rglob("*") if file.suffix != ".pyc"}
    else:
        installed = distribution(name)
        listed = {Path(str(installed.locate_file(file))).resolve() for file in installed.files or []}
    return frozenset(file for file in listed if file.is_file())


def size(paths: frozenset[Path] | set[Path]) -> int:
    """Bytes; a file that several packages bring is counted once."""
    return sum(path.stat().st_size for path in paths)


@click.command()
@click.option("--largest", metavar="N", default=0, help="Name the N largest packages of each install.")
@click.option("--json", "as_json", is_flag=True, help="Bytes by install and package, instead of the table.")
def main(largest: int, as_json: bool) -> None:
    """Print the size on disk of each way of installing."""
    rows, sizes = [], {}
    for extra, purpose in INSTALLS.items():
        try:
            packages = pulled_in(PROJECT, frozenset(filter(None, extra.split(","))))
            by_size = Counter({name: size(files(name)) for name in packages})
            total = size(set().union(*map(files, packages)))
        except PackageNotFoundError as error:
            raise click.ClickException(f"{error.name} is not installed; pip install '{PROJECT}[dev]'") from error
        install = f"{PROJECT}[{extra}]" if extra else PROJECT
        sizes[install] = {"total": total, "packages": dict(by_size.most_common())}
        rows.append([install, purpose, len(packages), f"{total / 1e6:,.0f}"])
        if largest:
            rows[-1].append(", ".join(f"{name} {count / 1e6:,.0f}" for name, count in by_size.most_common(largest)))
    if as_json:
        click.echo(json.dumps(sizes, indent=1))
        return
    columns = ["install", "for", "packages", "MB", *(["largest"] if largest else [])]
    click.echo(tabulate(rows, columns, tablefmt="github"))


if __name__ == "__main__":
    main()
