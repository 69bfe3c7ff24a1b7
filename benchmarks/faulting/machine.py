"""A machine at its end: full disks, limits, places that are not ours, clocks, inputs that change or are no files."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.faulting.case import Case, clear, listing
from benchmarks.faulting.killed import TOLD, Tally, goes_on, problem_of
from benchmarks.measuring.forked import start, wait

NOBODY = 54_321  # has no entry among the users, so no home


def _under(case: Case, work: Path, log: Path, count: Tally, again: bool = True, **fault: Any) -> None:
    """Carry a command out under a fault, look at what is there, and give it again without the fault."""
    log.unlink(missing_ok=True)
    log.touch(mode=0o666)
    log.chmod(0o666)
    before = listing(work)
    code = wait(start(case.run, log, cwd=work, **fault))
    problem = problem_of(case, work, log, TOLD, code)
    if problem is None and not case.between:
        # What it had done by then may stay where it goes; what is hidden, or half, may not.
        left = [
            name
            for name in listing(work) - before - case.names
            if name.rpartition("/")[2].startswith(".") and not name.endswith(".lock")
        ]
        problem = f"{left[0]} was left behind" if left else None
    if problem is None and again:
        problem = goes_on(case, work, log)
    count.note(code, None if problem is None else f"{case.name}: {problem}", log)


def full_disk(
    cases: Sequence[Case],
    work: Path,
    log: Path,
    each: int,
    rng: random.Random,
    count: Tally,
    tell: Callable[[str], None],
) -> None:
    """Let a small file system of its own become full at random points of what a command writes."""
    for case in cases:
        case.begin(work)
        wait(start(case.run, log, cwd=work))
        needed = max(1 << 16, _size(work) - _size(case.fresh))
        if case.whole:  # the old one is there until the new one is
            needed = max(needed, _size(work / case.whole[0]))
        for _ in range(each):
            clear(work)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "signet-faults", str(work)], check=True)
            try:
                case.begin(work)
                status = os.statvfs(work)
                used = (status.f_blocks - status.f_bfree) * status.f_frsize
                _resize(work, used + int(rng.uniform(0, 1) * needed))
                log.unlink(missing_ok=True)
                log.touch()
                code = wait(start(case.run, log, cwd=work))
                problem = problem_of(case, work, log, TOLD, code)
                _resize(work, 1 << 30)
                problem = problem or goes_on(case, work, log)
                count.note(code, None if problem is None else f"{case.name}: {problem}", log)
            finally:
                subprocess.run(["umount", str(work)], check=True)
        tell(f"full disk, {case.name}: {count.tries} tries, {len(count.wrong)} wrong, {dict(count.ended)}")


def _resize(mount: Path, size: int) -> None:
    pages = -(-size // 4096) * 4096
    subprocess.run(["mount", "-o", f"remount,size={pages}", str(mount)], check=True)


def limited(
    cases: Sequence[Case],
    work: Path,
    log: Path,
    each: int,
    count: Tally,
    limit: Callable[[Case], Mapping[int, int]],
    tell: Callable[[str], None],
) -> None:
    """Carry commands out within limits of the system: of a file's size, of files open at once, of memory."""
    for case in cases:
        for _ in range(each):
            case.begin(work)
            _under(case, work, log, count, limits=limit(case))
        tell(f"{count.name}, {case.name}: {count.tries} tries, {len(count.wrong)} wrong, {dict(count.ended)}")


