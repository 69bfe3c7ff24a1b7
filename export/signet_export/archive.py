"""A bundle as one compressed file to ship: ``tar --zstd -xf bundle.signet`` unpacks it."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pyarrow as pa

from signet_runtime.bundle import Bundle
from signet_runtime.bundle_contents import SIGNATURE
from signet_runtime.files import whole_file


def write_archive(bundle: Bundle, path: Path) -> None:
    """Write the bundle's files, below a directory of its name, as a zstd-compressed tar that is there whole or not.

    Raises:
        OutputError: it cannot be written.
    """
    with (
        whole_file(path) as temporary,
        pa.CompressedOutputStream(str(temporary), "zstd") as compressed,
        tarfile.open(fileobj=compressed, mode="w|") as archive,
    ):
        signature = [SIGNATURE] if (bundle.path / SIGNATURE).is_file() else []
        for name in ("signet.json", *signature, *bundle.manifest.files):
            archive.add(bundle.path / name, f"{bundle.path.name}/{name}", filter=_plain)


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Make an entry nobody's in particular, readable by all."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode = 0o644
    return info
