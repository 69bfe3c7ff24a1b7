"""A large manifest's rows in an Arrow file beside it, made once, and mapped by every process that reads them.

Of what there is to choose from, measured with a million rows (`benchmarks/scale.py`): Parquet read whole takes a
process 300 MB; by row groups, a shuffled epoch unpacks one for every sample; a mapped Arrow file takes nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from signet_runtime.errors import InputError, OutputError
from signet_runtime.files import reporting, whole_file
from signet_runtime.remembered import user_cache
from signet_train.data.rows import SCHEMA, Rows, open_mapped

_TAIL = 1 << 16  # bytes at a file's end that tell it from others: Parquet has its statistics there


def identity_of(path: Path) -> str:
    """Tell which contents a manifest has: by size, time and end."""
    now = path.stat()
    found = hashlib.blake2b(f"{now.st_size} {now.st_mtime_ns}".encode(), digest_size=8)
    with path.open("rb") as file:
        file.seek(max(0, now.st_size - _TAIL))
        found.update(file.read())
    return found.hexdigest()


def mapped_rows(manifest: Path, identity: str, batches: Iterator[pa.RecordBatch]) -> Rows:
    """Map a manifest's rows; if nobody has yet, write them down before.

    They lie beside the manifest, as ``.NAME.IDENTITY.arrow``, so that all machines that read it read these; where
    nothing can be written there, below ``$XDG_CACHE_HOME``. Those of earlier contents are removed.

    Args:
        manifest: the file.
        identity: of its contents, by `identity_of`.
        batches: its rows in `SCHEMA`, gone through only if need be.

    Raises:
        InputError: nowhere is room for them.
    """
    manifest = manifest.resolve()
    own = hashlib.blake2b(bytes(manifest), digest_size=8).hexdigest()
    beside = manifest.with_name(f".{manifest.name}.{identity}.arrow")
    elsewhere = None if (cache := _cache()) is None else cache / f"{own}.{identity}.arrow"
    for place in filter(None, (beside, elsewhere)):
        if place.is_file():
            try:
                return Rows(open_mapped(place), None, place)
            except InputError:  # damaged since: made again
                continue
    place = beside if elsewhere is None or os.access(beside.parent, os.W_OK) else elsewhere
    try:
        with reporting(place.parent):
            place.parent.mkdir(parents=True, exist_ok=True)
        with (
            whole_file(place) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_file(sink, SCHEMA) as file,
        ):
            for batch in batches:
                file.write_batch(batch)
    except OutputError as error:
        raise InputError(f"{manifest}: its rows have to be written down once, and cannot be: {error}") from error
    pa.default_memory_pool().release_unused()
    _remove_earlier(place, identity)
    return Rows(open_mapped(place), None, place)


def _cache() -> Path | None:
    """Return the directory for manifests that nothing can be written beside; None without a home."""
    try:
        return user_cache() / "manifests"
    except OutputError:
        return None


def _remove_earlier(place: Path, identity: str) -> None:
    """Remove what was written down of earlier contents."""
    beginning, _, end = place.name.partition(identity)
    for other in place.parent.iterdir():
        middle = other.name[len(beginning) : -len(end)]
        same = other.name == f"{beginning}{middle}{end}" and re.fullmatch(r"[0-9a-f]{16}", middle)
        if same and middle != identity:
            with contextlib.suppress(OSError):  # somebody else's, or on Windows one that is mapped
                other.unlink()
