"""A Chromium that tests drive, and a `signet-serve` of its own for its page."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from signet_runtime.errors import EngineError
from signet_runtime.pose.models import find_models

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_HOW = "no Chromium is here; CONTRIBUTING.md says how to install one"


def chromium(driver: Playwright) -> str:
    """Return the Chromium of this machine, or the one that Playwright has fetched; skip where there is none."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    own = driver.chromium.executable_path
    if found is None and not Path(own).exists():
        pytest.skip(_HOW)
    return found or own


@contextlib.contextmanager
def launched(driver: Playwright, *flags: str) -> Iterator[Browser]:
    browser = driver.chromium.launch(executable_path=chromium(driver), args=[*_FLAGS, *flags])
    try:
        yield browser
    finally:
        browser.close()


@contextlib.contextmanager
def served(*arguments: str) -> Iterator[str]:
    """Run `signet-serve` with the demo at a free port; give its address."""
    with contextlib.suppress(EngineError):
        find_models(offline=True)
        command = [sys.executable, "-m", "signet_runtime.commands.serve", "--port", "0", "--offline", *arguments]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
        assert process.stderr is not None
        said: queue.Queue[str] = queue.Queue()

        def listen(stream: IO[str]) -> None:
            for line in stream:  # to the end, so that the server never waits for room
                said.put(line)
            said.put("")

        reader = threading.Thread(target=listen, args=(process.stderr,), daemon=True)
        reader.start()
        try:
            text = ""
            while not (address := re.search(r"http://127\.0\.0\.1:\d+", text)):
                line = said.get(timeout=60)
                assert line, f"the server ended:\n{text}"
                text += line
            yield address[0]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=20)
            reader.join(timeout=5)
            process.stderr.close()
        return
    pytest.skip("the pose estimator's models are not here; make demo fetches them")


def as_camera(video: Path, to: Path, still: float) -> Path:
    """Write a video as what Chromium's fake camera takes, at 30 pictures a second; the last is held for ``still`` s."""
    import av

    with av.open(str(video)) as source, av.open(str(to), "w", format="mjpeg") as out:
        stream = out.add_stream("mjpeg", rate=30)
        frames = list(source.decode(video=0))
        rate = source.streams.video[0].average_rate
        assert rate is not None
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, "yuvj420p"
        count = int((len(frames) / rate + Fraction(still)) * 30)
        for n in range(count):
            picture = frames[min(len(frames) - 1, int(n * rate / 30))].to_ndarray(format="rgb24")
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = n
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return to
