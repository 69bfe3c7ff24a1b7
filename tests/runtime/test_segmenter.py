"""Sentences end where hands rest or pause, and nothing that is signed is lost."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signer import SIZE, perform

from signet_runtime.errors import InputError
from signet_runtime.sentences.segmenter import MARGIN, Pauses, PosedFrame, Segmenter, Sentence, cut

RATES = [1.0, 6.25, 12.5, 25.0, 30.0, 120.0]


def sentences(script, fps=25.0, *, longest=10_000, pauses=None, **options) -> list[Sentence]:
    segmenter = Segmenter(fps, SIZE, "mediapipe", longest, pauses or Pauses())
    return list(cut(perform(script, fps), segmenter, **options))


@pytest.mark.parametrize("fps", RATES[1:])
def test_hands_that_rest_end_a_sentence(fps: float) -> None:
    found = sentences([("rest", 1), ("sign", 3), ("rest", 1), ("sign", 2), ("rest", 1)], fps)
    assert [s.start for s in found] == pytest.approx([1, 5], abs=0.35)
    assert [s.poses.duration for s in found] == pytest.approx([3, 2], abs=0.5)
    assert all(s.complete for s in found)


@pytest.mark.parametrize("fps", RATES[1:])
def test_hands_that_are_held_end_a_sentence_and_what_moves_does_not(fps: float) -> None:
    found = sentences([("sign", 3), ("hold", 1.5), ("fingers", 3), ("hold", 1.5), ("sign", 1)], fps)
    assert [s.start for s in found] == pytest.approx([0, 4.5, 9], abs=0.4)
    assert [s.poses.duration for s in found] == pytest.approx([3, 3, 1], abs=2 * MARGIN + 0.3)


def test_a_sign_that_is_held_for_a_moment_ends_nothing() -> None:
    script = [("sign", 1), ("hold", 0.6), ("sign", 1), ("hold", 0.6), ("fingers", 1)]
    assert len(sentences(script)) == 1
    assert len(sentences(script, pauses=Pauses(pause=0.5))) == 3


def test_thresholds_are_what_they_say() -> None:
    script = [("sign", 2), ("rest", 0.7), ("sign", 2)]  # 0.2 s of it on the way down
    assert len(sentences(script)) == 2
    assert len(sentences(script, pauses=Pauses(rest=1.0))) == 1
    assert (
        len(sentences(script, pauses=Pauses(still=100.0, rest=9, pause=9))) == 0
    )  # nothing is fast enough to be a sign


def test_the_way_down_belongs_to_no_sentence() -> None:
    (found,) = sentences([("sign", 2), ("rest", 2)])
    wrists = found.poses.keypoints[:, 10, 1]
    assert wrists.max() < 0.4 + 0.9 * 160 / 480 + 0.01  # LOW shoulder widths under the shoulders


@pytest.mark.parametrize("act", ["rest", "hold", "gone"])
def test_who_does_not_sign_says_nothing(act: str) -> None:
    assert sentences([(act, 5)]) == []


def test_a_twitch_is_no_sentence() -> None:
    assert sentences([("rest", 1), ("sign", 0.2), ("rest", 2)]) == []


def test_who_leaves_the_picture_ends_the_sentence() -> None:
    found = sentences([("sign", 2), ("gone", 2), ("sign", 2)])
    assert [s.start for s in found] == pytest.approx([0, 4], abs=0.3)


def test_a_sentence_as_long_as_the_model_reads_is_cut_where_it_is_calmest() -> None:
    found = sentences([("sign", 7), ("hold", 0.4), ("sign", 20)], longest=250)
    assert all(len(s.poses) <= 250 for s in found)
    assert found[0].start + found[0].poses.duration == pytest.approx(7.2, abs=0.3)
    assert sum(s.poses.duration for s in found) == pytest.approx(27.4, abs=0.5)


def test_one_frame_a_second_is_read() -> None:
    (found,) = sentences([("sign", 10)], 1.0, pauses=Pauses(still=0.1))
    assert len(found.poses) >= 9


def test_a_recording_that_is_short_enough_is_one_sentence_whole() -> None:
    script = [("rest", 1), ("sign", 1), ("rest", 1), ("sign", 1)]
    for whole in (100, None):
        (found,) = sentences(script, whole=whole)
        assert np.array_equal(found.poses.keypoints, [f.keypoints for f in perform(script)])
        assert np.array_equal(found.poses.scores, [f.scores for f in perform(script)])
    assert len(sentences(script, whole=99)) == 2
    assert sentences([], whole=99) == sentences([], whole=None) == sentences([]) == []


def test_partial_results_grow_and_are_marked() -> None:
    found = sentences([("sign", 5), ("rest", 1), ("sign", 2.5)], partial=1.0)
    first, second = ([s for s in found if (s.start > 3) == late] for late in (False, True))
    assert [s.complete for s in first] in ([False] * n + [True] for n in (4, 5))
    assert [s.complete for s in second] in ([False] * n + [True] for n in (1, 2))
    lengths = [len(s.poses) for s in first]
    assert lengths == sorted(lengths)
    assert len({s.start for s in found}) == 2
    whole = [s for s in found if s.complete]
    for with_partial, without in zip(whole, sentences([("sign", 5), ("rest", 1), ("sign", 2.5)]), strict=True):
        assert np.array_equal(with_partial.poses.keypoints, without.poses.keypoints)


def test_frames_that_were_dropped_keep_their_time() -> None:
    frames = list(perform([("sign", 4), ("rest", 1)], 25.0))
    some = [frames[0]]
    for before, frame in pairwise(frames):
        if round(before.seconds * 25) % 3 == 0:
            some.append(frame._replace(ticks=round((frame.seconds - some[-1].seconds) * 25)))
    (found,) = cut(some, Segmenter(25.0, SIZE, "mediapipe", 1000, Pauses()))
    (reference,) = cut(frames, Segmenter(25.0, SIZE, "mediapipe", 1000, Pauses()))
    assert found.poses.duration == pytest.approx(reference.poses.duration, abs=0.3)


def test_what_broke_off_is_told_before_it_is_raised() -> None:
    def frames():
        yield from perform([("sign", 2)])
        raise InputError("unplugged")

    found = []
    with pytest.raises(InputError, match="unplugged"):
        found.extend(cut(frames(), Segmenter(25.0, SIZE, "mediapipe", 1000, Pauses())))
    found = cut(frames(), Segmenter(25.0, SIZE, "mediapipe", 1000, Pauses()))
    assert next(found).poses.duration == pytest.approx(2, abs=0.2)


ACTS = st.lists(
    st.tuples(st.sampled_from(["sign", "fingers", "hold", "rest", "gone"]), st.floats(0.1, 4)), min_size=1, max_size=8
)


@settings(deadline=None, max_examples=40)
@given(ACTS, st.sampled_from(RATES), st.integers(20, 200))
def test_sentences_are_in_order_apart_and_no_longer_than_the_model_reads(script, fps: float, longest: int) -> None:
    found = sentences(script, fps, longest=longest)
    for before, after in pairwise(found):
        assert before.start + before.poses.duration <= after.start + 1e-6
    assert all(len(s.poses) <= longest for s in found)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_any_keypoints_are_survived(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0, 0.5, count))
    frames = [
        PosedFrame(t, rng.normal(0.5, 1, (133, 2)).astype(np.float32), rng.uniform(0, 1, 133).astype(np.float32), 1, t)
        for t in times
    ]
    for found in cut(frames, Segmenter(25.0, SIZE, "mediapipe", 20, Pauses())):
        assert 1 <= len(found.poses) <= 20


@pytest.mark.parametrize("fps", [6.25, 25.0])
def test_hands_that_only_go_where_the_body_goes_do_not_sign(fps: float) -> None:
    def shaken(script: list[tuple[str, float]]) -> list[PosedFrame]:
        frames = perform(script, fps)
        sway = lambda t: 0.03 * np.array([np.sin(8 * t), np.cos(11 * t)], np.float32)  # noqa: E731
        return [frame._replace(keypoints=frame.keypoints + sway(frame.seconds)) for frame in frames]

    def heard(frames: list[PosedFrame], whole: int | None) -> int:
        return len(list(cut(iter(frames), Segmenter(fps, SIZE, "mediapipe", 10_000, Pauses()), whole=whole)))

    for whole in (0, None):
        assert heard(shaken([("hold", 4)]), whole) == 0  # held up high, before a camera in somebody's hand
        assert heard(shaken([("sign", 4)]), whole) == 1


@pytest.mark.parametrize("leap", [2, 100, 10**6, 10**9])
@pytest.mark.parametrize("whole", [0, 40, None])
def test_a_clock_that_leaps_begins_a_new_sentence_and_makes_no_time_up(leap: int, whole: int | None) -> None:
    frames = list(perform([("sign", 4)], fps=10.0))
    later = [
        frame._replace(seconds=frame.seconds + leap, ticks=1 + 10 * leap * (i == 0)) for i, frame in enumerate(frames)
    ]
    found = list(cut([*frames, *later], Segmenter(10.0, SIZE, "mediapipe", 10_000, Pauses()), whole=whole))
    assert [len(sentence.poses) for sentence in found] == [40, 40]
    assert found[1].start == pytest.approx(leap)
