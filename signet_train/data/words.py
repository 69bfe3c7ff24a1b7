"""An endless, seeded stream of spelled words: real ones, random letters, and a curriculum on length."""

from __future__ import annotations

import math

import numpy as np

from signet_runtime.pose.sequence import PoseSequence
from signet_train.config import DataConfig
from signet_train.data.augment import augment
from signet_train.data.fingerspelling import CAMERA_FPS, Pace, is_held_out, lexicon, spell, words

_REAL_WORDS = 0.7  # of the words after the curriculum; the rest are random letters, so that rare ones are seen
_DOUBLED = 0.2  # of the letters in random strings repeat the one before: real words double few of them


class WordStream:
    """Batches of (pose sequences, texts); batch ``step`` is the same in every run with the same seed."""

    def __init__(self, config: DataConfig, seed: int):
        self.config = config
        self.seed = seed
        self.sign_languages = tuple(s for s in config.sign_languages if s not in config.held_out)

    def batch(self, step: int) -> tuple[list[PoseSequence], list[str]]:
        """Augmented samples of ``letters_per_batch`` letters in all; never a held-out word."""
        rng = np.random.default_rng([self.seed, step])
        stage = 1 + sum(step >= s for s in self.config.curriculum)
        finished = stage > len(self.config.curriculum)
        sequences: list[PoseSequence] = []
        texts: list[str] = []
        while sum(len(text) for text in texts) < self.config.letters_per_batch:
            sign_language = self.sign_languages[rng.integers(len(self.sign_languages))]
            if finished and rng.random() < _REAL_WORDS:
                listed = words(sign_language, held_out=False, max_letters=self.config.max_letters)
                word = listed[rng.integers(len(listed))]
            else:
                # Past the curriculum random strings stay a little shorter than words can be.
                longest = max(1, self.config.max_letters - 2) if finished else stage
                word = _random_string(sign_language, int(rng.integers(1, longest + 1)), rng)
            sequences.append(augment(self._sign(word, sign_language, rng), rng))
            texts.append(word)
        return sequences, texts

    def _sign(self, word: str, sign_language: str, rng: np.random.Generator) -> PoseSequence:
        pace = Pace(rng.uniform(1.4, 2.4), rng.uniform(0.08, 0.24), bool(rng.random() < 0.5))
        redrawn = self.config.redrawn if self.config.redrawn and rng.random() < 0.5 else None
        recorded = spell(word, sign_language, pace, redrawn)
        # A word begins anywhere between two ticks of the model's clock.
        late = rng.integers(min(len(recorded), math.ceil(CAMERA_FPS / self.config.frame_rate)))
        return recorded.take(np.arange(late, len(recorded))).resample(self.config.frame_rate)


def _random_string(sign_language: str, count: int, rng: np.random.Generator) -> str:
    """``count`` letters, some of them doubled, that are not by chance a held-out word."""
    alphabet = sorted(lexicon()[sign_language])
    while True:
        letters: list[str] = []
        for _ in range(count):
            doubled = letters and rng.random() < _DOUBLED
            letters.append(letters[-1] if doubled else str(rng.choice(alphabet)))
        word = "".join(letters)
        if count == 1 or not is_held_out(word):
            return word


def held_out_words(
    sign_language: str, count: int, config: DataConfig, seed: int = 0
) -> tuple[list[PoseSequence], list[str]]:
    """Real words that no training saw, as they were recorded: no augmentation, the default pace."""
    listed = words(sign_language, held_out=True, max_letters=config.max_letters)
    chosen = np.random.default_rng(seed).choice(listed, size=count, replace=False).tolist()
    recorded = [spell(w, sign_language, Pace()) for w in chosen]
    return [sequence.resample(config.frame_rate) for sequence in recorded], chosen
