"""`fast` writes what transformers writes, whatever the search is asked for."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from signet_runtime.bundle import Bundle
from signet_runtime.engines.encoder import HostEncoded
from signet_runtime.engines.session import create_session
from signet_runtime.generation import DECODER_BACKENDS, TextDecoder, load_text_decoder
from signet_runtime.generation.candidates import likeliest
from signet_runtime.generation.fast import FastDecoder
from signet_runtime.generation.memory import DeviceMemory
from signet_runtime.generation.search import Candidates, beam_search, greedy_search
from signet_runtime.generation.settings import SearchSettings
from signet_runtime.generation.tokenizer import Tokenizer

LIMIT, CLIPS = 20, 5
LATER = "decoder_with_past_model.onnx"
# Any token may be made the one that ends a text: some are likely at once, others late or never.
SEARCHES: list[dict[str, Any]] = [
    {"eos_token_id": 5},
    {"eos_token_id": 11, "length_penalty": 0.0},
    {"eos_token_id": 23, "length_penalty": 2.0},
    {"eos_token_id": 5, "length_penalty": -1.0},
    {"eos_token_id": 23, "early_stopping": True},
    {"eos_token_id": 11, "early_stopping": "never"},
    {"eos_token_id": 5, "early_stopping": "never", "length_penalty": 0.0},
    {"eos_token_id": 23, "min_length": 6},
    {"eos_token_id": 5, "min_new_tokens": 5, "early_stopping": True},
    {"eos_token_id": [1, 9, 17]},
    {"eos_token_id": [5, 23], "early_stopping": True, "length_penalty": 0.5, "min_length": 3},
    {"eos_token_id": None},
]


def ragged(seed: int) -> HostEncoded:
    """Encoder states of clips of different lengths, padded."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 40, CLIPS)
    states = rng.normal(0, 2, (CLIPS, lengths.max(), 32)).astype(np.float32)
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    return HostEncoded(states, mask, np.ones((CLIPS, 1), np.float32))


def decoders(bundle: Bundle, directory: Path, search: dict[str, Any]) -> dict[str, TextDecoder]:
    """Both ways over one bundle whose search is asked for something."""
    copied = Bundle(Path(shutil.copytree(bundle.path, directory)), bundle.manifest)
    path = directory / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | search))
    encoder = create_session(copied.file("encoder.onnx"), "cpu")
    return {way: load_text_decoder(copied, copied.engine(), "cpu", encoder, way) for way in DECODER_BACKENDS}


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_tokens_are_optimums(loaded: Bundle, tmp_path: Path, search: dict[str, Any]) -> None:
    ways = decoders(loaded, tmp_path / "bundle", search)
    lengths: Counter[int] = Counter()
    for seed, num_beams in enumerate((1, 2, 4, 5)):
        encoded = ragged(seed)
        expected = ways["optimum"].generate(encoded, num_beams, LIMIT)
        assert ways["fast"].generate(encoded, num_beams, LIMIT) == expected
        lengths.update(map(len, expected))
    # Or this would show little: texts end, and not all at the same time or at the limit.
    assert len(lengths) > 1 or search["eos_token_id"] is None
    assert sum(count for length, count in lengths.items() if length < LIMIT) > 1 or search["eos_token_id"] is None


@pytest.mark.parametrize("search", SEARCHES[:4], ids=str)
def test_tensors_may_stay_on_a_device(loaded: Bundle, tmp_path: Path, search: dict[str, Any]) -> None:
    on_host = decoders(loaded, tmp_path / "bundle", search)["fast"]
    sessions = [create_session(loaded.file(name), "cpu") for name in ("decoder_model.onnx", LATER)]
    # The way that a GPU's tensors take; here the device is the CPU.
    on_device = FastDecoder(
        *sessions,
        SearchSettings.read(tmp_path / "bundle"),
        Tokenizer.read(tmp_path / "bundle"),
        memory=DeviceMemory("CPUExecutionProvider", "cpu"),
    )
    for seed, num_beams in enumerate((1, 4)):
        encoded = ragged(seed)
        assert on_device.generate(encoded, num_beams, LIMIT) == on_host.generate(encoded, num_beams, LIMIT)
    alone = HostEncoded(
        *(value[:1] for value in (encoded.hidden_states, encoded.attention_mask, encoded.routing_weights))
    )
    assert on_device.generate(alone, 4, LIMIT) == on_host.generate(alone, 4, LIMIT)


