"""Keypoints in HDF5, as the reader of the paper's authors lays them out, and what is no such file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from signet_runtime.errors import InputError
from signet_runtime.pose import hdf5
from signet_runtime.pose.files import read_keypoints

h5py = pytest.importorskip("h5py")

FRAMES = 5


def content() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.uniform(0.1, 0.9, (FRAMES, 133, 2)).astype("f4"), rng.uniform(0.4, 1, (FRAMES, 133)).astype("f4")


def write(path: Path, change: Callable[[Any], None] = lambda file: None, scale: float = 1) -> Path:
    keypoints, scores = content()
    with h5py.File(path, "w") as file:
        file.attrs["num_frames"] = FRAMES
        file["keypoints"] = keypoints * scale
        file["keypoint_scores"] = scores
        change(file)
    return path


def test_row_t_is_frame_t(tmp_path: Path) -> None:
    clip, (keypoints, scores) = read_keypoints(write(tmp_path / "a.h5")), content()
    np.testing.assert_allclose(clip.keypoints, keypoints, atol=1e-6)
    np.testing.assert_allclose(clip.scores, scores, atol=1e-6)
    assert (clip.fps, clip.size, clip.source) == (25.0, (1, 1), "rtmpose")


def test_pixels_need_the_frames_size(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.h5: its keypoints are pixels and it has no 'w_h'"):
        read_keypoints(write(tmp_path / "a.h5", scale=500))
    file = write(tmp_path / "b.h5", lambda file: file.attrs.update(width=500, height=500), scale=500)
    np.testing.assert_allclose(read_keypoints(file).keypoints, content()[0], atol=1e-5)


def _set(name: str, value: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        if name in file:
            del file[name]
        if value is not None:
            file[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.attrs.pop("num_frames"), "no attribute 'num_frames'"),
        (lambda file: file.attrs.update(num_frames="many"), "no attribute 'num_frames'"),
        (lambda file: file.attrs.update(num_frames=0), "num_frames is 0"),
        (lambda file: file.attrs.update(num_frames=3), "'keypoints' has 5 rows and num_frames is 3"),
        (_set("keypoints", None), "no 'keypoints'"),
        (_set("keypoint_scores", np.zeros((FRAMES, 17), "f4")), r"'keypoint_scores' has the shape \(5, 17\)"),
        (_set("keypoint_scores", np.zeros((FRAMES, 133), "i4")), "of int32"),
        (_set("keypoints", np.full((FRAMES, 133, 2), np.nan, "f4")), "NaN"),
        (_set("keypoints", h5py.ExternalLink("other.h5", "/keypoints")), "is not an array in this file"),
        (_set("keypoints", h5py.SoftLink("/keypoint_scores")), "is not an array in this file"),
    ],
)
def test_a_file_that_is_none_is_one_line(tmp_path: Path, change: Callable[[Any], None], message: str) -> None:
    write(tmp_path / "other.h5")
    with pytest.raises(InputError, match=message) as error:
        read_keypoints(write(tmp_path / "a.h5", change))
    assert str(error.value).startswith(str(tmp_path / "a.h5")) and "\n" not in str(error.value)


def test_what_is_in_another_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(FRAMES * 133 * 2 * 4))

    def change(file: Any) -> None:
        del file["keypoints"]
        shape, everything = (FRAMES, 133, 2), [(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("keypoints", shape, "f4", external=everything)

    with pytest.raises(InputError, match="is not an array in this file"):
        read_keypoints(write(tmp_path / "a.h5", change))


@pytest.mark.parametrize("cut", [0, 100, -200])
def test_a_damaged_file_is_one_line(tmp_path: Path, cut: int) -> None:
    file = write(tmp_path / "a.h5")
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"a\.h5: not an HDF5 file, or a damaged one"):
        read_keypoints(file)


def test_without_h5py_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(InputError, match="pip install h5py"):
        hdf5.read_hdf5(write_without(tmp_path))


def write_without(tmp_path: Path) -> Any:
    (tmp_path / "a.h5").touch()
    return (tmp_path / "a.h5").open("rb")
