"""`signet-translate` on what cannot be read: one line, the right exit code, nothing half-written."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tiny_bundle import NOTICE, TinyBundle, nobody, random_poses
from translate_command import Translate, WriteVideo, the_error

from signet_runtime import translator as translator_module
from signet_runtime.commands.translate import main
from signet_runtime.pose.files import write_keypoints
from signet_runtime.translator import Translator


def text_file(tmp_path: Path, write_video: WriteVideo) -> Path:
    (tmp_path / "bad.mp4").write_text("this is not a video\n" * 100)
    return tmp_path / "bad.mp4"


def random_bytes(tmp_path: Path, write_video: WriteVideo) -> Path:
    (tmp_path / "bad.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    return tmp_path / "bad.mp4"


def empty_file(tmp_path: Path, write_video: WriteVideo) -> Path:
    (tmp_path / "bad.mp4").touch()
    return tmp_path / "bad.mp4"


def truncated_without_index(tmp_path: Path, write_video: WriteVideo) -> Path:
    video = write_video("bad.mp4", frames=50)
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    return video


def truncated_later(tmp_path: Path, write_video: WriteVideo) -> Path:
    video = write_video("bad.mkv", frames=100)
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    return video


def audio_only(tmp_path: Path, write_video: WriteVideo) -> Path:
    return write_video("bad.mp4", frames=0, sound=True)


def zero_frames(tmp_path: Path, write_video: WriteVideo) -> Path:
    import av

    with av.open(str(tmp_path / "bad.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        container.start_encoding()
    return tmp_path / "bad.avi"


def directory(tmp_path: Path, write_video: WriteVideo) -> Path:
    (tmp_path / "bad.mp4").mkdir()
    return tmp_path / "bad.mp4"


def missing(tmp_path: Path, write_video: WriteVideo) -> Path:
    return tmp_path / "bad.mp4"


def keypoints_of_nobody(tmp_path: Path, write_video: WriteVideo) -> Path:
    write_keypoints(tmp_path / "bad.npz", nobody())
    return tmp_path / "bad.npz"


def damaged_keypoints(tmp_path: Path, write_video: WriteVideo) -> Path:
    write_keypoints(tmp_path / "bad.npz", random_poses(0))
    (tmp_path / "bad.npz").write_bytes((tmp_path / "bad.npz").read_bytes()[:1000])
    return tmp_path / "bad.npz"


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("exploded",)


def pickle_that_runs_code(tmp_path: Path, write_video: WriteVideo) -> Path:
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps({"keypoints": Bomb(), "scores": []}))
    return tmp_path / "bad.pkl"


BAD_INPUTS = [
    (text_file, "not a video"),
    (random_bytes, "not a video"),
    (empty_file, "not a video"),
    (truncated_without_index, "not a video"),
    (truncated_later, "cut off or damaged"),
    (audio_only, "only sound in it, no video"),
    (zero_frames, "the video has no frames"),
    (directory, "is a directory"),
    (missing, "no such file"),
    (keypoints_of_nobody, "no person"),
    (damaged_keypoints, "damaged"),
    (pickle_that_runs_code, "refused"),
]


@pytest.mark.parametrize(("make", "reason"), BAD_INPUTS, ids=[make.__name__ for make, _ in BAD_INPUTS])
def test_bad_input_is_one_line_and_exit_code_3(
    translate: Translate,
    write_video: WriteVideo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path, WriteVideo], Path],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    bad = make(tmp_path, write_video)
    before = sorted(tmp_path.iterdir())
    result = translate(bad, "-o", tmp_path / "out.txt")
    assert result.exit_code == 3
    assert result.stdout == ""
    error = the_error(result)
    assert str(bad) in error
    assert reason in error
    assert sorted(tmp_path.iterdir()) == before  # nothing half-written


def test_no_person_in_any_frame(tiny: TinyBundle, write_video: WriteVideo) -> None:
    result = CliRunner().invoke(main, ["--bundle", str(tiny.path), str(write_video("empty street.mp4", frames=5))])
    assert result.exit_code == 3
    assert "empty street.mp4: no person found in any of the 5 frames" in the_error(result)
    assert result.stdout == ""


def test_others_are_done_when_one_input_fails(
    translate: Translate, clips: list[Path], texts: list[str], tmp_path: Path
) -> None:
    (tmp_path / "bad.mp4").write_text("no")
    inputs = [clips[0], tmp_path / "bad.mp4", clips[1], tmp_path / "missing.mp4", clips[2]]
    result = translate(*inputs)
    assert result.exit_code == 3
    assert result.stdout.split("\n") == [texts[0], "", texts[1], "", texts[2], ""]
    errors = [line for line in result.stderr.splitlines() if NOTICE not in line]
    assert ["bad.mp4" in errors[0], "missing.mp4" in errors[1], len(errors)] == [True, True, 2]

    objects = [json.loads(line) for line in translate(*inputs, "--format", "json").stdout.splitlines()]
    assert [found.get("text") for found in objects] == [texts[0], None, texts[1], None, texts[2]]
    assert "no such file" in objects[3]["error"]

    assert translate(*inputs, "-o", tmp_path / "out.txt").exit_code == 3
    assert (tmp_path / "out.txt").read_text() == result.stdout


def test_the_first_failure_gives_the_exit_code(
    translate: Translate, write_video: WriteVideo, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from signet_runtime.pose.estimators import load_estimator

    (tmp_path / "weights").mkdir()
    monkeypatch.setattr(translator_module, "load_estimator", load_estimator)
    video, absent = write_video("v.mp4"), tmp_path / "absent.mp4"
    rtmpose = ["--pose", "rtmpose", "--pose-weights", tmp_path / "weights"]
    result = translate(*rtmpose, video, absent, clips[0])
    assert result.exit_code == 5
    assert len(result.stdout.splitlines()) == 3
    assert translate(*rtmpose, absent, video).exit_code == 3
    assert "rtmpose-balanced" in the_error(translate(*rtmpose, video))


def test_nothing_is_loaded_for_inputs_that_are_not_there(
    translate: Translate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Translator, "__init__", lambda *a, **k: pytest.fail("loaded"))
    assert translate(tmp_path / "missing.mp4").exit_code == 3


def test_a_flipped_byte_in_the_bundle(translate: Translate, clips: list[Path], bundle_copy: Path) -> None:
    decoder = bundle_copy / "decoder_model.onnx"
    contents = bytearray(decoder.read_bytes())
    contents[5000] ^= 1
    decoder.write_bytes(contents)
    result = translate(*clips, bundle=bundle_copy)
    assert (result.exit_code, result.stdout) == (4, "")
    assert f"{decoder}: damaged" in the_error(result)


def test_verify_reads_the_contents_again(
    translate: Translate, clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from signet_runtime.bundle import Bundle

    checks = []
    monkeypatch.setattr(Bundle, "_check_hashes", lambda self: checks.append(1))
    for _ in range(2):
        assert translate(clips[0]).exit_code == 0
    assert len(checks) == 1
    assert translate(clips[0], "--verify").exit_code == 0
    assert len(checks) == 2


def test_an_unknown_schema_version(translate: Translate, clips: list[Path], bundle_copy: Path) -> None:
    manifest = bundle_copy / "signet.json"
    manifest.write_text(manifest.read_text().replace('"schema_version": 1', '"schema_version": 7'))
    result = translate(clips[0], bundle=bundle_copy)
    assert result.exit_code == 4
    assert "schema version 7, this signet-slt reads version 1" in the_error(result)


def test_a_bundle_that_is_not_there(translate: Translate, clips: list[Path], tmp_path: Path) -> None:
    result = translate(clips[0], bundle=tmp_path / "nothing")
    assert result.exit_code == 4
    assert "no such bundle" in the_error(result)


def test_a_device_that_is_not_there(translate: Translate, clips: list[Path]) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    result = translate(*clips, "--device", "cuda")
    assert (result.exit_code, result.stdout) == (5, "")
    assert "device cuda is not available" in the_error(result)
