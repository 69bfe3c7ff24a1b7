"""Whether a file's bytes end before its structure does: cut off, which no header's duration can tell.

A recording that only ends differently, still, trimmed by an edit list or without the duration that its header
promises, is whole. What counts is the unit that the bytes break off in: a box of an MP4, an element of a Matroska
file, a chunk of an AVI, an object of a WMV, a page of an Ogg, a tag of an FLV, a triplet of an
MXF, a block of a GIF.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import BinaryIO

_SEGMENT, _CLUSTER, _EBML = 0x18538067, 0x1F43B675, 0x1A45DFA3
# What else may stand at the level of a cluster, and so ends one of unknown size.
_TOP = {0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, _CLUSTER, _SEGMENT, _EBML}
_FILLERS = {0xEC, 0xBF}  # void, checksum
_HEADERS = 1_000_000  # that are looked at: more than ten hours of frames have


def is_cut_off(path: Path, container: str) -> bool:
    """Return whether a file of FFmpeg's format ``container`` breaks off in the middle of something.

    False where the format does not tell: MPEG streams may end anywhere.
    """
    walk = next((walk for name, walk in _WALKS.items() if name in container), None)
    if walk is None:
        return False
    with contextlib.suppress(OSError), path.open("rb") as file:
        return walk(file, os.fstat(file.fileno()).st_size)
    return False


def _boxes(file: BinaryIO, size: int) -> bool:
    """Of MP4, whose media lie in mdat boxes and are listed in moov or moof ones."""
    position = 0
    for _ in range(_HEADERS):
        file.seek(position)
        header = file.read(16)
        if len(header) < 8:
            return False
        length, kind = int.from_bytes(header[:4]), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16])
        if kind not in (b"mdat", b"moof", b"moov") and not kind.isalnum():
            return False  # whatever follows the recording
        if length == 0:
            return False
        if position + length > size:
            return kind in (b"mdat", b"moof", b"moov")
        position += max(length, 8)
    return False


def _elements(file: BinaryIO, size: int) -> bool:
    """Of Matroska and WebM, where a segment or a cluster may be of unknown size: then its elements tell."""
    position = 0
    inside_cluster = False
    for _ in range(_HEADERS):
        file.seek(position)
        header = file.read(12)
        if not header:
            return False
        identifier, length, taken = _element(header)
        if identifier is None:
            return False
        if length is None and taken == 0:
            return True  # in the middle of its size
        body = position + taken
        if identifier in _TOP:
            inside_cluster = False
        if identifier == _SEGMENT or (identifier == _CLUSTER and length is None):
            if length is not None and body + length > size:
                return True
            inside_cluster = identifier == _CLUSTER
            position = body
            continue
        if length is None or not (identifier in _TOP or identifier in _FILLERS or inside_cluster or position == 0):
            return False
        if body + length > size:
            return True
        position = body + length
    return False


def _element(header: bytes) -> tuple[int | None, int | None, int]:
    """Return an EBML element's id, its size (None: unknown) and how many bytes the two take (0: they are not there)."""
    id_length = 9 - header[0].bit_length()
    if id_length > 4:
        return None, None, 0
    if len(header) <= id_length:
        return int.from_bytes(header[:id_length]), None, 0
    size_length = 9 - header[id_length].bit_length()
    if size_length > 8 or len(header) < id_length + size_length:
        return int.from_bytes(header[:id_length]), None, 0
    raw = int.from_bytes(header[id_length : id_length + size_length]) & ((1 << (7 * size_length)) - 1)
    unknown = raw == (1 << (7 * size_length)) - 1
    return int.from_bytes(header[:id_length]), None if unknown else raw, id_length + size_length


def _chunks(file: BinaryIO, size: int) -> bool:
    """Of AVI: its first RIFF chunk, whose size a recorder fills in when it ends."""
    header = file.read(8)
    return header[:4] == b"RIFF" and 0 < int.from_bytes(header[4:], "little") < 0xFFFFFF00 and _passes(header, size)


def _passes(header: bytes, size: int) -> bool:
    return 8 + int.from_bytes(header[4:], "little") > size


def _objects(file: BinaryIO, size: int) -> bool:
    """Of ASF (WMV): the header and the data object; the index after them may be missing."""
    position = 0
    for _ in range(2):
        file.seek(position)
        header = file.read(24)
        if len(header) < 24:
            return position > 0
        length = int.from_bytes(header[16:], "little")
        if length < 24:  # a live recording does not fill it in
            return False
        position += length
        if position > size:
            return True
    return False


def _pages(file: BinaryIO, size: int) -> bool:
    """Of Ogg, whose pages state their segments' sizes."""
    position = 0
    for _ in range(_HEADERS):
        file.seek(position)
        header = file.read(27)
        if not header or header[:4] != b"OggS"[: len(header)]:
            return False  # the end, or whatever follows the recording
        segments = file.read(header[26]) if len(header) == 27 else b""
        if len(header) < 27 or len(segments) < header[26]:
            return True
        position += 27 + len(segments) + sum(segments)
        if position > size:
            return True
    return False


def _tags(file: BinaryIO, size: int) -> bool:
    """Of Flash video, each with its size before it and after it."""
    file.seek(5)
    position = int.from_bytes(file.read(4)) + 4
    for _ in range(_HEADERS):
        file.seek(position)
        header = file.read(4)
        if not header or header[0] & 0x1F not in (8, 9, 18):  # sound, pictures, what is said of them
            return False
        position += 11 + int.from_bytes(header[1:]) + 4
        if len(header) < 4 or position - 4 > size:
            return True
    return False


def _triplets(file: BinaryIO, size: int) -> bool:
    """Of MXF, a sequence of keys, lengths and values (SMPTE ST 336)."""
    position = 0
    for _ in range(_HEADERS):
        file.seek(position)
        header = file.read(25)
        if header[:4] != b"\x06\x0e\x2b\x34":
            return False
        if len(header) < 17:
            return True
        long = header[16] & 0x7F if header[16] & 0x80 else 0
        if long > 8:
            return False
        position += 17 + long + (int.from_bytes(header[17 : 17 + long]) if long else header[16])
        if position > size:
            return True
    return False


def _blocks(file: BinaryIO, size: int) -> bool:
    """Of GIF, whose pictures are chains of blocks, and whose last byte is its trailer."""
    head = file.read(13)
    file.seek(_colours(head[10:11]), os.SEEK_CUR)
    for _ in range(_HEADERS):
        kind = file.read(1)
        if kind == b"!":  # an extension: its label, then blocks
            file.seek(1, os.SEEK_CUR)
        elif kind == b",":  # a picture: where it is, its colours, the width of its codes, then blocks
            file.seek(_colours(file.read(9)[8:]) + 1, os.SEEK_CUR)
        else:
            return not kind and file.tell() > size  # else the trailer, or whatever follows the recording
        while length := file.read(1)[:1]:
            if length == b"\0":
                break
            file.seek(length[0], os.SEEK_CUR)
        else:
            return True
    return False


def _colours(flags: bytes) -> int:
    """Return how many bytes of colours follow such flags of a GIF."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


_WALKS = {
    "mp4": _boxes,
    "matroska": _elements,
    "avi": _chunks,
    "asf": _objects,
    "ogg": _pages,
    "flv": _tags,
    "mxf": _triplets,
    "gif": _blocks,
}
