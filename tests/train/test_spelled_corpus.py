"""The corpus of spelled words: what is signed is what is written, and what is held out stays so."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from signet_runtime.errors import InputError
from signet_train.data.poses import load_poses
from signet_train.data.spelled.clips import CAMERA_FPS, Pace, spell, split_letters, split_of, words
from signet_train.data.spelled.corpus import spelling_rows


def test_splits_are_disjoint_tenths() -> None:
    train, dev, test = (set(words("gsg", split=split)) for split in ("train", "dev", "test"))
    assert not train & dev and not train & test and not dev & test
    everything = len(train | dev | test)
    for held_out in (dev, test):
        assert 0.08 < len(held_out) / everything < 0.12


def test_rows_are_real_words_and_strings_and_none_in_training_is_held_out() -> None:
    rows = list(spelling_rows(("ase", "ssp"), max_letters=6, words_each=400, redrawn=None, seed=0))
    assert len({row.id for row in rows}) == len(rows) == 2 * (400 + 20 + 100)
    assert {(r.language, r.sign_language) for r in rows} == {("en", "ase"), ("es", "ssp")}
    train = [row for row in rows if row.split == "train"]
    real = {sign: set(words(sign, split="train", max_letters=6)) for sign in ("ase", "ssp")}
    assert sum(row.text in real[row.sign_language] for row in train) >= 0.7 * len(train)
    assert all(split_of(row.text) == "train" for row in train if len(split_letters(row.text, row.sign_language)) > 1)
    assert {row.split for row in rows if split_of(row.text) != row.split and row.split != "train"} == set()
    assert rows == list(spelling_rows(("ase", "ssp"), max_letters=6, words_each=400, redrawn=None, seed=0))


def test_random_strings_double_letters_more_often_than_words_do() -> None:
    rows = list(spelling_rows(("ase",), max_letters=6, words_each=4000, redrawn=None, seed=0))[:4000]
    strings = [row.text for row in rows[2800:]]
    pairs = [(a, b) for word in strings for a, b in itertools.pairwise(word)]
    assert 0.18 < sum(a == b for a, b in pairs) / len(pairs) < 0.3


def test_poses_are_the_word_in_the_default_pace_or_in_one_of_its_own() -> None:
    row = next(r for r in spelling_rows(("psr",), 6, 50, None, 0) if len(r.text) > 3)
    plain = load_poses(row.poses, Path())
    np.testing.assert_array_equal(plain.keypoints, spell(row.text, "psr", Pace()).keypoints)
    assert plain.fps == CAMERA_FPS
    lengths = {len(load_poses(row.poses, Path(), np.random.default_rng(seed))) for seed in range(8)}
    assert len(lengths) > 3
    again = [load_poses(row.poses, Path(), np.random.default_rng(3)) for _ in range(2)]
    np.testing.assert_array_equal(again[0].keypoints, again[1].keypoints)


def test_letters_beyond_ascii_survive_the_location() -> None:
    rows = [r for r in spelling_rows(("svk",), 6, 400, "re drawn?&", 0) if not r.text.isascii()]
    assert rows
    np.testing.assert_array_equal(
        load_poses(rows[0].poses, Path()).keypoints, spell(rows[0].text, "svk", Pace()).keypoints
    )


def test_redrawn_clips_are_taken_every_other_time(tmp_path: Path) -> None:
    for letter in ("a", "b"):
        from signet_train.data.spelled.clips import lexicon

        frames = np.full((40, 133, 2), 0.5, np.float32)
        stem = lexicon()["ase"][letter].stem
        np.savez(tmp_path / f"{stem}.npz", keypoints=frames, scores=np.full((40, 133), 0.9, np.float32))
    location = f"spell://ase/ab?redrawn={tmp_path}"
    drawn = [load_poses(location, Path(), np.random.default_rng(seed)) for seed in range(40)]
    still = sum(bool((d.keypoints == 0.5).all()) for d in drawn)
    assert 10 <= still <= 30
    assert not (load_poses(location, Path()).keypoints == 0.5).all()  # never in validation


@pytest.mark.parametrize("location", ["spell://xxx/word", "spell://ase/", "spell:///word"])
def test_a_location_that_is_none_says_what_one_is(location: str) -> None:
    with pytest.raises(InputError, match="spell://LANGUAGE/WORD"):
        load_poses(location, Path())


def test_a_word_that_an_alphabet_cannot_spell() -> None:
    with pytest.raises(InputError, match="no letter 'ж'"):
        load_poses("spell://ase/%D0%B6", Path())
