"""Published pose archives as they were downloaded: folders, files, zips, and zips that were cut into parts."""

from __future__ import annotations

import bisect
import io
import os
import re
import stat
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path, PurePosixPath

from signet_runtime.boundary import open_regular, reading
from signet_runtime.errors import InputError
from signet_runtime.limits import check_limit, limits
from signet_runtime.pose.files import KEYPOINT_SUFFIXES, parse_keypoints, read_keypoints
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.printable import is_printable, printable
from signet_train.data.tree import files_below

_PART = re.compile(r"(?P<archive>.+\.zip)\.(?P<part>[0-9]+|[a-z]{2,})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ClipFile:
    """A clip's keypoint file: on its own, or a member of an archive, whose (first) file is then the path."""

    id: str
    path: Path
    member: str | None
    size: int  # bytes, unpacked

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}: {self.member}"


def find_clips(sources: Sequence[Path]) -> list[ClipFile]:
    """Find the keypoint files in directories (anywhere below), zip archives and split ones, and those named themselves.

    A clip's id is its file's name without the suffix. Of a split archive the first part is a source
    (``poses.zip.00``, ``.001``, ``.aa``), and the others are found beside it; to name them too changes nothing.

    Raises:
        InputError: a source that is none, or without keypoint files; an archive that `open_archive` refuses; or two
            files with the same id.
    """
    given = {path.resolve() for path in sources}
    found: dict[str, ClipFile] = {}
    for source in sources:
        part = _PART.fullmatch(source.name)
        if part and source.is_file():
            first = _parts(source)[0]
            if first != source:
                if first.resolve() in given:
                    continue
                raise InputError(f"{source}: a later part of a split archive; give the first, {first}")
        for clip in _clips_of(source, is_archive=bool(part) or source.suffix.lower() == ".zip"):
            if not is_printable(clip.id) or len(clip.id) > limits().name_length:  # a store's ids are texts
                raise InputError(f"{printable(str(clip))}: its name is too long, no UTF-8, or has control characters")
            other = found.setdefault(clip.id, clip)
            if other is not clip:
                raise InputError(f"{clip}: the id {clip.id!r} is also that of {other}; convert them into two stores")
    return list(found.values())


def _clips_of(source: Path, is_archive: bool) -> Iterator[ClipFile]:
    if source.is_dir():
        files = [path for path in files_below(source) if path.suffix.lower() in KEYPOINT_SUFFIXES]
        if not files:
            raise InputError(
                f"{source}: no keypoint file (.pkl, .h5, .npz, .pose) below it; archives are named one by one"
            )
        yield from (ClipFile(path.stem, path, None, path.stat().st_size) for path in files)
    elif not source.exists():
        raise InputError(f"{source}: no such file or directory")
    elif is_archive:
        with open_archive(source) as archive:
            members = [info for info in archive.infolist() if _is_keypoints(info.filename)]
        if not members:
            raise InputError(f"{source}: no keypoint file (.pkl, .h5, .npz, .pose) in it")
        for info in members:
            yield ClipFile(PurePosixPath(info.filename).stem, source, info.filename, info.file_size)
    elif source.suffix.lower() in KEYPOINT_SUFFIXES:
        yield ClipFile(source.stem, source, None, source.stat().st_size)
    else:
        raise InputError(f"{source}: neither a directory, nor a keypoint file (.pkl, .h5, .npz, .pose), nor a .zip")


