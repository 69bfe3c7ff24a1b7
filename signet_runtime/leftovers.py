"""What killed processes leave: temporary names, and who removes them.

``.STEM.MMMMMMMM-RRRRRRRR.SUFFIX``: M stands for the machine, R is random. A living process holds a lock on its file, or
on the file ``owner`` in its directory; what nobody holds, and is this machine's, is removed by the next command that
writes into the same directory.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import re
import secrets
import shutil
from pathlib import Path

from signet_runtime.locks import machine, ownerless

logger = logging.getLogger("signet_runtime")

OWNER, OLD = "owner", "old"
_TEMPORARY = re.compile(r"\.(.+)\.([0-9a-f]{8})-[0-9a-f]{8}(\.[^.]+)?")


def temporary_name(stem: str, suffix: str) -> str:
    """Return a name that nothing has, for what is to become another file; writers look at its suffix."""
    return f".{stem}.{machine()}-{secrets.token_hex(4)}{suffix}"


def owner_line() -> str:
    """Return what a directory says of the process that is at it."""
    return f"{os.getpid()} {platform.node()}\n"


def sweep(directory: Path) -> None:
    """Remove the temporary files and directories in a directory that no living process owns.

    An older directory that its process could not put back is put back. Nothing is raised: what cannot be removed stays.
    """
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            found = _TEMPORARY.fullmatch(entry.name)
            if found is not None:
                with contextlib.suppress(OSError):
                    _sweep_entry(directory / entry.name, found[2] == machine(), directory / found[1])


def _sweep_entry(path: Path, ours: bool, target: Path) -> None:
    if path.is_symlink():
        return
    if path.is_dir():
        if ours:
            _sweep_draft(path, target)
        elif (path / OWNER).is_file():
            _tell(path)
    elif ours and path.is_file():
        with ownerless(path) as free:
            if free:
                path.unlink(missing_ok=True)


def _sweep_draft(scratch: Path, target: Path) -> None:
    with ownerless(scratch / OWNER) as free:
        if free:
            old = scratch / OLD
            if os.path.lexists(old) and not os.path.lexists(target):
                old.rename(target)
            for entry in list(scratch.iterdir()):
                if entry.name == OWNER:
                    continue  # last: without it nobody could tell any more whose the rest is
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
            (scratch / OWNER).unlink()
            scratch.rmdir()
            return
    with contextlib.suppress(OSError):
        scratch.rmdir()  # killed before it had an owner: it is empty


_told: set[Path] = set()


def _tell(path: Path) -> None:
    """Say once whose a directory is that this machine cannot judge."""
    if path in _told:
        return
    _told.add(path)
    with contextlib.suppress(OSError):
        process, _, host = (path / OWNER).read_text(encoding="utf-8", errors="replace").strip().partition(" ")
        logger.warning(
            "%s: process %s on %s writes there, or left it when it was killed: if it is gone, remove it",
            path,
            process,
            "".join(character for character in host if character.isprintable()),
        )