def memory_now() -> int:
    """Return the bytes of address space that this process has, and so a fork of it."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def not_ours(cases: Sequence[Case], work: Path, log: Path, count: Tally, tell: Callable[[str], None]) -> None:
    """Carry commands out as somebody who may not write there and has no home; then as one who may, without a home."""
    for case in cases:
        for writable in (False, True):
            case.begin(work)
            for path in (work, *work.rglob("*")):
                if not path.is_symlink():
                    os.chown(path, NOBODY if writable else 0, NOBODY if writable else 0)
                    path.chmod(path.stat().st_mode & (0o777 if writable else 0o755))
            before = case.state(work)
            home = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "USER", "LOGNAME"))
            _under(case, work, log, count, again=False, user=NOBODY, environment=home)
            if not writable and not case.between and case.state(work) != before:
                count.wrong.append(f"{case.name}: wrote where it may not")
            if writable and count.ended["exit 0"] == 0:
                count.wrong.append(f"{case.name}: nothing can be done without a home")
        tell(f"not ours, {case.name}: {count.tries} tries, {len(count.wrong)} wrong, {dict(count.ended)}")
    os.chown(work, os.getuid(), os.getgid())


def other_clock(
    cases: Sequence[Case], work: Path, log: Path, rng: random.Random, count: Tally, tell: Callable[[str], None]
) -> None:
    """Set the clock back to 1970 or on to 2100, let it jump at every look, and date the inputs after today."""
    real = time.time
    clocks: dict[str, Callable[[], float]] = {
        "back": lambda: real() - 1.7e9,
        "ahead": lambda: real() + 2.3e9,
        "jumps": lambda: real() + rng.uniform(-1e8, 1e8),
    }
    for case in cases:
        for clock in clocks.values():
            case.begin(work)
            for path in work.rglob("*"):
                if path.is_file():
                    os.utime(path, (4.1e9, 4.1e9) if rng.random() < 0.5 else (0, 0))

            def run(clock: Callable[[], float] = clock, case: Case = case) -> object:
                time.time = clock
                return case.run()

            log.unlink(missing_ok=True)
            log.touch()
            code = wait(start(run, log, cwd=work))
            problem = problem_of(case, work, log, {0}, code) or case.unfinished(work)
            count.note(code, None if problem is None else f"{case.name}: {problem}", log)
        tell(f"clock, {case.name}: {count.tries} tries, {len(count.wrong)} wrong, {dict(count.ended)}")


def changing_inputs(
    cases: Sequence[tuple[Case, str]],
    work: Path,
    log: Path,
    each: int,
    rng: random.Random,
    count: Tally,
    tell: Callable[[str], None],
) -> None:
    """Let inputs vanish, grow or shrink while they are read."""
    for case, pattern in cases:
        for _ in range(each):
            case.begin(work)
            log.unlink(missing_ok=True)
            log.touch()
            inputs = sorted(work.glob(pattern))
            child = start(case.run, log, cwd=work)
            time.sleep(rng.uniform(0, 0.7) * case.seconds)
            for path in rng.sample(inputs, max(1, len(inputs) // 2)):
                with contextlib.suppress(FileNotFoundError):
                    how = rng.randrange(3)
                    if how == 0:
                        path.unlink()
                    elif how == 1:
                        with path.open("ab") as file:
                            file.write(rng.randbytes(100_000))
                    else:
                        os.truncate(path, rng.randrange(path.stat().st_size))
            code = wait(child)
            said = log.read_text(encoding="utf-8", errors="replace")
            problem = "it ended otherwise" if code not in TOLD else None
            problem = problem or ("it said a traceback" if "Traceback" in said or "defect of ours" in said else None)
            left = [name for name in listing(work) - case.names if name.rpartition("/")[2].startswith(".")]
            problem = problem or (f"{left[0]} was left behind" if left else None)
            count.note(code, None if problem is None else f"{case.name}: {problem}", log)
        tell(f"inputs, {case.name}: {count.tries} tries, {len(count.wrong)} wrong, {dict(count.ended)}")


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def can_mount(root: Path) -> bool:
    """Whether this process may mount a file system of its own."""
    place = root / "mount"
    place.mkdir(exist_ok=True)
    command = shutil.which("mount")
    if command is None or subprocess.run([command, "-t", "tmpfs", "none", str(place)], capture_output=True).returncode:
        return False
    subprocess.run(["umount", str(place)], check=True)
    return True
