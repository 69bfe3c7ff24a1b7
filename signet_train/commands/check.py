"""signet-train check: find what would stop a training run before it starts."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Literal

import click

from signet_runtime.errors import ExitCode

# Nearly seven minutes at 25 frames a second: no sentence, but a recording that nobody cut. Training samples long clips
# down, so this is for sanity, and for the memory of whatever loads them.
_MAX_FRAMES = 10_000


@click.command()
@click.argument("manifests", metavar="MANIFEST...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--task",
    type=click.Choice(["translate", "recognise"]),
    default="translate",
    show_default=True,
    help="What will be trained: translation needs every row's text, recognition its gloss.",
)
@click.option(
    "--max-frames",
    type=click.IntRange(1),
    default=_MAX_FRAMES,
    show_default=True,
    metavar="N",
    help="A clip with more is a recording that nobody cut, most likely. Training samples longer clips than it reads "
    "down, whatever this says.",
)
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Processes. [default: one a CPU]")
@click.option(
    "--sample",
    type=click.IntRange(1),
    metavar="N",
    help="Read the keypoints of N rows, drawn at random, the same ones every time; what rows say is checked in all. "
    "[default: every row's keypoints]",
)
@click.option(
    "--clean",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the rows that have no fault to this manifest (.parquet or .jsonl), all manifests' into the one.",
)
def check(
    manifests: tuple[Path, ...],
    task: Literal["translate", "recognise"],
    max_frames: int,
    workers: int | None,
    sample: int | None,
    clean: Path | None,
) -> None:
    """Read all that training would read of the MANIFESTs, together one corpus, and print what is wrong.

    Found are keypoint files that are missing, damaged, empty, unsafe, of other joints, with numbers that are none,
    without a signer, or far too long; rows without text (or gloss); ids that occur twice; languages that do not
    exist. A line each: manifest:row id: what is wrong. The exit code is 0 if nothing is, else 3.

    \b
    Example: signet-train check data/phoenix14t.parquet
    Example: signet-train check data/bobsl.parquet data/bsl_corpus.parquet --clean data/bsl.parquet
    Example: signet-train check data/youtube_asl.parquet --sample 2000
    Example: signet-train check data/wlasl100.parquet --task recognise
    """  # noqa: D301 (click wants the character)
    from tqdm import tqdm

    from signet_runtime.files import check_writable
    from signet_train.data.check import check_rows, without_faults
    from signet_train.data.manifest import read_manifest, write_manifest
    from signet_train.data.workers import available_cpus

    if len({path.resolve() for path in manifests}) < len(manifests):
        raise click.UsageError("a manifest is given twice")
    if clean is not None:
        if sample is not None:
            raise click.UsageError("--clean needs every row's keypoints: leave --sample out")
        if clean.suffix not in (".parquet", ".jsonl"):
            raise click.UsageError("--clean must end in .parquet or .jsonl")
        if clean.resolve() in [path.resolve() for path in manifests]:
            raise click.UsageError(f"--clean would overwrite {clean}; give another name")
        check_writable(clean)
    read = [(path, read_manifest(path)) for path in manifests]
    count = sum(len(manifest.rows) for _, manifest in read)
    seen = count if sample is None else min(sample, count)
    try:
        with tqdm(total=seen, unit="row", mininterval=0.5 if sys.stderr.isatty() else 60) as bar:
            faults = check_rows(
                read,
                task=task,
                max_frames=max_frames,
                workers=workers or available_cpus(),
                sample=sample,
                progress=bar.update,
            )
    except KeyboardInterrupt:
        click.echo("signet-train: interrupted; nothing was written", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    for fault in faults:
        click.echo(" ".join(f"{fault.manifest}:{fault.row} {fault.id}: {fault.message}".split()))
    faulty = len({(fault.manifest, fault.row) for fault in faults})
    kinds = ", ".join(f"{kind}: {number}" for kind, number in Counter(fault.kind for fault in faults).most_common())
    of_some = "" if seen == count else f", of {seen} of them the keypoints"
    found = f"{faulty} with faults ({kinds})" if faults else "no faults"
    click.echo(f"rows: {count} checked{of_some}, {found}", err=True)
    if clean is not None:
        write_manifest(clean, without_faults(faults, read, clean.parent))
        click.echo(f"rows: {count - faulty} without a fault in {clean}, {faulty} left out", err=True)
    if faults:
        sys.exit(ExitCode.UNUSABLE)
    click.echo("Next: signet-train pretrain CONFIG --out RUN, or signet-train init MANIFEST --out PROJECT", err=True)
