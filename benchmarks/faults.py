"""Let a machine fail under every command: killed at random moments, full, limited, shared, with odd inputs.

python -m benchmarks.faults [--kills 30] [--seed 0] [--report] [--only NAME …]

After each fault every output is the old one or the new one, what is said is no traceback, the command that is given
again ends as if nothing had happened, and nothing is left lying about. Commands are forked from one process that has
everything loaded, so that moments fall into the work and not into imports.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from signet_runtime.files import whole_file

if TYPE_CHECKING:
    from benchmarks.faulting.case import Case
    from benchmarks.faulting.killed import Tally

RESULTS = Path(__file__).with_name("results") / "faults.md"
_SLOW = {"extract-poses", "fit", "export", "translate, overlay, keypoints"}  # a fraction of the tries is theirs
_CLASSES = (
    *("kill", "signals", "two", "disk", "size", "descriptors", "memory", "places", "clock", "inputs"),
    *("files", "thousand", "stdout", "serve"),
)


@click.command()
@click.option("--kills", default=30, show_default=True, type=click.IntRange(1), help="A command; slow ones get half.")
@click.option("--tries", default=4, show_default=True, type=click.IntRange(1), help="A command and other class.")
@click.option("--seed", default=0, show_default=True)
@click.option("--only", "chosen", multiple=True, type=click.Choice(_CLASSES), help="Classes. [default: all]")
@click.option("--command", "commands", multiple=True, help="Commands, as the report calls them. [default: all]")
@click.option(
    "--report",
    is_flag=True,
    help=f"Write {RESULTS.relative_to(Path(__file__).parents[1])}; what was not run stays in it.",
)
def main(kills: int, tries: int, seed: int, chosen: tuple[str, ...], commands: tuple[str, ...], report: bool) -> None:
    """Run the campaign; ends with 1 if anything was lost, left behind, or said in a traceback."""
    import torch

    from benchmarks.faulting.commands import make_cases

    torch.set_num_threads(1)
    rng = random.Random(seed)
    began = time.monotonic()
    tallies: list[Tally] = []
    told: Counter[str] = Counter()

    def tell(line: str) -> None:
        _tell(line)
        for tally in tallies:
            for wrong in tally.wrong[told[tally.name] :]:
                _tell(f"WRONG {wrong}")
            told[tally.name] = len(tally.wrong)
        if report:
            _kept(tallies)  # whatever ends this, what was found so far is there

    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        root.chmod(0o755)
        os.environ["XDG_CACHE_HOME"] = str(root / "cache")
        cases, server = make_cases(root, root / "log", commands, _tell)
        try:
            for name in chosen or _CLASSES:
                _campaign(name, cases, root, kills, tries, rng, tallies, tell)
        finally:
            os.killpg(server, signal.SIGKILL)
    if report:
        tallies = _kept(tallies)
    click.echo("\n".join(_table(tallies)))
    _tell(f"{(time.monotonic() - began) / 60:.0f} minutes")
    if report:
        with whole_file(RESULTS) as temporary:
            temporary.write_text("\n".join(_page(tallies)) + "\n", encoding="utf-8")
    sys.exit(1 if any(tally.wrong for tally in tallies) else 0)


def _kept(tallies: Sequence[Tally]) -> list[Tally]:
    """Put tallies to those of other classes that were run before, in place of the same one's; return all, by name."""
    from benchmarks.faulting.killed import Tally

    path = RESULTS.with_suffix(".json")
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    new = {tally.name: {**vars(tally), "ended": dict(tally.ended)} for tally in tallies if tally.tries}
    rows = sorted({**{row["name"]: row for row in before}, **new}.values(), key=lambda row: row["name"])
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return [Tally(**{**row, "ended": Counter(row["ended"])}) for row in rows]


