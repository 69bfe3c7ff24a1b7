"""The demo's texts are the same whichever way they are searched for."""

from __future__ import annotations

import numpy as np
import pytest

from signet_runtime import Translator
from signet_runtime.regions import extract_regions
from signet_train.data.spelled.clips import SIGN_LANGUAGES, Pace, spell, words


@pytest.fixture(scope="module")
def ways() -> dict[str, Translator]:
    return {way: Translator.from_bundle(generation=way) for way in ("fast", "optimum")}  # type: ignore[arg-type]


@pytest.mark.parametrize("num_beams", [1, 4])
def test_words_of_every_alphabet(ways: dict[str, Translator], num_beams: int) -> None:
    rate = ways["fast"].bundle.manifest.frame_rate
    assert rate is not None
    texts = set()
    for sign_language in SIGN_LANGUAGES:
        listed = words(sign_language, split="test", max_letters=6)
        chosen = np.random.default_rng(num_beams).choice(listed, size=8, replace=False).tolist()
        clips = [extract_regions(spell(word, sign_language, Pace()).resample(rate)) for word in chosen]
        encoded = ways["fast"].encoder(clips)
        tokens = ways["optimum"].decoder.generate(encoded, num_beams)
        assert ways["fast"].decoder.generate(encoded, num_beams) == tokens
        assert ways["fast"].decoder.text(tokens) == ways["optimum"].decoder.text(tokens)
        texts.update(ways["fast"].decoder.text(tokens))
    assert len(texts) > 60
