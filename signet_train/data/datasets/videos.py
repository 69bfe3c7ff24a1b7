"""One's own recordings: a folder of videos, each with its sentence, in one of two layouts.

With a table, ``metadata.csv``, as Hugging Face Datasets' video folders have it (UTF-8, commas, ``"`` quotes; with
semicolons or tabs, as spreadsheets save it, it is understood, too)::

    metadata.csv
    clips/0001.mp4
    …

Its columns ``file_name`` (relative to the folder) and ``text`` are needed; ``split``, ``language``,
``sign_language``, ``signer``, ``gloss``, ``start``, ``end`` and ``id`` are as in a manifest's row (see
`signet_train.data.manifest.Row`) and may be left out, or empty. Other columns are not read. ``start`` and ``end`` are
seconds, for several sentences in one video.

Columns may be called otherwise (``video``, ``sentence``, ``Übersetzung``; `signet_train.data.datasets.tables` has the
names), and the table, too: then it is given in place of the folder, and ``file_name`` is relative to it. ``text`` may
be left out where there is a ``gloss``: for recognition.

Without the table, a text file beside each video says what is signed in it, all of it::

    train/0001.mp4
    train/0001.txt
    dev/…

Where the table names no split, the first directory does if it is called train, dev (val, valid, validation) or test,
in any case of letters;
else a tenth of the recordings each is dev and test, by a hash of the signer where that is known, or else of the file's
name. The id is, where it is not given, the file's name with its directories (``train-0001``), and times if it has any.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath, PurePosixPath

from signet_runtime.errors import InputError
from signet_train.data.datasets.annotations import clip_id, read_table, read_text, readable
from signet_train.data.datasets.splits import own_split
from signet_train.data.datasets.tables import any_text, meanings
from signet_train.data.manifest import Row
from signet_train.data.tree import VIDEO_SUFFIXES, files_below, find_below


def read(
    root: Path,
    language: str | None = None,
    sign_language: str | None = None,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
) -> list[Row]:
    """Make a row for each line of ``metadata.csv``, or for each video with a text file.

    Args:
        root: the folder, or a table in it.
        language: of the text (BCP 47), where the table does not say.
        sign_language: as an ISO 639-3 code, where the table does not say.
        columns: what the table calls its columns, by their meaning; else by their names.
        encoding: of the table; else UTF-8, or what it seems to be.

    Raises:
        InputError: neither table nor videos, a broken line, no video with its text (one that has none is said and left
            out), or nothing says the language.
    """
    default = {"language": language or "", "sign_language": sign_language or ""}
    table = root if root.is_file() else root / "metadata.csv"
    if table.is_file():
        root = table.parent

        def read_any(path: Path) -> str:
            return any_text(path, encoding, language)

        def names(header: Sequence[str]) -> dict[str, str]:
            return meanings(header, columns or {})

        lines = list(read_table(table, ("file_name",), ",", quoted=True, text_of=read_any, names=names))
        if lines and not {"text", "gloss"} & lines[0][1].keys():
            raise InputError(
                f"{table}: line 1: no column text (what is signed), nor gloss; it has {', '.join(lines[0][1])}. Say "
                "which it is: --column text=NAME"
            )
        return [_row(root, where, {**default, **{k: v for k, v in line.items() if v.strip()}}) for where, line in lines]
    recordings = (path for path in files_below(root) if path.suffix.lower() in VIDEO_SUFFIXES)
    rows = [
        _row(root, str(path), {**default, "file_name": path.relative_to(root).as_posix(), "text": text})
        for path, text in readable(recordings, _sentence)
    ]
    if not rows:
        raise InputError(
            f"{root}: no metadata.csv (file_name,text) and no videos there; "
            "give the folder of the videos, with the table or with a .txt beside each"
        )
    return rows


def _sentence(video: Path) -> str:
    path = find_below(video.parent, PurePath(video.with_suffix(".txt").name))
    if not path.exists():
        raise InputError(f"{path}: no such file; it should say what is signed in {video.name}")
    try:
        text = read_text(path)
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; convert the file") from None
    if not text.strip():
        raise InputError(f"{video}: no text; it should say what is signed in {video.name}")
    return text


def _row(root: Path, where: str, line: dict[str, str]) -> Row:
    name = PurePosixPath(line.get("file_name", "").strip().replace("\\", "/"))  # as Windows writes them
    if not name.name or name.is_absolute() or ".." in name.parts:
        raise InputError(f"{where}: file_name {str(name)!r} is not a file in the folder")
    text = " ".join(line.get("text", "").split())
    if not text and not line.get("gloss", "").strip():
        raise InputError(f"{where}: no text; it should say what is signed in {name.name}")
    for column, meaning in (("language", "of the text, as en or de"), ("sign_language", "ISO 639-3, as ase or gsg")):
        if not line[column].strip():
            raise InputError(
                f"{where}: no {column} ({meaning}); add a column to metadata.csv, or give --{column.replace('_', '-')}"
            )
    start, end = (_seconds(line.get(column), f"{where}: {column}") for column in ("start", "end"))
    if start is not None and end is not None and start >= end:
        raise InputError(f"{where}: ends at {end} s, before it starts")
    times = [f"{1000 * time:.0f}" for time in (start, end) if time is not None]
    named = unicodedata.normalize("NFC", "-".join([*name.with_suffix("").parts, *times]))
    clip = clip_id(line.get("id", "").strip() or named, where)
    signer = line.get("signer", "").strip() or None
    return Row(
        id=clip,
        split=own_split(line.get("split", "").strip(), name, signer),
        poses=f"poses/{clip}.npz",
        text=text,
        language=line["language"].strip(),
        sign_language=line["sign_language"].strip(),
        video=str(find_below(root, name)),
        start=start,
        end=end,
        signer=signer,
        gloss=" ".join(line.get("gloss", "").split()) or None,
    )


def _seconds(value: str | None, where: str) -> float | None:
    if not value or not value.strip():
        return None
    try:
        seconds = float(value.replace(",", "."))  # spreadsheets write numbers as their country does
    except ValueError:
        raise InputError(f"{where}: {value!r} is not seconds") from None
    if not 0 <= seconds < float("inf"):
        raise InputError(f"{where}: {value!r} is not a time in a video")
    return seconds
