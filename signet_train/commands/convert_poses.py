"""signet-train convert-poses: published pose archives -> one pose store."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from signet_runtime.errors import ExitCode


@click.command("convert-poses")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The pose store, .arrow; one that is there is replaced.",
)
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Processes. [default: one a CPU]")
def convert_poses(sources: tuple[Path, ...], out: Path, workers: int | None) -> None:
    """Put the keypoint files in all SOURCEs into one pose store, several times smaller and faster to load.

    A SOURCE is a directory, a keypoint file (.pkl or .h5 of a published archive, .npz, .pose), a .zip, or the first
    part of a zip that was cut into parts (.zip.00, .zip.001, .zip.aa): they are read in place, nothing is unpacked or
    joined. Nothing in a pickle is executed. A clip is called as its file: manifests find abc.pkl as
    poses/how2sign.arrow#abc.

    The store is there whole or not at all. A clip that cannot be read does not stop the others: it is in
    OUT.failures.jsonl beside the store, and the exit code is 3.

    \b
    Example: signet-train convert-poses how2sign_pose_format.zip.00 --out poses/how2sign.arrow
    Example: signet-train convert-poses CSL-News_pose/archive_*.zip --out poses/csl_news.arrow
    Example: signet-train convert-poses poses/ --out poses/mine.arrow --workers 4
    """  # noqa: D301 (click wants the character)
    from tqdm import tqdm

    from signet_runtime.files import check_writable, reporting
    from signet_train.data.store.archives import find_clips
    from signet_train.data.store.conversion import convert
    from signet_train.data.workers import available_cpus

    if out.suffix != ".arrow":
        raise click.UsageError("--out must end in .arrow")
    report = out.with_name(f"{out.stem}.failures.jsonl")
    with reporting(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    check_writable(out)
    check_writable(report)
    clips = find_clips(sources)
    try:
        with tqdm(total=len(clips), unit="clip", mininterval=0.5 if sys.stderr.isatty() else 60) as bar:
            done = convert(clips, out, workers=workers or available_cpus(), progress=bar.update)
    except KeyboardInterrupt:
        click.echo("signet-train: interrupted; nothing was written", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    _write_report(report, done.failures)
    if done.clips:
        stored = out.stat().st_size
        click.echo(
            f"{out}: {done.clips} clips, {done.frames} frames\n"
            f"  keypoint files {_size(done.file_bytes)}, store {_size(stored)}: {done.file_bytes / stored:.2f} times "
            "smaller\n"
            f"  largest error of a coordinate: {done.error:.3f} pixels at 1920x1080",
            err=True,
        )
    if done.failures:
        first = done.failures[0]
        click.echo(f"{len(done.failures)} failed; {report} says why; the first is {first.message}", err=True)
    if not done.clips:
        click.echo(f"nothing was written to {out}", err=True)
    else:
        click.echo(f"Next: signet-train manifest DATASET ROOT --out FILE --poses '{out}#{{id}}'", err=True)
    if done.failures:
        sys.exit(ExitCode.UNUSABLE)


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"


def _write_report(path: Path, failures: list) -> None:
    import dataclasses
    import json

    from signet_runtime.files import whole_file

    with whole_file(path) as temporary:
        lines = [json.dumps(dataclasses.asdict(failure), ensure_ascii=False) for failure in failures]
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
