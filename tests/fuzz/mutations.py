"""Changes of valid inputs, each a function of a random generator alone: an input is known by its seed and number."""

from __future__ import annotations

import io
import json
import random
import re
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

from tests.fuzz.target import Edit

_NUMBERS = (0, 1, -1, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63), 2**64 - 1)
_SPELLED = (
    *(b"0 -1 1e-9 1e300 -1e300 1e999 NaN Infinity 0.5 null true 4294967296 18446744073709551616 2000000".split()),
    b"1" * 320,
    b"9" * 5000,
)
_PIECES = (
    *(b'\x00 \xff \xff\xff\xff\xff \x80 [ ] { } " , : \\ ../ / .. \n \r\n \x1b[2J <a> &amp; ='.split(b" ")),
    "\u202e".encode(),
    b"\\ud800",
    b"\xed\xa0\x80",
    b"[" * 2000,
    b'{"a":' * 2000,
    b"a" * 300,
    b" " * 5000,
)


def mutate(rng: random.Random, seeds: Sequence[bytes], edit: Edit | None) -> bytes:
    """Return a changed seed: in half of the cases its form stays, if there is an edit that keeps it."""
    data = rng.choice(seeds)
    if edit is not None and rng.random() < 0.5:
        for _ in range(rng.choice((1, 1, 2, 3))):
            data = edit(rng, data)
        return data
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        data = rng.choice(_CHANGES)(rng, data, seeds)
    return data


def edit_bytes(rng: random.Random, data: bytes) -> bytes:
    """Change bytes anyhow, but never splice."""
    return rng.choice(_CHANGES[:-1])(rng, data, [data])


def _span(rng: random.Random, data: bytes, longest: int) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.randrange(longest) + 1)


