"""An upload on its way from the network into a file, with every limit checked while it comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from signet_runtime.serve.names import KEYPOINTS, shown_name, suffix_of
from signet_runtime.serve.problems import Problem, disk_full
from signet_runtime.serve.settings import Limits

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_FIELD = "file"
_HEADERS = 8_192  # bytes of a part's headers
_AROUND = 65_536  # bytes of a body that need not be of the file
_BUFFER = 1 << 20


class Upload(NamedTuple):
    """A recording that came.

    path: where it is here. name: what it is called in answers. size: bytes.
    """

    path: Path
    name: str
    size: int


class GoneError(Exception):
    """The client went away before it had sent everything."""


async def body(receive: Receive, limits: Limits) -> AsyncIterator[bytes]:
    """Yield a request's body as it comes.

    Raises:
        Problem: nothing came for too long, or too little.
        GoneError: the client has gone.
    """
    since, received = time.monotonic(), 0
    while True:
        try:
            async with asyncio.timeout(limits.silence):
                message = await receive()
        except TimeoutError:
            raise Problem(408, "too_slow", f"no data for {limits.silence:g} s; send it again") from None
        if message["type"] == "http.disconnect":
            raise GoneError
        chunk = message.get("body", b"")
        received += len(chunk)
        spent = time.monotonic() - since - limits.silence
        if spent > 0 and received < limits.rate * spent:
            raise Problem(408, "too_slow", f"slower than {limits.rate / 1000:g} kB/s; send it over a faster connection")
        if chunk:
            yield chunk
        if not message.get("more_body", False):
            return


async def receive_upload(
    receive: Receive, content_type: str, content_length: int | None, directory: Path, limits: Limits
) -> Upload:
    """Write the field ``file`` of a multipart body into ``directory``.

    Args:
        content_length: that the request states, if it does.

    Raises:
        Problem: it is no such body, too large, or too slow, or there is no room for it.
        GoneError: the client has gone.
    """
    kind, parameters = parse_options_header(content_type)
    boundary = parameters.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise Problem(400, "no_form", f"send the recording as the field {_FIELD!r} of a form (multipart/form-data)")
    if content_length is not None and content_length > limits.size + _AROUND:
        raise _too_large(limits.size)
    parts = _Parts(directory, limits)
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        async for chunk in body(receive, limits):
            parser.write(chunk)
            if parts.problem is not None:
                raise parts.problem
            if len(parts.pending) >= _BUFFER:
                await parts.flush()
        parser.finalize()
        await parts.flush()
    except FormParserError as error:
        raise Problem(400, "no_form", "the form is damaged, or not one (multipart/form-data); send it again") from error
    except OSError as error:
        raise disk_full(error) from error
    finally:
        await asyncio.shield(asyncio.to_thread(parts.close))
    return parts.result()


def _too_large(limit: int) -> Problem:
    return Problem(413, "too_large", f"larger than the {limit / 1e6:g} MB that this server takes; send a smaller file")


class _Parts:
    """What the parser finds: exactly one file, and nothing else that would have to be kept."""

    def __init__(self, directory: Path, limits: Limits) -> None:
        self._directory, self._limits = directory, limits
        self._field, self._value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._head = self._around = 0
        self._in_file = False
        self._file: BinaryIO | None = None
        self._path, self._name = Path(), ""
        self._most, self._size = limits.size, 0
        self._done = False
        self.pending = bytearray()
        self.problem: Problem | None = None

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._headers, self._field, self._value, self._head, self._in_file = {}, b"", b"", 0, False

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._grow(end - start)
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._grow(end - start)
        self._value += data[start:end]

    def _grow(self, size: int) -> None:
        self._head += size
        if self._head > _HEADERS:
            self._refuse(Problem(400, "no_form", "the head of a part of the form is too long"))
            self._field = self._value = b""

    def _header_end(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if options.get(b"name") != _FIELD.encode() or b"filename" not in options:
            return
        if self._file is not None:
            self._refuse(Problem(400, "several_files", "one recording a request; send the others by themselves"))
            return
        self._in_file = True
        self._name = shown_name(options[b"filename"].decode("utf-8", "replace"))
        suffix = suffix_of(self._name)
        if suffix in KEYPOINTS:
            self._most = min(self._most, self._limits.keypoints_size)
        # Of the stranger's name only the suffix is in ours.
        self._path = self._directory / f"upload{suffix}"
        try:
            self._file = self._path.open("xb")
        except OSError as error:
            self._refuse(disk_full(error))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if not self._in_file:
            self._around += end - start
            if self._around > _AROUND:
                self._refuse(Problem(413, "too_large", f"the form has more than the field {_FIELD!r}; leave it out"))
            return
        self._size += end - start
        if self._size > self._most:
            self._refuse(_too_large(self._most))
        if self.problem is None:
            self.pending += data[start:end]

    def _end(self) -> None:
        self._done = True

    def _refuse(self, problem: Problem) -> None:
        self.problem = self.problem or problem
        self.pending.clear()

    async def flush(self) -> None:
        """Write what has come to the disk, in another thread.

        Raises:
            OSError: it cannot be written.
        """
        if self._file is not None and self.pending:
            content, self.pending = bytes(self.pending), bytearray()
            await asyncio.to_thread(self._file.write, content)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def result(self) -> Upload:
        """Return what came.

        Raises:
            Problem: the form was cut off, or has no file.
        """
        if self.problem is not None:
            raise self.problem
        if not self._done:
            raise Problem(400, "cut_off", "the form ends in the middle; send it again")
        if self._file is None:
            raise Problem(400, "no_file", f"the form has no file in the field {_FIELD!r}; send the recording there")
        if not self._size:
            raise Problem(400, "empty", f"{self._name}: is empty; send a video, or a file of keypoints")
        return Upload(self._path, self._name, self._size)
