"""How2Sign and MeineDGS by the split files of the paper's authors (github.com/elsobhano/SIGNET, ``datasets/``).

- How2Sign, ``how2sign_cleaned_{train,val,test}.csv``: columns as in the re-aligned translation (see `how2sign`),
  between tabs. Keypoints are ``{train,dev,test}/{SENTENCE_NAME}.pkl``.
- MeineDGS, ``{train,dev,test}.csv``: video_name (transcript, and who of A and B), index, start_frame, end_frame,
  start_sec, end_sec, target, between ``|``. Keypoints are ``{train,dev,test}/{video_name}_{index}.h5``. Sentences of
  one conversation are in all three splits, and the index counts anew in each, so that one name is several clips: the id
  is the split and the name, ``dev-1583882_1a1_1``.

Texts are taken as they are: quotation marks that a sentence does not close, typographic ones, "/" where somebody breaks
off. A field that begins with ``"`` is quoted, as pandas reads it, with which the authors do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from signet_runtime.boundary import reading
from signet_runtime.errors import InputError
from signet_train.data.datasets.annotations import clip_id, read_table
from signet_train.data.manifest import Row, check_rows

_SPLITS = {"train": "train", "val": "dev", "dev": "dev", "test": "test"}  # by the ends of files' names


def read_split_files(dataset: str, files: Sequence[Path], root: Path) -> list[Row]:
    """Read the rows of split files, each of which is a split by its name.

    Args:
        dataset: of `READERS`.
        root: where videos are, in the corpus' own layout.

    Raises:
        InputError: a name that tells no split, or the split of another file; not readable, a column that is missing, or
            a line that is broken (named).
    """
    found: dict[str, Path] = {}
    rows: list[Row] = []
    for file in files:
        split = next((split for end, split in _SPLITS.items() if file.stem.lower().endswith(end)), None)
        if split is None:
            raise InputError(f"{file}: which split is it? its name must end in train, val, dev or test")
        if split in found:
            raise InputError(f"{file}: the split {split}, which {found[split]} is already")
        found[split] = file
        before = len(rows)
        with reading(file, InputError, f"a split file of {dataset}"):
            rows += READERS[dataset](file, split, root)
            check_rows(rows[before:], file)
        if len(rows) == before:
            raise InputError(f"{file}: no rows in it")
    return rows


def _how2sign(file: Path, split: str, root: Path) -> Iterator[Row]:
    columns = ("VIDEO_NAME", "SENTENCE_NAME", "START_REALIGNED", "END_REALIGNED", "SENTENCE")
    for where, line in read_table(file, columns, "\t", quoted=True, strict=False):
        name = clip_id(line["SENTENCE_NAME"], where)
        video = clip_id(line["VIDEO_NAME"], where)
        start, end = _seconds(line, "START_REALIGNED", where), _seconds(line, "END_REALIGNED", where)
        directory = "val" if split == "dev" else split
        yield Row(
            id=name,
            split=split,
            poses=f"poses/{split}/{name}.pkl",
            text=_text(line["SENTENCE"], where),
            language="en",
            sign_language="ase",
            video=str(root / "video_level" / directory / "rgb_front" / "raw_videos" / f"{video}.mp4"),
            # Their reader takes clips that were cut before, so times that are none stop nobody there.
            start=start if start < end else None,
            end=end if start < end else None,
        )


def _meinedgs(file: Path, split: str, root: Path) -> Iterator[Row]:
    columns = ("video_name", "index", "start_sec", "end_sec", "target")
    for where, line in read_table(file, columns, "|", quoted=True, strict=False):
        if not line["index"].isdecimal():
            raise InputError(f"{where}: index is {line['index']!r}, not a number")
        video = clip_id(line["video_name"], where)
        name = f"{video}_{line['index']}"
        start, end = _seconds(line, "start_sec", where), _seconds(line, "end_sec", where)
        transcript = video.rpartition("_")[0] or video
        yield Row(
            id=f"{split}-{name}",
            split=split,
            poses=f"poses/{split}/{name}.h5",
            text=_text(line["target"], where),
            language="de",
            sign_language="gsg",
            video=str(root / "videos" / transcript / f"{video}.mp4"),
            start=start if start < end else None,
            end=end if start < end else None,
        )


def _seconds(line: dict[str, str], column: str, where: str) -> float:
    try:
        seconds = float(line[column])
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise InputError(f"{where}: {column} is {line[column]!r}, not seconds")
    return seconds


def _text(text: str, where: str) -> str:
    if not text.strip():
        raise InputError(f"{where}: a sentence without text")
    return text


READERS: dict[str, Callable[[Path, str, Path], Iterator[Row]]] = {"how2sign": _how2sign, "meinedgs": _meinedgs}
