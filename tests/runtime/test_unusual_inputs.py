"""What people give in place of a bundle, a keypoint file or a process: it works, or says in a line what does."""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from signet_runtime.bundle import Bundle
from signet_runtime.commands import doctor, translate
from signet_runtime.errors import BundleError, EngineError, InputError
from signet_runtime.forking import refuse_forked
from signet_runtime.pose.files import is_keypoints, read_keypoints
from signet_runtime.pose.sequence import PoseSequence


def test_an_archive_in_place_of_a_bundle_says_how(tmp_path: Path) -> None:
    archive = tmp_path / "german.signet"
    archive.write_bytes(b"\x28\xb5\x2f\xfd")
    with pytest.raises(
        BundleError, match=rf"not a bundle but a file, and a bundle is a directory; .* `tar --zstd -xf {archive}`"
    ):
        Bundle.load(archive)


def test_a_clip_of_a_pose_store_is_keypoints(tmp_path: Path) -> None:
    arrow = pytest.importorskip("signet_train.data.store.arrow")
    rng = np.random.default_rng(0)
    clips = {
        name: PoseSequence(rng.random((9, 133, 2)), np.ones((9, 133)), 25.0, (640, 480), "mediapipe")
        for name in ("a", "b.c", "d e#f")
    }
    with arrow.new_store(tmp_path / "poses.arrow") as store:
        for name, clip in clips.items():
            store.add(name, arrow.quantise(clip), "here")
    for name, clip in clips.items():
        location = tmp_path / f"poses.arrow#{name}"
        assert is_keypoints(location)
        found = read_keypoints(location)
        assert (found.fps, found.size, found.source) == (25.0, (640, 480), "mediapipe")
        np.testing.assert_allclose(found.keypoints, clip.keypoints, atol=1e-4)
    with pytest.raises(InputError, match=r"poses\.arrow: which clip of this pose store\? .*#ID is one"):
        read_keypoints(tmp_path / "poses.arrow")
    with pytest.raises(InputError, match="no such clip among the 3"):
        read_keypoints(tmp_path / "poses.arrow#nobody")
    with pytest.raises(InputError, match=r"none\.arrow: cannot be read"):
        read_keypoints(tmp_path / "none.arrow#a")


def test_a_pose_store_without_pyarrow_says_what_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "poses.arrow").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match=r"a pose store needs pyarrow: pip install pyarrow, or pip install .*train"):
        read_keypoints(tmp_path / "poses.arrow#a")


def _in_a_process(_: int) -> str:
    try:
        refuse_forked()
    except EngineError as error:
        return str(error)
    return "works"


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_processes_after_a_translator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signet_runtime.forking._first", None)
    refuse_forked()  # as a Translator does when it is made
    refuse_forked()
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        (said,) = pool.map(_in_a_process, [0])
    assert 'multiprocessing.get_context("spawn")' in said
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(_in_a_process, [0])) == ["works"]


@pytest.mark.parametrize("command", [translate.main, doctor.main])
def test_commands_tell_their_version(command: object) -> None:
    result = CliRunner().invoke(command, ["--version"])  # type: ignore[arg-type]
    assert result.exit_code == 0 and "version" in result.stdout
