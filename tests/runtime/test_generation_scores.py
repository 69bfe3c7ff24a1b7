"""How likely a text is, and what its pieces looked at: both ways say the same, and it is what the decoders say."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from test_generation_search import SEARCHES, decoders, ragged
from tiny_bundle import random_poses

from signet_runtime.bundle import Bundle
from signet_runtime.engines.encoder import HostEncoded
from signet_runtime.engines.session import create_session
from signet_runtime.errors import BundleError
from signet_runtime.generation import DECODER_BACKENDS
from signet_runtime.generation.fast import FastDecoder
from signet_runtime.generation.hypothesis import CROSS_ATTENTION, Hypothesis
from signet_runtime.generation.memory import DeviceMemory
from signet_runtime.generation.settings import SearchSettings
from signet_runtime.generation.tokenizer import Tokenizer
from signet_runtime.reading import looked_at
from signet_runtime.translator import Translator

CLOSE = 1e-4


def assert_same(found: list[list[Hypothesis]], expected: list[list[Hypothesis]]) -> None:
    assert [[text.tokens for text in texts] for texts in found] == [[t.tokens for t in texts] for texts in expected]
    for one, other in zip(itertools.chain(*found), itertools.chain(*expected), strict=True):
        assert one.log_prob == pytest.approx(other.log_prob, abs=CLOSE)
        assert one.log_probs == pytest.approx(other.log_probs, abs=CLOSE)
        assert (one.attention is None) == (other.attention is None)
        if one.attention is not None and other.attention is not None:
            np.testing.assert_allclose(one.attention, other.attention, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_scores_are_optimums(loaded: Bundle, tmp_path: Path, search: dict[str, Any]) -> None:
    ways = decoders(loaded, tmp_path / "bundle", search)
    for seed, (beams, n_best) in enumerate([(1, 1), (2, 2), (4, 1), (5, 3)]):
        encoded = ragged(100 + seed)
        fast, optimum = (ways[way].search(encoded, beams, n_best=n_best, attention=True) for way in ("fast", "optimum"))
        assert_same(fast, optimum)
        assert [texts[0].tokens for texts in fast] == ways["fast"].generate(encoded, beams)
        assert all(len(texts) == n_best for texts in fast)
        penalty = search.get("length_penalty", 1.0)
        if penalty == 1.0:  # then the order is that of the average, and with another it need not be
            for texts in fast:
                averages = [text.log_prob for text in texts]
                assert averages == sorted(averages, reverse=True)


def test_a_score_is_what_the_decoder_says_of_the_text(loaded: Bundle) -> None:
    """By reading the whole text at once, which neither way does."""
    first = create_session(loaded.file("decoder_model.onnx"), "cpu")
    later = create_session(loaded.file("decoder_with_past_model.onnx"), "cpu")
    start = 30  # unlike 0, which also pads, and so may be written
    settings = SearchSettings(decoder_start_token_id=start, eos_token_id=1)
    decoder = FastDecoder(first, later, settings, Tokenizer.read(loaded.path), max_new_tokens=12)
    encoded = ragged(3)
    for clip, (text,) in enumerate(decoder.search(encoded, 4, attention=True)):
        length = encoded.attention_mask[clip].sum()
        logits, attention = first.run(
            ["logits", CROSS_ATTENTION],
            {
                "input_ids": np.array([[start, *text.tokens]]),
                "encoder_hidden_states": encoded.hidden_states[clip : clip + 1, :length],
                "encoder_attention_mask": encoded.attention_mask[clip : clip + 1, :length],
            },
        )
        log_probs = logits[0] - np.log(np.exp(logits[0].astype(np.float64)).sum(axis=1, keepdims=True))
        said = [log_probs[i, token] for i, token in enumerate([*text.tokens, 1])]
        assert text.log_probs == pytest.approx(said[:-1], abs=CLOSE)
        if len(text.tokens) < decoder.max_new_tokens:  # it was ended by the end token, which counts
            assert text.log_prob == pytest.approx(np.mean(said), abs=CLOSE)
        assert text.attention is not None
        np.testing.assert_allclose(text.attention[:, :length], attention[0, :-1], rtol=0, atol=CLOSE)
        np.testing.assert_allclose(text.attention.sum(axis=1), 1, rtol=0, atol=CLOSE)
        assert not text.attention[:, length:].any()  # padding is not looked at


def test_alone_and_in_a_batch(loaded: Bundle, tmp_path: Path) -> None:
    decoder = decoders(loaded, tmp_path / "bundle", {"eos_token_id": [5, 11]})["fast"]
    encoded = ragged(11)
    together = decoder.search(encoded, 4, n_best=4, attention=True)
    for clip, length in enumerate(encoded.attention_mask.sum(axis=1)):
        alone = HostEncoded(
            encoded.hidden_states[clip : clip + 1, :length],
            encoded.attention_mask[clip : clip + 1, :length],
            encoded.routing_weights[:1],
        )
        (texts,) = decoder.search(alone, 4, n_best=4, attention=True)
        padded = [
            Hypothesis(t.tokens, t.log_probs, t.log_prob, t.attention[:, :length])
            for t in together[clip]
            if t.attention is not None
        ]
        assert_same([texts], [padded])


def test_on_a_device(loaded: Bundle, tmp_path: Path) -> None:
    on_host = decoders(loaded, tmp_path / "bundle", {"eos_token_id": 5})["fast"]
    on_device = FastDecoder(
        *(create_session(loaded.file(f"{name}.onnx"), "cpu") for name in ("decoder_model", "decoder_with_past_model")),
        SearchSettings.read(tmp_path / "bundle"),
        Tokenizer.read(tmp_path / "bundle"),
        memory=DeviceMemory("CPUExecutionProvider", "cpu"),
        max_new_tokens=12,
    )
    encoded = ragged(5)
    for beams in (1, 4):
        found = (decoder.search(encoded, beams, attention=True) for decoder in (on_device, on_host))
        assert_same(*found)


def test_pieces_spell_the_text(loaded: Bundle, tmp_path: Path) -> None:
    for decoder in decoders(loaded, tmp_path / "bundle", {}).values():
        for (text,) in decoder.search(ragged(0), 4):
            pieces = decoder.pieces(text.tokens)
            assert len(pieces) == len(text.tokens) == len(text.log_probs)
            spelled = "".join(pieces).strip()
            assert spelled.replace(" ⁇", "⁇").split() == decoder.text([text.tokens])[0].split() or "<unk>" in spelled
        assert decoder.pieces([0, 1, 10_000]) == ["", "", ""]  # what pads, ends, or only fills the vocabulary


def test_decoders_that_do_not_say_what_they_look_at(bundle_copy: Path, loaded: Bundle) -> None:
    clip = random_poses(0)
    for name in ("decoder_model.onnx", "decoder_with_past_model.onnx"):
        model = onnx.load(bundle_copy / name)
        outputs = [output for output in model.graph.output if output.name != CROSS_ATTENTION]
        del model.graph.output[:]
        model.graph.output.extend(outputs)
        onnx.save(model, bundle_copy / name)
    old = Bundle(bundle_copy, loaded.manifest)
    for way in DECODER_BACKENDS:
        assert not Translator(old, generation=way).decoder.gives_attention
        assert all(piece.start is None for piece in Translator(old, generation=way).translate(clip).pieces)
        with pytest.raises(BundleError, match=r"there are no piece times; export it again"):
            Translator(old, generation=way, piece_times=True)


def test_pieces_have_times_in_the_clip(loaded: Bundle) -> None:
    translator = Translator(loaded, piece_times=True)
    clips = [random_poses(seed, frames) for seed, frames in enumerate([30, 5, 150])]  # the last is thinned
    for clip, translation in zip(clips, translator.translate_poses(clips), strict=True):
        assert translation.pieces
        for piece in translation.pieces:
            assert piece.start is not None and piece.end is not None
            assert 0 <= piece.start < piece.end <= clip.duration + 1e-6
        (alone,) = translator.translate_poses([clip])
        assert [(p.start, p.end) for p in alone.pieces] == [(p.start, p.end) for p in translation.pieces]


def test_the_shortest_stretch_with_half_of_the_weight() -> None:
    rng = np.random.default_rng(0)
    attention = rng.dirichlet(np.full(12, 0.3), size=50).astype(np.float32)
    for weights, (first, last) in zip(attention, looked_at(attention), strict=True):
        assert weights[first : last + 1].sum() >= 0.5 * weights.sum() - 1e-5
        for length in range(1, last - first + 1):
            sums = np.convolve(weights, np.ones(length), "valid")
            assert sums.max() < 0.5 * weights.sum() + 1e-5
    assert looked_at(np.array([[1.0]], np.float32)) == [(0, 0)]
