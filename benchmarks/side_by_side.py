"""Videos an hour, one after another and side by side (`signet-translate --jobs N`), and the memory of both.

    python -m benchmarks.side_by_side examples/*.mp4 --copies 8
    python -m benchmarks.side_by_side VIDEO... --jobs 4 --markdown benchmarks/results/side-by-side.md

Whole commands, from start to end, in turns; every video is read as often as there are copies of it. Loading a model in
every process is part of it, so that the more videos there are, the more is won.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import click
import psutil

from benchmarks.measuring.report import Size, Table, header
from signet_runtime.files import whole_file

LIMIT = 1.3  # times the videos an hour, on 2 cores


class Run:
    """A command that ran: what it wrote, how long it took (s), and the most memory of all its processes (bytes)."""

    def __init__(self, arguments: list[str]) -> None:
        since = time.perf_counter()
        command = [sys.executable, "-m", "signet_runtime.commands.translate", "-q", "--offline", *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            self.memory = 0
            watch = threading.Thread(target=self._watch, args=(process.pid,), daemon=True)
            watch.start()
            self.output, _ = process.communicate()
        self.seconds = time.perf_counter() - since
        if process.returncode:
            raise click.ClickException(f"signet-translate ended with {process.returncode}")

    def _watch(self, pid: int) -> None:
        while True:
            try:
                parent = psutil.Process(pid)
                # Shared pages count once: of each process what is its own, and its part of what is shared.
                used = [process.memory_full_info().pss for process in (parent, *parent.children(recursive=True))]
            except (psutil.Error, AttributeError):
                return
            self.memory = max(self.memory, sum(used))
            time.sleep(0.2)


@click.command()
@click.argument("videos", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--copies", default=8, show_default=True)
@click.option("--jobs", default=2, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--markdown", type=click.Path(path_type=Path), help="Also write the report there.")
def main(videos: tuple[Path, ...], copies: int, jobs: int, rounds: int, markdown: Path | None) -> None:
    """Print the table; exit with 1 when the limit is missed."""
    runs: dict[int, list[Run]] = {1: [], jobs: []}
    with tempfile.TemporaryDirectory() as directory:
        inputs = []
        for number in range(copies):
            for video in videos:
                inputs.append(Path(directory, f"{number:03}-{video.name}"))
                inputs[-1].symlink_to(video.resolve())
        for _ in range(rounds):
            for count, done in runs.items():
                done.append(Run([*map(str, inputs), "--jobs", str(count)]))
    same = len({run.output for done in runs.values() for run in done}) == 1
    table = Table(
        "jobs", f"{len(inputs)} videos, {rounds} rounds", ["--jobs", "seconds", "videos an hour", "memory at most"]
    )
    for count, done in runs.items():
        seconds = statistics.median(run.seconds for run in done)
        memory = Size(max(run.memory for run in done))
        table.rows.append((str(count), f"{seconds:.1f}", f"{3600 * len(inputs) / seconds:,.0f}", memory))
    times = statistics.median(one.seconds / many.seconds for one, many in zip(runs[1], runs[jobs], strict=True))
    table.notes.append(f"{times:.2f} times the videos an hour; what is written is {'' if same else 'not '}the same")
    text = f"{table.markdown()}\n"
    click.echo(text)
    if markdown is not None:
        with whole_file(markdown) as temporary:
            temporary.write_text(f"# Side by side\n\n`python -m benchmarks.side_by_side`; {header()}\n\n{text}")
    raise SystemExit(0 if times >= LIMIT and same else 1)


if __name__ == "__main__":
    main()
