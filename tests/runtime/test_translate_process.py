"""`signet-translate` as a process of its own: signals, pipes, and what other libraries print."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_bundle import TinyBundle
from translate_command import Translate, WriteVideo, needs_dev_full

NOISY = """
import os, sys, time
sys.path.insert(0, {tests!r})
from signer import SIZE, perform
from tiny_bundle import FakeEstimator
import signet_runtime.translator as t
class Noisy(FakeEstimator):
    def estimate(self, frames, live=False):
        print("noise from Python")
        os.write(1, b"noise from C\\n")
        for number, pose in enumerate(super().estimate(frames)):
            if {wait} and number == 3:
                print("waiting", file=sys.stderr, flush=True)
                time.sleep(60)
            yield pose
t.load_estimator = lambda *a, **k: Noisy()
"""

# Where only the command around the translator matters: one that is there at once.
QUICK = """
import types
class Quick:
    def __init__(self, bundle, **options): pass
    bundle = types.SimpleNamespace(manifest=types.SimpleNamespace(max_frames=64))
    def sentences(self, path, **options): yield t.Translation("text", 0.0, 1.0, "mul", {}, "mediapipe", 1, {})
    def __enter__(self): return self
    def __exit__(self, *exc_info): pass
t.Translator = Quick
"""


def command(*arguments: object, wait: bool = False, quick: bool = False) -> list[str]:
    code = NOISY.replace("{tests!r}", repr(str(Path(__file__).parent))).replace("{wait}", str(wait))
    code += (QUICK if quick else "") + "from signet_runtime.commands.translate import main\nmain()"
    return [sys.executable, "-c", code, *map(str, arguments)]


def test_stdout_has_the_results_and_nothing_else(
    tiny: TinyBundle, translate: Translate, write_video: WriteVideo
) -> None:
    video = write_video("v.mp4")
    done = subprocess.run(command("--bundle", tiny.path, video), capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout == translate(video).stdout != "\n"
    assert "noise from Python" in done.stderr
    assert "noise from C" in done.stderr


def test_a_name_that_is_not_unicode(tiny: TinyBundle, clips: list[Path]) -> None:
    name = os.fsencode(clips[0].parent) + b"/caf\xe9.npz"
    try:
        clips[0].rename(os.fsdecode(name))
    except OSError:
        pytest.skip("the file system has only Unicode names")
    arguments = [*command("--bundle", tiny.path, "--format", "json", quick=True), name, b"missing \xe9.mp4"]
    done = subprocess.run(arguments, capture_output=True, check=False)
    assert done.returncode == 3
    found, failed = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert os.fsencode(found["input"]) == name
    assert "no such file" in failed["error"]
    assert b"Traceback" not in done.stderr


def test_interrupted(
    tiny: TinyBundle, clips: list[Path], texts: list[str], write_video: WriteVideo, tmp_path: Path
) -> None:
    video = write_video("v.mp4")
    arguments = command("--bundle", tiny.path, "-q", clips[0], video, "-o", tmp_path / "out.txt", wait=True)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = [process.stderr.readline() for _ in range(3)]
        assert said[-1] == "waiting\n", said
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (stdout, stderr) == ("", "signet-translate: interrupted\n")
    assert (tmp_path / "out.txt").read_text().splitlines() == texts[:1]  # what was done is kept
    assert not list(tmp_path.glob("*.part"))


def test_a_reader_that_leaves(tiny: TinyBundle, clips: list[Path]) -> None:
    with subprocess.Popen(
        command("--bundle", tiny.path, "-q", *clips, quick=True),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.close()
        stderr = process.stderr.read()
    assert (process.returncode, stderr) == (0, "")


@needs_dev_full
def test_a_full_standard_output(tiny: TinyBundle, clips: list[Path]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command("--bundle", tiny.path, "-q", *clips, quick=True),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 3
    assert done.stderr.startswith("signet-translate: error: standard output: cannot be written (No space left on")
    assert len(done.stderr.splitlines()) == 1


def test_a_closed_standard_output(tiny: TinyBundle, clips: list[Path]) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *command("--bundle", tiny.path, clips[0])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr == "signet-translate: error: standard output is closed; give -o FILE\n"
