"""What is remembered for this user on this machine: what was checked, and whose engines are trusted."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from signet_runtime.errors import OutputError


def user_home(variable: str) -> Path:
    """Return the user's home directory.

    Args:
        variable: of the environment, that serves where there is none.

    Raises:
        OutputError: there is none.
    """
    try:
        return Path.home()
    except RuntimeError as error:
        raise OutputError(
            f"this user has no home directory; set {variable} to a directory that can be written"
        ) from error


def user_cache() -> Path:
    """Return the directory for what can be made again.

    Raises:
        OutputError: this user has no home directory.
    """
    chosen = os.environ.get("XDG_CACHE_HOME")
    return (Path(chosen) if chosen else user_home("XDG_CACHE_HOME") / ".cache") / "signet"


def was_verified(stamp: str) -> bool:
    """Return whether `remember_verified` was called with this stamp by this user on this machine."""
    return _is_marked("verified", stamp)


def remember_verified(stamp: str) -> None:
    """Note that what the stamp (a hash) stands for was checked and found right."""
    # A cache that cannot be written costs a check at every start and nothing else.
    with contextlib.suppress(OSError, OutputError):
        _mark("verified", stamp)


_trusted: set[str] = set()  # by this process, where nothing can be written


def is_trusted(sha256: str) -> bool:
    """Return whether an engine's file with this hash was built by this user, or is trusted."""
    return sha256 in _trusted or _is_marked("trusted-engines", sha256)


def trust(sha256: str) -> None:
    """Trust an engine's file with this hash from now on; where nothing can be written, in this process."""
    _trusted.add(sha256)
    with contextlib.suppress(OSError, OutputError):
        _mark("trusted-engines", sha256)


def _is_marked(kind: str, name: str) -> bool:
    with contextlib.suppress(OSError, OutputError):
        return (user_cache() / kind / name).exists()
    return False


def _mark(kind: str, name: str) -> None:
    marker = user_cache() / kind / name
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
