"""Fuzz the parsers: `python -m tests.fuzz --target NAME --runs 100000`; `--list` tells the targets."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from tests.fuzz import engine

SLICE_SEED = 25


def main() -> int:
    """Run what is asked for; 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--list", action="store_true", help="tell the targets")
    parser.add_argument("--target", action="append", default=[], help="one of them, or several; all by default")
    parser.add_argument("--runs", type=int, help="inputs of each; by default its share of a slice of three minutes")
    parser.add_argument("--seed", type=int, default=SLICE_SEED)
    parser.add_argument("--guided", action="store_true", help="by coverage, with atheris, which is installed by hand")
    parser.add_argument("--save", type=Path, help="directory for inputs that were not survived")
    for hidden in ("--child", "--corpus", "--guided-child"):
        parser.add_argument(hidden, action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--mark", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        engine.child(asked.target, asked.seed, asked.first, asked.runs, asked.mark, asked.corpus)
        return 0
    if asked.guided_child:
        engine.guided(asked.target[0], asked.runs, asked.seed, asked.save)
        return 0
    from tests.fuzz.targets import TARGETS

    unknown = set(asked.target) - TARGETS.keys()
    if unknown:
        parser.error(f"no target is called {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    if asked.list:
        print("\n".join(TARGETS))
        return 0
    lost = 0
    for name in asked.target or TARGETS:
        if asked.guided:
            lost += _guided(name, asked.runs or 10_000, asked.seed, asked.save or Path("fuzz-findings"))
            continue
        report = engine.run(TARGETS[name], asked.runs or TARGETS[name].share, asked.seed, asked.save)
        lost += len(report.findings)
        print(
            f"{name}: {report.tries} inputs, {report.accepted} accepted, {report.refused} refused, "
            f"{len(report.findings)} lost, {report.seconds:.0f} s",
            flush=True,
        )
        for what in sorted({f"{finding.kind} {finding.what}" for finding in report.findings}):
            of_it = [finding for finding in report.findings if f"{finding.kind} {finding.what}" == what]
            print(f"  {len(of_it)} x {what} (first: {of_it[0].number} {of_it[0].saved})", flush=True)
    return 1 if lost else 0


def _guided(name: str, runs: int, seed: int, save: Path) -> int:
    arguments = ["--guided-child", "--target", name, "--runs", str(runs), "--seed", str(seed), "--save", str(save)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *arguments], cwd=engine.ROOT, capture_output=True, text=True, check=False
    )
    told = [line for line in done.stderr.splitlines() if line.startswith("#")]
    print(f"{name}: guided, {'whole' if done.returncode == 0 else 'lost'}: {told[-1] if told else done.stderr[-500:]}")
    if done.returncode:
        print("\n".join(done.stdout.splitlines()[-12:] + done.stderr.splitlines()[-3:]))
    return int(done.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
