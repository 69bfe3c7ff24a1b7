"""SignVerse-2M's archives: streamed into a pose store, every cue a clip, whatever one of them is like."""

from __future__ import annotations

import io
import logging
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from signet_runtime.errors import InputError
from signet_runtime.pose.shards import ShardedStore
from signet_train.data.datasets.signverse import read
from signet_train.data.datasets.signverse_poses import read_video
from signet_train.data.manifest import Row
from signet_train.data.poses import load_poses

IDS = ("aaaaaaaaaaa", "bbbbbbbbbbb", "ccccccccccc")
PARTS = {"body": 18, "face": 68, "left_hand": 21, "right_hand": 21}
VTT = "WEBVTT\n\n00:00:00.500 --> 00:00:01.500\n{first}\n\n00:00:02.000 --> 00:00:03.000\n{second}\n"


def frame(number: int, people: int = 1) -> dict[str, np.ndarray]:
    """As the authors' pipeline saves it, with every joint at a place that tells which it is."""
    payload = {"num_persons": np.int32(people), "frame_width": np.int32(640), "frame_height": np.int32(360)}
    payload = {name: np.asarray(value) for name, value in payload.items()}
    for person in range(people):
        for k, (part, joints) in enumerate(PARTS.items()):
            points = np.stack([np.arange(joints) / 100 + 0.1, np.full(joints, 0.1 * (k + 1) + number / 1e4)], axis=1)
            payload[f"person_{person:03}_{part}_keypoints"] = points.astype(np.float32)
            payload[f"person_{person:03}_{part}_scores"] = np.full(joints, 1.4 if part == "face" else 0.9, np.float32)
    return payload


def poses(frames: list[dict], fps: int = 24) -> bytes:
    sink = io.BytesIO()
    np.savez(
        sink,
        video_id=np.asarray("x"),
        fps=np.asarray(fps, np.int32),
        total_frames=np.asarray(len(frames), np.int32),
        frame_widths=np.full(len(frames), 640, np.int32),
        frame_heights=np.full(len(frames), 360, np.int32),
        frame_indices=np.arange(1, len(frames) + 1, dtype=np.int32),
        frame_payloads=np.asarray(frames, dtype=object),
    )
    return sink.getvalue()


