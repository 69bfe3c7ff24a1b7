"""What a million clips take: manifests, pose stores, extraction on many workers.

    python -m benchmarks.scale manifest | store | scheduler | extraction

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


@main.command()
@click.option("--clips", default=100_000, show_default=True, type=click.IntRange(1000))
@click.option("--frames", default=8, show_default=True, type=click.IntRange(1, 256))
@click.option("--milliseconds", default=0.3, show_default=True, help="Limit of a read.")
def store(clips: int, frames: int, milliseconds: float) -> None:
    """Read clips of a store in shards at random; exit with 1 when the limit is missed."""
    from benchmarks.scaling.stores import measure

    with tempfile.TemporaryDirectory() as name:
        listing, early, later = measure(Path(name), clips, frames, 5000)
    print(f"{clips} clips of {frames} frames: listed in {listing:.2f} s, read in {early:.3f} ms, later {later:.3f} ms")
    raise SystemExit(ExitCode.DONE if later <= milliseconds else ExitCode.FAILED)


@main.command()
@click.option("--jobs", default=20_000, show_default=True, type=click.IntRange(100))
@click.option("--workers", default=200, show_default=True, type=click.IntRange(1))
@click.option("--milliseconds", default=5.0, show_default=True, help="Limit of a clip.")
def scheduler(jobs: int, workers: int, milliseconds: float) -> None:
    """Give out clips that cost nothing; exit with 1 when the limit is missed, or the client's memory grows."""
    from benchmarks.scaling.extraction import give_out

    found = give_out(jobs, workers)
    told = ", ".join(f"{megabytes:.0f}" for megabytes in found.megabytes)
    print(f"{jobs} clips of 256 frames, {workers} workers: {found.milliseconds:.2f} ms a clip; client, MB: {told}")
    flat = found.megabytes[-1] <= 1.1 * found.megabytes[len(found.megabytes) // 2] + 5
    raise SystemExit(ExitCode.DONE if found.milliseconds <= milliseconds and flat else ExitCode.FAILED)


@main.command()
@click.option("--clips", default=16, show_default=True, type=click.IntRange(4))
@click.option("--rounds", default=2, show_default=True, type=click.IntRange(1))
@click.option("--share", default=0.95, show_default=True, help="Of the pool's speed, the least.")
def extraction(clips: int, rounds: int, share: float) -> None:
    """Extract the examples by MediaPipe, in a pool and in a local cluster; exit with 1 if that is slower."""
    from functools import partial
    from statistics import mean

    from benchmarks.scaling.extraction import rates
    from signet_runtime.pose.estimators import load_estimator

    load = partial(load_estimator, "mediapipe", "mediapipe", offline=True)
    found: dict[str, list[float]] = {}
    for name, rate in rates(clips, load, rounds):
        found.setdefault(name, []).append(rate)
    pool, local = mean(found["pool"]), mean(found["local"])
    print(f"{clips} clips, two at a time: pool {pool:.2f} a second, local cluster {local:.2f}: {local / pool:.3f}")
    raise SystemExit(ExitCode.DONE if local >= share * pool else ExitCode.FAILED)


if __name__ == "__main__":
    main()
