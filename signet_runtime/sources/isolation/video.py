"""A video that another process decodes: the same pictures, times and words, and a clear end where that one is lost."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkstemp
from threading import Lock
from types import TracebackType
from typing import Any

import numpy as np

from signet_runtime.errors import InputError
from signet_runtime.limits import limits
from signet_runtime.sources.isolation.channel import AHEAD, receive
from signet_runtime.sources.isolation.processes import fork
from signet_runtime.sources.video import VideoInfo, check_stretch

_WATCH = 0.2  # s: a signal is answered, and a video closed, in between


class IsolatedVideo:
    """`Video`, read in a process of its own that can reach nothing but the file; see there for what it gives.

    The process starts at once and the constructor does not wait for it: what is wrong with the file is said where
    something of it is first asked for.

    Args:
        path, frame_rate, start, end, track: as of `Video`.

    Attributes:
        notes: what was assumed, chosen or left out so far, a line each.
        end: when the last picture is no longer shown (s), on the clock of `timed`; known once all frames were read.

    Raises:
        InputError: as `Video`; or the process that decodes it ended, took more memory, or was silent for longer, than
            `limits.Limits` allows. Raised by ``info``, ``regular``, ``zero`` and ``timed``.
        EngineError: no process can be started here that gives up what it can reach.
    """

    def __init__(
        self,
        path: str | Path,
        frame_rate: float | None = None,
        *,
        start: float | None = None,
        end: float | None = None,
        track: int | None = None,
    ) -> None:
        self._path = Path(path)
        check_stretch(self._path, start, end)
        self.notes: list[str] = []
        self.end = 0.0
        self._told: dict[str, Any] | None = None  # when it was opened
        self._seconds = 0.0
        self._reading, self._closed = Lock(), False
        stretch = {"start": start, "end": end}
        request = {
            "path": str(self._path),
            "frame_rate": frame_rate,
            **stretch,
            "track": track,
            "memory": limits().decode_bytes,
        }
        # Read as a file, not as memory, which would end this process if the other one made it shorter.
        self._pictures = _anonymous_file()
        try:
            self._connection, self._status = fork(request, self._pictures)
        except BaseException:
            os.close(self._pictures)
            raise

    def __enter__(self) -> IsolatedVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process; what waits for a picture meanwhile ends, too."""
        self._closed = True
        with self._reading:
            self._connection.close()
            for opened in self._pictures, self._status:
                if opened >= 0:
                    os.close(opened)
            self._pictures = self._status = -1

    @property
    def info(self) -> VideoInfo:
        """What is known before the frames are read."""
        told = self._opened()
        return VideoInfo(told["fps"], told["size"], told["num_frames"])

    @property
    def regular(self) -> bool:
        """Whether the pictures come evenly, as far as that was looked at."""
        return bool(self._opened()["regular"])

    @property
    def zero(self) -> float:
        """Where the clock of `timed` begins on that of the file's packets (s)."""
        return float(self._opened()["zero"])

    def __iter__(self) -> Iterator[np.ndarray]:
        for image, _ in self.timed():
            yield image

    def timed(self) -> Iterator[tuple[np.ndarray, float]]:
        """Yield the frames, uint8 RGB (H, W, 3), each with its time (s); one that is still shown is the same array."""
        if sys.platform == "win32":
            raise AssertionError
        width, height = self.info.size
        image: np.ndarray | None = None
        places = itertools.cycle(range(AHEAD))
        while True:
            with self._reading:
                told = self._read()
                if told["kind"] == "end":
                    return
                try:
                    self._seconds = _number(told["seconds"])
                    if told["kind"] == "picture":
                        image = np.empty((height, width, 3), np.uint8)
                        place = next(places) * image.nbytes
                        if os.preadv(self._pictures, [image.data.cast("B")], place) < image.nbytes:
                            raise ValueError("part of a picture")
                        with contextlib.suppress(OSError):  # it may have sent all, and be gone
                            self._connection.send(b".")
                    elif told["kind"] != "again":
                        raise ValueError(f"{told['kind']} in place of a picture")
                    if image is None:
                        raise ValueError("nothing was shown before")
                except (KeyError, TypeError, ValueError) as error:
                    raise self._lost() from error
            yield image, self._seconds

    def _opened(self) -> dict[str, Any]:
        with self._reading:
            if self._told is None:
                told = self._read()
                try:
                    width, height = (int(side) for side in told["size"])
                    frames = None if told["num_frames"] is None else int(told["num_frames"])
                    if told["kind"] != "info" or min(width, height) < 1 or width * height > limits().pixels:
                        raise ValueError(f"{width} x {height} pixels")
                    fps, zero = _number(told["fps"]), _number(told["zero"])
                except (KeyError, TypeError, ValueError) as error:
                    raise self._lost() from error
                os.truncate(self._pictures, AHEAD * height * width * 3)
                with contextlib.suppress(OSError):  # it may be gone, which is said where a picture is read
                    self._connection.send(b"." * (1 + AHEAD))
                self._told = {**told, "fps": fps, "size": (width, height), "num_frames": frames, "zero": zero}
            return self._told

    def _read(self) -> dict[str, Any]:
        """Read what the other process says; it may be in a stranger's hands, and is believed as a file would be."""
        self._wait()
        try:
            told = receive(self._connection)
            kind = str(told["kind"])
            if "notes" in told:
                self.notes[:] = [str(note) for note in told["notes"]]
                self.end = _number(told["until"])
        except (EOFError, OSError, KeyError, TypeError, ValueError) as error:
            raise self._lost() from error
        if kind == "memory":
            raise self._unusable(f"decoding it takes more than {limits().decode_bytes / (1 << 30):.3g} GiB of memory")
        if kind == "unusable":
            raise InputError(str(told.get("message")))
        if kind == "defect":
            raise RuntimeError(f"{self._path}: {told.get('message')}")
        return told

    def _wait(self) -> None:
        """Wait until something comes. In short waits: the main thread answers signals, and another may close this."""
        until = time.monotonic() + limits().decode_seconds
        while not self._closed:
            if select.select([self._connection], [], [], _WATCH)[0]:
                return
            if time.monotonic() > until:
                raise self._unusable(f"decoding it stood still for {limits().decode_seconds:.3g} s")
        raise ValueError(f"{self._path}: its video is closed, no more frames can be read")

    def _lost(self) -> InputError:
        """Say how the other process ended; without a word it does not."""
        status = b""
        if select.select([self._status], [], [], 1.0)[0]:
            status = os.read(self._status, 4)
        if len(status) < 4:
            return self._unusable("the process that decoded it lost its way")
        code = int.from_bytes(status, "little", signed=True)
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with {code}"
        return self._unusable(f"FFmpeg was ended {how} over it")

    def _unusable(self, what: str) -> InputError:
        where = f" after {self._seconds:.1f} s of it" if self._told is not None else ""
        return InputError(f"{self._path}: {what}{where}; the file is damaged, or made to do harm")


def _anonymous_file() -> int:
    if sys.platform == "linux":
        return os.memfd_create("pictures")
    opened, name = mkstemp()
    Path(name).unlink()
    return opened


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is no number")
    return number