def _campaign(
    name: str,
    cases: Sequence[Case],
    root: Path,
    kills: int,
    tries: int,
    rng: random.Random,
    made: list[Tally],
    tell: Callable[[str], None],
) -> None:
    from benchmarks.faulting import killed, machine, odd_inputs, served
    from benchmarks.faulting.killed import Tally

    work, log = root / "work", root / "log"
    given = f"--only {name}"

    def tally(title: str) -> Tally:
        made.append(Tally(title, given))
        return made[-1]

    quick = [case for case in cases if case.name not in _SLOW]
    slow = [case for case in cases if case.name in _SLOW]
    if name == "kill":
        for some, each in ((quick, kills), (slow, max(1, kills // 2))):
            killed.interrupt(
                some, work, log, each, rng, [signal.SIGKILL], lambda case: tally(f"kill -9, {case.name}"), tell
            )
    elif name == "signals":
        for title, signals in (("SIGTERM", [signal.SIGTERM]), ("Ctrl-C twice", [signal.SIGINT, signal.SIGINT])):
            count = tally(title)
            killed.interrupt(cases, work, log, tries, rng, signals, partial(_same, count), tell)
    elif name == "two":
        killed.two_at_once(cases, work, log, tries, rng, tally("two processes at one place"), tell)
    elif name == "disk":
        if machine.can_mount(root):
            machine.full_disk(cases, work, log, tries, rng, tally("full disk"), tell)
        else:
            tell("full disk: this user may not mount a small file system; `--only size` is what is left")
    elif name == "size":

        def size(case: Case) -> dict[int, int]:
            largest = max(path.stat().st_size for path in case.fresh.parent.rglob("*") if path.is_file())
            return {resource.RLIMIT_FSIZE: int(10 ** rng.uniform(3.6, 1 + _digits(largest)))}

        machine.limited(cases, work, log, tries, tally("RLIMIT_FSIZE"), size, tell)
    elif name == "descriptors":

        def few(_: Case) -> dict[int, int]:
            return {resource.RLIMIT_NOFILE: rng.randint(6, 40)}

        machine.limited(cases, work, log, tries, tally("RLIMIT_NOFILE"), few, tell)
    elif name == "memory":

        def most(_: Case) -> dict[int, int]:
            return {resource.RLIMIT_AS: machine.memory_now() + rng.randint(1 << 20, 96 << 20)}

        machine.limited(cases, work, log, tries, tally("RLIMIT_AS"), most, tell)
    elif name == "places":
        if os.getuid() == 0:
            machine.not_ours(cases, work, log, tally("a directory that is another's; no home"), tell)
        else:
            tell("places: to be another user takes root")
    elif name == "clock":
        machine.other_clock(cases, work, log, rng, tally("a clock set back, ahead, or jumping"), tell)
    elif name == "inputs":
        patterns = {"extract-poses": "*.mp4", "convert-poses": "clips/*.npz", "translate -o": "clips/*.npz"}
        pairs = [(case, patterns[case.name]) for case in cases if case.name in patterns]
        machine.changing_inputs(pairs, work, log, 3 * tries, rng, tally("inputs that vanish, grow or shrink"), tell)
    elif name == "files":
        odd_inputs.no_files(work, log, tally("named pipes, devices, directories, loops as inputs"), tell)
    elif name == "thousand":
        odd_inputs.thousand(work, log, tally("1,000 inputs in a run, ten of them damaged"), tell)
    elif name == "stdout":
        odd_inputs.closed_stdout(list(cases), work, log, tally("closed standard output"), tell)
    elif name == "serve":
        served.kill_servers(root, log, kills, rng, tally("kill -9, serve"), tell)


def _same(count: Tally, _: Case) -> Tally:
    return count


def _digits(number: int) -> float:
    return len(str(number)) - 1


def _table(tallies: Sequence[Tally]) -> list[str]:
    lines = ["| class | tries | survived | lost | command |", "| --- | --- | --- | --- | --- |"]
    for tally in tallies:
        survived = tally.tries - len(tally.wrong)
        lines.append(
            f"| {tally.name} | {tally.tries:,} | {survived:,} | {len(tally.wrong)} | "
            f"`python -m benchmarks.faults {tally.command}` |"
        )
    tries, wrong = sum(tally.tries for tally in tallies), sum(len(tally.wrong) for tally in tallies)
    lines.append(f"| all | {tries:,} | {tries - wrong:,} | {wrong} | `python -m benchmarks.faults` |")
    return lines + [f"\nWRONG {line}" for tally in tallies for line in tally.wrong]


def _page(tallies: Sequence[Tally]) -> list[str]:
    ended = [
        f"- {tally.name}: {', '.join(f'{how} {count}' for how, count in sorted(tally.ended.items()))}"
        for tally in tallies
    ]
    return [
        "# Faults",
        "",
        "`python -m benchmarks.faults --report`. Survived: every output was the old one or the new one,",
        "no traceback was said, the command that was given again ended as if nothing had happened, and nothing was",
        "left lying about. Training was compared by its weights, bit by bit.",
        "",
        *_table(tallies),
        "",
        "How the commands ended at the fault:",
        "",
        *ended,
    ]


def _tell(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    main()