def test_so_many_samples_are_compared() -> None:
    assert len(SEARCHES) * 4 * CLIPS >= 200


@pytest.mark.parametrize(("num_beams", "ends"), [(1, [3, 7, 11, 15, 19, 23, 27]), (4, [5, 11])])
def test_a_clip_alone_and_among_others(loaded: Bundle, tmp_path: Path, num_beams: int, ends: list[int]) -> None:
    decoder = decoders(loaded, tmp_path / "bundle", {"eos_token_id": ends, "length_penalty": 0.0})["fast"]
    encoded = ragged(7)
    together = decoder.generate(encoded, num_beams, LIMIT)
    for row, length in enumerate(encoded.attention_mask.sum(axis=1)):
        alone = HostEncoded(
            encoded.hidden_states[row : row + 1, :length],
            encoded.attention_mask[row : row + 1, :length],
            encoded.routing_weights[:1],
        )
        assert decoder.generate(alone, num_beams, LIMIT) == [together[row]]
    assert len({len(row) for row in together}) > 1  # some were done before others


@settings(max_examples=100, deadline=None)
@given(
    rows=st.integers(1, 3),
    vocabulary=st.integers(1, 3000),
    count=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([0.0, 0.5, 30.0]),
)
def test_the_likeliest_of_a_vocabulary(rows: int, vocabulary: int, count: int, seed: int, scale: float) -> None:
    logits = (np.random.default_rng(seed).standard_normal((rows, vocabulary)) * scale).astype(np.float32)
    found = likeliest(logits, count)
    exact = logits.astype(np.float64)
    log_probs = exact - exact.max(axis=1, keepdims=True)
    log_probs -= np.log(np.exp(log_probs).sum(axis=1, keepdims=True))
    expected = -np.sort(-log_probs, axis=1)[:, :count]
    np.testing.assert_allclose(found.log_probs, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(log_probs, found.tokens, axis=1), expected, rtol=1e-5, atol=1e-5)
    assert all(len(set(row)) == len(row) for row in found.tokens.tolist())


@given(hnp.arrays(np.float32, (2, 700), elements=st.sampled_from([-1.0, 0.0, 1.0])))
def test_of_equal_candidates_the_first_comes_first(logits: np.ndarray) -> None:
    assert likeliest(logits, 1).log_probs.shape == (2, 1)
    for row, tokens in zip(logits, likeliest(logits, 6).tokens, strict=True):
        values = row[tokens]
        assert (np.diff(values) <= 0).all()
        assert all(a < b for a, b, same in zip(tokens, tokens[1:], np.diff(values) == 0, strict=False) if same)


class Counting:
    """A decoder in which the token t is followed by t + 1, and 9 ends; remembers how many rows it was given."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, tokens: np.ndarray, rows: np.ndarray, count: int) -> Candidates:
        self.rows.append(len(rows))
        logits = np.full((len(tokens), 10), -5.0, np.float32)
        logits[np.arange(len(tokens)), np.minimum(tokens + 1, 9)] = 5.0
        return likeliest(logits, count)


def test_limits_and_marks() -> None:
    search = SearchSettings(decoder_start_token_id=4, eos_token_id=9)
    assert [text.tokens for text in greedy_search(Counting(), 2, search, 20)] == [[5, 6, 7, 8, 9]] * 2
    assert [text.tokens for text in greedy_search(Counting(), 1, search, 3)] == [[5, 6, 7]]
    assert [texts[0].tokens for texts in beam_search(Counting(), 2, search, 20, 3)] == [[5, 6, 7, 8, 9]] * 2
    assert [texts[0].tokens for texts in beam_search(Counting(), 1, search, 3, 3)] == [[5, 6, 7]]
    later = search.model_copy(update={"min_new_tokens": 7})
    for found in (greedy_search(Counting(), 1, later, 20)[0], beam_search(Counting(), 1, later, 20, 3)[0][0]):
        assert found.tokens[:4] == [5, 6, 7, 8]
        assert found.tokens.index(9) >= 7  # the eighth token at the earliest


def test_the_first_token_is_computed_once_a_clip() -> None:
    counting = Counting()
    beam_search(counting, 2, SearchSettings(decoder_start_token_id=4, eos_token_id=9), 20, 3)
    assert counting.rows[:2] == [2, 6]
