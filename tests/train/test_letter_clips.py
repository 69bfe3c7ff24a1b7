"""Spelled words: what is signed is what is asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signet_runtime.errors import InputError
from signet_train.data.batches.augment import vary_signer
from signet_train.data.spelled.clips import (
    NUM_LANDMARKS,
    SIGN_LANGUAGES,
    Clip,
    Pace,
    join,
    lexicon,
    load_keypoints,
    load_landmarks,
    spell,
    split_letters,
)


def test_thirteen_one_handed_alphabets_have_clips_with_a_hand_up() -> None:
    assert len(SIGN_LANGUAGES) == 13
    for sign_language in SIGN_LANGUAGES:
        clip = load_keypoints(sign_language, "a")
        start, stop = clip.hold
        hands = clip.scores[start:stop, [91, 112]].max(axis=1)
        assert 0 <= start < stop <= len(clip.points)
        assert hands.mean() > 0.8, sign_language
        # The italian signer is left-handed, all others are right-handed.
        assert clip.scores[:, 91 if sign_language == "ise" else 112].any(), sign_language


def test_digraphs_are_spelled_with_their_own_clip() -> None:
    assert split_letters("llama", "ssp") == ("ll", "a", "m", "a")
    assert split_letters("llama", "ase") == ("l", "l", "a", "m", "a")
    assert split_letters("schule", "asq") == ("sch", "u", "l", "e")
    with pytest.raises(InputError, match="'ж'"):
        split_letters("жук", "ase")


@given(st.sampled_from(SIGN_LANGUAGES), st.data())
@settings(max_examples=60, deadline=None)
def test_letters_of_a_split_are_the_word(sign_language: str, data: st.DataObject) -> None:
    alphabet = sorted(lexicon()[sign_language])
    word = "".join(data.draw(st.lists(st.sampled_from(alphabet), min_size=1, max_size=12)))
    parts = split_letters(word, sign_language)
    assert "".join(parts) == word
    assert set(parts) <= set(alphabet)


def ramp(frames: int, value: float) -> Clip:
    """A clip whose every coordinate says which frame it is."""
    points = np.full((frames, 133, 2), value, np.float32) + np.arange(frames, dtype=np.float32)[:, None, None] / 1000
    return Clip(points, np.ones((frames, 133), np.float32), 25.0, (2, frames - 2))


def test_join_keeps_holds_and_bridges_them_with_straight_lines() -> None:
    points, scores = join([ramp(10, 0.0), ramp(12, 1.0)], Pace(speed=1.0, transition=0.16, rest=False), 25.0)
    x = points[:, 0, 0]
    np.testing.assert_allclose(x[:6], np.arange(2, 8) / 1000, atol=1e-6)
    np.testing.assert_allclose(np.diff(x[5:11]), (1.002 - 0.007) / 5, atol=1e-5)
    np.testing.assert_allclose(x[10:], 1 + np.arange(2, 10) / 1000, atol=1e-6)
    assert scores.min() == 1
    with_rest, _ = join([ramp(10, 0.0), ramp(12, 1.0)], Pace(speed=1.0, transition=0.16, rest=True), 25.0)
    assert len(with_rest) == len(points) + 4
    faster, _ = join([ramp(10, 0.0), ramp(12, 1.0)], Pace(speed=2.0, transition=0.16, rest=False), 25.0)
    assert len(faster) == 3 + 4 + 4


def test_a_hand_missing_on_one_side_is_missing_in_the_transition() -> None:
    before, after = ramp(8, 0.0), ramp(8, 1.0)
    after.scores[:, 91:112] = 0
    _, scores = join([before, after], Pace(1.0, 0.16, rest=False), 25.0)
    assert scores[3, 91] == 1
    assert (scores[4:, 91:112] == 0).all()


def test_a_double_letter_dips_the_hand() -> None:
    clip = load_keypoints("ase", "l")
    pace = Pace(rest=False)
    plain, _ = join([clip, clip], pace, 25.0, [False])
    dipped, _ = join([clip, clip], pace, 25.0, [True])
    moved = (dipped - plain)[..., 1]
    assert moved[:, 112:133].max() > 0.03
    assert not moved[:, 5:7].any()  # shoulders stay


def test_landmarks_and_keypoints_tell_the_same_story() -> None:
    landmarks, keypoints = load_landmarks("psr", "b"), load_keypoints("psr", "b")
    assert landmarks.points.shape[1:] == (NUM_LANDMARKS, 3)
    np.testing.assert_array_equal(landmarks.points[:, 532:553, :2], keypoints.points[:, 112:133])


def test_another_signer_keeps_the_word_and_changes_the_rest() -> None:
    sequence = spell("wal", "gsg", Pace())
    variants = [vary_signer(sequence, np.random.default_rng(seed)) for seed in range(20)]
    assert any((v.scores[:, 112] == 0).sum() > (sequence.scores[:, 112] == 0).sum() for v in variants)
    distance = np.linalg.norm(variants[0].keypoints - sequence.keypoints, axis=-1)
    assert 0 < np.median(distance) < 0.2
    np.testing.assert_array_equal(sequence.keypoints, spell("wal", "gsg", Pace()).keypoints)  # input untouched
