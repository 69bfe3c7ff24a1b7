"""`signet-translate`: what is on stdout, what is on stderr, and the exit code, for good input and bad."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from signer import SIZE, perform
from tiny_bundle import NOTICE, FakeEstimator, TinyBundle, nobody, random_poses

from signet_runtime import translator as translator_module
from signet_runtime.commands.translate import main
from signet_runtime.pose.files import read_keypoints, write_keypoints
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.translator import Translator

Translate = Callable[..., Result]
WriteVideo = Callable[..., Path]

needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")


@pytest.fixture
def translate(tiny: TinyBundle, monkeypatch: pytest.MonkeyPatch) -> Translate:
    """Run the command on the tiny bundle; in every video somebody is seen to sign."""
    monkeypatch.setattr(translator_module, "load_estimator", lambda *args, **options: FakeEstimator())

    def run(*arguments: object, bundle: Path = tiny.path) -> Result:
        return CliRunner().invoke(main, ["--bundle", str(bundle), *map(str, arguments)])

    return run


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    """Keypoint files with different texts."""
    paths = [tmp_path / f"{seed}.npz" for seed in (0, 1, 2)]
    for seed, path in enumerate(paths):
        write_keypoints(path, random_poses(seed))
    return paths


@pytest.fixture(scope="module")
def texts(tiny: TinyBundle) -> list[str]:
    """What the clips say."""
    texts = [t.text for t in Translator.from_bundle(tiny.path).translate_poses([random_poses(s) for s in (0, 1, 2)])]
    assert len(set(texts)) > 1
    return texts


def the_error(result: Result) -> str:
    """The one line that the command may say about what went wrong."""
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if NOTICE not in line]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("signet-translate: error: ")
    return lines[0]


# --- Results ---


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


# --- Bad input ---


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


# --- Bad bundles and engines ---


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


# --- Bad output ---


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


# --- Usage ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.npz", "b.npz", "--format", "srt"], "holds the subtitles of one input"),
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


# --- A process of its own: signals, pipes, and what other libraries print ---

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
