"""Running a target: in a child that has limits of time and memory, so that what hangs, ends it or fills it is found.

Without coverage, input number n of a seed is always the same. With atheris, libFuzzer chooses by what the code of the
parsers did, and keeps what it finds.
"""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz.mutations import mutate
from tests.fuzz.target import Target, discard_scratch

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).with_name("corpus")
SECONDS = 10  # an input may take
MEBIBYTES = 1024  # an input may take


@dataclass
class Finding:
    """An input that a parser did not survive: how, where, and the input."""

    target: str
    kind: str  # exception, hang, memory, ended
    what: str
    number: str
    saved: str = ""


@dataclass
class Report:
    """What became of a target's inputs."""

    target: str
    tries: int = 0
    accepted: int = 0
    refused: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)


class TookTooLongError(BaseException):
    """Raised by the alarm; no parser's `except Exception` takes it."""


def _alarm(_number: int, _frame: FrameType | None) -> None:
    raise TookTooLongError


def made_input(target: Target, seeds: list[bytes], seed: int, number: int) -> bytes:
    """Return input ``number`` of a seed; the first are the target's valid ones."""
    if number < len(seeds):
        return seeds[number]
    return mutate(random.Random(f"{target.name} {seed} {number}"), seeds, target.edit)


def try_input(target: Target, data: bytes) -> tuple[str, str]:
    """Give a target an input; return ("accepted" or "refused", ""), or what kind of finding it is, and where."""
    from signet_runtime.errors import SignetError

    signal.signal(signal.SIGALRM, _alarm)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        target.parse(data)
        return "accepted", ""
    except SignetError as error:
        str(error).encode("utf-8", "backslashreplace")
        return "refused", ""
    except TookTooLongError as error:
        return "hang", _place(error)
    except MemoryError as error:
        return "memory", _place(error)
    except Exception as error:
        return "exception", f"{type(error).__name__}: {str(error)[:100]!a} {_place(error)}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _place(error: BaseException) -> str:
    """Name the innermost function of ours."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "signet_" in frame.filename] or frames
    return f"in {Path(ours[-1].filename).name}:{ours[-1].name}" if ours else ""


def limit_memory(mebibytes: int) -> None:
    """Let this process take so much more than it has now; a request for more is a MemoryError."""
    import resource

    status = Path("/proc/self/status")
    if not status.exists():  # no such limit where there is no such file
        return
    has = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmData:"))
    resource.setrlimit(resource.RLIMIT_DATA, ((has >> 10) + mebibytes << 20,) * 2)


def child(names: list[str], seed: int, first: int, last: int, mark: Path, corpus: bool) -> None:
    """Give targets their inputs ``first`` to ``last`` (exclusive), telling each finding in a line of JSON on stdout.

    Where the process ends, ``mark`` says at which input.
    """
    from tests.fuzz.targets import TARGETS

    faulthandler.enable()
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with contextlib.ExitStack() as stack:
        stack.callback(discard_scratch)
        at = os.open(mark, os.O_WRONLY | os.O_CREAT)
        # Warm: what is imported or cached by the first input is nobody's memory.
        prepared = [(TARGETS[name], TARGETS[name].seeds()) for name in names]
        for target, seeds in prepared:
            for data in seeds[:1]:
                with contextlib.suppress(Exception):
                    target.parse(data)
        limit_memory(MEBIBYTES)
        for target, seeds in prepared:
            report = Report(target.name)
            for number, data in _inputs(target, seeds, seed, first, last, corpus):
                os.pwrite(at, f"{target.name} {number:<80}"[:120].ljust(120).encode(), 0)
                kind, what = try_input(target, data)
                report.tries += 1
                if kind == "accepted":
                    report.accepted += 1
                elif kind == "refused":
                    report.refused += 1
                else:
                    finding = asdict(Finding(target.name, kind, what, str(number)))
                    print(json.dumps({"finding": finding}), file=results, flush=True)
            print(json.dumps({"report": asdict(report)}), file=results, flush=True)


def _inputs(
    target: Target, seeds: list[bytes], seed: int, first: int, last: int, corpus: bool
) -> Iterator[tuple[str, bytes]]:
    if corpus:
        for path in sorted((CORPUS / target.name).glob("*")):
            yield path.name, path.read_bytes()
    for number in range(first, last):
        yield str(number), made_input(target, seeds, seed, number)


def run(target: Target, runs: int, seed: int, save: Path | None = None, *, corpus: bool = True) -> Report:
    """Run a target in children; return what was found. Each input that ends a child costs a new one."""
    report, began, first = Report(target.name), time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        mark = Path(folder) / "mark"
        while first < runs or (corpus and first == 0):
            mark.write_text("")
            told, ended = _one_child([target.name], seed, first, runs, mark, corpus and first == 0)
            for line in told:
                if "finding" in line:
                    report.findings.append(Finding(**line["finding"]))
                else:
                    _add(report, line["report"])
            if ended is None:
                break
            name, _, number = mark.read_text().strip().partition(" ")
            report.findings.append(Finding(name or target.name, ended, "", number.strip() or "start"))
            if not number.strip().isdecimal():
                break  # a file of the corpus, or nothing at all: no number to go on from
            report.tries += int(number) + 1 - first
            first = int(number) + 1
    report.seconds = time.monotonic() - began
    if save is not None:
        _save(target, report, seed, save)
    return report


def _add(report: Report, more: dict[str, Any]) -> None:
    report.tries += more["tries"]
    report.accepted += more["accepted"]
    report.refused += more["refused"]


def _one_child(
    names: list[str], seed: int, first: int, last: int, mark: Path, corpus: bool
) -> tuple[list[dict[str, Any]], str | None]:
    """Return what a child said, and how it ended if not by itself."""
    arguments = ["--child", "--seed", str(seed), "--first", str(first), "--runs", str(last), "--mark", str(mark)]
    arguments += [word for name in names for word in ("--target", name)] + ["--corpus"] * corpus
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz", *arguments], cwd=ROOT, stdout=said, stderr=subprocess.DEVNULL
        )
        ended = None
        try:
            last_seen, since = "", time.monotonic()
            while process.poll() is None:
                time.sleep(0.05)
                seen = mark.read_text()
                if seen != last_seen:
                    last_seen, since = seen, time.monotonic()
                # The alarm waits for a call into C to return; a child that does not see it is ended.
                elif time.monotonic() - since > 60 + 2 * SECONDS:
                    ended = "hang"
                    process.kill()
        finally:
            process.kill()
            process.wait()
        if ended is None and process.returncode:
            ended = "ended"
        said.seek(0)
        return [json.loads(line) for line in said if line.startswith("{")], ended


def _save(target: Target, report: Report, seed: int, save: Path) -> None:
    seeds = target.seeds()
    for finding in report.findings:
        if finding.number.isdecimal():
            data = made_input(target, seeds, seed, int(finding.number))
            path = save / target.name / hashlib.sha256(data).hexdigest()[:12]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            finding.saved = str(path)


def guided(name: str, runs: int, seed: int, save: Path) -> None:
    """Run a target under atheris, in this process, which libFuzzer ends; findings are written to ``save``."""
    import atheris

    with atheris.instrument_imports(include=["signet_runtime", "signet_train", "signet_export", "tests.fuzz.targets"]):
        from tests.fuzz.targets import TARGETS
    from signet_runtime.errors import SignetError

    target = TARGETS[name]
    seeds = target.seeds()
    found, start = save / name, Path(tempfile.mkdtemp(prefix="signet-fuzz-corpus-"))
    found.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds):
        (start / f"{number:03}").write_bytes(data)

    def one(data: bytes) -> None:
        with contextlib.suppress(SignetError):
            target.parse(data)

    def change(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        return (atheris.Mutate(data, most) if rng.random() < 0.5 else mutate(rng, [data], target.edit))[:most]

    longest = max(map(len, seeds))
    flags = [f"-runs={runs}", f"-seed={seed}", f"-timeout={SECONDS}", f"-rss_limit_mb={4 * MEBIBYTES}"]
    flags += [f"-max_len={max(4096, 4 * longest)}", f"-artifact_prefix={found}/", "-verbosity=1", str(start)]
    atheris.Setup([sys.argv[0], *flags], one, custom_mutator=change)
    atheris.Fuzz()
