"""The process from which those that decode are forked: it has a decoder loaded, no thread, and no stranger's byte."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys

from signet_runtime.sources.isolation.child import decode

assert sys.platform != "win32"

_LONGEST_REQUEST = 1 << 16  # bytes


def serve(control: socket.socket) -> None:
    """Fork at every request; tell of each that has ended, kill each whose pipe is closed, and all at the end."""
    import av  # once for all videos, and before the file system is closed

    assert av
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's is answered by who reads the video
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    pipes: dict[int, int] = {}  # of a process, where its status is told
    events = select.poll()
    events.register(control, select.POLLIN)
    events.register(woken, select.POLLIN)
    while True:
        for ready, what in events.poll():
            if ready == woken:
                os.read(woken, 4096)
                _bury(pipes, events)
            elif ready == control.fileno():
                request, fds, _, _ = socket.recv_fds(control, _LONGEST_REQUEST, 3)
                if not request:
                    for pid in pipes:
                        os.kill(pid, signal.SIGKILL)
                    return
                connection, told, pictures = fds
                pid = os.fork()
                if pid == 0:
                    for pipe in (*pipes.values(), told, woken, wake, control.fileno()):
                        os.close(pipe)
                    _decode(connection, pictures, request)
                os.close(connection)
                os.close(pictures)
                pipes[pid] = told
                events.register(told, 0)  # an error, that nobody reads it any more, is told unasked
            elif what & select.POLLERR:
                for pid in [pid for pid, pipe in pipes.items() if pipe == ready]:
                    events.unregister(ready)
                    os.kill(pid, signal.SIGKILL)


def _bury(pipes: dict[int, int], events: select.poll) -> None:
    while pipes:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        pipe = pipes.pop(pid)
        with contextlib.suppress(KeyError):
            events.unregister(pipe)
        with contextlib.suppress(BrokenPipeError):
            os.write(pipe, os.waitstatus_to_exitcode(status).to_bytes(4, "little", signed=True))
        os.close(pipe)


def _decode(connection: int, pictures: int, request: bytes) -> None:
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        decode(socket.socket(fileno=connection), pictures, **json.loads(request))
    finally:
        os._exit(0)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
