"""OpenASL: sentences of American Sign Language (ASL) videos on YouTube, news and vlogs (Shi et al., 2022).

From https://github.com/chevalierNoir/OpenASL (CC BY-NC-ND 4.0), whose scripts download the videos and cut and crop the
clips, into directories of one's own choice anywhere below the root::

    data/openasl-v1.0.tsv             or openasl-v1.0.tsv
    raw-video/{yid}.mp4
    video-clip/{vid}.mp4

The columns are vid, yid, start, end (``00:00:05.333``), raw-text, tokenized-text, gloss, split (read in code that
checks them, https://github.com/matteo270303/signworld; the file itself could not be seen). The text is raw-text, as in
Uni-Sign; the benchmarks' is its lower-case tokens. Whether ``"`` quotes fields is not known: one that is quoted as in
CSV is unquoted, and no other.

Without the table, Uni-Sign's labels are read (see `unisign_labels`); a clip that is nowhere below
the root is then expected in its layout, ``rgb_format/{split}/{vid}.mp4``.

The id is vid, ``{yid}-{start}-{end}``, as in Uni-Sign's pose archive. The video is the clip, whole; where there is
none, but the raw video is there, that with its times. Rows without text are left out. Who signs is not published.
"""

from __future__ import annotations

import re
from pathlib import Path

from signet_runtime.errors import InputError
from signet_train.data.datasets.annotations import clip_id, find_file, read_table
from signet_train.data.datasets.unisign_labels import SPLITS, american_row, has_labels, read_labels, videos_directory
from signet_train.data.manifest import Row
from signet_train.data.tree import files_below

_COLUMNS = ("vid", "yid", "start", "end", "raw-text", "split")
_TABLES = ("openasl-v1.0.tsv", "data/openasl-v1.0.tsv")
_SPLITS = {"train": "train", "valid": "dev", "val": "dev", "dev": "dev", "test": "test"}
_TIME = re.compile(r"([0-9]{1,4}):([0-5][0-9]):([0-5][0-9](?:\.[0-9]{1,9})?)")
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')


def read(root: Path) -> list[Row]:
    """Make the rows of the three published splits, in the file's order.

    Raises:
        InputError: neither the table nor labels, or a broken line or label.
    """
    root = root.absolute()
    videos = {path.name: path for path in files_below(root) if path.suffix == ".mp4"}
    if has_labels(root) and not any((root / name).is_file() for name in _TABLES):
        return [row for split in SPLITS for row in _labelled(root, split, videos)]
    path = find_file(root, _TABLES, "https://github.com/chevalierNoir/OpenASL has it in data/")
    rows = []
    for where, line in read_table(path, _COLUMNS, "\t"):
        clip, raw = clip_id(line["vid"], where), f"{clip_id(line['yid'], where)}.mp4"
        start, end = (_seconds(line[column], f"{where}: {column}") for column in ("start", "end"))
        if line["split"] not in _SPLITS:
            raise InputError(f"{where}: split {line['split']!r} is none of {', '.join(_SPLITS)}")
        text = " ".join(_unquoted(line["raw-text"]).split())
        if not text:
            continue
        cut = f"{clip}.mp4" in videos or raw not in videos
        rows.append(
            Row(
                id=clip,
                split=_SPLITS[line["split"]],
                poses=f"poses/{clip}.npz",
                text=text,
                language="en",
                sign_language="ase",
                video=str(videos.get(f"{clip}.mp4", root / "video-clip" / f"{clip}.mp4") if cut else videos[raw]),
                start=None if cut else start,
                end=None if cut else end,
                gloss=_unquoted(line.get("gloss", "")).strip() or None,
            )
        )
    return rows


def _labelled(root: Path, split: str, videos: dict[str, Path]) -> list[Row]:
    directory = videos_directory(root, split)
    return [
        american_row(label, split, videos.get(f"{label.clip}.mp4", directory / f"{label.clip}.mp4"))
        for label in read_labels(root, split)
    ]


def _seconds(time: str, where: str) -> float:
    match = _TIME.fullmatch(time)
    if match is None:
        raise InputError(f"{where}: {time!r} is not hours:minutes:seconds")
    return round(int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]), 3)


def _unquoted(field: str) -> str:
    match = _QUOTED.fullmatch(field)
    return match[1].replace('""', '"') if match else field
