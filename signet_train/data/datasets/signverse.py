"""SignVerse-2M: keypoints of captioned videos in more than 25 sign languages, about two million clips (2026).

Published are DWPose's keypoints of 39,196 YouTube videos of YouTube-SL-25, without the videos, under CC BY-NC 4.0 (the
captions stay under YouTube's terms), https://huggingface.co/datasets/SignerX/SignVerse-2M, in archives of 40 videos::

    dataset/Sign_DWPose_NPZ_000001.tar      … anywhere below the root
        {video id}/npz/poses.npz            all frames of the video, see `signverse_poses`
        {video id}/captions/{video id}.de.vtt
    SignVerse-2M-metadata_split.csv         video_id, sign_language, split (train, val, test), …

Archives are read once, from beginning to end, and never unpacked: the clip of each cue goes into a pose store in
shards, ``signverse.arrow`` in the root, whose clips the rows name. Given again, the command goes on with what is not
there yet. A damaged or cut off archive is named, and the next one is read.

Sign languages are ISO 639-3 as in YouTube-SL-25, but for acronyms that the release also uses (`_CODES`). Of a video's
captions those are read that are written where it is signed (see `youtube_sl25`), and none if there are only
translations. Without the column ``split`` it is by a hash, as for YouTube-ASL. The layout was read in the authors'
pipeline (github.com/SignerX/SignVerse-2M) and the dataset card, not in an archive. The corpus is part of YouTube-SL-25,
which has YouTube-ASL's videos too: do not give two of them to one training.
"""

from __future__ import annotations

import csv
import logging
import re
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from signet_runtime.boundary import reading
from signet_runtime.errors import InputError
from signet_runtime.pose.shards import ShardedStore
from signet_train.data.datasets.annotations import find_file
from signet_train.data.datasets.captions import Cue, read_captions
from signet_train.data.datasets.signverse_poses import Video, read_video
from signet_train.data.datasets.splits import hash_split
from signet_train.data.datasets.youtube_asl import VIDEO_ID
from signet_train.data.datasets.youtube_sl25 import WRITTEN
from signet_train.data.manifest import Row
from signet_train.data.store.arrow import quantise
from signet_train.data.store.shards import ShardWriter, take_over
from signet_train.data.tree import files_below

_log = logging.getLogger(__name__)

_MEMBER = re.compile(rf"(?:.*/)?({VIDEO_ID.pattern})/(?:npz/(poses\.npz)|captions/[^/]*\.([A-Za-z]{{2,3}}[^/.]*)\.vtt)")
_CODES = {
    "lsf": "fsl",
    "lse": "ssp",
    "lis": "ise",
    "lgp": "psr",
    "ngt": "dse",
    "lsm": "mfs",
    "pjm": "pso",
    "???": "und",
}
_SPLITS = {"train": "train", "val": "dev", "validation": "dev", "dev": "dev", "test": "test"}
_LARGEST = 4 << 30  # bytes of a member: eight hours of video
_SECONDS = (0.2, 60.0)  # of a cue, as for YouTube-ASL


@dataclass(slots=True)
class _Found:
    """What an archive has of one video."""

    poses: bytes | None = None
    captions: dict[str, bytes] = field(default_factory=dict)


def read(root: Path) -> list[Row]:
    """Make a row for each cue, and write its keypoints into the store; what is left out is logged.

    Raises:
        InputError: no list of videos, no archives, or none with a clip.
        OutputError: the store cannot be written.
    """
    listed = _listed(root)
    archives = [path for path in files_below(root) if path.suffix == ".tar"]
    if not archives:
        raise InputError(f"{root}: no archive Sign_DWPose_NPZ_….tar below it")
    _log.warning("SignVerse-2M is under CC BY-NC 4.0, not for commercial use; so is what is trained on it")
    store = root / "signverse.arrow"
    take_over(store)
    there = ShardedStore(store) if store.is_dir() else None
    rows: list[Row] = []
    left: Counter[str] = Counter()
    with ShardWriter(store) as writer:
        for archive in archives:
            try:
                for video, found in _videos(archive):
                    rows += _clips(video, found, listed, store, there, writer, left)
            except InputError as error:
                _log.warning("%s; what comes after it in this archive is left out", error)
                left["archives that are damaged"] += 1
    for why, count in sorted(left.items()):
        _log.warning("left out: %d %s", count, why)
    if not rows:
        raise InputError(
            f"{root}: no clip of a listed video with captions in its own language in {len(archives)} archives"
        )
    return list({row.id: row for row in rows}.values())


