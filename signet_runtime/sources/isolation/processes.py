"""Where this process has others made that decode: by a `zygote` of its own, which ends with it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from threading import Lock
from typing import Any

from signet_runtime.errors import EngineError

_PACKAGES = Path(__file__).parents[3]


class _Zygote:
    def __init__(self) -> None:
        if sys.platform == "win32":
            raise AssertionError
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # One thread: those of a library would be missing in what is forked.
            threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
            path = os.pathsep.join([str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])])
            self.process = subprocess.Popen(
                [sys.executable, "-m", "signet_runtime.sources.isolation.zygote", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, **threads, "PYTHONPATH": path},
            )
        self.owner = os.getpid()


_starting = Lock()
_zygote: _Zygote | None = None


def prepare() -> None:
    """Start the zygote without waiting for it, so that the first video need not.

    Raises:
        EngineError: this is Windows, or no process can be started.
    """
    global _zygote
    if sys.platform == "win32":
        raise EngineError("videos cannot be decoded in a confined process on Windows; read those you trust without")
    with _starting:
        if _zygote is None or _zygote.owner != os.getpid() or _zygote.process.poll() is not None:
            try:
                _zygote = _Zygote()
            except OSError as error:
                raise EngineError(f"no process can be started to decode videos in ({error.strerror})") from error


def fork(request: dict[str, Any], pictures: int) -> tuple[socket.socket, int]:
    """Have a process made that decodes.

    Args:
        request: keywords of `child.decode`.
        pictures: the file in which it leaves them.

    Returns:
        What it is spoken with; and a pipe with its exit status, 4 bytes, once it has ended. To close the pipe kills it.

    Raises:
        EngineError: as `prepare`.
    """
    prepare()
    assert _zygote is not None
    if sys.platform == "win32":
        raise AssertionError
    ours, theirs = socket.socketpair()
    status, told = os.pipe()
    try:
        socket.send_fds(_zygote.control, [json.dumps(request).encode()], [theirs.fileno(), told, pictures])
    except OSError as error:
        ours.close()
        os.close(status)
        raise EngineError(f"no process can be started to decode videos in ({error.strerror})") from error
    finally:
        theirs.close()
        os.close(told)
    return ours, status
