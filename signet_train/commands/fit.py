"""signet-train fit: a project's whole way, as one command that goes on where it was."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from signet_runtime.errors import ExitCode, SignetError

if TYPE_CHECKING:
    from signet_train.project.steps import Step

_MODULES = {"signet-export": "signet_export", "signet-translate": "signet_runtime.commands.translate"}

# What a person can do about a step that ended so.
_ADVICE = {
    ("extract", ExitCode.UNUSABLE): "put the recordings right, or leave their rows out of what `init` is given",
    ("check", ExitCode.UNUSABLE): "put the rows right, or `signet-train check MANIFEST --clean NEW.parquet` and init "
    "from that",
    ("cache", ExitCode.INVALID): "if experts or data are others than before, delete the features and give it again",
}


@click.command()
@click.argument("project", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="[default: CUDA where there is one, else the CPU]")
@click.option("--until", metavar="STEP", help="End after this step, as finetune; given again, it goes on.")
def fit(project: Path, device: str | None, until: str | None) -> None:
    """Carry out a PROJECT: keypoints, check, experts, cache, alignment, tuning, scores, bundle, a first translation.

    Every step is a command of its own, which is shown and may be given by hand. What is done is not done again: after
    Ctrl-C, or a change in a configuration, the same command goes on. More epochs extend a run; a step whose experts or
    data changed is done anew, and what was there is put aside. It stops where a person must decide, and says what.

    \b
    Example: signet-train fit my-project
    """  # noqa: D301
    from signet_runtime.locks import alone_in
    from signet_train.project.layout import read_project
    from signet_train.project.steps import Ledger, steps_of

    directory = project.absolute()
    settings = read_project(directory)
    steps = steps_of(directory, settings, _test_clip(directory, settings.test_split), device)
    if until is not None and until not in [step.name for step in steps]:
        raise click.UsageError(f"--until {until}: the steps are {', '.join(step.name for step in steps)}")
    context = click.get_current_context()
    context.with_resource(alone_in(directory, "wait until it is done"))
    group = context.parent
    assert group is not None and isinstance(group.command, click.Group)
    for number, step in enumerate(steps, 1):
        ledger = Ledger(directory, steps)
        if ledger.is_done(step):
            click.echo(f"[{number}/{len(steps)}] {step.name}: done before", err=True)
            if step.name == until:
                return
            continue
        aside = ledger.begin(step)
        if aside is not None:
            click.echo(f"  what it builds on has changed: the earlier one is now {aside}", err=True)
        command = step.command()
        click.echo(f"[{number}/{len(steps)}] {step.program} {shlex.join(map(_short, command))}", err=True)
        try:
            _carry_out(group.command, step, command)
        except SignetError as error:
            raise type(error)(f"{error}{_advice(step, error.exit_code)}") from error
        except KeyboardInterrupt as stop:
            told = str(stop).partition(";")[0] or "interrupted"
            raise KeyboardInterrupt(f"{step.name}: {told}; `signet-train fit {project}` goes on from there") from None
        ledger.finish(step)
        if step.name == until:
            return
    _tell(project, directory)


def _carry_out(group: click.Group, step: Step, command: list[str]) -> None:
    """Run a step, one of ours in this process, which answers signals; ends as it ends where it fails."""
    if step.program == "signet-train":
        subcommand = group.commands[command[0]]
        try:
            with subcommand.make_context(command[0], command[1:]) as context:
                subcommand.invoke(context)
        except SystemExit as end:
            if end.code not in (None, ExitCode.DONE):
                if end.code == ExitCode.INTERRUPTED:
                    raise KeyboardInterrupt from None
                click.echo(f"signet-train: fit stops at {step.name}{_advice(step, end.code)}", err=True)
                raise
        return
    done = subprocess.run([sys.executable, "-m", _MODULES[step.program], *command])
    if done.returncode:
        click.echo(f"signet-train: fit stops at {step.name}: {step.program} says why", err=True)
        sys.exit(done.returncode)


def _advice(step: Step, code: object) -> str:
    advice = _ADVICE.get((step.name, ExitCode(code))) if isinstance(code, int) else None
    return f"; {advice}" if advice else ""


def _short(argument: str) -> str:
    """Return a path as it is shorter, from here or whole."""
    if not Path(argument).is_absolute():
        return argument
    relative = os.path.relpath(argument)
    return relative if len(relative) < len(argument) else argument


def _test_clip(directory: Path, split: str) -> str | None:
    """Return the first recording of the test split, or its keypoints where the recording is not there or only part.

    A word that is put together from letter clips is no file: there is nothing to translate.
    """
    from signet_train.data.manifest import read_manifest

    manifest = read_manifest(directory / "manifest.parquet")
    rows = manifest.split(split) or manifest.rows
    row = rows[0]
    video = None if row.video is None else manifest.root / row.video
    if video is not None and video.exists() and row.start is None and row.end is None:
        return str(video)
    return None if "://" in row.poses else str(manifest.root / row.poses)


def _tell(project: Path, directory: Path) -> None:
    click.echo(
        f"{project / 'bundle'}: the translator; {project / 'predictions.jsonl'}: what it makes of the test split\n"
        f"{project / 'runs' / 'finetune' / 'report.html'}: how training went\n"
        f"Next: signet-translate --bundle {project / 'bundle'} VIDEO",
        err=True,
    )
