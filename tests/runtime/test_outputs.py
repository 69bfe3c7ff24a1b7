"""Output files: the formats' grammar, and whole or not at all."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from signet_runtime.directories import whole_directory
from signet_runtime.errors import InputError, OutputError
from signet_runtime.files import GrowingFile, check_writable, whole_file
from signet_runtime.outputs.json_lines import error_to_json, to_json
from signet_runtime.outputs.results import Results
from signet_runtime.outputs.subtitles import Subtitles
from signet_runtime.translator import Translation


def says(text: str, start: float = 0.0, end: float = 1.5, *, complete: bool = True) -> Translation:
    return Translation(text, start, end, "en", {"ase": 1.0}, "mediapipe", 30, {"encoder": 0.1}, complete)


def test_srt() -> None:
    cues = [says("Hello", 0, 1.5), says("", 1.5, 2), says("two\n\nlines --> here", 3661.0014, 3661.9996)]
    subtitles = Subtitles("srt")
    assert "".join(map(subtitles.cue, cues)) == (
        "1\n00:00:00,000 --> 00:00:01,500\nHello\n\n2\n01:01:01,001 --> 01:01:02,000\ntwo lines -> here\n"
    )


def test_vtt() -> None:
    subtitles = Subtitles("vtt")
    cues = [says(""), says("a < b & c"), says("café", 1.5, 360000)]
    assert "".join(map(subtitles.cue, cues)) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\na &lt; b &amp; c\n\n00:00:01.500 --> 100:00:00.000\ncafé\n"
    )


@pytest.mark.parametrize(("form", "alone"), [("text", True), ("text", False), ("json", True), ("srt", True)])
def test_results_are_written_as_they_come(form: str, alone: bool) -> None:
    to = io.StringIO()
    results = Results(form, to)
    grown = []
    for translation in (says("one"), says("tw", complete=False), says("two\nlines")):
        results.add("a.mp4", translation)
        grown.append(to.getvalue())
    results.fail("b.mp4", InputError("no"), alone=alone)
    assert grown[1] == grown[0] or form == "json"  # what is not complete is for JSON alone
    lines = to.getvalue().split("\n")
    if form == "text":
        assert lines == ["one", "two lines", ""] + [""] * (not alone)
    elif form == "json":
        assert [json.loads(line).get("complete") for line in lines[:-1]] == [True, False, True, None]
    else:
        assert lines.count("1") == lines.count("2") == 1


def test_a_growing_file_has_its_name_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text("from before")
    file = GrowingFile(tmp_path / "out.txt")
    file.write("one\n")
    assert (tmp_path / "out.txt").read_text() == "from before"
    assert (tmp_path / "out.txt.part").read_text() == "one\n"  # also for whoever kills this process now
    assert file.finish()
    assert (tmp_path / "out.txt").read_text() == "one\n"
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]


def test_a_growing_file_that_was_not_used_is_none(tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text("from before")
    assert not GrowingFile(tmp_path / "out.txt").finish()
    assert (tmp_path / "out.txt").read_text() == "from before"
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX resource limits")
def test_a_growing_file_keeps_whole_lines_when_the_disk_is_full(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from pathlib import Path
from signet_runtime.files import GrowingFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = GrowingFile(Path("out.txt"))
file.write("one\\n")
resource.setrlimit(resource.RLIMIT_FSIZE, (6, 6))
try:
    file.write("two and three\\n")
except Exception as error:
    print(error)
file.finish()
"""
    said = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "out.txt: cannot be written (File too large)" in said.stdout
    assert "what was done before is in out.txt.part" in said.stdout
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out.txt.part", "one\n")]


def test_json_has_every_field_in_one_readable_line() -> None:
    line = to_json("né à.mp4", says("你好\n"))
    assert "\n" not in line
    assert "你好" in line
    assert json.loads(line) == {
        "input": "né à.mp4",
        "text": "你好\n",
        "start": 0.0,
        "end": 1.5,
        "language": "en",
        "routing": {"ase": 1.0},
        "pose_source": "mediapipe",
        "frames": 30,
        "timings": {"encoder": 0.1},
        "complete": True,
        "notes": [],
        "log_prob": None,
        "reliability": None,
        "pieces": [],
        "alternatives": [],
        "suppressed": False,
    }
    assert json.loads(error_to_json("a.mp4", "no")) == {"input": "a.mp4", "error": "no"}


def test_whole_file_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    path.write_text("before")
    with whole_file(path) as temporary:
        temporary.write_text("after")
        assert temporary.suffix == ".npz"
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


def test_whole_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    with whole_file(tmp_path / "ours") as temporary:
        temporary.touch()
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "any").stat().st_mode)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_whole_file_leaves_what_was_there_when_it_fails(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "out.txt"
    path.write_text("before")
    with pytest.raises(error), whole_file(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_whole_file_on_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with pytest.raises(OutputError, match=r"out\.txt: cannot be written \(No space left on device\)"), whole_file(path):
        raise OSError(28, os.strerror(28))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_whole_file_on_a_full_device() -> None:
    with (
        pytest.raises(OutputError, match="/dev/full: cannot be written"),
        whole_file(Path("/dev/full")) as device,
        device.open("w") as file,
    ):
        file.write("text")


def test_whole_file_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("before")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    with whole_file(tmp_path / "link.txt") as temporary:
        temporary.write_text("after")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "after"


def test_whole_file_is_written_through_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.txt"
    path.write_text("before")
    write = Path.write_text

    def full(self: Path, text: str) -> None:
        write(self, text[:2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError) as raised, whole_file(path, "has no room ({})") as temporary:
        temporary.write_text("after")
    assert str(raised.value) == f"{path}: has no room (No space left on device)"
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_results_have_the_mode_that_the_user_wants(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with whole_file(tmp_path / "file") as temporary:
            temporary.touch()
        with whole_directory(tmp_path / "directory") as draft:
            (draft / "file").touch()
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    files = {tmp_path / "file", tmp_path / "directory" / "file"}
    assert modes == {tmp_path / "directory": 0o777 & ~mask, **dict.fromkeys(files, 0o666 & ~mask)}


def test_what_cannot_be_written_is_known_before(tmp_path: Path) -> None:
    check_writable(tmp_path / "new.txt")
    check_writable(Path("new.txt"))
    with pytest.raises(OutputError, match="is a directory"):
        check_writable(tmp_path)
    with pytest.raises(OutputError, match="there is no directory"):
        check_writable(tmp_path / "missing" / "new.txt")
