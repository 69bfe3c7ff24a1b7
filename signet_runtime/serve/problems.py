"""What can go wrong with a request: a code for programs, a status, and one line for people."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from signet_runtime.errors import BundleError, EngineError, InputError, ModelError, OutputError, SignetError, one_line


@dataclass
class Problem(Exception):  # noqa: N818
    """Ends a request.

    Attributes:
        status: of HTTP.
        code: in words that stay the same.
        message: what, where, and what to do; nothing of this machine's files.
        retry_after: seconds after which to come again, where that may help.
    """

    status: int
    code: str
    message: str
    retry_after: int | None = None

    def body(self) -> dict[str, dict[str, str]]:
        """Return what is answered, as JSON."""
        return {"error": {"code": self.code, "message": self.message}}

    def event(self) -> dict[str, object]:
        """Return what is said of it where events are."""
        later = {} if self.retry_after is None else {"retry_after": self.retry_after}
        return {"type": "error", "code": self.code, "message": self.message, **later}

    def headers(self) -> dict[str, str]:
        """Return the headers that go with it."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers


class Stopped(BaseException):
    """Nobody waits for this translation any more. No `Exception`, after which what was begun would be translated."""


def disk_full(error: OSError) -> Problem:
    """Say that an upload cannot be kept."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Problem(
            507, "disk_full", "the server has no room for the upload; try again later, or a smaller file", 60
        )
    return Problem(507, "not_stored", f"the server cannot keep the upload ({error.strerror or type(error).__name__})")


def too_long(limit: float) -> Problem:
    """Say that a recording, or a live stream, is longer than may be."""
    return Problem(413, "too_long", f"longer than the {limit:g} s that this server takes; cut it into shorter ones")


def too_slow(limit: float) -> Problem:
    """Say that a translation took more time than it may."""
    return Problem(504, "out_of_time", f"not done within the {limit:g} s that this server gives; send a shorter one")


def of_error(error: SignetError, begun: bool, hidden: dict[str, str]) -> Problem:
    """Return what a translation's error is to whoever asked for it.

    Args:
        begun: whether a frame of the recording had been read, so that it was one.
        hidden: texts that stay here, as the paths of files -> what is said in their place.
    """
    message = one_line(error)
    for text, instead in hidden.items():
        message = message.replace(text, instead)
    if isinstance(error, InputError):
        return Problem(422, "unusable", message) if begun else Problem(415, "not_readable", message)
    if isinstance(error, OutputError):
        return Problem(507, "not_stored", message)
    if isinstance(error, BundleError | ModelError):
        return Problem(503, "model_damaged", message)
    if isinstance(error, EngineError):
        return Problem(503, "not_available", message)
    return Problem(500, "failed", "the translation failed; the server's log says why")
