"""A server that is killed while it reads uploads: the next one works, and removes what lies about."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from benchmarks.faulting.commands import write_clips
from benchmarks.faulting.killed import FORBIDDEN, Tally
from benchmarks.measuring.forked import start, wait
from signet_runtime.bundle import demo_bundle_path
from signet_runtime.commands.serve import main as signet_serve

_PATIENCE = 60.0  # seconds until a server answers, or ends
_BOUNDARY = "signet-faults"


def kill_servers(
    root: Path, log: Path, each: int, rng: random.Random, count: Tally, tell: Callable[[str], None]
) -> None:
    """Kill a server at random moments of its start and of four uploads, and start it again at the same port."""
    temporary = root / "uploads"
    temporary.mkdir()
    write_clips(root / "sent", 1, 4)
    upload = (root / "sent" / "000.npz").read_bytes()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--port", str(port), "--temp", str(temporary), "--bundle", str(demo_bundle_path()), "--quiet"]
    for number in range(each):
        log.unlink(missing_ok=True)
        log.touch()
        child = start(lambda: signet_serve(arguments), log)
        senders: list[threading.Thread] = []
        if number % 5:  # else it is killed while it starts
            _wait_until_ready(port)
            senders = [threading.Thread(target=_send, args=(port, upload)) for _ in range(4)]
            for sender in senders:
                sender.start()
        time.sleep(rng.uniform(0, 0.6))
        os.killpg(child, signal.SIGKILL)
        code = wait(child)
        for sender in senders:
            sender.join()
        problem = None
        child = start(lambda: signet_serve(arguments), log)
        if not _wait_until_ready(port):
            problem = "the next one does not start"
        elif _send(port, upload) != 200:
            problem = "the next one does not translate"
        elif len(left := list(temporary.iterdir())) > 1:
            problem = f"{len(left) - 1} directories of uploads were left"
        os.killpg(child, signal.SIGTERM)
        ended = wait(child)
        said = log.read_text(encoding="utf-8", errors="replace")
        problem = problem or next((f"it said {words!r}" for words in FORBIDDEN if words in said), None)
        problem = problem or (None if ended in (0, 130, -signal.SIGTERM) else f"asked to end, it ended with {ended}")
        problem = problem or ("uploads were left at its end" if any(temporary.iterdir()) else None)
        count.note(code, problem, log)
    tell(f"{count.name}: {count.tries} tries, {len(count.wrong)} wrong")


def _wait_until_ready(port: int) -> bool:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).status == 200
        time.sleep(0.02)
    return False


def _send(port: int, upload: bytes) -> int | None:
    """Give a recording to be translated; return the status, None where nobody answers."""
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.npz"\r\n\r\n'.encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/translate",
        data=head + upload + f"\r\n--{_BOUNDARY}--\r\n".encode(),
        headers={"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"},
    )
    try:
        return urllib.request.urlopen(request, timeout=_PATIENCE).status
    except OSError as error:
        return getattr(error, "code", None)
    except Exception:  # a connection that ends within an answer, as http.client says it
        return None
