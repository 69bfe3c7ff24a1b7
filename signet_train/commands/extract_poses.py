"""signet-train extract-poses: keypoints of a manifest's videos."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from signet_runtime.errors import ExitCode
from signet_runtime.pose.estimators import DEFAULT, ESTIMATORS

if TYPE_CHECKING:
    from tqdm import tqdm

    from signet_train.data.extraction import Crew
    from signet_train.data.extraction_work import Failure, Noted


class _Shard(click.ParamType):
    name = "K/N"

    def convert(
        self, value: str | tuple[int, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"([0-9]+)/([0-9]+)", value)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            self.fail(f"{value!r} is not a shard: 1/4 is the first of four", param, ctx)
        return int(found[1]), int(found[2])


@click.command("extract-poses")
@click.argument("manifest", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--pose",
    type=click.Choice(tuple(ESTIMATORS)),
    default=DEFAULT,
    show_default=True,
    help="Who finds the keypoints. A model reads videos best through the estimator that it was trained on.",
)
@click.option(
    "--pose-weights", metavar="DIR", type=click.Path(path_type=Path), help="Where RTMPose's weight files are."
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where RTMPose runs; MediaPipe always runs on the CPU.",
)
@click.option("--offline", is_flag=True, envvar="SIGNET_OFFLINE", help="Never download weights (or SIGNET_OFFLINE=1).")
@click.option(
    "--workers",
    type=click.IntRange(1),
    metavar="N",
    help="Processes, each with an estimator of its own. [default: with MediaPipe one a CPU; with RTMPose, which "
    "takes several CPUs itself, one for every four; on a GPU one]",
)
@click.option(
    "--scheduler",
    metavar="WHERE",
    help="Let a cluster do it: local, slurm, or the address of a scheduler, tcp://HOST:PORT, whose workers "
    "`signet-train pose-worker` has started. [default: processes of this machine]",
)
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="slurm: jobs, a worker each.")
@click.option(
    "--job-option",
    "job_options",
    metavar="OPTION",
    multiple=True,
    help="slurm: a line of the batch script, as --job-option=--gres=gpu:4; may be repeated. jobqueue.yaml holds too.",
)
@click.option("--job-script", is_flag=True, help="slurm: print the batch script, and do nothing.")
@click.option(
    "--patience",
    type=click.FloatRange(1),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="A process that has not done a frame for so long is ended, and another takes its place.",
)
@click.option("--shard", type=_Shard(), default="1/1", help="Do only the K-th of N parts of the rows.")
@click.option("--split", help="Do only the rows of this split.")
@click.option(
    "--frame-rate",
    type=click.FloatRange(0, min_open=True),
    metavar="FPS",
    help="Read faster videos on this clock, nearest frames. [default: every frame]",
)
@click.option("--force", is_flag=True, help="Extract again what is there already.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Failures and notes, a JSON object a line. [default: beside the manifest, NAME.failures[.K-of-N].jsonl]",
)
def extract_poses(
    manifest: Path,
    pose: str,
    pose_weights: Path | None,
    device: str,
    offline: bool,
    workers: int | None,
    scheduler: str | None,
    nodes: int,
    job_options: tuple[str, ...],
    job_script: bool,
    patience: float,
    shard: tuple[int, int],
    split: str | None,
    frame_rate: float | None,
    force: bool,
    report: Path | None,
) -> None:
    """Find the keypoints of the signer in every video of MANIFEST whose keypoint file is not there yet.

    A file is there whole or not at all, so a run that was stopped, by Ctrl-C, kill -9 or a power cut, goes on where
    it was when the same command is given again. A row that fails (no such video, nobody in it, damaged, memory run
    out) does not stop the others: it is in the report, the exit code is 3, and it is tried again next time.

    \b
    Example: signet-train extract-poses data/phoenix14t.parquet
    Example: signet-train extract-poses data/how2sign.parquet --pose rtmpose-performance --device cuda

    Rows whose keypoints are clips of a pose store, as --poses 'poses.arrow#{id}' of `signet-train manifest` has them,
    go into poses.arrow/ in files of a thousand clips. Several machines:

    \b
    Example: signet-train extract-poses m.parquet --scheduler tcp://head:8786
    Example: signet-train extract-poses m.parquet --scheduler slurm --nodes 16 --workers 4 \\
                 --job-option=--gres=gpu:4 --pose rtmpose-performance --device cuda

    Shards are jobs that may run at once, on machines that share a file system; each row is in exactly one:

    \b
    Example: for k in 1 2 3 4; do signet-train extract-poses m.parquet --shard $k/4 & done; wait
    Example: sbatch --array=1-64 --wrap 'signet-train extract-poses m.parquet --shard $SLURM_ARRAY_TASK_ID/64'
    """  # noqa: D301 (click wants the character)
    from tqdm import tqdm

    from signet_runtime.files import check_writable
    from signet_runtime.pose.estimators import load_estimator
    from signet_train.data.extraction import extract
    from signet_train.data.extraction_plan import plan, repair_stores
    from signet_train.data.manifest import read_manifest
    from signet_train.data.workers import available_cpus

    of_shard = "" if shard == (1, 1) else f".{shard[0]}-of-{shard[1]}"
    report = report or manifest.with_name(f"{manifest.stem}.failures{of_shard}.jsonl")
    if report.resolve() == manifest.resolve():
        raise click.UsageError("--report would overwrite the manifest")
    slots = workers or ESTIMATORS[pose].default_workers(available_cpus(), device)
    if scheduler is not None:
        from signet_train import cluster

        if not (scheduler in ("local", "slurm") or re.fullmatch(r"(tcp|tls|ucx)://\S+", scheduler)):
            raise click.UsageError(f"--scheduler {scheduler}: is local, slurm, or an address, tcp://HOST:PORT")
        cluster.require()
    if job_script:
        if scheduler != "slurm":
            raise click.UsageError("--job-script is for --scheduler slurm")
        from signet_train.cluster.connect import slurm

        with contextlib.closing(slurm(slots, job_options)) as made:
            click.echo(made.job_script())
        return
    rows = read_manifest(manifest)
    for line in repair_stores(rows):
        click.echo(f"signet-train: {line}", err=True)
    to_do = plan(rows, split=split, shard=shard, force=force, pose=pose)
    check_writable(report)
    load = partial(load_estimator, pose, pose, offline=offline, device=device, weights=pose_weights)
    noted: list[Noted] = []
    try:
        with (
            tqdm(total=len(to_do.jobs), unit="clip", mininterval=0.5 if sys.stderr.isatty() else 60) as bar,
            _crew(scheduler, slots, nodes, job_options, patience, bar) as (crew, progress),
        ):
            failures = extract(to_do.jobs, load, crew, frame_rate=frame_rate, noted=noted, progress=progress)
    except KeyboardInterrupt:
        click.echo("signet-train: interrupted; the same command goes on with what is not there yet", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    if to_do.untold:
        click.echo(
            f"signet-train: {to_do.untold} keypoint files do not say which recording they are of, as an earlier "
            "version wrote them: taken by their names; --force extracts them again",
            err=True,
        )
    done = len(to_do.jobs) - len(failures)
    failures = sorted([*to_do.failures, *failures], key=lambda failure: failure.row)
    _write_report(report, [*failures, *noted])
    click.echo(f"{done} extracted, {to_do.present} there already, {len(failures)} failed", err=True)
    if noted:
        click.echo(f"{report} has notes on {len(noted)} of the extracted; the first is {_note(noted[0])}", err=True)
    if failures:
        first = failures[0]
        click.echo(f"{report} says why; the first is row {first.row}, {first.id}: {first.message}", err=True)
        sys.exit(ExitCode.UNUSABLE)
    click.echo(f"Next: signet-train check {manifest}", err=True)


@contextlib.contextmanager
def _crew(
    scheduler: str | None, slots: int, nodes: int, options: tuple[str, ...], patience: float, bar: tqdm[NoReturn]
) -> Iterator[tuple[Crew, Callable[[], object]]]:
    """Yield who does the jobs, and what is to be called after each."""
    from signet_train.data.workers import run_jobs

    if scheduler is None:
        yield partial(run_jobs, processes=slots, patience=patience), bar.update
        return
    from signet_train.cluster.connect import crew_of

    def told(line: str) -> None:
        bar.write(f"signet-train: {line}", file=sys.stderr)

    with crew_of(scheduler, slots=slots, nodes=nodes, options=options, told=told, patience=patience) as crew:

        def progress() -> None:
            bar.set_postfix(at_once=crew.slots, refresh=False)
            bar.update()

        yield crew, progress


def _note(noted: Noted) -> str:
    return f"row {noted.row}, {noted.id}: {noted.notes[0]}"


def _write_report(path: Path, entries: Sequence[Failure | Noted]) -> None:
    import dataclasses
    import json

    from signet_runtime.files import whole_file

    with whole_file(path) as temporary:
        lines = [json.dumps(dataclasses.asdict(entry), ensure_ascii=False) for entry in entries]
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