def archive(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def video(name: str, language: str, frames: list[dict] | None = None, first: str = "Regen") -> dict[str, bytes]:
    made = [frame(n) for n in range(80)] if frames is None else frames
    return {
        f"{name}/captions/{name}.{language}.vtt": VTT.format(first=first, second="Sonne").encode(),
        f"{name}/npz/poses.npz": poses(made),
        f"{name}/npz/.complete": b"",
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    lines = [
        "video_id,sign_language,title,split",
        f"{IDS[0]},gsg,x,train",
        f"{IDS[1]},lsf,y,val",
        f"{IDS[2]},ase,,test",
    ]
    (tmp_path / "SignVerse-2M-metadata_split.csv").write_text("\n".join(lines))
    archive(tmp_path / "dataset" / "Sign_DWPose_NPZ_000001.tar", {**video(IDS[0], "de"), **video(IDS[1], "fr")})
    return tmp_path


def test_every_cue_is_a_clip_of_the_store(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = read(root)
    assert [(r.id, r.split, r.text, r.language, r.sign_language) for r in rows] == [
        (f"{IDS[0]}-500-1500", "train", "Regen", "de", "gsg"),
        (f"{IDS[0]}-2000-3000", "train", "Sonne", "de", "gsg"),
        (f"{IDS[1]}-500-1500", "dev", "Regen", "fr", "fsl"),
        (f"{IDS[1]}-2000-3000", "dev", "Sonne", "fr", "fsl"),
    ]
    assert "CC BY-NC 4.0" in caplog.text
    clip = load_poses(rows[0].poses, root)
    assert (len(clip), clip.fps, clip.size, clip.source) == (24, 24.0, (640, 360), "rtmpose")
    number = 12  # half a second in
    # nose, left shoulder (OpenPose's 5), right wrist (its 4); face, hands
    expected = {0: (0, 0), 5: (0, 5), 10: (0, 4), 23: (1, 0), 90: (1, 67), 91: (2, 0), 132: (3, 20)}
    for joint, (part, place) in expected.items():
        wanted = (place / 100 + 0.1, 0.1 * (part + 1) + number / 1e4)
        np.testing.assert_allclose(clip.keypoints[0, joint], wanted, atol=1e-4)
    np.testing.assert_allclose(clip.scores[0, [0, 30]], [0.9, 1.0], atol=1e-4)
    assert clip.scores[0, 17:23].max() == 0  # feet, which DWPose's bodies have not


def test_it_goes_on_where_it_was_and_reads_nothing_twice(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = read(root)
    before = sorted((root / "signverse.arrow").iterdir())
    from signet_train.data.datasets import signverse

    read_before: list[int] = []
    real = signverse.read_video
    monkeypatch.setattr(signverse, "read_video", lambda data: read_before.append(1) or real(data))
    archive(root / "dataset" / "Sign_DWPose_NPZ_000002.tar", video(IDS[2], "en"))
    again = read(root)
    assert again[:4] == rows and len(again) == 6 and len(read_before) == 1
    assert set(before) < set((root / "signverse.arrow").iterdir())
    assert len(ShardedStore(root / "signverse.arrow")) == 6


@pytest.mark.parametrize("keep", [600, 5000, 60_000])
def test_an_archive_that_was_cut_off_is_named_and_the_rest_is_read(
    root: Path, keep: int, caplog: pytest.LogCaptureFixture
) -> None:
    cut = root / "dataset" / "Sign_DWPose_NPZ_000001.tar"
    os.truncate(cut, keep)
    archive(root / "dataset" / "Sign_DWPose_NPZ_000002.tar", video(IDS[2], "en"))
    with caplog.at_level(logging.WARNING):
        rows = read(root)
    assert [row.id.split("-")[0] for row in rows] == [IDS[2]] * 2
    assert f"{cut}" in caplog.text and "left out: 1 archives that are damaged" in caplog.text


def test_what_cannot_be_used_is_counted(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    nobody = [frame(n, people=0) for n in range(40)] + [frame(n) for n in range(40, 80)]
    members = {
        **video(IDS[2], "en", nobody),
        **video("ddddddddddd", "en"),
        "eeeeeeeeeee/captions/eeeeeeeeeee.en.vtt": b"WEBVTT\n",
        "../../fffffffffff/npz/poses.npz/../x": b"out",
    }
    archive(root / "dataset" / "Sign_DWPose_NPZ_000002.tar", members)
    archive(root / "dataset" / "Sign_DWPose_NPZ_000003.tar", video(IDS[0], "en", first="a translation"))
    rows = read(root)
    assert [row.id for row in rows][4:] == [f"{IDS[2]}-2000-3000"]
    for said in (
        "1 cues without anybody in their frames",
        "2 videos that are not listed",
        "1 videos without captions in the language where they are signed",
    ):
        assert f"left out: {said}" in caplog.text
    assert not (root.parent / "fffffffffff").exists()


class _Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def test_nothing_in_a_pickle_is_called(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="refused, its pickle asks for"):
        read_video(poses([{"num_persons": _Malicious()}]))  # type: ignore[dict-item]
    assert not (tmp_path / "executed").exists()
    for damaged in (b"", b"PK", poses([frame(0)])[:2000], pickle.dumps(frame(0))):
        with pytest.raises(InputError) as raised:
            read_video(damaged)
        assert "\n" not in str(raised.value)


def test_missing_parts_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="SignVerse-2M-metadata"):
        read(tmp_path)
    (tmp_path / "SignVerse-2M-metadata_ori.csv").write_text(f"{IDS[0]},gsg\n")
    with pytest.raises(InputError, match="no archive"):
        read(tmp_path)
    (tmp_path / "SignVerse-2M-metadata_ori.csv").write_text("x,gsg\n")
    with pytest.raises(InputError, match="line 1: not a video id"):
        read(tmp_path)


def test_without_splits_they_are_by_video(root: Path) -> None:
    (root / "SignVerse-2M-metadata_split.csv").unlink()
    (root / "SignVerse-2M-metadata_processed.csv").write_text(f"video_id,sign_language\n{IDS[0]},gsg\n")
    rows: list[Row] = read(root)
    assert len(rows) == 2 and len({row.split for row in rows}) == 1