def _listed(root: Path) -> dict[str, tuple[str, str | None]]:
    """Return the listed videos' sign languages and splits."""
    names = [f"SignVerse-2M-metadata_{kind}.csv" for kind in ("split", "processed", "ori")]
    path = find_file(root, names, "it is at https://huggingface.co/datasets/SignerX/SignVerse-2M")
    with reading(path, InputError, "a list of videos"), path.open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.reader(file))
    head = lines[0] if lines and lines[0][:1] == ["video_id"] else ["video_id", "sign_language"]
    split_at = head.index("split") if "split" in head else None
    listed: dict[str, tuple[str, str | None]] = {}
    for number, line in enumerate(lines[lines[:1] == [head] :], 1 + (lines[:1] == [head])):
        if len(line) < 2 or not VIDEO_ID.fullmatch(line[0]):
            raise InputError(f"{path}: line {number}: not a video id and a sign language")
        split = line[split_at] if split_at is not None and split_at < len(line) else None
        if split is not None and split not in _SPLITS:
            raise InputError(f"{path}: line {number}: a split {split!r}, and not {', '.join(_SPLITS)}")
        listed[line[0]] = (_code(line[1]), None if split is None else _SPLITS[split])
    return listed


def _code(published: str) -> str:
    return "und" if published in ("", "???") else _CODES.get(published, published)


def _videos(archive: Path) -> Iterator[tuple[str, _Found]]:
    """Yield the videos of an archive in one pass; a video's files lie together.

    Raises:
        InputError: it is damaged, or cut off.
    """
    current, found = "", _Found()
    with reading(archive, InputError, "a whole tar archive"), tarfile.open(archive, "r|") as tar:
        for member in tar:
            named = _MEMBER.fullmatch(member.name)
            if not named or not member.isreg():
                continue
            if member.size > _LARGEST:
                raise InputError(f"{archive}: {member.name}: {member.size} bytes, which no video's keypoints are")
            if named[1] != current:
                if current:
                    yield current, found
                current, found = named[1], _Found()
            content = tar.extractfile(member)
            data = b"" if content is None else content.read()
            if len(data) != member.size:
                raise InputError(f"{archive}: ends in the middle of {member.name}")
            if named[2]:
                found.poses = data
            else:
                found.captions[named[3]] = data
        if current:
            yield current, found


def _clips(
    name: str,
    found: _Found,
    listed: dict[str, tuple[str, str | None]],
    store: Path,
    there: ShardedStore | None,
    writer: ShardWriter,
    left: Counter[str],
) -> Iterator[Row]:
    code, split = listed.get(name, (None, None))
    if code is None or found.poses is None:
        left["videos that are not listed" if code is None else "videos without keypoints"] += 1
        return
    language, cues = _cues(name, found.captions, code)
    if language is None:
        left["videos without captions in the language where they are signed"] += 1
        return
    video: Video | None = None
    for cue in cues:
        clip = f"{name}-{round(cue.start * 1000)}-{round(cue.end * 1000)}"
        if there is None or clip not in there:
            try:
                video = video or read_video(found.poses)
                writer.add(clip, quantise(video.stretch(cue.start, cue.end)), "null")
            except InputError as error:
                if video is None:
                    _log.warning("%s: %s", name, error)
                    left["videos whose keypoints are damaged"] += 1
                    return
                left["cues without anybody in their frames"] += 1
                continue
        yield Row(
            id=clip,
            split=split or hash_split(name),
            poses=f"{store.resolve()}#{clip}",
            text=cue.text,
            language=language,
            sign_language=code,
        )


def _cues(name: str, captions: dict[str, bytes], code: str) -> tuple[str | None, list[Cue]]:
    """Return the captions that are written where it is signed, and their language; None where there are none."""
    for written in WRITTEN.get(code, []):
        for tag in sorted(captions):
            if tag.split("-")[0].lower() == written:
                with tempfile.NamedTemporaryFile(suffix=".vtt", prefix=name) as file:
                    file.write(captions[tag])
                    file.flush()
                    cues = read_captions(Path(file.name))
                return written, [c for c in cues if c.text and _SECONDS[0] <= c.end - c.start <= _SECONDS[1]]
    return None, []
