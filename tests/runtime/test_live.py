"""Live sources: what comes is given on a clock, what comes too fast is dropped, and nothing ever hangs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from tiny_bundle import FakeEstimator, TinyBundle

from signet_runtime import translator as translator_module
from signet_runtime.errors import InputError
from signet_runtime.sources.live import Live
from signet_runtime.translator import Translator

WriteVideo = Callable[..., Path]

needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


def stream(path: Path, sizes: list[tuple[int, int]], fps: int = 25, each: int = 10) -> Path:
    """A stream whose frames change their size: MJPEG, where each frame states its own."""
    with path.open("wb") as file:
        for size in sizes:
            with av.open(str(path.with_suffix(".one.mjpeg")), "w", format="mjpeg") as container:
                video = container.add_stream("mjpeg", rate=fps)
                video.width, video.height, video.pix_fmt = *size, "yuvj420p"
                for n in range(each):
                    picture = np.full((size[1], size[0], 3), 8 * n, np.uint8)
                    for packet in video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                        container.mux(packet)
                for packet in video.encode(None):
                    container.mux(packet)
            file.write(path.with_suffix(".one.mjpeg").read_bytes())
    return path


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def feed(fifo: Path, contents: bytes, *, hold: float = 0.0) -> threading.Thread:
    """Somebody who writes to a pipe and, after ``hold`` seconds, closes it."""

    def write() -> None:
        with fifo.open("wb") as file:
            file.write(contents)
            file.flush()
            time.sleep(hold)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(("fps", "rate"), [(1, 6.25), (12, 6.25), (25, 6.25), (120, 6.25), (25, None)])
def test_a_file_is_played_at_its_own_speed_on_the_models_clock(
    write_video: WriteVideo, fps: int, rate: float | None
) -> None:
    seconds = 2 if fps == 1 else 1
    begun = time.perf_counter()
    with Live(str(write_video("v.mp4", frames=seconds * fps, fps=fps)), rate) as live:
        frames = list(live)
    took = time.perf_counter() - begun
    clock = min(fps, rate or fps)
    assert live.info.fps == clock
    assert live.info.size == (96, 64)
    assert [f.seconds for f in frames] == pytest.approx(np.arange(len(frames)) / clock)
    assert len(frames) == pytest.approx(seconds * clock, abs=1)
    assert (live.ticked, live.dropped) == (len(frames), 0)
    assert seconds - 1 / fps - 0.1 <= took < seconds + 3
    assert all(f.image.shape == (64, 96, 3) and f.image.dtype == np.uint8 for f in frames)
    waited = [f.arrived - begun - f.seconds for f in frames]
    assert max(waited) - min(waited) < 0.8  # each in its time


def test_a_reader_that_is_too_slow_gets_the_newest(write_video: WriteVideo, caplog: pytest.LogCaptureFixture) -> None:
    with Live(str(write_video("v.mp4", frames=50, fps=25))) as live:
        seen = []
        for frame in live:
            time.sleep(0.2)
            seen.append((frame.seconds, time.perf_counter() - frame.arrived))
    assert live.dropped == live.ticked - len(seen) > 20
    assert [seconds for seconds, _ in seen] == sorted(seconds for seconds, _ in seen)
    assert seen[-1][0] == pytest.approx(49 / 25)
    assert max(age for _, age in seen[:-4]) < 1.5  # a frame waits for those few before it at most
    assert "too slow" in caplog.text
    assert f"{live.dropped} of 50 frames were left out" in caplog.text


@needs_fifo
def test_a_pipe_waits_for_a_slow_reader(write_video: WriteVideo, fifo: Path) -> None:
    feed(fifo, write_video("v.mkv", frames=30).read_bytes())
    with Live(str(fifo)) as live:
        for _ in live:
            time.sleep(0.02)
    assert (live.ticked, live.dropped) == (30, 0)


@needs_fifo
@pytest.mark.parametrize("suffix", ["mkv", "webm", "ts"])
def test_a_stream_is_sampled_by_its_frames_times_whatever_rate_it_states(
    tmp_path: Path, fifo: Path, suffix: str
) -> None:
    # A picture a second, then 25 of them: what is stated may be 1, 2.6, 25 or the clock's tick.
    times = [*range(4), *(4 + n / 25 for n in range(50))]
    path = tmp_path / f"v.{suffix}"
    with av.open(str(path), "w") as container:
        video = container.add_stream({"webm": "libvpx", "ts": "mpeg2video"}.get(suffix, "mpeg4"), rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for seconds in times:
            picture = np.full((48, 64, 3), int(40 * seconds), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(25 * seconds), Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode())
    feed(fifo, path.read_bytes())
    with Live(str(fifo), 6.25) as live:
        frames = list(live)
    assert live.info.fps == 6.25
    expected = [0.0] + [
        tick / 6.25 for tick in range(1, 38) if any(tick <= round(6.25 * t, 6) < tick + 1 for t in times)
    ]
    assert [f.seconds for f in frames] == pytest.approx(expected)
    assert [f.image.mean() / 40 for f in frames] == pytest.approx(
        [next(t for t in times if 6.25 * t >= 6.25 * s - 1e-3) for s in expected], abs=0.15
    )


def test_what_was_chosen_is_a_note(translator: Translator, tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        videos = [container.add_stream("mpeg4", rate=25) for _ in range(2)]
        for video in videos:
            video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        for n in range(30):
            for video in videos:
                picture = np.full((64, 96, 3), 100 + 2 * n, np.uint8)
                container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for video in videos:
            container.mux(video.encode())
    with Live(str(path), translator.bundle.manifest.frame_rate) as live:
        list(live)
        assert live.notes == ["track 1 of 2 video tracks is read"]


@needs_fifo
def test_a_pipe_that_closes_is_the_end(write_video: WriteVideo, fifo: Path) -> None:
    contents = write_video("v.ts", frames=30).read_bytes()
    feed(fifo, contents[: len(contents) // 2])
    with Live(str(fifo)) as live:
        assert 0 < len(list(live)) <= 30


@needs_fifo
def test_a_stream_that_stalls_is_an_error_after_its_frames(write_video: WriteVideo, fifo: Path) -> None:
    feed(fifo, write_video("v.ts", frames=30).read_bytes(), hold=30)
    begun = time.perf_counter()
    seen = 0
    with (
        pytest.raises(InputError, match=r"pipe: no frame for 0\.5 s; it has stalled"),
        Live(str(fifo), stall=0.5) as live,
    ):
        for _ in live:
            seen += 1
    assert seen > 0
    assert time.perf_counter() - begun < 5


@needs_fifo
def test_a_pipe_that_nobody_writes_to_does_not_hang(fifo: Path) -> None:
    with pytest.raises(InputError, match="stalled"):
        Live(str(fifo), stall=0.3)


@needs_fifo
@pytest.mark.parametrize(
    ("contents", "reason"), [(b"", "cannot be opened"), (b"text\n" * 999, "cannot be opened|text")]
)
def test_a_pipe_without_a_video(fifo: Path, contents: bytes, reason: str) -> None:
    feed(fifo, contents)
    with pytest.raises(InputError, match=reason):
        Live(str(fifo), stall=3)


def test_frames_that_change_their_size(tmp_path: Path) -> None:
    path = stream(tmp_path / "v.mjpeg", [(64, 48), (32, 48)])
    seen = 0
    with pytest.raises(InputError, match=r"v\.mjpeg: frames changed from 64x48 to 32x48"), Live(str(path)) as live:
        for _ in live:
            seen += 1
    assert seen == 10


def test_damaged_packets_cost_their_pictures_only(tmp_path: Path) -> None:
    path = stream(tmp_path / "v.mjpeg", [(64, 48)], each=30)
    contents = bytearray(path.read_bytes())
    at = [i for i in range(len(contents) - 1) if contents[i : i + 2] == b"\xff\xd8"]
    contents[at[5] + 2 : at[6] - 2] = bytes(at[6] - at[5] - 4)
    path.write_bytes(contents)
    with Live(str(path)) as live:
        assert 25 <= len(list(live)) < 31


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("97", r"camera 97: there is no /dev/video97"),
        ("no such file", "no such file: No such file or directory; give a camera"),
        (".", "is a directory"),
        ("/dev/null", "/dev/null: cannot be opened"),
        ("rtsp://127.0.0.1:1/x", "rtsp://127.0.0.1:1/x: cannot be opened"),
        ("nonsense://x", "nonsense://x: cannot be opened"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="names of devices")
def test_sources_that_are_not_there(source: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        Live(source, stall=5)
    assert "\n" not in str(caught.value)


def test_a_server_that_says_nothing_does_not_hang() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(InputError, match="stalled"):
        Live(f"http://127.0.0.1:{server.getsockname()[1]}/v.ts", stall=0.5)


def test_stop_ends_it_soon(write_video: WriteVideo) -> None:
    with Live(str(write_video("v.mp4", frames=250, fps=25))) as live:
        threading.Timer(0.4, live.stop).start()
        begun = time.perf_counter()
        assert 1 <= len(list(live)) <= 100
        assert time.perf_counter() - begun < 5


@pytest.fixture
def translator(tiny: TinyBundle, monkeypatch: pytest.MonkeyPatch) -> Iterator[Translator]:
    monkeypatch.setattr(translator_module, "load_estimator", lambda *args, **options: FakeEstimator())
    with Translator.from_bundle(tiny.path) as translator:
        yield translator


def test_live_says_what_the_file_says(translator: Translator, write_video: WriteVideo, tmp_path: Path) -> None:
    video = write_video("v.mp4", frames=40, fps=25)
    (offline,) = translator.sentences(video, whole=None)
    with Live(str(video)) as live:
        (online,) = translator.sentences(live, whole=None, keypoints_out=tmp_path / "k.npz")
    assert (online.text, online.frames, online.end) == (offline.text, offline.frames, offline.end)
    assert online.timings["last_frame_to_text"] < 1
    (again,) = translator.sentences(tmp_path / "k.npz", whole=None)
    assert again.text == offline.text


def test_what_a_camera_saw_before_it_broke_is_kept(translator: Translator, tmp_path: Path) -> None:
    path = stream(tmp_path / "v.mjpeg", [(64, 48), (32, 48)], each=25)
    said = []
    with Live(str(path)) as live, pytest.raises(InputError, match="frames changed"):
        said.extend(translator.sentences(live, keypoints_out=tmp_path / "k.npz"))
    with Live(str(path)) as live:
        sentences = translator.sentences(live)
        assert next(sentences).frames > 5
    assert (tmp_path / "k.npz").is_file()


@needs_fifo
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_ctrl_c_ends_a_live_run_cleanly(tiny: TinyBundle, write_video: WriteVideo, number: str, tmp_path: Path) -> None:
    import signal

    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import signet_runtime.translator as t\nfrom tiny_bundle import FakeEstimator\n"
        "t.load_estimator = lambda *a, **k: FakeEstimator()\nfrom signet_runtime.commands.translate import main\nmain()"
    )
    arguments = [
        "--bundle",
        tiny.path,
        "--camera",
        write_video("v.mp4", frames=1500, fps=25),
        "-o",
        tmp_path / "out.txt",
    ]
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr:
            if "Ctrl-C ends it" in line:
                break
        time.sleep(1.5)
        process.send_signal(getattr(signal, number))
        stderr = process.communicate(timeout=10)[1]
    assert (process.returncode, stderr) == (0, "")
    assert (tmp_path / "out.txt").read_text().strip()
    assert not list(tmp_path.glob("*.part"))