def _is_keypoints(member: str) -> bool:
    path = PurePosixPath(member)
    # macOS puts a file's attributes beside it, under its name.
    return path.suffix.lower() in KEYPOINT_SUFFIXES and "__MACOSX" not in path.parts and not path.name.startswith("._")


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip archive, or from its first part a split one, for reading in place.

    Raises:
        InputError: no zip archive, a damaged one, one of which a part is missing, or one with an encrypted member, a
            link, or a name that leads out of the archive's own folder.
    """
    parts = _parts(path)
    name = str(path) if len(parts) == 1 else f"{path} … {parts[-1].name}"
    for part in parts:
        with open_regular(part, InputError, "a zip archive"):  # which `_Joined` and zipfile do not ask
            pass
    missing = "are all its parts there?" if _PART.fullmatch(path.name) else "is it there to its end?"
    with reading(name, InputError, "a whole zip archive", missing):
        archive = zipfile.ZipFile(io.BufferedReader(_Joined(parts)) if len(parts) > 1 else path)
        try:
            check_limit("members", len(archive.infolist()), name, InputError)
            _check_members(archive, name, whole=bool(_PART.fullmatch(path.name)))
        except BaseException:
            archive.close()
            raise
        return archive


def _check_members(archive: zipfile.ZipFile, name: str, whole: bool) -> None:
    members = archive.infolist()
    # The end of an archive says how far away its beginning is; before that there may be a program that unpacks it.
    start = min((info.header_offset for info in members), default=0)
    if start < 0 or (whole and start > 0):
        problem = f"{abs(start)} bytes are {'missing' if start < 0 else 'too many'} between its beginning and its end"
        raise InputError(f"{name}: not a whole zip archive, {problem}")
    for info in members:
        member = PurePosixPath(info.filename)
        shown = ascii(info.orig_filename)
        if member.is_absolute() or ".." in member.parts or re.search(r"[\\\0]|^[a-zA-Z]:", info.orig_filename):
            raise InputError(f"{name}: refused, its member {shown} leads out of the archive")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise InputError(f"{name}: refused, its member {shown} is a link")
        if info.flag_bits & 1:
            raise InputError(f"{name}: its member {shown} is encrypted; unpack it first")


def _parts(path: Path) -> list[Path]:
    """Return all parts of the split archive that a file is of, in order; the file itself if it is of none.

    Raises:
        InputError: the first is not there, or one in the middle.
    """
    found = _PART.fullmatch(path.name)
    if not found:
        return [path]
    archive, width = found["archive"], len(found["part"])
    there = {
        _number(other["part"]): path.with_name(other[0])
        for entry in os.scandir(path.parent)
        if (other := _PART.fullmatch(entry.name)) and other["archive"] == archive and len(other["part"]) == width
    }
    first = min(there)
    if first > 1:
        raise InputError(f"{there[first]}: no part of {archive} before it is there")
    for number, after in pairwise(sorted(there)):
        if after != number + 1:
            raise InputError(f"{there[after]}: the part of {archive} before it is missing")
    return [there[number] for number in sorted(there)]


def _number(part: str) -> int:
    """Count by a suffix: 00, 01, … -> 0, 1, …; aa, ab, … likewise."""
    if part.isdecimal():
        return int(part)
    number = 0
    for letter in part.lower():
        number = number * 26 + ord(letter) - ord("a")
    return number


class _Joined(io.RawIOBase):
    """Files one after another, as one."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [path.open("rb", buffering=0) for path in paths]
        self._ends = list(accumulate(os.fstat(file.fileno()).st_size for file in self._files))
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._ends[-1]}[whence]
        if start + offset < 0:
            raise OSError(f"no position {start + offset}")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's buffer is no memoryview yet
        part = bisect.bisect_right(self._ends, self._position)
        if part == len(self._ends):
            return 0
        file = self._files[part]
        file.seek(self._position - (self._ends[part - 1] if part else 0))
        count = file.readinto(buffer) or 0
        self._position += count
        return count

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()


class ClipReader:
    """Reads clips, and keeps the archives that they are in open."""

    def __init__(self) -> None:
        self._archives: dict[Path, zipfile.ZipFile] = {}

    def read(self, clip: ClipFile) -> PoseSequence:
        """Read a clip's keypoints; archives stay open.

        Raises:
            InputError: the file, or the archive at this place, is damaged or unusable.
        """
        if clip.member is None:
            return read_keypoints(clip.path)
        if clip.path not in self._archives:
            self._archives[clip.path] = open_archive(clip.path)
        check_limit("member_bytes", clip.size, str(clip), InputError)
        with reading(str(clip), InputError, "a whole member of its archive"):  # or of a compression of a library's
            data = self._archives[clip.path].read(clip.member)
        return parse_keypoints(io.BytesIO(data), Path(clip.member).suffix, str(clip))
