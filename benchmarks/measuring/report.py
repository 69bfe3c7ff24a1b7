"""What a benchmark says: the machine it ran on, and tables whose cells fill up while it runs.

A table may be printed at any time, so that an interrupted run shows what it has measured.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol, runtime_checkable

from tabulate import tabulate

from signet_train.data.workers import available_cpus

# What decides how fast a CPU is at matrix products.
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


@runtime_checkable
class Cell(Protocol):
    """A measured value: `str` is how a table shows it, `as_json` everything that is known of it."""

    def as_json(self) -> object: ...


@dataclass
class Timing:
    """Seconds, one a round in the order of rounds; a table shows the median, and least and most in brackets.

    Attributes:
        problem: why it could not be measured.
    """

    seconds: list[float] = field(default_factory=list)
    problem: str | None = None

    @property
    def median(self) -> float:
        """Seconds; NaN when nothing was measured."""
        return statistics.median(self.seconds) if self.seconds else float("nan")

    def __str__(self) -> str:
        if not self.seconds:
            return f"not measured: {self.problem}" if self.problem else "not measured"
        spread = f" ({_ms(min(self.seconds))}–{_ms(max(self.seconds))})" if len(self.seconds) > 1 else ""
        return f"{_ms(self.median)}{spread}"

    def as_json(self) -> object:
        median = self.median if self.seconds else None
        return {"median_s": median, "rounds_s": self.seconds, "problem": self.problem}


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.0f}" if seconds >= 0.1 else f"{1000 * seconds:.1f}"


@dataclass(frozen=True)
class Ratio:
    """How many times ``other`` fits into ``timing``: the median over rounds, each compared with its own round."""

    timing: Timing
    other: Timing

    @property
    def value(self) -> float | None:
        """None while one of the two lacks a round."""
        rounds = list(zip(self.timing.seconds, self.other.seconds, strict=False))
        return statistics.median(a / b for a, b in rounds) if rounds else None

    def __str__(self) -> str:
        return "" if self.value is None else f"{self.value:.2f}"

    def as_json(self) -> object:
        return self.value


@dataclass
class Size:
    """Bytes, shown in GiB or MiB; None where the system does not tell."""

    bytes: int | None = None

    def __str__(self) -> str:
        if self.bytes is None:
            return ""
        return f"{self.bytes / 2**30:.1f} GiB" if self.bytes >= 2**30 else f"{self.bytes / 2**20:.0f} MiB"

    def as_json(self) -> object:
        return self.bytes


@dataclass
class Table:
    """Rows under a title, and what has to be known to read them.

    Attributes:
        name: its key in JSON.
        rows: of `Cell`s, texts and whole numbers; None is an empty cell.
        notes: sentences beneath it.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: list[Sequence[object]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        cells = [["" if value is None else _shown(value) for value in row] for row in self.rows]
        drawn = tabulate(cells, list(self.columns), tablefmt="github", disable_numparse=True)
        notes = "".join(f"\n- {note}" for note in self.notes)
        return f"## {self.title}\n\n{drawn}\n{notes}".rstrip()

    def as_json(self) -> object:
        rows = [
            {
                column: value.as_json() if isinstance(value, Cell) else value
                for column, value in zip(self.columns, row, strict=True)
            }
            for row in self.rows
        ]
        return {"title": self.title, "rows": rows, "notes": self.notes}


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


@dataclass
class Report:
    """A whole run.

    Attributes:
        command: that makes it again.
        device: "cpu" or "cuda".
        notes: what holds for all tables.
        load: of the machine before the run, processes that wanted a CPU; what else runs makes figures worthless.
    """

    command: str
    device: str = "cpu"
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    load: float = field(default_factory=lambda: os.getloadavg()[0])

    def table(self, name: str, title: str, *columns: str) -> Table:
        """Add a new table, at the end."""
        self.tables.append(Table(name, title, columns))
        return self.tables[-1]

    def machine_line(self) -> str:
        """`machine` in one line, and its load."""
        return "; ".join([*machine(self.device).values(), f"load average before the run {self.load:.1f}"])

    def markdown(self) -> str:
        parts = [f"`{self.command}`", self.machine_line(), *self.notes]
        return "\n\n".join([*parts, *(table.markdown() for table in self.tables)]) + "\n"

    def json(self) -> str:
        content = {
            "command": self.command,
            "machine": {**machine(self.device), "load": self.load},
            "notes": self.notes,
            "tables": {table.name: table.as_json() for table in self.tables},
        }
        return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def machine(device: str = "cpu") -> Mapping[str, str]:
    """Name the processor, GPU, versions and commit that figures are of."""
    found = {"processor": _processor()}
    if device == "cuda":
        import torch

        found["gpu"] = torch.cuda.get_device_name()
    packages = ("torch", "transformers", "onnxruntime", "onnxruntime-gpu", "mediapipe", "ctranslate2")
    found["versions"] = f"Python {platform.python_version()}, " + ", ".join(filter(None, map(_version, packages)))
    found["commit"] = f"commit {_commit()}"
    return found


def header() -> str:
    """`machine` in one line."""
    return "; ".join(machine().values())


def instructions() -> list[str]:
    """Those of `_INSTRUCTIONS` that the CPU has; none where the system does not tell."""
    return [name for name in _INSTRUCTIONS if f" {name}" in _cpuinfo()]


def _processor() -> str:
    lines = _cpuinfo().splitlines()
    name = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())
    return ", ".join([name, f"{available_cpus()} cores", *instructions()])


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.is_file() else ""


def _version(package: str) -> str | None:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return None


def _commit() -> str:
    """Of the checkout that this file lies in; "changed" when it is not what was committed."""

    def git(*arguments: str) -> str:
        run = ["git", "-C", str(Path(__file__).parent), *arguments]
        try:
            return subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return ""

    commit = git("rev-parse", "--short", "HEAD") or "unknown"
    return f"{commit}, changed" if git("status", "--porcelain", "--untracked-files=no") else commit
