"""signet-train manifest: a data set as published -> the table that training reads."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from signet_runtime.errors import InputError
from signet_train.data.datasets import DATASETS

if TYPE_CHECKING:
    from signet_train.data.manifest import Row


def _check_pattern(_context: click.Context, _parameter: click.Parameter, pattern: str | None) -> str | None:
    if pattern is None:
        return None
    unknown = set(re.findall(r"\{\w*\}", pattern)) - {"{id}", "{split}", "{clip}"}
    if unknown:
        raise click.BadParameter(f"{min(unknown)} is not known; there are {{id}}, {{split}} and {{clip}}")
    if "{clip}" in pattern and "{split}" in pattern:
        return pattern
    if pattern.endswith(".arrow"):
        raise click.BadParameter(f"which clip of it? {pattern}#{{id}} is the one named as the row")
    if "{id}" not in pattern:
        raise click.BadParameter("without {id} all rows would have the same keypoints")
    return pattern


def column_names(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Read --column MEANING=NAME as a mapping."""
    for pair in given:
        if not all(pair.partition("=")):
            raise click.BadParameter(f"{pair!r} is not MEANING=NAME, as text=Satz")
    return {meaning.strip(): name.strip() for meaning, _, name in (pair.partition("=") for pair in given)}


_PUBLISHED = [name for name, dataset in DATASETS.items() if dataset.corpus is not None]
*_LABELLED, _LAST_LABELLED = [name for name, dataset in DATASETS.items() if dataset.unisign_labels]

_HELP = f"""Make the manifest of a data set that lies in ROOT as it was published.

DATASET is {", ".join(_PUBLISHED)}, or videos: your own recordings, a folder with a metadata.csv or with a .txt file
beside each video, or a table itself (.csv, .tsv). A table has the columns file_name and text, or gloss for recognition;
split, language, sign_language, signer, gloss, start, end and id may be there. Other names are said by --column.

For {", ".join(_LABELLED)} and {_LAST_LABELLED}, ROOT may also be Uni-Sign's
folder of labels (labels.train, …).

\b
Example: signet-train manifest phoenix14t PHOENIX-2014-T --out data/phoenix14t.parquet
         signet-train manifest openasl OpenASL --out data/openasl.parquet \\
             --poses 'pose_format/{{id}}.pkl'
         signet-train manifest how2sign Uni-Sign/data/How2Sign --out data/how2sign.parquet \\
             --poses 'poses/how2sign.arrow#{{id}}'
         signet-train manifest youtube-sl-25 videos --out data/bsl.parquet --sign-language bfi
         signet-train manifest videos clips --out data/mine.parquet \\
             --sign-language gsg --language de
         signet-train manifest videos sentences.csv --out data/mine.parquet \\
             --sign-language ase --language en --column text=Sentence
         signet-train manifest meinedgs --split-file train.csv --split-file dev.csv \\
             --poses 'pose_format/{{split}}/{{clip}}.h5' --out data/meinedgs.parquet
"""


