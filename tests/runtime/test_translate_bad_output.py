"""`signet-translate` where nothing can be written: one line, and what was done is kept."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from translate_command import Translate, needs_dev_full, the_error

from signet_runtime.translator import Translator


@needs_dev_full
def test_a_full_device(translate: Translate, clips: list[Path]) -> None:
    result = translate(clips[0], "-o", "/dev/full")
    assert result.exit_code == 3
    assert "/dev/full: cannot be written (No space left on device)" in the_error(result)


def test_a_full_disk_leaves_nothing_half_written(
    translate: Translate, clips: list[Path], texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "out.txt").write_text("from before")
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(os, "fsync", full)
    result = translate(clips[0], "-o", tmp_path / "out.txt")
    assert result.exit_code == 3
    assert "out.txt: cannot be written (No space left on device)" in the_error(result)
    assert "what was done before is in out.txt.part" in the_error(result)
    result = translate(clips[0], "--keypoints-out", tmp_path / "k.npz")
    assert result.exit_code == 3
    assert "k.npz: cannot write the keypoints (No space left on device)" in the_error(result)
    result = translate(clips[0], "--keypoints-out", tmp_path / "k.npz", "--format", "json")
    assert "cannot write the keypoints" in json.loads(result.stdout)["error"]  # stdout is not what is full
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "out.txt.part"])
    assert (tmp_path / "out.txt").read_text() == "from before"
    assert (tmp_path / "out.txt.part").read_text().splitlines() == texts[:1]


def test_an_output_that_can_never_be_written_is_known_first(
    translate: Translate, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Translator, "__init__", lambda *a, **k: pytest.fail("loaded"))
    for option in ("-o", "--keypoints-out"):
        result = translate(clips[0], option, tmp_path / "nowhere" / "out.npz")
        assert result.exit_code == 3
        assert f"there is no directory {tmp_path / 'nowhere'}" in the_error(result)
