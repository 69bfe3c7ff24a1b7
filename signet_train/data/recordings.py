"""Whose keypoints a file has: they belong to a recording, by what is in it, and not to a name."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from signet_runtime.errors import InputError
from signet_runtime.pose.shards import ShardedStore, open_store
from signet_runtime.pose.store import split_location

_ENDS = 1 << 16  # bytes of a file's beginning and end that tell it from others, with its size


@dataclass(frozen=True, slots=True)
class Recording:
    """A stretch of a recording, told by its contents: it may be moved and renamed.

    Attributes:
        name: of the file, to tell people; it is not compared.
        bytes: its size, in a folder of frames of all of them.
        digest: of its size, beginning and end; in a folder of frames of their names and sizes.
        start, end: seconds in it, None for all of it.
    """

    name: str
    bytes: int
    digest: str
    start: float | None
    end: float | None

    def is_other_than(self, other: Recording) -> bool:
        """Whether this is another recording, or another stretch of it."""
        return (self.digest, self.start, self.end) != (other.digest, other.start, other.end)

    def __str__(self) -> str:
        until = "its end" if self.end is None else f"{self.end:g} s"
        times = "" if self.start is None and self.end is None else f", from {self.start or 0:g} s to {until}"
        return f"{self.name} ({self.bytes} bytes{times})"

    def as_json(self) -> str:
        """Return what `kept_with` reads."""
        return json.dumps(asdict(self), ensure_ascii=False)


def identify(video: Path, start: float | None, end: float | None) -> Recording:
    """Tell which recording a file, or a folder of frames, is.

    Raises:
        InputError: it is not there, or cannot be read.
    """
    try:
        now = video.stat()
        size, digest = _digest(video, now.st_size, now.st_mtime_ns)
    except OSError as error:
        raise InputError(f"{video}: cannot be read ({error.strerror or error})") from error
    return Recording(video.name, size, digest, start, end)


@lru_cache(maxsize=4096)
def _digest(video: Path, size: int, _changed: int) -> tuple[int, str]:
    found = hashlib.blake2b(digest_size=16)
    if video.is_dir():
        with os.scandir(video) as entries:
            frames = sorted((entry.name, entry.stat().st_size) for entry in entries if not entry.name.startswith("."))
        found.update(json.dumps(frames).encode(errors="surrogateescape"))
        return sum(number for _, number in frames), found.hexdigest()
    found.update(str(size).encode())
    with video.open("rb") as file:
        found.update(file.read(_ENDS))
        file.seek(max(0, size - _ENDS))
        found.update(file.read(_ENDS))
    return size, found.hexdigest()


@dataclass(frozen=True, slots=True)
class Kept:
    """What a keypoint file says of itself; None where an earlier version, or another program, wrote it."""

    recording: Recording | None
    source: str | None


def kept_at(location: str, root: Path) -> Kept | None:
    """Read which recording a row's keypoints are of; None where they are no ``.npz`` and no clip of a store in shards.

    Raises:
        InputError: a pose store cannot be read.
    """
    path, clip = split_location(location)
    if "://" in location or (clip is None and not path.lower().endswith(".npz")):
        return None
    if clip is None:
        return kept_with(root / path)
    store = open_store(root / path)
    made_of = store.made_of(clip) if isinstance(store, ShardedStore) else None
    if made_of is None:
        return None
    source, recording = made_of
    try:
        return Kept(None if recording is None else Recording(**json.loads(recording)), source)
    except (TypeError, ValueError):  # another program's
        return Kept(None, source)


def kept_with(poses: Path) -> Kept:
    """Read which recording a ``.npz`` is of, and whose keypoints it has; whether it is whole is not looked at."""
    try:
        with np.load(poses, allow_pickle=False) as arrays:
            recording = Recording(**json.loads(str(arrays["recording"]))) if "recording" in arrays else None
            return Kept(recording, str(arrays["source"]) if "source" in arrays else None)
    except Exception:  # a damaged archive can fail in any way; who loads it says so
        return Kept(None, None)