@click.command(help=_HELP)
@click.argument("dataset", type=click.Choice(list(DATASETS)), metavar="DATASET")
@click.argument("root", required=False, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--split-file",
    "split_files",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="how2sign, meinedgs: a split as the paper's authors published it (train.csv, …_val.csv); may be repeated. "
    "ROOT is then where videos are. [default: the file's directory]",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The manifest, .parquet or .jsonl; one that is there is replaced.",
)
@click.option(
    "--poses",
    "pattern",
    metavar="PATTERN",
    callback=_check_pattern,
    help="Where keypoints are, or will be: a file with {id} and, if you like, {split} (dev rows' may also be called "
    "val there); or, after a '#', a clip of a store that signet-train convert-poses makes: poses/all.arrow#{id}. With "
    "{split}, {clip} is the id without the split, which those of MeineDGS' split files begin with. "
    "[default: poses/{id}.npz beside the manifest]",
)
@click.option(
    "--sign-language",
    metavar="CODE",
    help="Keep the rows of this sign language (ISO 639-3: bfi, gsg). Videos of your own that do not say theirs are "
    "taken to be in it.",
)
@click.option(
    "--language",
    metavar="CODE",
    help="Keep the rows with text in this language (BCP 47: en, de). Videos of your own that do not say theirs are "
    "taken to be in it.",
)
@click.option(
    "--column",
    "columns",
    metavar="MEANING=NAME",
    multiple=True,
    callback=column_names,
    help="videos: what the table calls a column, as text=Satz; may be repeated. [default: by usual names]",
)
@click.option("--encoding", metavar="NAME", help="videos: of the table. [default: UTF-8, or what it seems to be]")
def manifest(
    dataset: str,
    root: Path | None,
    split_files: tuple[Path, ...],
    out: Path,
    pattern: str | None,
    sign_language: str | None,
    language: str | None,
    columns: dict[str, str],
    encoding: str | None,
) -> None:
    """Make a manifest, as `_HELP` says."""
    from dataclasses import replace

    from signet_train.data.manifest import write_manifest
    from signet_train.data.poses import split_location

    if split_files:
        root = root or split_files[0].absolute().parent
        read = _read_split_files(dataset, split_files, root.absolute())
    elif root is None:
        raise click.UsageError("Missing argument 'ROOT'.")
    elif DATASETS[dataset].corpus is None:  # whose languages nobody published
        read = read_own(root.absolute(), sign_language, language, columns, encoding)
    elif root.is_file():
        raise click.UsageError(f"{root} is a file: {dataset} is read from the folder that it was published as")
    else:
        from signet_train.data.datasets import reader

        read = reader(dataset)(root.absolute())
    rows = _keep(read, sign_language, language)
    if not rows:
        raise InputError(f"{root}: nothing to put into a manifest was found there")
    twice = next((clip for clip, count in Counter(row.id for row in rows).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{root}: the id {twice!r} occurs twice; each row needs its own")
    rows = [replace(row, corpus=DATASETS[dataset].corpus) for row in rows]
    if pattern is not None:
        rows = [_locate(row, pattern) for row in rows]
    if DATASETS[dataset].corpus is None:
        refuse_missing(rows, root, out.absolute().parent)
    write_manifest(out, rows)
    path, clip = split_location(pattern or rows[0].poses)
    _summarise(dataset, rows, out, can_extract=clip is None and path.endswith(".npz"))


def read_own(
    root: Path, sign_language: str | None, language: str | None, columns: dict[str, str], encoding: str | None
) -> list[Row]:
    """Read one's own recordings, and see that their languages exist.

    Raises:
        InputError: as the reader of ``videos``; or a language is none, with what may be meant.
    """
    from signet_train.data.datasets import reader
    from signet_train.data.languages import language_problem, sign_language_problem

    for problem in (language and language_problem(language), sign_language and sign_language_problem(sign_language)):
        if problem:
            raise InputError(problem)
    rows = reader("videos")(root, language=language, sign_language=sign_language, columns=columns, encoding=encoding)
    for row in rows:
        problem = language_problem(row.language) or sign_language_problem(row.sign_language)
        if problem:
            raise InputError(f"{root}: {row.id}: {problem}")
    return rows


def refuse_missing(rows: list[Row], root: Path, poses_root: Path) -> None:
    """See that every recording is there, or else its keypoints, relative to ``poses_root``.

    Raises:
        InputError: some are not; the first of them are named.
    """
    from signet_train.data.poses import poses_exist

    missing = [
        row
        for row in rows
        if row.video is not None and not Path(row.video).exists() and not poses_exist(row.poses, poses_root)
    ]
    if missing:
        names = ", ".join(str(row.video) for row in missing[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise InputError(
            f"{root}: {len(missing)} of {len(rows)} recordings are not there: {names}{more}; correct the table, or "
            "leave their lines out"
        )


def _read_split_files(dataset: str, files: tuple[Path, ...], root: Path) -> list[Row]:
    from signet_train.data.datasets import split_files

    if dataset not in split_files.READERS:
        raise click.UsageError(f"--split-file: there are split files of {' and '.join(split_files.READERS)}")
    return split_files.read_split_files(dataset, files, root)


def _keep(rows: list[Row], sign_language: str | None, language: str | None) -> list[Row]:
    for field, wanted in (("sign_language", sign_language), ("language", language)):
        there = sorted({getattr(row, field) for row in rows})
        if wanted is not None and rows and wanted not in there:
            raise InputError(f"--{field.replace('_', '-')} {wanted}: no such rows; there are {', '.join(there)}")
        rows = [row for row in rows if wanted in (None, getattr(row, field))]
    return rows


def _locate(row: Row, pattern: str) -> Row:
    """Return the row with its keypoints where the pattern, relative to the current directory, says."""
    from dataclasses import replace

    from signet_train.data.poses import poses_exist

    names = ("dev", "val") if row.split == "dev" else (row.split,)
    clip = row.id.removeprefix(f"{row.split}-")
    named = pattern.replace("{id}", row.id).replace("{clip}", clip)
    places = [str(Path(named.replace("{split}", name)).absolute()) for name in names]
    return replace(row, poses=next((place for place in places if poses_exist(place, Path())), places[0]))


def _summarise(dataset: str, rows: list[Row], out: Path, can_extract: bool) -> None:
    from signet_train.data.poses import poses_exist

    click.echo(f"{dataset}: {len(rows)} rows in {out}", err=True)
    for split in dict.fromkeys(row.split for row in rows):
        of_split = [row for row in rows if row.split == split]
        times = [row.end - (row.start or 0) for row in of_split if row.end is not None]
        hours = f", {sum(times) / 3600:.1f} h" if times else ""
        part = f" (known of {len(times)} rows)" if 0 < len(times) < len(of_split) else ""
        click.echo(f"  {split}: {len(of_split)} rows{hours}{part}", err=True)
    with_poses = sum(poses_exist(row.poses, out.absolute().parent) for row in rows)
    click.echo(f"  keypoints: there for {with_poses} of {len(rows)} rows ({rows[0].poses}, …)", err=True)
    command = "extract-poses" if with_poses < len(rows) and can_extract else "check"
    click.echo(f"Next: signet-train {command} {out}", err=True)
