"""`signet-serve` as a process of its own, with limits that a test chooses."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

_CODE = """
import sys
from pathlib import Path
from signet_runtime.commands.console import exit_on_error, own_stderr
from signet_runtime.serve.running import run
from signet_runtime.serve.settings import Limits, Settings
limits, settings = {limits!r}, {settings!r}
settings["bundles"] = tuple(Path(path) for path in settings["bundles"])
settings["scratch"] = Path(settings["scratch"])
with exit_on_error("signet-serve"), own_stderr(False, "signet-serve"):
    run(Settings(port=0, limits=Limits(**limits), **settings), False)
"""


@dataclass
class Server:
    """One that is ready."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        connection.settimeout(20)
        return connection

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


@contextlib.contextmanager
def running(log: Path, limits: dict[str, Any], **settings: Any) -> Iterator[Server]:
    """Start one, and kill it at the end if it still runs."""
    settings = {name: value for name, value in settings.items() if value is not None}
    settings["bundles"] = [str(path) for path in settings.get("bundles", ())]
    settings["scratch"] = str(settings["scratch"])
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "export")]))
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", _CODE.format(limits=limits, settings=settings)],
            stdout=subprocess.DEVNULL,
            stderr=file,
            text=True,
            env=environment,
        )
    try:
        for _ in range(600):
            found = re.search(r"http://127\.0\.0\.1:(\d+) is ready", log.read_text())
            if found:
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        assert found, log.read_text()
        yield Server(process, int(found[1]), log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
