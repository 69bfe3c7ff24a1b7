"""Strangers are strangers, the other generator is another, and what is counted is what was read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.strangers import main
from benchmarks.unseen import sharing as shared
from benchmarks.unseen.folds import CHOOSING, FOLDS, REPORTED, Recipe, known_to, train_fold
from benchmarks.unseen.joining import join_otherwise, spell_otherwise
from benchmarks.unseen.quick import Reader, padded, read_letters, train_reader
from benchmarks.unseen.scoring import is_loop, tally
from benchmarks.unseen.sharing import Sharing, letter_shape, nearest_letters, sharing
from signet_train.data.manifest import read_manifest
from signet_train.data.spelled.clips import COMPONENTS, SIGN_LANGUAGES, Clip, lexicon, load_landmarks


def test_every_signer_is_held_out_once_and_none_is_chosen_by_and_reported() -> None:
    held_out = [language for fold in FOLDS.values() for language in fold]
    assert sorted(held_out) == sorted(SIGN_LANGUAGES)
    assert not {s for f in CHOOSING.values() for s in f} & {s for f in REPORTED.values() for s in f}
    for fold, signers in FOLDS.items():
        assert set(known_to(fold)) | set(signers) == set(SIGN_LANGUAGES)
        assert not set(known_to(fold)) & set(signers)


def line(frames: int, value: float, rng: np.random.Generator) -> Clip:
    """A clip of a hand that moves evenly; x of every keypoint says when."""
    points = np.full((frames, 133, 2), value, np.float32) + np.arange(frames, dtype=np.float32)[:, None, None] / 1000
    return Clip(points, np.ones((frames, 133), np.float32), float(rng.choice([25.0, 30.0])), (3, frames - 3))


@given(st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_the_other_generator_trims_letters_and_bridges_them_softly_in_three_to_five_frames(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before, after = line(40, 0.0, rng), line(30, 1.0, rng)
    points, scores = join_otherwise([before, after], [False], float(rng.choice([25.0, 30.0])), rng)
    x = points[:, 120, 0]
    steps = np.diff(x)
    wide = np.flatnonzero(steps > 0.003)  # wider than any step in a letter: into the bridge, in it, and out of it
    first, second = x[: wide[0] + 1], x[wide[-1] + 1 :]
    # The ends of what the hand holds up are not there, and between frames of the clip it is where the line is.
    assert first.min() >= 0.003 + 0.15 * 34 / 1000 - 1e-4 and first.max() <= (40 - 3) / 1000
    assert second.min() >= 1.003 + 0.15 * 24 / 1000 - 1e-4
    np.testing.assert_allclose(np.diff(first, 2), 0, atol=1e-5)
    assert 3 <= len(wide) - 1 <= 5
    assert steps.argmax() not in (wide[0], wide[-1])
    assert scores.min() == 1


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_a_doubled_letter_moves_the_hands_and_nothing_else(seed: int) -> None:
    rng = np.random.default_rng(seed)
    still = line(30, 0.5, rng)
    still = replace(still, points=np.full_like(still.points, 0.5))
    points, _ = join_otherwise([still, still], [True], 25.0, rng)
    hands = [9, 10, *range(91, 133)]
    others = [joint for joint in range(133) if joint not in hands]
    assert (points[:, others] == 0.5).all()
    moved = np.abs(points[:, hands] - 0.5).max(axis=(0, 1))
    slid, bounced = moved
    assert (slid == pytest.approx(0.06) and bounced == 0) or (slid == 0 and 0.02 < bounced <= 0.0401)


def test_a_hand_that_is_missing_in_one_of_two_frames_is_not_half_there() -> None:
    rng = np.random.default_rng()
    clip = line(40, 0.5, rng)
    lost = rng.random(40) < 0.4
    clip.points[lost, 91:112] = 0
    clip.scores[lost, 91:112] = 0
    points, scores = join_otherwise([clip], [], 30.0, rng)
    there = scores[:, 100] > 0
    assert (points[there, 100] >= 0.5).all()
    assert there.any()


def test_words_of_the_other_generator_have_both_rates_and_are_drawn_anew_by_the_seed() -> None:
    made = [spell_otherwise("banana", "ase", np.random.default_rng(seed)) for seed in range(12)]
    assert {clip.fps for clip in made} == {25.0, 30.0}
    assert len({len(clip) for clip in made}) > 3
    again = spell_otherwise("banana", "ase", np.random.default_rng(3))
    np.testing.assert_array_equal(again.keypoints, made[3].keypoints)


texts = st.text("abcr", min_size=0, max_size=8)


@given(st.lists(st.tuples(st.text("abcr", min_size=1, max_size=8), texts), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_characters_wrong_are_jiwers_and_letters_misread_are_among_them(pairs: list[tuple[str, str]]) -> None:
    words, read = zip(*pairs, strict=True)
    found = tally(words, read, "ase", SIGN_LANGUAGES)
    assert found.error_rate == pytest.approx(jiwer.cer(list(words), list(read)))
    assert sum(found.letters.values()) == found.characters
    assert sum(found.misread.values()) <= found.wrong
    assert all(found.misread[kind] <= found.letters[kind] for kind in Sharing)
    nothing = tally(words, [""] * len(words), "ase", SIGN_LANGUAGES)
    assert nothing.misread == nothing.letters


def test_letters_of_a_digraph_are_counted_as_its_clip_is_shared() -> None:
    found = tally(["pazzo"], ["pao"], "ise", SIGN_LANGUAGES)
    assert sharing("ise")["zz"] is Sharing.NONE
    assert found.letters[Sharing.NONE] == found.misread[Sharing.NONE] == 2


@pytest.mark.parametrize(
    ("word", "text", "loop"),
    [
        ("vapor", "vapororor", True),
        ("banana", "banan", False),
        ("banana", "banananana", True),
        ("anna", "annnna", True),
        ("mississippi", "mississippi", False),
        ("zzz", "zzz", False),
        ("ab", "abcabcabc", True),
    ],
)
def test_loops_are_told_from_words_that_repeat(word: str, text: str, loop: bool) -> None:
    assert is_loop(word, text) is loop


@pytest.mark.parametrize("mirrored", [False, True])
def test_shapes_do_not_depend_on_who_stands_where_and_which_hand_signs(
    monkeypatch: pytest.MonkeyPatch, mirrored: bool
) -> None:
    rng = np.random.default_rng()
    clip = load_landmarks("ase", str(rng.choice(list("abcdefg"))))
    angle, size = rng.uniform(-3, 3), rng.uniform(0.6, 1.5)
    turn = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])

    def shown(moved: bool) -> Clip:
        points, scores = clip.points.astype(np.float64), clip.scores.copy()
        if moved:
            points = points @ turn * size + [*rng.uniform(-1, 1, 2), 0]
        if moved and mirrored:
            points[..., 0] = 1 - points[..., 0]
            left, right = COMPONENTS["left_hand"], COMPONENTS["right_hand"]
            points[:, left], points[:, right] = points[:, right].copy(), points[:, left].copy()
            scores[:, left], scores[:, right] = scores[:, right].copy(), scores[:, left].copy()
        return replace(clip, points=points, scores=scores)

    monkeypatch.setattr(shared, "load_landmarks", lambda *_: shown(moved=False))
    expected = letter_shape.__wrapped__("ase", "x")  # type: ignore[attr-defined]
    monkeypatch.setattr(shared, "load_landmarks", lambda *_: shown(moved=True))
    found = letter_shape.__wrapped__("ase", "x")  # type: ignore[attr-defined]
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)


def test_a_letter_is_compared_with_other_signers_only() -> None:
    for letters in list(lexicon()["gsg"])[::9]:
        known = ("ase", "gsg", "ssp")
        without = nearest_letters("gsg", letters, ("ase", "ssp"))
        assert nearest_letters("gsg", letters, known) == without
        assert set(without[0]) == {*lexicon()["ase"], *lexicon()["ssp"]}


def test_the_demo_is_read_in_a_table() -> None:
    options = ["read", "--words", "3", "--seeds", "2", "--generator", "other", "bzs", "psr"]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    rows = [line.split("|")[1:3] for line in result.output.splitlines() if line.startswith("| ")][2:]
    assert [[name.strip(), int(count)] for name, count in rows] == [["bzs", 6], ["psr", 6], ["all", 12]]


def test_the_small_reader_reads_a_word_alike_alone_and_beside_longer_ones() -> None:
    torch.manual_seed(0)
    reader, rng = Reader(6, 4).eval(), np.random.default_rng(0)
    samples = [rng.normal(size=(frames, 6)).astype(np.float32) for frames in (5, 17, 9)]
    together = reader(*padded(samples))
    for alone, beside in zip(samples, together, strict=True):
        torch.testing.assert_close(reader(*padded([alone]))[0], beside[: len(alone)], atol=1e-5, rtol=1e-4)


def test_a_small_reader_is_not_for_reported_signers(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["quick", next(iter(REPORTED)), "--steps", "1"])
    assert result.exit_code == 2 and "is not one of" in result.output


@pytest.mark.slow
def test_a_small_reader_learns_letters() -> None:
    recipe = Recipe(Path("signet_train/configs/demo"), words=300)
    reader, characters, config = train_reader("b", recipe, steps=350)
    seen = read_letters(reader, characters, config, "ase", False, 40, "b")
    assert seen.error_rate < 0.7  # a reader that has learned nothing has 1


@pytest.mark.slow
@pytest.mark.parametrize("single", [False, True])
def test_a_fold_is_trained_without_its_signers_and_goes_on_where_it_stopped(tmp_path: Path, single: bool) -> None:
    small = [
        "optimisation.epochs=1",
        "optimisation.warmup_epochs=0",
        "data.workers=0",
        "model.backbone.input_channels=4",
        "model.backbone.spatial_channels=[4]",
        "model.backbone.temporal_channels=[4]",
        "model.backbone.embedding=16",
        "model.language_model.d_model=16",
        "model.language_model.d_kv=8",
        "model.language_model.num_heads=2",
        "model.language_model.num_layers=1",
        "card.num_beams=1",
    ]
    recipe = Recipe(
        Path("signet_train/configs/demo"), words=40, seed=3, views=1, people=single, changes=small, single=single
    )
    bundle = train_fold("b", tmp_path, recipe)
    rows = read_manifest(tmp_path / "spelled.parquet").rows
    assert {row.sign_language for row in rows} == set(known_to("b"))
    assert not list(tmp_path.rglob("features"))
    stamp = (bundle / "signet.json").stat().st_mtime_ns
    train_fold("b", tmp_path, recipe)
    assert (bundle / "signet.json").stat().st_mtime_ns == stamp
    result = CliRunner().invoke(main, ["read", "--bundle", str(bundle), "--fold", "b", "--words", "2", "--seeds", "1"])
    assert result.exit_code == 0, result.output
    assert "| svk |" in result.output and "| asq |" not in result.output
