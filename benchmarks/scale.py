"""What a million clips take: manifests, pose stores, extraction on many workers.

    python -m benchmarks.scale manifest

Each section prints a table; `benchmarks/results/scale-cpu.md` has what was measured.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from signet_runtime.errors import ExitCode


@click.group(help=__doc__.splitlines()[0] if __doc__ else None)
def main() -> None:
    """Measure one section."""


@main.command()
@click.option("--rows", default=1_000_000, show_default=True, type=click.IntRange(20_000))
@click.option("--seconds", default=2.0, show_default=True, help="Limit of opening it.")
@click.option("--megabytes", default=50.0, show_default=True, help="Limit of private memory a process.")
def manifest(rows: int, seconds: float, megabytes: float) -> None:
    """Open, check, start training and plan a cache with a manifest of many rows; exit with 1 when a limit is missed."""
    from benchmarks.scaling.manifests import measure

    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name), rows)
    print(f"| {rows} rows | s | private MB at most | afterwards |\n| --- | --- | --- | --- |")
    for action, taken in found:
        print(f"| {action} | {taken.seconds:.2f} | {taken.peak:.0f} | {taken.after:.0f} |")
    met = all(taken.after <= megabytes and (taken.seconds <= seconds or "open" not in name) for name, taken in found)
    raise SystemExit(ExitCode.DONE if met else ExitCode.FAILED)


if __name__ == "__main__":
    main()
