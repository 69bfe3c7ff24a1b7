"""The demo that ships: the checkpoint, its bundle and the example videos say the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from signet_export.verify import verify
from signet_runtime import Translator
from signet_runtime.bundle import Bundle
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.regions import extract_regions
from signet_train.checkpoint import demo_checkpoint_path, load_checkpoint
from signet_train.data.spelled.clips import SIGN_LANGUAGES, Pace, spell, words
from signet_train.evaluation.metrics import character_error_rate

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def unseen_words(
    sign_language: str, count: int, translator: Translator, seed: int
) -> tuple[list[PoseSequence], list[str]]:
    """Real words of up to six letters that were not in training, on the model's clock."""
    listed = words(sign_language, split="test", max_letters=6)
    chosen = np.random.default_rng(seed).choice(listed, size=count, replace=False).tolist()
    rate = translator.bundle.manifest.frame_rate
    assert rate is not None
    return [spell(word, sign_language, Pace()).resample(rate) for word in chosen], chosen


@pytest.fixture(scope="module")
def translator() -> Translator:
    return Translator.from_bundle()


def test_bundle_and_checkpoint_agree_on_100_words(translator: Translator) -> None:
    model = load_checkpoint(demo_checkpoint_path()).model
    per_language = [unseen_words(s, 8, translator, seed=7)[0] for s in SIGN_LANGUAGES]
    sequences = [sequence for group in per_language for sequence in group][:100]
    for start in range(0, len(sequences), 20):
        clips = [extract_regions(s) for s in sequences[start : start + 20]]
        assert verify(translator.bundle, model, clips, beams=(1, 4)).largest <= 1e-4


def test_a_word_alone_and_in_a_batch_of_8(translator: Translator) -> None:
    sequences, _ = unseen_words("svk", 8, translator, seed=11)
    clips = [extract_regions(s) for s in sequences]
    together = translator.encoder(clips)
    tokens = translator.decoder.generate(together)
    for i, clip in enumerate(clips):
        alone = translator.encoder([clip])
        length = len(clip["body"])
        np.testing.assert_allclose(alone.hidden_states[0], together.hidden_states[i, :length], atol=1e-5, rtol=0)
        assert translator.decoder.generate(alone) == [tokens[i]]


def test_every_alphabet_is_read(translator: Translator) -> None:
    """The README's table is `benchmarks/spelling.py`'s; this is its smoke alarm: other words, fewer of them."""
    rates = {}
    for sign_language in SIGN_LANGUAGES:
        sequences, texts = unseen_words(sign_language, 25, translator, seed=5)
        read = [translation.text for translation in translator.translate_poses(sequences)]
        rates[sign_language] = character_error_rate(texts, read)
    assert np.mean(list(rates.values())) <= 0.05, rates
    assert max(rates.values()) <= 0.10, rates


def test_the_router_uses_two_of_three_experts(translator: Translator) -> None:
    sequences, _ = unseen_words("ase", 4, translator, seed=0)
    for translation in translator.translate_poses(sequences):
        assert len(translation.routing) == 3
        assert sum(weight > 0 for weight in translation.routing.values()) == 2


def test_example_videos_read_as_the_words_beside_them() -> None:
    videos = sorted(EXAMPLES.glob("*.mp4"))
    done = subprocess.run(
        [sys.executable, "-m", "signet_runtime.commands.translate", "--offline", *map(str, videos)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stdout == (EXAMPLES / "expected.txt").read_text()
    assert "no translator of a sign language" in done.stderr


def test_checkpoint_and_bundle_stay_small() -> None:
    files = [p for root in (demo_checkpoint_path(), Bundle.load().path) for p in root.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 25e6
    assert not list(demo_checkpoint_path().rglob("training_state.pt"))
