"""A Chromium that tests drive, and a `signet-serve` of its own for its page."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pytest

from signet_runtime.errors import EngineError
from signet_runtime.pose.models import find_models
from signet_runtime.translation import Translation

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page, Playwright, Route

    Answer = Callable[[Route], None]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

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


def give(page: Page, file: Path | dict[str, Any], button: str = "Choose a video") -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=button).click()
    chooser.value.set_files(file)


def sentences(page: Page) -> Locator:
    return page.get_by_role("log", name="Sentences").get_by_role("listitem")


def drawn(page: Page) -> int:
    """Count the pixels of the skeleton."""
    return int(
        page.evaluate(
            """() => {
                const { width, height } = document.querySelector("#drawing");
                const { data } = document.querySelector("#drawing").getContext("2d").getImageData(0, 0, width, height);
                return data.filter((value, i) => i % 4 === 3 && value > 0).length;
            }"""
        )
    )


def events(*said: dict[str, Any], ended: bool = True) -> Answer:
    """Answer an upload with these events."""
    lines = [{"type": "ready", "model": "demo", "frame_rate": 6.25}, *said, *([{"type": "end"}] if ended else [])]

    def answer(route: Route) -> None:
        route.fulfill(body="".join(json.dumps(line) + "\n" for line in lines), content_type="application/x-ndjson")

    return answer


def sentence(text: str, **changes: Any) -> dict[str, Any]:
    whole = Translation(text, 0.0, 1.0, "mul", {"expert_a": 0.75, "b": 0.25}, "mediapipe", 6, {}, reliability=0.9)
    return {"type": "sentence", "input": "a.mp4", **asdict(whole), **changes}


def pose(time: float, rng: np.random.Generator) -> dict[str, Any]:
    return {"type": "pose", "time": time, "keypoints": rng.uniform(0.2, 0.8, (133, 2)).tolist(), "scores": [1.0] * 133}


def refuse(status: int, message: str, times: int | None = None, **headers: str) -> Answer:
    """Answer as the server does when it refuses something, so many times, and let pass what comes then."""
    left = [times]

    def answer(route: Route) -> None:
        if left[0] == 0:
            route.continue_()
            return
        left[0] = None if left[0] is None else left[0] - 1
        body = json.dumps({"error": {"code": "refused", "message": message}})
        route.fulfill(status=status, body=body, content_type="application/json", headers=headers)

    return answer


def serious(page: Page) -> list[str]:
    """Return what axe-core finds that keeps people out."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html']}" for v in found if v["impact"] in ("serious", "critical")]


def is_too_wide(page: Page) -> bool:
    return bool(page.evaluate("() => document.documentElement.scrollWidth > innerWidth"))
