"""`signet-translate`: what is on stdout, what is on stderr, and what its options do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from signer import SIZE, perform
from tiny_bundle import NOTICE, FakeEstimator, TinyBundle, random_poses
from translate_command import Translate, WriteVideo, the_error

from signet_runtime import translator as translator_module
from signet_runtime.commands.translate import main
from signet_runtime.pose.files import read_keypoints, write_keypoints
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.translator import Translator


def test_text_is_one_line_an_input_in_order(translate: Translate, clips: list[Path], texts: list[str]) -> None:
    result = translate(*clips)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == texts
    assert translate(*clips[::-1]).stdout.splitlines() == texts[::-1]


def test_json_is_one_object_an_input(translate: Translate, clips: list[Path], texts: list[str]) -> None:
    result = translate(*clips, "--format", "json")
    objects = [json.loads(line) for line in result.stdout.splitlines()]
    assert [found["text"] for found in objects] == texts
    assert [found["input"] for found in objects] == [str(clip) for clip in clips]
    assert objects[0]["routing"] == {"ase": 0.75, "gsg": 0.25, "csl": 0.0}
    assert (objects[0]["start"], objects[0]["end"], objects[0]["language"]) == (0.0, 1.2, "mul")
    assert objects[0]["pose_source"] == "mediapipe"
    assert set(objects[0]["timings"]) == {"pose", "regions", "encoder", "decoder", "last_frame_to_text"}


def test_subtitles(translate: Translate, clips: list[Path], texts: list[str]) -> None:
    assert translate(clips[0], "--format", "srt").stdout == f"1\n00:00:00,000 --> 00:00:01,200\n{texts[0]}\n"
    assert translate(clips[0], "--format", "vtt").stdout == f"WEBVTT\n\n00:00:00.000 --> 00:00:01.200\n{texts[0]}\n"


def test_output_file_instead_of_stdout(
    translate: Translate, clips: list[Path], texts: list[str], tmp_path: Path
) -> None:
    result = translate(*clips, "-o", tmp_path / "out.txt")
    assert (result.exit_code, result.stdout) == (0, "")
    assert (tmp_path / "out.txt").read_text().splitlines() == texts
    assert {path.name for path in tmp_path.iterdir()} == {"0.npz", "1.npz", "2.npz", "out.txt"}


def test_a_video_and_its_keypoints_say_the_same(translate: Translate, write_video: WriteVideo, tmp_path: Path) -> None:
    video = write_video("with space é 手.mp4", frames=30)
    result = translate(video, "--keypoints-out", tmp_path / "k.npz")
    assert result.exit_code == 0
    assert result.stdout.strip()
    assert len(read_keypoints(tmp_path / "k.npz")) == 30
    assert translate(tmp_path / "k.npz").stdout == result.stdout


def test_a_long_recording_is_a_line_a_sentence(translate: Translate, tiny: TinyBundle, tmp_path: Path) -> None:
    frames = list(perform([("sign", 2), ("rest", 1.5), ("sign", 1), ("rest", 1.5), ("sign", 2)], 25.0))
    long = PoseSequence([f.keypoints for f in frames], [f.scores for f in frames], 25.0, SIZE, "mediapipe")
    write_keypoints(tmp_path / "long.npz", long)  # longer than twice the 64 frames that the tiny bundle reads
    said = [json.loads(line) for line in translate(tmp_path / "long.npz", "--format", "json").stdout.splitlines()]
    assert [s["start"] for s in said] == pytest.approx([0, 3.5, 6], abs=0.3)
    assert translate(tmp_path / "long.npz").stdout.splitlines() == [" ".join(s["text"].split()) for s in said]
    assert translate(tmp_path / "long.npz", "--format", "srt").stdout.count(" --> ") == sum(
        bool(s["text"]) for s in said
    )
    assert len(translate(tmp_path / "long.npz", "--rest", 5, "--pause", 5, "--cut", "always").stdout.splitlines()) >= 3
    assert len(translate(tmp_path / "long.npz", "--cut", "never").stdout.splitlines()) == 1
    short = tmp_path / "short.npz"
    write_keypoints(short, long.take(np.arange(110)))
    assert len(translate(short).stdout.splitlines()) == 1
    assert len(translate(short, "--cut", "always").stdout.splitlines()) == 2
    partial = translate(short, "--cut", "always", "--partial", 0.5, "--format", "json").stdout.splitlines()
    assert sorted({json.loads(line)["complete"] for line in partial}) == [False, True]
    shown = translate(short, "--cut", "always", "--partial", 0.5)
    assert len(shown.stdout.splitlines()) == 2
    assert any(line.startswith("… ") for line in shown.stderr.splitlines())


def test_hands_that_never_move(translate: Translate, tmp_path: Path) -> None:
    frames = list(perform([("rest", 6)], 25.0))
    still = PoseSequence([f.keypoints for f in frames], [f.scores for f in frames], 25.0, SIZE, "mediapipe")
    write_keypoints(tmp_path / "still.npz", still)
    result = translate(tmp_path / "still.npz")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "nobody signs in it" in the_error(result)


def test_a_camera_by_any_name(translate: Translate, write_video: WriteVideo) -> None:
    video = write_video("v.mp4", frames=40)
    live = translate("--camera", video, "--format", "json")
    assert live.exit_code == 0
    assert [json.loads(line)["input"] for line in live.stdout.splitlines()] == [str(video)]
    assert "96x64; Ctrl-C ends it" in live.stderr
    gone = translate("--camera", "97")
    assert gone.exit_code == 3
    assert "camera 97: there is no /dev/video97" in the_error(gone)


def test_one_frame_is_enough(translate: Translate, write_video: WriteVideo) -> None:
    result = translate(write_video("one.mp4", frames=1), "--format", "json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["frames"] == 1


def test_ten_minutes_that_are_not_to_be_cut_are_thinned_and_say_so(
    translate: Translate, write_video: WriteVideo
) -> None:
    video = write_video("long.mp4", frames=600 * 2, fps=2, size=(48, 32))
    result = translate(video, "--format", "json", "--cut", "never")
    assert result.exit_code == 0
    translation = json.loads(result.stdout)
    assert translation["frames"] == 64  # all that the tiny bundle takes
    assert translation["end"] == pytest.approx(600, abs=0.5)
    assert "1200 frames thinned to the 64" in result.stderr


def test_the_bundle_is_loaded_once(translate: Translate, clips: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    make = Translator.__init__
    monkeypatch.setattr(Translator, "__init__", lambda self, *a, **k: (made.append(1), make(self, *a, **k))[1])
    assert translate(*clips).exit_code == 0
    assert len(made) == 1


def test_beams(translate: Translate, tiny: TinyBundle, clips: list[Path]) -> None:
    greedy = [t.text for t in Translator.from_bundle(tiny.path, num_beams=1).translate_poses([random_poses(0)])]
    assert translate(clips[0], "--beams", 1).stdout.splitlines() == greedy


def test_notes_are_on_stderr_unless_quiet(translate: Translate, tmp_path: Path) -> None:
    write_keypoints(tmp_path / "long.npz", random_poses(0, frames=100))
    loud, quiet = translate(tmp_path / "long.npz"), translate(tmp_path / "long.npz", "--quiet")
    notice, thinned = loud.stderr.splitlines()
    assert notice == f"signet-translate: warning: {NOTICE}"
    assert thinned.startswith(f"signet-translate: warning: {tmp_path / 'long.npz'}: 100 frames thinned to the 64")
    assert quiet.stderr == ""
    assert loud.stdout == quiet.stdout != ""


def test_options_reach_the_translator(
    translate: Translate, write_video: WriteVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load(*arguments: object, **options: object) -> FakeEstimator:
        asked.append((arguments, options))
        return FakeEstimator()

    monkeypatch.setattr(translator_module, "load_estimator", load)
    video = write_video("v.mp4")
    assert (
        translate(video, "--pose", "rtmpose", "--pose-weights", "there", "--detect-every", 4, "--offline").exit_code
        == 0
    )
    assert translate(video).exit_code == 0
    monkeypatch.setenv("SIGNET_OFFLINE", "1")
    assert translate(video).exit_code == 0
    assert [names for names, _ in asked] == [("rtmpose", "mediapipe"), ("auto", "mediapipe"), ("auto", "mediapipe")]
    chosen = {"offline": True, "device": "cpu", "weights": Path("there"), "detect_every": 4, "signer": "active"}
    default = {"offline": False, "device": "cpu", "weights": None, "detect_every": None, "signer": "active"}
    assert [options for _, options in asked] == [chosen, default, {**default, "offline": True}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.npz", "b.npz", "--format", "srt"], "holds one input"),
        (["a.npz", "b.npz", "--format", "eaf"], "holds one input"),
        (["a.npz", "-o", "a.txt", "--output-dir", "b"], "and not both"),
        (["--camera", "0", "--output-dir", "b"], "give -o FILE with --camera"),
        (["a.npz", "--overlay", "a.mp4"], "keypoints alone has none"),
        (["a.mp4", "--overlay", "b.avi"], "must end in .mp4, .mov, .mkv"),
        (["a.mp4", "b.mp4", "--overlay", "c.mp4"], "is the video of one input"),
        (["a.mp4", "--overlay", "./a.mp4"], "is an input and would be overwritten"),
        (["a.mp4", "--min-confidence", "1.5"], "--min-confidence"),
        (["a.mp4", "b.mp4", "--jobs", "2", "--partial", "1"], "shows nothing before a file is done"),
        (["a.npz", "b.npz", "--keypoints-out", "k.npz"], "holds the keypoints of one input"),
        (["a.npz", "--keypoints-out", "k.pkl"], "must end in .npz"),
        (["a.mp4", "-o", "a.mp4"], "is an input and would be overwritten"),
        (["a.npz", "--keypoints-out", "./a.npz"], "is an input and would be overwritten"),
        (["a.npz", "--beams", "0"], "--beams"),
        (["a.npz", "--pose", "openpose"], "--pose"),
        ([], "Give INPUT, or --camera"),
        (["a.npz", "--camera", "0"], "and not both"),
        (["a.npz", "--pause", "0"], "--pause"),
        (["a.mp4", "--pose", "mediapipe", "--detect-every", "2"], "is RTMPose's"),
        (["a.npz", "--cut", "often"], "--cut"),
    ],
)
def test_usage_errors(translate: Translate, arguments: list[str], message: str) -> None:
    result = translate(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_help_teaches() -> None:
    help_text = CliRunner().invoke(main, ["--help"]).stdout
    for word in ("Examples:", "Exit codes:", "signet-translate video.mp4", "130", "--keypoints-out", "signet-doctor"):
        assert word in help_text
