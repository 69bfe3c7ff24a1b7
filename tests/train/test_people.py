"""Other people sign the same letters: hands change as hands can, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signet_train.data.spelled.clips import (
    ONE_HANDED_LATIN,
    REDRAWN_STRIDE,
    SIGN_LANGUAGES,
    Clip,
    lexicon,
    load_keypoints,
    split_of,
    words,
)
from signet_train.data.spelled.corpus import sign_word, spelling_rows
from signet_train.data.spelled.freely import join_freely
from signet_train.data.spelled.people import HANDS, Person, as_person, load_deep, mirrored

SAME = Person(finger=0, turn=0, sway=0, left_handed=0)
HAND_JOINTS = list(range(91, 133))


def some_clip(rng: np.random.Generator) -> Clip:
    sign_language = str(rng.choice(SIGN_LANGUAGES))
    return load_deep(sign_language, str(rng.choice(sorted(lexicon()[sign_language]))))


def lengths(points: np.ndarray, hand: slice) -> np.ndarray:
    """Bones of the five fingers: (T, 5, 3)."""
    fingers = points[:, hand][:, 1:].reshape(len(points), 5, 4, -1)
    return np.linalg.norm(np.diff(fingers, axis=2), axis=-1)


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_the_same_person_signs_what_was_recorded(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clip = some_clip(rng)
    points, scores = as_person(clip.points, clip.scores, SAME, rng)
    np.testing.assert_allclose(points, clip.points[..., :2], atol=1e-6)
    np.testing.assert_array_equal(scores, clip.scores)


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_another_person_has_other_hands_on_the_same_wrists(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clip = some_clip(rng)
    points, _ = as_person(clip.points, clip.scores, Person(left_handed=0), rng)
    others = [joint for joint in range(133) if joint not in HAND_JOINTS or joint in (91, 112)]
    np.testing.assert_allclose(points[:, others], clip.points[:, others, :2], atol=1e-6)
    assert np.abs(points - clip.points[..., :2]).max() > 1e-3


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_a_turned_wrist_leaves_bones_as_long_as_they_are(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clip = some_clip(rng)
    turned, _ = as_person(clip.points, clip.scores, Person(finger=0, left_handed=0), rng)
    for hand, _, _ in HANDS:
        # In the picture a bone is as long as in depth at most, whichever way it is turned.
        assert (lengths(turned, hand) <= lengths(clip.points, hand) + 1e-6).all()


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_another_hand_has_the_same_proportions_all_along(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clip = some_clip(rng)
    flat = clip.points.copy()
    flat[..., 2] = 0
    grown, _ = as_person(flat, clip.scores, Person(turn=0, sway=0, left_handed=0), rng)
    for hand, _, _ in HANDS:
        before, after = lengths(flat, hand), lengths(grown, hand)
        ratio = after / np.where(before > 1e-4, before, np.nan)
        assert np.nanmax(np.nanmax(ratio, axis=0) - np.nanmin(ratio, axis=0)) < 2e-2 if (before > 1e-4).any() else True


def test_a_mirror_image_of_a_mirror_image_is_the_person() -> None:
    rng = np.random.default_rng()
    points, scores = rng.random((7, 133, 3)), rng.random((7, 133))
    there = mirrored(points, scores)
    back = mirrored(*there)
    np.testing.assert_allclose(back[0], points)
    np.testing.assert_array_equal(back[1], scores)


def test_a_mirrored_signer_signs_with_the_other_hand_and_has_a_face_the_right_way_round() -> None:
    clip = load_keypoints("ase", "c")
    points, scores = mirrored(clip.points, clip.scores)
    assert clip.scores[:, 112:].max() == 1 and clip.scores[:, 91:112].max() == 0
    assert scores[:, 91:112].max() == 1 and scores[:, 112:].max() == 0
    moment = len(points) // 2
    for left, right in ((5, 6), (7, 8), (23, 39), (83, 87)):  # shoulders, elbows, the jaw's and the lips' ends
        same_way = np.sign(clip.points[moment, left, 0] - clip.points[moment, right, 0])
        assert np.sign(points[moment, left, 0] - points[moment, right, 0]) == same_way


def test_a_clip_with_depth_is_the_clip_and_a_redrawn_one_has_the_depth_it_was_drawn_from(tmp_path: Path) -> None:
    rng = np.random.default_rng()
    letters = str(rng.choice(sorted(lexicon()["lls"])))
    plain, deep = load_keypoints("lls", letters), load_deep("lls", letters)
    np.testing.assert_array_equal(deep.points[..., :2], plain.points)
    assert deep.points.shape[-1] == 3 and not deep.points[:, [91, 112], 2].any() and deep.points[:, 112:, 2].any()
    drawn = plain.points[::REDRAWN_STRIDE] + np.float32(0.25)
    name = lexicon()["lls"][letters].stem
    np.savez_compressed(tmp_path / f"{name}.npz", keypoints=drawn, scores=plain.scores[::REDRAWN_STRIDE])
    again = load_deep("lls", letters, tmp_path)
    np.testing.assert_allclose(again.points[..., :2], drawn)
    np.testing.assert_allclose(again.points[..., 2], deep.points[::REDRAWN_STRIDE, :, 2])


def still(frames: int, value: float) -> Clip:
    return Clip(np.full((frames, 133, 2), value, np.float32), np.ones((frames, 133), np.float32), 25.0, (2, frames - 2))


@given(st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_words_that_are_joined_freely_have_every_letter_in_its_turn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = [0.1, 0.4, 0.7]
    points, scores = join_freely([still(int(rng.integers(12, 40)), v) for v in values], [False, False], 25.0, rng)
    x = points[:, 0, 0]  # the nose, which does not drift
    assert (np.diff(x) >= -1e-6).all()
    for value in values:
        assert (np.abs(x - value) < 0.06).any()
    assert np.ptp(points[:, 91:133, 1] - points[:, :1, 1], axis=0).max() < 0.25
    assert scores.min() == 1


@given(st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_of_a_doubled_letter_the_hands_alone_move(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, _ = join_freely([still(30, 0.5), still(30, 0.5)], [True], 25.0, rng)
    np.testing.assert_allclose(points[:, [0, 5, 6, 30]], 0.5, atol=1e-6)
    assert np.abs(points[:, 91:133] - 0.5).max() > 0.01


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_a_point_that_is_not_seen_pulls_no_neighbour(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clip = still(40, 0.5)
    lost = rng.random(40) < 0.3
    clip.points[lost, 100], clip.scores[lost, 100] = 0, 0
    points, scores = join_freely([clip], [], 25.0, rng)
    assert (points[scores[:, 100] > 0, 100] > 0.4).all()


def test_people_sign_a_word_anew_every_time_and_the_same_by_the_same_seed() -> None:
    where = "spell://mfs/hola?people=1"
    made = [sign_word(where, Path(), np.random.default_rng(seed)) for seed in range(20)]
    assert len({len(clip) for clip in made}) > 8
    again = sign_word(where, Path(), np.random.default_rng(7))
    np.testing.assert_array_equal(again.keypoints, made[7].keypoints)
    plain, asked = sign_word("spell://mfs/hola", Path()), sign_word(where, Path())
    np.testing.assert_array_equal(plain.keypoints, asked.keypoints)  # validation is as recorded


def test_words_of_other_languages_are_words_that_the_alphabet_has_and_none_that_is_held_out() -> None:
    rows = list(spelling_rows(("ase",), 6, 200, None, 3, foreign=0.4, people=True))
    training = [row.text for row in rows if row.split == "train"]
    own = set(words("ase", split="train", max_letters=6))
    abroad = {
        w for tag in set(ONE_HANDED_LATIN.values()) for w in words("ase", split="train", max_letters=6, language=tag)
    }
    assert len(training) == 200
    assert all(split_of(text) == "train" or len(text) == 1 for text in training)
    assert sum(text in abroad and text not in own for text in training[:140]) > 25
    assert all("people=1" in row.poses for row in rows)
    plain = list(spelling_rows(("ase",), 6, 200, None, 3))
    assert not any("?" in row.poses for row in plain)


@pytest.mark.parametrize("sign_language", ["ise", "svk"])
def test_depth_is_there_for_whichever_hand_signs(sign_language: str) -> None:
    clip = load_deep(sign_language, "l")
    hand = HANDS[0][0] if sign_language == "ise" else HANDS[1][0]
    other = HANDS[1][0] if sign_language == "ise" else HANDS[0][0]
    assert np.ptp(clip.points[:, hand, 2]) > 0.01
    assert np.ptp(clip.points[:, other, 2]) == 0
