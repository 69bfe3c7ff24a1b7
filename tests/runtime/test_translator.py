"""From any kind of clip to a `Translation`, and what is said when a clip cannot be one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundle import NOTICE, FakeEstimator, TinyBundle, nobody, random_poses

from signet_runtime import translator as translator_module
from signet_runtime.bundle import Bundle
from signet_runtime.commands.translate import main
from signet_runtime.errors import EngineError, InputError
from signet_runtime.options import DEFAULTS, TranslatorOptions
from signet_runtime.pose.files import read_keypoints, write_keypoints
from signet_runtime.sentences.segmenter import PosedFrame
from signet_runtime.translator import Translator


@pytest.fixture(scope="module")
def translator(tiny: TinyBundle) -> Translator:
    return Translator.from_bundle(tiny.path)


def test_a_translation_says_all_about_itself(translator: Translator) -> None:
    translation = translator.translate(random_poses(0, frames=30, fps=25.0))
    assert translation.text
    assert (translation.start, translation.end) == (0.0, 1.2)
    assert translation.language == "mul"
    assert translation.routing == {"ase": 0.75, "gsg": 0.25, "csl": 0.0}
    assert translation.pose_source == "mediapipe"
    assert translation.frames == 30
    assert set(translation.timings) == {"regions", "encoder", "decoder"}


def test_different_clips_have_different_texts(translator: Translator) -> None:
    assert len({translator.translate(random_poses(seed)).text for seed in range(6)}) > 1


def test_a_batch_is_what_its_clips_are_alone(translator: Translator) -> None:
    clips = [random_poses(seed, frames) for seed, frames in enumerate([30, 1, 12, 50])]
    together = translator.translate_poses(clips)
    alone = [translator.translate(clip) for clip in clips]
    plain = {"timings": {}, "log_prob": 0.0, "pieces": ()}
    assert [replace(t, **plain) for t in together] == [replace(t, **plain) for t in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.log_prob == pytest.approx(other.log_prob, abs=1e-4)
        assert [piece.text for piece in one.pieces] == [piece.text for piece in other.pieces]


def test_keypoints_are_put_on_the_models_clock(translator: Translator) -> None:
    fast = random_poses(0, frames=60, fps=50.0)
    translation = translator.translate(fast)
    assert translation.frames == 30  # the bundle's clock is at 25
    assert translation.end == 1.2
    assert translation.text == translator.translate(fast.resample(25.0)).text


def test_a_long_clip_is_thinned_and_it_is_said(translator: Translator, caplog: pytest.LogCaptureFixture) -> None:
    long = random_poses(0, frames=200)
    translation = translator.translate(long)
    assert translation.frames == 64
    assert translation.end == 8.0
    (record,) = caplog.records
    assert "200 frames thinned to the 64 the model reads; cut the clip into sentences" in record.getMessage()
    caplog.clear()
    translator.translate(random_poses(0, frames=64))
    assert not caplog.records


def test_a_bundle_may_read_the_beginning_of_long_clips(tiny: TinyBundle, caplog: pytest.LogCaptureFixture) -> None:
    bundle = Bundle.load(tiny.path)
    translator = Translator(replace(bundle, manifest=bundle.manifest.model_copy(update={"long_clips": "first"})))
    caplog.clear()
    long = random_poses(0, frames=200)
    translation = translator.translate(long)
    assert translation.frames == 64
    assert translation.text == translator.translate(long.take(np.arange(64))).text
    assert "200 frames cut to the first 64 the model reads" in caplog.records[0].getMessage()


@pytest.mark.parametrize("size", [0, 3])
def test_without_a_signer_there_is_no_text(translator: Translator, size: int) -> None:
    empty = nobody()
    empty.scores[0, 5 : 5 + size] = 0.9  # a few joints are no body to measure by
    with pytest.raises(InputError, match="no signer found"):
        translator.translate(empty)


def test_the_notice_is_given_once_when_the_bundle_is_loaded(tiny: TinyBundle, caplog: pytest.LogCaptureFixture) -> None:
    loaded = Translator.from_bundle(tiny.path)
    loaded.translate(random_poses(0))
    loaded.translate(random_poses(1))
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [NOTICE]


def test_beams_can_be_chosen(tiny: TinyBundle) -> None:
    clips = [random_poses(seed) for seed in range(8)]
    texts = {
        beams: [t.text for t in Translator.from_bundle(tiny.path, num_beams=beams).translate_poses(clips)]
        for beams in (None, 1, 4)
    }
    assert texts[None] == texts[4] != texts[1]


def test_a_device_that_is_not_there(tiny: TinyBundle) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(EngineError, match="device cuda is not available"):
        Translator.from_bundle(tiny.path, device="cuda")


def test_a_keypoint_file_in_place_of_a_video(translator: Translator, tmp_path: Path) -> None:
    clip = random_poses(3)
    write_keypoints(tmp_path / "a clip.NPZ".lower(), clip)
    from_file = translator.translate(tmp_path / "a clip.npz")
    assert from_file.text == translator.translate(clip).text
    assert list(from_file.timings) == ["pose", "regions", "encoder", "decoder"]
    assert translator._estimator is None  # none is loaded for keypoints


def test_a_video(
    tiny: TinyBundle, write_video: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    estimator = FakeEstimator()

    def load(choice: str, trained_on: str, **options: object) -> FakeEstimator:
        asked.append((choice, trained_on, options))
        return estimator

    monkeypatch.setattr(translator_module, "load_estimator", load)
    video = write_video("v.mp4", frames=40, fps=50)
    with Translator.from_bundle(tiny.path, pose="auto", offline=True, pose_weights="weights") as translator:
        assert asked == []  # nothing is loaded before a video needs it
        seen: list[tuple[int, int | None]] = []
        translation = translator.translate(
            video, keypoints_out=tmp_path / "v.npz", progress=lambda done, total: seen.append((done, total))
        )
        again = translator.translate(video)
    options = {"offline": True, "device": "cpu", "weights": Path("weights"), "detect_every": None, "signer": "active"}
    assert asked == [("auto", "mediapipe", options)]
    assert estimator.closed
    assert translation.frames == 20  # sampled at the bundle's 25 frames a second
    assert translation.end == pytest.approx(0.8)
    assert seen == [(n, 20) for n in range(1, 21)]
    assert set(translation.timings) == {"pose", "regions", "encoder", "decoder"}
    assert replace(again, timings={}) == replace(translation, timings={})
    np.testing.assert_array_equal(read_keypoints(tmp_path / "v.npz").keypoints, estimator.motion.keypoints[:20])
    assert Translator.from_bundle(tiny.path).translate(tmp_path / "v.npz").text == translation.text


def test_a_clip_is_one_sentence_even_if_nobody_moves(translator: Translator, tmp_path: Path) -> None:
    still = random_poses(2).take(np.zeros(50, int))
    write_keypoints(tmp_path / "still.npz", still)
    with pytest.raises(InputError, match="nobody signs in it"):
        next(translator.sentences(tmp_path / "still.npz"))
    found = translator.translate(tmp_path / "still.npz")
    assert (found.frames, found.end, found.complete) == (50, 2.0, True)


def test_keypoints_that_are_there_are_kept_as_they_are(translator: Translator, tmp_path: Path) -> None:
    clip = random_poses(0, frames=61, fps=59.9)  # not on the bundle's clock
    write_keypoints(tmp_path / "in.npz", clip)
    found = translator.translate(tmp_path / "in.npz", keypoints_out=tmp_path / "out.npz")
    written = read_keypoints(tmp_path / "out.npz")
    np.testing.assert_array_equal(written.keypoints, clip.keypoints)
    assert (written.fps, found.end) == (59.9, clip.duration)
    assert replace(found, timings={}) == replace(translator.translate(clip), timings={})


def test_an_option_that_there_is_not(tiny: TinyBundle) -> None:
    with pytest.raises(TypeError, match="there is no option 'beams' among device, pose, "):
        Translator.from_bundle(tiny.path, beams=4)  # type: ignore[call-arg]


def test_every_option_has_a_default_and_is_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIGNET_OFFLINE", raising=False)
    assert DEFAULTS.keys() == TranslatorOptions.__annotations__.keys()
    given = main.make_context("signet-translate", ["video.mp4"]).params
    assert {name: given[name] for name in DEFAULTS} == DEFAULTS


def test_translators_beside_one_another_say_what_one_says(
    tiny: TinyBundle, clips: list[Path], texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[FakeEstimator] = []

    def load(*_: object, **__: object) -> FakeEstimator:
        made.append(FakeEstimator())
        return made[-1]

    monkeypatch.setattr(translator_module, "load_estimator", load)
    with Translator(tiny.path) as translator:
        others = [translator.beside() for _ in range(3)]
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(lambda i: others[i % 3].translate(clips[i % 3]).text, range(18)))
        assert found == texts * 6
        assert len({id(other.estimator) for other in (translator, *others)}) == 4
        others[0].close()
        assert [estimator.closed for estimator in made] == [False, True, False, False]
        assert others[1].translate(clips[0]).text == translator.translate(clips[0]).text == texts[0]


def test_a_decoder_for_one_thread_at_a_time_gets_one(
    tiny: TinyBundle, clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = type(Translator(tiny.path).decoder)
    at_once = [0, 0]
    turn = threading.Lock()

    def read(*arguments: Any) -> Any:
        with turn:
            at_once[0] += 1
            at_once[1] = max(at_once)
        time.sleep(0.02)
        found = reads(*arguments)
        with turn:
            at_once[0] -= 1
        return found

    for reentrant, expected in ((True, True), (False, False)):
        at_once[:] = [0, 0]
        monkeypatch.setattr(decoder, "reentrant", property(lambda _, r=reentrant: r))
        fresh = Translator(tiny.path)
        reads = fresh._reader.read
        monkeypatch.setattr(fresh._reader, "read", read)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda path, one=fresh: one.beside().translate(path), clips * 2))
        assert (at_once[1] > 1) is expected


def test_who_watches_sees_every_frame_and_may_end_the_reading(tiny: TinyBundle, clips: list[Path]) -> None:
    seen: list[float] = []
    translator = Translator(tiny.path)
    sizes: list[tuple[int, int]] = []
    (sentence,) = translator.sentences(
        clips[0],
        whole=None,
        opened=lambda stream: sizes.append(stream.size),
        watch=lambda frame: seen.append(frame.seconds),
    )
    assert len(seen) == sentence.frames == 30 and seen == sorted(seen) and sizes == [(640, 480)]

    class Enough(BaseException):
        pass

    def watch(frame: PosedFrame) -> None:
        if frame.seconds > 0.2:
            raise Enough

    with pytest.raises(Enough):
        list(translator.sentences(clips[0], whole=None, watch=watch))
