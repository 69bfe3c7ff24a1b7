"""What a program gives in place of a file, and what it gets on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import FakeEstimator, TinyBundle, random_poses
from translate_command import WriteVideo

from signet_runtime import translator as translator_module
from signet_runtime.errors import InputError
from signet_runtime.pose.files import write_keypoints
from signet_runtime.progress import Bar
from signet_runtime.sources.arrays import FrameArrays
from signet_runtime.sources.video import Video
from signet_runtime.translator import Translator


@pytest.fixture
def translator(tiny: TinyBundle, monkeypatch: pytest.MonkeyPatch) -> Translator:
    monkeypatch.setattr(translator_module, "load_estimator", lambda *args, **options: FakeEstimator())
    return Translator(tiny.path)


def test_a_file_an_array_and_an_iterator_say_the_same(translator: Translator, write_video: WriteVideo) -> None:
    path = write_video("a.mp4", frames=60, fps=50)
    with Video(path) as video:
        pictures = list(video)
    found = [
        list(translator.sentences(source, whole=None, **options))
        for source, options in [(path, {}), (np.stack(pictures), {"fps": 50}), (iter(pictures), {"fps": 50})]
    ]
    assert len(found[0]) == 1
    for (translation,) in found[1:]:
        assert (
            (translation.text, translation.frames) == (found[0][0].text, found[0][0].frames) == (translation.text, 30)
        )
        assert translation.end == pytest.approx(found[0][0].end)
    assert translator.translate(np.stack(pictures), fps=50).text == translator.translate(path).text


def test_nothing_is_read_before_it_is_asked_for(translator: Translator) -> None:
    taken = []

    def pictures() -> Iterator[np.ndarray]:
        for number in range(5000):
            taken.append(number)
            yield np.zeros((32, 32, 3), np.uint8)

    sentences = translator.sentences(pictures(), fps=25)
    assert taken == []
    next(sentences)
    assert 0 < len(taken) < 3000
    sentences.close()
    seen = len(taken)
    assert seen < 3000  # and it is not read to its end


def test_a_rate_that_nobody_states_is_noted(translator: Translator) -> None:
    (translation,) = translator.sentences(np.zeros((30, 16, 16, 3), np.uint8), whole=None)
    assert translation.notes == ("nothing says how many frames a second there are; 25 are assumed, fps= says it",)


def test_who_gives_pictures_may_use_one_array_for_all() -> None:
    buffer = np.zeros((4, 6, 3), np.uint8)

    def pictures() -> Iterator[np.ndarray]:
        for number in range(5):
            buffer[:] = number
            yield buffer

    given = FrameArrays(pictures(), 10.0, None)
    assert [int(picture.max()) for picture, _ in list(given.timed())] == [0, 1, 2, 3, 4]
    assert given.info.size == (6, 4)


def test_pictures_on_a_clock() -> None:
    pictures = np.arange(40, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    given = FrameArrays(pictures, 20.0, 5.0)
    found = [(int(picture.max()), seconds) for picture, seconds in given.timed()]
    assert found == [(4 * i, pytest.approx(i / 5)) for i in range(10)]
    assert given.info == (5.0, (1, 1), 10) or (given.info.fps, given.info.num_frames) == (5.0, 10)


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ([], "there are none"),
        ([np.zeros((4, 4), np.uint8)], r"frame 0: uint8 \(4, 4\), and not uint8 RGB"),
        ([np.zeros((4, 4, 3), np.float32)], "frame 0: float32"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)], r"frame 1: has shape \(4, 5, 3\)"),
    ],
)
def test_what_is_no_picture(translator: Translator, frames: list[np.ndarray], says: str) -> None:
    with pytest.raises(InputError, match=says):
        list(translator.sentences(iter(frames), fps=25))


def test_an_overlay_is_of_a_video(translator: Translator, tmp_path: Path) -> None:
    for source in (np.zeros((3, 8, 8, 3), np.uint8), random_poses(0), tmp_path / "a.npz"):
        with pytest.raises(InputError, match="an overlay is drawn on a video file"):
            list(translator.sentences(source, overlay=tmp_path / "o.mp4"))


def test_a_batch_in_its_order_each_as_alone(translator: Translator, tmp_path: Path) -> None:
    clips = [random_poses(seed, frames) for seed, frames in enumerate([40, 3, 64, 20, 7])]
    write_keypoints(tmp_path / "c.npz", clips[2])
    found = translator.translate_batch([*clips[:2], tmp_path / "c.npz", *clips[3:]], batch_size=2)
    assert [t.text for t in found] == [translator.translate(clip).text for clip in clips]
    assert [t.frames for t in found] == [40, 3, 64, 20, 7]


def test_batches_are_of_clips_that_are_about_as_long(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    encoder = translator.encoder
    monkeypatch.setattr(
        translator,
        "encoder",
        type(
            "E",
            (),
            {
                "max_clips": None,
                "can_stream": False,
                "__call__": lambda self, clips: (read.append([len(clip["body"]) for clip in clips]), encoder(clips))[1],
            },
        )(),
    )
    translator.translate_batch([random_poses(0, frames) for frames in (9, 50, 10, 49, 11, 48)], batch_size=3)
    assert sorted(map(sorted, read)) == [[9, 10, 11], [48, 49, 50]]


@pytest.mark.parametrize("kind", ["terminal", "jupyter", "pipe"])
def test_a_bar_where_somebody_sees_it(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import rich.console

    shown = []
    monkeypatch.setattr(rich.console.Console, "is_terminal", property(lambda self: kind == "terminal"))
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: kind == "jupyter")
    import rich.progress

    monkeypatch.setattr(rich.progress.Progress, "start", lambda self: shown.append(self))
    monkeypatch.setattr(rich.progress.Progress, "stop", lambda self: None)
    with Bar("a.mp4") as bar:
        bar.update(3, 10)
        bar.update(4, None)
    assert len(shown) == (kind != "pipe")
    if shown:
        (task,) = shown[0].tasks
        assert (task.description, task.completed) == ("a.mp4", 4)


def test_progress_is_called_or_shown(translator: Translator, write_video: WriteVideo) -> None:
    path = write_video("a.mp4", frames=30)
    seen = []
    expected = [
        replace(t, timings={}) for t in translator.sentences(path, whole=None, progress=lambda n, of: seen.append(n))
    ]
    assert seen == list(range(1, 31))
    for progress in (True, False, None):
        found = [replace(t, timings={}) for t in translator.sentences(path, whole=None, progress=progress)]
        assert found == expected


def test_more_texts_than_beams(tiny: TinyBundle) -> None:
    with pytest.raises(ValueError, match="a search with 2 beams finds no more than 2 texts"):
        Translator(tiny.path, n_best=3, num_beams=2)
