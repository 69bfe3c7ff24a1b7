"""Inputs that are no files, inputs by the thousand, and a standard output that is closed."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.faulting.case import Case, clear, listing
from benchmarks.faulting.commands import write_clips
from benchmarks.faulting.killed import FORBIDDEN, TOLD, Tally
from benchmarks.measuring.forked import start, wait
from signet_runtime.commands.translate import main as signet_translate
from signet_train.cli import main as signet_train

_PATIENCE = 60.0  # seconds, after which a command hangs


def no_files(work: Path, log: Path, count: Tally, tell: Callable[[str], None]) -> None:
    """Give named pipes, devices, directories and links to themselves as inputs of every kind."""
    made: dict[str, Callable[[Path], object]] = {
        "pipe": os.mkfifo,
        "zero": lambda path: path.symlink_to("/dev/zero"),
        "random": lambda path: path.symlink_to("/dev/urandom"),
        "null": lambda path: path.symlink_to("/dev/null"),
        "loop": lambda path: path.symlink_to(path.name),
        "directory": Path.mkdir,
    }
    for suffix in (".mp4", ".npz", ".pose", ".pkl", ".json", ".h5"):
        for kind, make in made.items():
            clear(work)
            make(work / f"x{suffix}")
            _refused(partial(signet_translate, [f"x{suffix}", "-q"]), kind + suffix, work, log, count)
    for suffix in (".jsonl", ".parquet"):
        for kind, make in made.items():
            clear(work)
            make(work / f"x{suffix}")
            _refused(partial(signet_train, ["check", f"x{suffix}"]), kind + suffix, work, log, count)
    for suffix in (".zip", ".pkl"):
        for kind, make in made.items():
            clear(work)
            make(work / f"x{suffix}")
            convert = ["convert-poses", f"x{suffix}", "--out", "s.arrow", "--workers", "1"]
            _refused(partial(signet_train, convert), kind + suffix, work, log, count)
    for kind, make in made.items():
        clear(work)
        make(work / "x.toml")
        stage = ["pretrain", "x.toml", "--out", "run", "--device", "cpu"]
        _refused(partial(signet_train, stage), kind + ".toml", work, log, count)
    tell(f"no files: {count.tries} tries, {len(count.wrong)} wrong, {dict(count.ended)}")


def _refused(run: Callable[[], object], name: str, work: Path, log: Path, count: Tally) -> None:
    log.unlink(missing_ok=True)
    log.touch()
    child = start(run, log, cwd=work)
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(0.01)
    else:
        os.killpg(child, signal.SIGKILL)
        code = wait(child)
        count.note(code, f"{name}: it hangs", log)
        return
    said = log.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in said.split("\n") if line.strip() and "Usage:" not in line and "Try " not in line]
    problem = next((f"it said {words!r}" for words in FORBIDDEN if words in said), None)
    if problem is None and code not in {2, 3, 4}:
        problem = f"it ended with {code}"
    if problem is None and not lines:
        problem = "it did not say why"
    count.note(code, None if problem is None else f"{name}: {problem}", log)


def thousand(work: Path, log: Path, count: Tally, tell: Callable[[str], None]) -> None:
    """Translate 1,000 files of keypoints in a run, into one file and into one each; some of them are damaged."""
    clear(work)
    write_clips(work / "few", 5, 9, frames=12)
    clips = sorted((work / "few").iterdir())
    many = work / "many"
    many.mkdir()
    for number in range(1000):
        shutil.copyfile(clips[number % 5], many / f"{number:04}.npz")
        if number % 100 == 7:
            os.truncate(many / f"{number:04}.npz", 200)
    inputs = [f"many/{number:04}.npz" for number in range(1000)]
    for where in (["-o", "out.txt"], ["--output-dir", "texts"]):
        log.unlink(missing_ok=True)
        log.touch()
        code = wait(start(partial(signet_translate, [*inputs, "-q", *where]), log, cwd=work))
        said = log.read_text(encoding="utf-8", errors="replace")
        told = sum("error" in line for line in said.split("\n"))
        made = len((work / "out.txt").read_text().splitlines()) if where[0] == "-o" else len(listing(work / "texts"))
        problem = None if code == 3 and told == 10 else f"ended with {code}, {told} of 10 damaged ones were told"
        problem = problem or (None if made == 1000 else f"{made} results in place of 1000")  # of damaged ones, empty
        count.note(code, problem, log)
        count.tries += 999
    tell(f"1,000 inputs: {count.tries} tries, {len(count.wrong)} wrong, {dict(count.ended)}")


def closed_stdout(cases: list[Case], work: Path, log: Path, count: Tally, tell: Callable[[str], None]) -> None:
    """Carry every command out without a standard output."""
    for case in cases:
        case.begin(work)
        log.unlink(missing_ok=True)
        log.touch()
        code = wait(start(case.run, log, cwd=work, closed=True))
        said = log.read_text(encoding="utf-8", errors="replace")
        problem = next((f"it said {words!r}" for words in FORBIDDEN if words in said), None)
        problem = problem or (None if code in TOLD else f"it ended with {code}")
        problem = problem or case.wrong(work) or (case.unfinished(work) if code == 0 else None)
        count.note(code, None if problem is None else f"{case.name}: {problem}", log)
    tell(f"closed stdout: {count.tries} tries, {len(count.wrong)} wrong, {dict(count.ended)}")
