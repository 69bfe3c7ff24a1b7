"""The process that decodes: opens one video, shows its pictures, and is gone.

It sends JSON, and leaves pictures as they are in a file: nothing that the other side would have to run to read.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import mmap
import os
import socket
from pathlib import Path
from threading import Semaphore, Thread
from typing import Any

import numpy as np

from signet_runtime.errors import SignetError, one_line
from signet_runtime.sources.isolation.channel import AHEAD, send
from signet_runtime.sources.isolation.sandbox import confine
from signet_runtime.sources.video import Video


def decode(
    connection: socket.socket,
    pictures: int,
    path: str,
    frame_rate: float | None,
    start: float | None,
    end: float | None,
    track: int | None,
    memory: int,
) -> None:
    """Send what a `Video` gives: what it is, then every picture, then how it ended.

    Args:
        pictures: a file, as large as `AHEAD` of them once the other side has answered for the first time.
        memory: bytes of address space that decoding may take; the rest as of `Video`.
    """
    video: Video | None = None
    lacking: list[str] = []

    def tell(kind: str, **rest: Any) -> None:
        told = {} if video is None else {"notes": video.notes, "until": video.end}
        send(connection, {"kind": kind, **told, **rest})

    try:
        with contextlib.suppress(FileNotFoundError):  # which is said best by who opens it
            lacking = confine(Path(path), memory)
        room = Semaphore(0)
        Thread(target=_listen, args=(connection, room), daemon=True).start()
        with Video(path, frame_rate, start=start, end=end, track=track) as video:
            video.notes += [f"it is decoded apart, but {what}" for what in lacking]
            info = video.info
            described = {"fps": info.fps, "size": info.size, "num_frames": info.num_frames}
            tell("info", **described, zero=video.zero, regular=video.regular)
            room.acquire()
            shape = (AHEAD, info.size[1], info.size[0], 3)
            places = itertools.cycle(np.frombuffer(mmap.mmap(pictures, 0), np.uint8).reshape(shape))
            last: np.ndarray | None = None
            for image, seconds in video.timed():
                if image is not last:
                    room.acquire()
                    np.copyto(next(places), image)
                tell("again" if image is last else "picture", seconds=seconds)
                last = image
        tell("end")
    except SignetError as error:
        tell("unusable", message=str(error))
    except MemoryError:
        tell("memory")
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            tell("memory")
        else:  # which the other side says as a defect of ours
            tell("defect", message=f"{type(error).__name__}: {one_line(error)}")


def _listen(connection: socket.socket, room: Semaphore) -> None:
    """Make room for a picture at every byte of the other side, and end with it, whatever FFmpeg is doing."""
    with contextlib.suppress(OSError):
        while taken := connection.recv(64):
            room.release(len(taken))
    os._exit(0)
