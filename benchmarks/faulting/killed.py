"""kill -9 at random moments, signals, and two processes at once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.faulting.case import Case, carry_out
from benchmarks.measuring.forked import start, wait

FORBIDDEN = ("Traceback (most recent call last)", "a defect of ours")
TOLD = {0, 3, 4, 5, 130}  # what a command may end with, as the README has it; 1, 70 and signals are not among it


@dataclass
class Tally:
    """How a class of faults went.

    Attributes:
        wrong: what was lost, or said wrongly, a line each.
        ended: how the commands ended.
    """

    name: str
    command: str
    tries: int = 0
    wrong: list[str] = field(default_factory=list)
    ended: Counter[str] = field(default_factory=Counter)

    def note(self, code: int, problem: str | None, log: Path) -> None:
        """Count a try, and keep what was wrong with it."""
        self.tries += 1
        self.ended[f"exit {code}" if code >= 0 else f"signal {-code}"] += 1
        if problem is not None:
            said = " | ".join(log.read_text(encoding="utf-8", errors="replace").split("\n")[-6:])[-600:]
            self.wrong.append(f"{self.name}, exit {code}: {problem} ({said})")


def problem_of(case: Case, work: Path, log: Path, codes: set[int] | None, code: int) -> str | None:
    """Return what is wrong after a fault: what it said, its exit code, or what it made."""
    said = log.read_text(encoding="utf-8", errors="replace")
    for words in FORBIDDEN:
        if words in said:
            return f"it said {words!r}"
    if codes is not None and code not in codes:
        return f"it ended with {code}"
    return case.wrong(work)


def goes_on(case: Case, work: Path, log: Path) -> str | None:
    """Give a command again; return what is wrong then."""
    log.unlink(missing_ok=True)
    code = carry_out(case, work, log)
    return problem_of(case, work, log, {0}, code) or case.unfinished(work)


def interrupt(
    cases: Sequence[Case],
    work: Path,
    log: Path,
    each: int,
    rng: random.Random,
    signals: Sequence[int],
    tally: Callable[[Case], Tally],
    tell: Callable[[str], None],
) -> None:
    """Send every command signals, the second right after the first, at random moments, and give it again.

    A moment at which it had ended already is taken again, but not for ever: some end sooner than they did.
    """
    for case in cases:
        count = tally(case)
        done, attempts, lasts = 0, 0, case.seconds  # which another load of the machine changes
        while done < each and attempts < 3 * each:
            attempts += 1
            case.begin(work)
            log.unlink(missing_ok=True)
            log.touch()
            child = start(case.run, log, cwd=work)
            # A third of them in the end, where what was made takes its place.
            low = 0.75 if attempts % 3 == 0 else 0.0
            time.sleep(rng.uniform(low, 1.0) * lasts)
            for number, name in enumerate(signals):
                if number:
                    time.sleep(rng.uniform(0.0, 0.3))
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, name)
            code = wait(child)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # workers that outlive it
            if code == 0:
                lasts *= 0.9
                continue
            lasts *= 1.02
            done += 1
            codes = None if signal.SIGKILL in signals else {*TOLD, -signal.SIGTERM}
            count.note(code, problem_of(case, work, log, codes, code) or goes_on(case, work, log), log)
        tell(f"{count.name}: {count.tries} tries, {len(count.wrong)} wrong, {dict(count.ended)}")


def two_at_once(
    cases: Sequence[Case],
    work: Path,
    log: Path,
    each: int,
    rng: random.Random,
    count: Tally,
    tell: Callable[[str], None],
) -> None:
    """Start every command twice: one is refused, or both end well."""
    for case in cases:
        for _ in range(each):
            case.begin(work)
            logs = [log.with_suffix(f".{number}") for number in range(2)]
            children = []
            for one in logs:
                one.unlink(missing_ok=True)
                one.touch()
                children.append(start(case.run, one, cwd=work))
                time.sleep(rng.uniform(0.0, 0.3))
            codes = [wait(child) for child in children]
            problem = None if 0 in codes else "both were refused"
            for one, code in zip(logs, codes, strict=True):
                problem = problem or problem_of(case, work, one, {0, 3, 4}, code)
                count.ended[f"exit {code}"] += 1
            problem = problem or case.unfinished(work)
            count.tries += 1
            if problem is not None:
                said = [one.read_text(encoding="utf-8", errors="replace")[-300:] for one in logs]
                count.wrong.append(f"{case.name}, exits {codes}: {problem} ({said})")
        tell(f"two at once, {case.name}: {count.tries} tries, {len(count.wrong)} wrong")
