"""A video decoded in a process of its own: the same pictures, and whatever happens there is one error here."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from signet_runtime.commands.translate import main
from signet_runtime.errors import InputError
from signet_runtime.limits import VARIABLE
from signet_runtime.sources.isolation import processes, video
from signet_runtime.sources.isolation.video import IsolatedVideo
from signet_runtime.sources.video import Video

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no confined processes on Windows")

EXAMPLE = Path(__file__).parents[2] / "examples" / "ase_music.mp4"


def write_video(path: Path, times: list[int], size: tuple[int, int] = (64, 48), seed: int = 0) -> Path:
    """Write noise, shown at ``times`` (1/1000 s)."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for at in times:
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (size[1], size[0], 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = at, stream.time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def decoders() -> list[int]:
    """Return the processes that decode for this one."""
    zygote = processes._zygote
    assert zygote is not None
    task = Path(f"/proc/{zygote.process.pid}/task/{zygote.process.pid}/children")
    return [int(pid) for pid in task.read_text().split()]


def wait_until(holds: object, seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("frame_rate", [None, 6.25, 40.0])
@pytest.mark.parametrize("stretch", [(None, None), (0.5, 1.7)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_it_gives_what_a_video_gives(tmp_path: Path, frame_rate: float | None, stretch: tuple, suffix: str) -> None:
    uneven = [round(t) for t in np.cumsum(np.random.default_rng(1).choice([20, 40, 40, 600], 40))]
    path = write_video(tmp_path / f"clip{suffix}", [t - uneven[0] for t in uneven])
    asked = {"start": stretch[0], "end": stretch[1]}
    with Video(path, frame_rate, **asked) as there, IsolatedVideo(path, frame_rate, **asked) as apart:
        assert apart.info == there.info
        expected, found = list(there.timed()), list(apart.timed())
        assert [seconds for _, seconds in found] == [seconds for _, seconds in expected]
        assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(found, expected, strict=True))
        held = [[a is b for (a, _), (b, _) in pairwise(frames)] for frames in (found, expected)]
        assert held[0] == held[1]
        for name in ("notes", "end", "zero", "regular"):
            assert getattr(apart, name) == getattr(there, name)


@pytest.mark.parametrize("kind", ["text", "empty", "cut", "missing", "directory", "playlist"])
def test_what_is_wrong_with_a_file_is_said_in_the_same_words(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "clip.mp4"
    if kind == "cut":
        whole = write_video(tmp_path / "whole.mkv", list(range(0, 4000, 40)))
        path = tmp_path / "clip.mkv"
        path.write_bytes(whole.read_bytes()[:50_000])
    elif kind == "directory":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes({"text": b"no video", "empty": b"", "playlist": b"ffconcat version 1.0\nfile a.mp4"}[kind])

    def error(opened: type[Video] | type[IsolatedVideo]) -> str:
        with pytest.raises(InputError) as caught, opened(path) as read:
            assert read.info
            list(read)
        return str(caught.value)

    assert error(IsolatedVideo) == error(Video)


@pytest.mark.parametrize("head", ["ffconcat version 1.0\nfile {}\n", "#EXTM3U\n#EXTINF:3,\n{}\n#EXT-X-ENDLIST\n"])
def test_a_playlist_reaches_nothing(tmp_path: Path, head: str) -> None:
    other = write_video(tmp_path / "other.mp4", list(range(0, 400, 40)))
    listed = tmp_path / "list.mp4"
    listed.write_text(head.format(other.name))
    with pytest.raises(InputError, match="list of other files"):
        Video(listed)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the process in /proc")
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_decoder_that_dies_is_an_unusable_file(tmp_path: Path, number: signal.Signals) -> None:
    path = write_video(tmp_path / "clip.mp4", list(range(0, 4000, 40)))
    before = set(decoders()) if processes._zygote else set()
    with IsolatedVideo(path) as apart:
        frames = apart.timed()
        next(frames)
        (pid,) = set(decoders()) - before
        os.kill(pid, number)
        with pytest.raises(InputError, match=f"clip.mp4: FFmpeg was ended by {number.name} over it after .* s of it"):
            list(frames)
    with IsolatedVideo(path) as again:
        assert len(list(again)) == 100


@pytest.mark.skipif(sys.platform != "linux", reason="finds the process in /proc")
def test_a_decoder_that_stands_still_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "decode_seconds=0.4")
    path = write_video(tmp_path / "clip.mp4", list(range(0, 4000, 40)))
    with IsolatedVideo(path) as apart:
        frames = apart.timed()
        next(frames)
        (pid,) = decoders()
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(InputError, match="stood still"):
            list(frames)
    wait_until(lambda: not decoders())


@pytest.mark.skipif(sys.platform != "linux", reason="finds the process in /proc")
def test_memory_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "clip.mp4", [0, 40], (4096, 2304))  # four of which are 113 MB
    with IsolatedVideo(path) as apart:
        assert apart.info.size == (4096, 2304)
        (pid,) = decoders()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    monkeypatch.setenv(VARIABLE, f"decode_bytes={pages * os.sysconf('SC_PAGE_SIZE') - (80 << 20)}")
    with pytest.raises(InputError, match="memory"), IsolatedVideo(path) as apart:
        list(apart)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the process in /proc")
def test_nothing_is_left_of_a_reader_that_is_killed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", list(range(0, 4000, 40)))
    script = f"""
        import os, signal
        from signet_runtime.sources.isolation import processes
        from signet_runtime.sources.isolation.video import IsolatedVideo
        frames = IsolatedVideo({str(path)!r}).timed()
        next(frames)
        print(processes._zygote.process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    zygote = Path(f"/proc/{int(done.stdout)}/stat")
    wait_until(lambda: not zygote.exists() or zygote.read_text().split()[2] == "Z")


ATTEMPTS = {
    "another file": "open(other).read()",
    "a new file": "open(other + '.new', 'w')",
    "its own file, to write": "open(own, 'r+')",
    "a directory": "os.listdir(os.path.dirname(own))",
    "a socket": "socket.socket()",
    "a pair of other processes": "os.kill(os.getppid(), 0)",
    "a program": "os.execv(sys.executable, [sys.executable, '-c', ''])",
    "a child that runs one": "subprocess.run(['/bin/true'])",
}


@pytest.mark.skipif(sys.platform != "linux", reason="Landlock and seccomp are Linux's")
@pytest.mark.parametrize("what", ATTEMPTS)
def test_a_confined_process_reaches_nothing_but_its_file(tmp_path: Path, what: str) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    own.write_text("mine")
    other.write_text("secret")
    script = f"""
        import os, socket, subprocess, sys
        from pathlib import Path
        from signet_runtime.sources.isolation.sandbox import confine
        own, other = {str(own)!r}, {str(other)!r}
        confine(Path(own), 1 << 32)
        assert open(own).read() == "mine"
        try:
            {ATTEMPTS[what]}
        except PermissionError:
            print("refused")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert done.stdout == "refused\n", done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="Landlock and seccomp are Linux's")
def test_what_a_system_cannot_take_away_is_said(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", [0, 40])
    script = f"""
        import socket, threading, os
        from signet_runtime.sources.isolation import child, sandbox
        from signet_runtime.sources.isolation.channel import receive
        sandbox._LANDLOCK_CREATE, sandbox._CALLS = 0x7FFF, {{}}
        ours, theirs = socket.socketpair()
        pictures = os.memfd_create("pictures")
        arguments = (theirs, pictures, {str(path)!r}, None, None, None, None, 1 << 33)
        threading.Thread(target=child.decode, args=arguments, daemon=True).start()
        print(receive(ours)["notes"], flush=True)
        os._exit(0)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert "no Landlock" in done.stdout and "the network is not" in done.stdout, done.stderr


def say(patch: pytest.MonkeyPatch, said: bytes) -> None:
    """Put in the place of a process that decodes one that says these bytes, and no more."""

    def fork(_request: object, _pictures: int) -> tuple[socket.socket, int]:
        ours, theirs = socket.socketpair()
        theirs.sendall(said)
        theirs.close()
        status, told = os.pipe()
        os.close(told)
        return ours, status

    patch.setattr(video, "fork", fork)


def _message(told: object) -> bytes:
    text = json.dumps(told).encode()
    return len(text).to_bytes(4, "little") + text


_INFO = {
    "kind": "info",
    "notes": [],
    "until": 0,
    "fps": 25,
    "size": [4, 4],
    "num_frames": 1,
    "zero": 0,
    "regular": True,
}
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_TOLD = st.one_of(
    st.binary(max_size=64),
    _JSON.map(_message),
    st.dictionaries(st.sampled_from([*_INFO, "seconds", "message"]), _JSON).map(lambda d: _message({**_INFO, **d})),
    st.fixed_dictionaries({"kind": st.sampled_from(["picture", "again", "end", "memory"]), "seconds": _JSON}).map(
        _message
    ),
)


@settings(max_examples=300, deadline=None)
@given(words=st.lists(_TOLD, max_size=4), told=st.booleans())
def test_what_the_other_process_says_is_believed_as_a_file_would_be(words: list[bytes], told: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        say(patch, b"".join([_message(_INFO)] * told + words))
        with IsolatedVideo(EXAMPLE) as apart:
            try:
                for image in apart:
                    assert image.shape[2] == 3
            except InputError as error:
                assert str(error)


def test_the_command_goes_on_after_a_file_that_kills_its_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killer = tmp_path / "killer.mp4"
    killer.write_bytes(EXAMPLE.read_bytes())
    honest = video.fork

    def fork(request: dict, pictures: int) -> tuple[socket.socket, int]:
        connection, status = honest(request, pictures)
        if request["path"] == str(killer):
            wait_until(lambda: decoders())
            for pid in decoders():
                os.kill(pid, signal.SIGSEGV)
        return connection, status

    monkeypatch.setattr(video, "fork", fork)
    result = CliRunner().invoke(main, [str(killer), str(EXAMPLE), "--isolate", "-q"])
    assert result.exit_code == 3
    assert result.stdout.split() == ["music"]
    assert "killer.mp4: FFmpeg was ended by SIGSEGV over it" in result.stderr


def test_random_damage_ends_in_pictures_or_in_an_error(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "clip.mp4", list(range(0, 2000, 40))).read_bytes()
    draw = random.Random(5)
    for number in range(20):
        damaged = bytearray(whole)
        for _ in range(draw.randrange(1, 40)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path = tmp_path / f"damaged{number}.mp4"
        path.write_bytes(damaged)
        try:
            with IsolatedVideo(path) as apart:
                assert all(image.dtype == np.uint8 for image in apart)
        except InputError as error:
            assert str(path) in str(error)
