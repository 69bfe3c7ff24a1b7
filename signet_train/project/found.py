"""What somebody has: a folder of recordings, a table of them, or a manifest -> rows, and what was noticed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from signet_runtime.errors import InputError
from signet_train.data.datasets.splits import is_hashed
from signet_train.data.languages import named_sign_language, sign_languages
from signet_train.data.manifest import Row, read_manifest


@dataclass(frozen=True, slots=True)
class Found:
    """The rows, whose paths are absolute where something is there; and whether the data name their splits."""

    rows: list[Row]
    splits_given: bool


def look(
    source: Path,
    project: Path,
    *,
    language: str | None,
    sign_language: str | None,
    columns: Mapping[str, str],
    encoding: str | None,
) -> Found:
    """Read what is at ``source``.

    Raises:
        InputError: as the readers; where a sign language is missing, with the one that names of files suggest.
    """
    if source.suffix in (".parquet", ".jsonl"):
        manifest = read_manifest(source)
        return Found([_absolute(row, manifest.root) for row in manifest.rows], splits_given=True)
    from signet_train.commands.manifest import read_own, refuse_missing

    try:
        rows = read_own(source.absolute(), sign_language, language, dict(columns), encoding)
    except InputError as error:
        meant = named_sign_language(re.findall(r"[^\W\d_]+", f"{source.absolute().parent.name} {source.name}"))
        if "no sign_language" not in str(error) or meant is None:
            raise
        raise InputError(f"{error}. By its name it is {sign_languages()[meant]}: --sign-language {meant}") from None
    refuse_missing(rows, source, project)
    # A hash gives a tenth of the recordings each: of few ones perhaps none. Those are divided anew.
    root = source.absolute() if source.is_dir() else source.absolute().parent
    names = (PurePosixPath(Path(str(row.video)).relative_to(root).as_posix()) for row in rows)
    hashed = all(is_hashed(row.split, name, row.signer) for row, name in zip(rows, names, strict=True))
    return Found(rows, splits_given=not hashed)


def _absolute(row: Row, root: Path) -> Row:
    """Return a manifest's row for another manifest elsewhere."""
    poses = row.poses if "://" in row.poses else str(root / row.poses)
    return replace(row, poses=poses, video=None if row.video is None else str(root / row.video))
