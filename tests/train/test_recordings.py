"""Keypoints belong to a recording, by what is in it: another one of the same name does not get them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from signet_runtime.pose.files import read_keypoints, write_keypoints
from signet_runtime.pose.sequence import PoseSequence
from signet_train.cli import main
from signet_train.data.check import check_rows
from signet_train.data.extraction_plan import plan
from signet_train.data.manifest import Manifest, Row, read_manifest, write_manifest
from signet_train.data.recordings import identify, kept_with


def recording(path: Path, seed: int) -> Path:
    """A file that is as good as a video for whoever looks at its bytes only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.random.default_rng(seed).bytes(200_000 + seed))
    return path


def extracted(root: Path, video: Path, start: float | None = None, end: float | None = None) -> Manifest:
    """A manifest of one clip of a video, with the keypoints that extraction would have written."""
    row = Row(id="clip01", split="train", poses="poses/clip01.npz", text="x", language="de", sign_language="gsg")
    row = replace(row, video=str(video), start=start, end=end)
    poses = root / row.poses
    poses.parent.mkdir(parents=True, exist_ok=True)
    points = np.random.default_rng(0).random((5, 133, 2))
    sequence = PoseSequence(points, np.ones((5, 133)), 25.0, (64, 48), "mediapipe")
    write_keypoints(poses, sequence, identify(video, start, end).as_json())
    assert len(read_keypoints(poses)) == 5
    return Manifest([row], root)


def test_another_recording_of_the_same_name_is_named(tmp_path: Path) -> None:
    mine = extracted(tmp_path, recording(tmp_path / "mine" / "clip01.mp4", 1))
    other = recording(tmp_path / "other" / "clip01.mp4", 2)
    assert plan(mine).present == 1 and not plan(mine).failures
    theirs = Manifest([replace(mine.rows[0], video=str(other))], tmp_path)
    planned = plan(theirs)
    assert planned.present == 0 and not planned.jobs
    assert "keypoints of another recording, clip01.mp4 (200001 bytes)" in planned.failures[0].message
    assert "clip01.mp4 (200002 bytes)" in planned.failures[0].message
    assert len(plan(theirs, force=True).jobs) == 1
    (fault,) = check_rows([(tmp_path / "m.jsonl", theirs)], max_frames=100)
    assert fault.kind == "another recording" and "clip01.mp4 (200002 bytes)" in fault.message
    assert not check_rows([(tmp_path / "m.jsonl", mine)], max_frames=100)


def test_of_one_video_another_stretch_is_another_recording(tmp_path: Path) -> None:
    video = recording(tmp_path / "a.mp4", 3)
    manifest = extracted(tmp_path, video, start=1.0, end=2.0)
    moved = Manifest([replace(manifest.rows[0], end=2.5)], tmp_path)
    assert "from 1 s to 2 s" in plan(moved).failures[0].message


def test_a_recording_that_was_moved_and_renamed_is_itself(tmp_path: Path) -> None:
    video = recording(tmp_path / "a.mp4", 4)
    manifest = extracted(tmp_path, video)
    elsewhere = Path(shutil.move(video, tmp_path / "renamed.mp4"))
    assert plan(Manifest([replace(manifest.rows[0], video=str(elsewhere))], tmp_path)).present == 1
    # One that is not on this machine cannot be compared, and its keypoints serve.
    assert plan(Manifest([replace(manifest.rows[0], video=str(video))], tmp_path)).present == 1


def test_a_change_anywhere_near_the_ends_or_of_the_size_is_seen(tmp_path: Path) -> None:
    content = np.random.default_rng(5).bytes(300_000)
    found = set()
    for i, changed in enumerate((content, b"x" + content[1:], content[:-1] + b"x", content + b"x")):
        path = tmp_path / f"{i}.mp4"
        path.write_bytes(changed)
        found.add(identify(path, None, None).digest)
    assert len(found) == 4
    frames = tmp_path / "frames"
    frames.mkdir()
    (frames / "0.png").write_bytes(b"1")
    one = identify(frames, None, None)
    (frames / "1.png").write_bytes(b"22")
    two = identify(frames, None, None)
    assert one.is_other_than(two) and (one.bytes, two.bytes) == (1, 3)


def test_keypoints_that_do_not_tell_are_said_and_those_of_another_estimator_refused(tmp_path: Path) -> None:
    video = recording(tmp_path / "a.mp4", 6)
    manifest = extracted(tmp_path, video)
    assert "found by mediapipe, not rtmpose-x: take --pose" in plan(manifest, pose="rtmpose-x").failures[0].message
    poses = tmp_path / manifest.rows[0].poses
    write_keypoints(poses, read_keypoints(poses))  # as a version before this wrote them
    assert kept_with(poses).recording is None
    write_manifest(tmp_path / "m.jsonl", manifest.rows)
    assert read_manifest(tmp_path / "m.jsonl").rows
    result = CliRunner().invoke(main, ["extract-poses", str(tmp_path / "m.jsonl"), "--pose", "mediapipe"])
    assert result.exit_code == 0, result.output
    assert "1 keypoint files do not say which recording they are of" in result.stderr


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"not an archive at all"])
def test_damaged_keypoints_say_nothing_of_themselves(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(damage)
    kept = kept_with(tmp_path / "a.npz")
    assert (kept.recording, kept.source) == (None, None)
