"""How2Sign: instructional videos translated into American Sign Language (ASL), in a studio.

From https://how2sign.github.io/ (CC BY-NC 4.0), where annotations and videos are separate downloads. The
re-aligned translation is read, with the full videos that its times refer to::

    how2sign_realigned_{train,val,test}.csv
    video_level/{train,val,test}/rgb_front/raw_videos/{VIDEO_NAME}.mp4

and without it the original translation, with the sentence clips, which are cut at *its* times and fit no other::

    how2sign_{train,val,test}.csv
    {train,val,test}_rgb_front_clips/raw_videos/{SENTENCE_NAME}.mp4

Annotations may also lie where the project's script (``download_how2sign.sh``) puts them, below
``sentence_level/{split}/text/en/raw_text``, and videos in any of the directories of `_VIDEOS` and `_CLIPS`, in
which archives unpack or which are common. Fields are separated by tabs and, where they contain ``"``, quoted:
VIDEO_ID, VIDEO_NAME, SENTENCE_ID, SENTENCE_NAME, START_REALIGNED, END_REALIGNED (seconds; START and END in the
original), SENTENCE. That was read in ``how2sign_realigned_test.csv`` (its copy in FangyunWei/SLRT); which videos
go with which times is what the project's site and https://github.com/how2sign/how2sign.github.io/issues/9 say.

A split whose translation is not there is read from Uni-Sign's labels (see `unisign_labels`), where
they are; the videos are then clips in its layout, ``rgb_format/{split}/{SENTENCE_NAME}.mp4``. It publishes none of the
validation split: a manifest from labels alone has no ``dev`` rows, and how2sign_realigned_val.csv beside the labels
adds them (their keypoints are for `signet-train extract-poses` to make). The labels of the test split are the
re-aligned translation less the last eight sentences of video g0yUlOaqL6k.

The id is SENTENCE_NAME, as in Uni-Sign's pose archive. The number in it (``-5-rgb_front``) is taken for the
signer's. Sentences without text, or that end before they start, are left out; that some end after their video
does (https://github.com/how2sign/how2sign-data/issues/9) cannot be seen from the annotations.
"""

from __future__ import annotations

import re
from pathlib import Path

from signet_runtime.errors import InputError
from signet_train.data.datasets.annotations import clip_id, find_file, read_table
from signet_train.data.datasets.unisign_labels import american_row, has_labels, read_labels, videos_directory
from signet_train.data.manifest import Row

_SPLITS = ("train", "val", "test")
_TEXT = "sentence_level/{split}/text/en/raw_text"
_REALIGNED = ("how2sign_realigned_{split}.csv", _TEXT + "/re_aligned/how2sign_realigned_{split}.csv")
_ORIGINAL = ("how2sign_{split}.csv", _TEXT + "/how2sign_{split}.csv")
_VIDEOS = (
    "video_level/{split}/rgb_front/raw_videos",
    "{split}_raw_videos",
    "{split}/raw_videos_front_{split}",
    "raw_videos_front_{split}",
    "raw_videos/{split}",
    "raw_videos",
)
_CLIPS = (
    "{split}_rgb_front_clips/raw_videos",
    "sentence_level/{split}/rgb_front/raw_videos",
    "{split}_rgb_front_clips",
    "raw_videos/{split}",
    "raw_videos",
)


def read(root: Path) -> list[Row]:
    """Make the rows of the three published splits; of two, where only Uni-Sign's labels are there.

    Raises:
        InputError: no annotations of a split, or a broken line or label.
    """
    root = root.absolute()
    realigned = any(_there(root, split, _REALIGNED) for split in _SPLITS)
    realigned = realigned or not any(_there(root, split, _ORIGINAL) for split in _SPLITS)
    labelled = has_labels(root)
    rows = []
    for split in _SPLITS:
        if not labelled or _there(root, split, _REALIGNED if realigned else _ORIGINAL):
            rows += _translated(root, split, realigned)
        elif split != "val":
            rows += _labelled(root, split)
    return rows


def _there(root: Path, split: str, names: tuple[str, ...]) -> bool:
    return any((root / name.format(split=split)).is_file() for name in names)


def _labelled(root: Path, split: str) -> list[Row]:
    videos = videos_directory(root, split)
    return [
        american_row(label, split, videos / f"{label.clip}.mp4", signer=_signer(label.clip))
        for label in read_labels(root, split)
    ]


def _translated(root: Path, split: str, realigned: bool) -> list[Row]:
    names = [name.format(split=split) for name in (_REALIGNED if realigned else _ORIGINAL)]
    path = find_file(root, names, "How2Sign's English translation is at https://how2sign.github.io/#download")
    start, end = ("START_REALIGNED", "END_REALIGNED") if realigned else ("START", "END")
    directories = [root / name.format(split=split) for name in (_VIDEOS if realigned else _CLIPS)]
    videos = next((directory for directory in directories if directory.is_dir()), directories[0])
    rows = []
    for where, line in read_table(path, ("VIDEO_NAME", "SENTENCE_NAME", start, end, "SENTENCE"), "\t", quoted=True):
        name = clip_id(line["SENTENCE_NAME"], where)
        try:
            times = float(line[start]), float(line[end])
        except ValueError:
            raise InputError(f"{where}: {start} and {end} are not seconds") from None
        text = line["SENTENCE"].strip()
        if not text or times[0] >= times[1]:
            continue
        rows.append(
            Row(
                id=name,
                split="dev" if split == "val" else split,
                poses=f"poses/{name}.npz",
                text=text,
                language="en",
                sign_language="ase",
                video=str(videos / f"{clip_id(line['VIDEO_NAME'], where) if realigned else name}.mp4"),
                start=times[0] if realigned else None,
                end=times[1] if realigned else None,
                signer=_signer(name),
            )
        )
    return rows


def _signer(name: str) -> str | None:
    signer = re.search(r"-(\d+)-rgb_", name)
    return signer[1] if signer else None