def _flip(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _try in range(rng.choice((1, 1, 4, 16)) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _number(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    size, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
    number = (rng.choice(_NUMBERS) % (1 << 8 * size)).to_bytes(size, order)
    at = rng.randrange(len(data) + 1)
    return data[:at] + number + data[at + size :]


def _spelled(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    found = list(re.finditer(rb"-?[0-9]+(\.[0-9]+)?", data[:200_000]))
    if not found:
        return _flip(rng, data, [])
    one = rng.choice(found)
    return data[: one.start()] + rng.choice(_SPELLED) + data[one.end() :]


def _cut(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _remove(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(rng, data, 64)
    return data[:start] + data[end:]


def _repeat(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(rng, data, rng.choice((8, 64, 512)))
    return data[:end] + data[start:end] * rng.choice((1, 2, 30, 400)) + data[end:]


def _insert(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(_PIECES) + data[at:]


def _swap(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Put one part where another was."""
    start, end = _span(rng, data, 64)
    at, until = _span(rng, data, 64)
    return data[:at] + data[start:end] + data[until:]


def _splice(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    other = rng.choice(seeds)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


_CHANGES: tuple[Callable[[random.Random, bytes, Sequence[bytes]], bytes], ...] = (
    *(_flip, _flip, _number, _spelled, _spelled, _cut, _remove, _repeat, _insert, _swap, _splice),
)

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 1e-9, 1e300, -1e300, 2**31, 2**63, 2**64, 10**18, 10**320, float("nan")),
    *(float("inf"), "", "a", "a" * 300, "\ud800", "\x1b[2J", "..", "/etc/passwd", "a\nb", "\0", "1"),
    *([], {}, [[]], [0] * 1000, [[0] * 3] * 100, {"": None}, {"__class__": "x"}),
)


def edit_tree(rng: random.Random, tree: Any) -> Any:
    """Change one place of parsed JSON or TOML: its value, its name, whether it is there, how often, or how deep."""
    places: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting and len(places) < 5000:
        found = waiting.pop()
        if isinstance(found, dict):
            places += [(found, key) for key in found]
            waiting += found.values()
        elif isinstance(found, list):
            places += [(found, index) for index in range(len(found))]
            waiting += found
    if not places:
        return rng.choice(_VALUES)
    parent, key = rng.choice(places)
    match rng.randrange(7):
        case 0 | 1 | 2:
            parent[key] = rng.choice(_VALUES)
        case 3:
            del parent[key]
        case 4 if isinstance(parent, dict):
            parent[rng.choice((str(rng.choice(_VALUES))[:400], f"{key}x"))] = parent.pop(key)
        case 5:
            other, name = rng.choice(places)
            if not _holds(other.get(name) if isinstance(other, dict) else other[name : name + 1], parent):
                parent[key] = other[name] if isinstance(other, dict) else next(iter(other[name : name + 1]), None)
        case _:
            for _ in range(rng.choice((1, 3, 100))):
                parent[key] = rng.choice(([parent[key]], {"a": parent[key]}))
    return tree


def _holds(found: Any, wanted: Any) -> bool:
    """Whether a tree has another in it, so that to put it there would close a circle."""
    waiting = [found]
    while waiting:
        one = waiting.pop()
        if one is wanted:
            return True
        if isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return False


def edit_json(rng: random.Random, data: bytes) -> bytes:
    """Change the tree of a JSON text; text that is none any more, its bytes."""
    try:
        return json.dumps(edit_tree(rng, json.loads(data))).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return edit_bytes(rng, data)


def edit_lines(of_line: Edit) -> Edit:
    """Make an edit of a file of lines from that of a line."""

    def edit(rng: random.Random, data: bytes) -> bytes:
        lines = data.split(b"\n")
        at = rng.randrange(len(lines))
        lines[at] = of_line(rng, lines[at])
        return b"\n".join(lines)

    return edit


def edit_zip(of_member: Edit) -> Edit:
    """Make an edit of a zip archive from that of a member, whose checksum is right again afterwards."""

    def edit(rng: random.Random, data: bytes) -> bytes:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = [(name, archive.read(name)) for name in archive.namelist()]
        except Exception:
            return edit_bytes(rng, data)
        if not members:
            return data
        at = rng.randrange(len(members))
        name, content = members[at]
        match rng.randrange(8):
            case 0:
                del members[at]
            case 1:
                members.append((name, members[rng.randrange(len(members))][1]))
            case 2:
                members[at] = (rng.choice((f"{name}x", "../x.npy", "a" * 300, members[0][0])), content)
            case _:
                members[at] = (name, of_member(rng, content))
        packed = io.BytesIO()
        method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2))
        import warnings

        with warnings.catch_warnings(), zipfile.ZipFile(packed, "w", method) as archive:
            warnings.simplefilter("ignore")  # of two members of one name
            for name, content in members:
                archive.writestr(name, content)
        return packed.getvalue()

    return edit


def edit_npy(rng: random.Random, data: bytes) -> bytes:
    """Change an array's header, with its length right, or its numbers."""
    if data[:6] != b"\x93NUMPY" or len(data) < 10 or rng.random() < 0.4:
        return edit_bytes(rng, data)
    length = int.from_bytes(data[8:10], "little")
    header, body = data[10 : 10 + length].decode("latin1"), data[10 + length :]
    dtypes = ("<f4", "<f8", ">f2", "<i8", "|b1", "<c8", "|O", "|S5", "<U3", "<M8[s]", "|V4", "<f16", "[('a', '<f4')]")
    shape = tuple(rng.choice((0, 1, 2, 5, 133, 1662, 543, 2**20, 2**62, -1)) for _ in range(rng.randrange(6)))
    changed = rng.choice(
        (
            re.sub(r"'shape': \([^)]*\)", f"'shape': {shape}", header),
            re.sub(r"'descr': '[^']*'", f"'descr': '{rng.choice(dtypes)}'", header),
            header.replace("False", "True"),
            header + " " * rng.choice((1, 60, 20000)),
            edit_bytes(rng, header.encode("latin1")).decode("latin1"),
        )
    )
    raw = changed.encode("latin1", "replace")[:65535]
    return data[:8] + len(raw).to_bytes(2, "little") + raw + body
