"""A trimmed vocabulary: less of everything that is vocabulary, and the same text."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
import wordfreq
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2
from transformers import T5Tokenizer
from transformers.modeling_outputs import BaseModelOutput

import signet_export.vocabulary as vocabulary
from signet_export.vocabulary import Trimmed, agreement, pieces, pieces_of_corpus, pieces_of_languages, trim
from signet_runtime.engines.random_clips import random_clips
from signet_runtime.errors import BundleError, CheckpointError, InputError
from signet_train.checkpoint import Checkpoint, ExpertCard, load_checkpoint, save_checkpoint
from signet_train.config import TrainConfig
from signet_train.data.batches.collate import pad_regions
from signet_train.model.signet import Signet
from signet_train.tokenizer import train_tokenizer

_PIECES = 900
_ROWS = 1_024  # of the model: like mT5's, more than the tokenizer has pieces
_CONFIG = {
    "stage": "finetune",
    "data": {"manifests": ["words.jsonl"], "frame_rate": 6.25},
    "card": {"name": "tiny", "language": "de", "max_new_tokens": 8},
    "model": {
        "backbone": {"input_channels": 4, "spatial_channels": [4, 8], "temporal_channels": [8, 8], "embedding": 16},
        "fusion": {"adapter_rank": 2, "query_hidden": 8, "router_hidden": 8},
        "language_model": {
            "vocab_size": _ROWS,
            "d_model": 16,
            "d_kv": 8,
            "d_ff": 32,
            "num_layers": 1,
            "num_heads": 2,
            "prompt": "translate to German: ",
        },
    },
}
_PIECE = sentencepiece_model_pb2.ModelProto.SentencePiece


def _unigram(tmp_path: Path, legacy: bool = False, **options: object) -> T5Tokenizer:
    """Of mT5's kind: unigram, with bytes for what it does not know, and sentinels at the end of the model."""
    words = wordfreq.top_n_list("de", 3_000) + wordfreq.top_n_list("en", 1_000)
    model = io.BytesIO()
    settings = {
        "model_type": "unigram",
        "vocab_size": _PIECES,
        "byte_fallback": True,
        "character_coverage": 0.9999,
        "normalization_rule_name": "nmt_nfkc",
        "pad_id": 0,
        "eos_id": 1,
        "unk_id": 2,
        "bos_id": -1,
        "minloglevel": 2,
        **options,
    }
    texts = (" ".join(w.capitalize() if i % 3 == 0 else w for w in words[i : i + 8]) for i in range(0, 4_000, 4))
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=texts, model_writer=model, **settings)
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    for i in range(10):
        proto.pieces.add(piece=f"▁<extra_id_{9 - i}>", score=0.0, type=_PIECE.USER_DEFINED)
    path = tmp_path / "spiece.model"
    path.write_bytes(proto.SerializeToString())
    return T5Tokenizer(str(path), extra_ids=0, legacy=legacy)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> T5Tokenizer:
    return _unigram(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def checkpoint(tokenizer: T5Tokenizer) -> Checkpoint:
    torch.manual_seed(0)
    config = TrainConfig.model_validate(_CONFIG)
    model = Signet(config.model, 2).eval()
    with torch.no_grad():  # so that what is written depends on what is seen
        model.language_model.lm_head.weight.mul_(4)
        for name, parameter in model.language_model.named_parameters():
            if "EncDecAttention" in name:
                parameter.mul_(6)
    cards = [
        ExpertCard(name=n, sign_languages=(n,), corpus="none", source="test", backbone=config.model.backbone)
        for n in ("ase", "gsg")
    ]
    return Checkpoint(model, cards, tokenizer, config)


@pytest.fixture(scope="module")
def clips() -> list[dict[str, np.ndarray]]:
    return random_clips([int(n) for n in np.random.default_rng(0).integers(3, 20, 16)], np.random.default_rng(1))


@pytest.fixture(scope="module")
def written(checkpoint: Checkpoint, clips: list[dict[str, np.ndarray]]) -> list[list[int]]:
    """What the full model writes, greedily."""
    padded, mask = pad_regions(clips)
    return checkpoint.model.generate(checkpoint.model.features(padded, mask), mask, 1, 6).tolist()


@pytest.fixture(scope="module")
def trimmed(checkpoint: Checkpoint, written: list[list[int]]) -> Trimmed:
    """Kept are the pieces of the first half of the clips' texts and those of a few words."""
    keep = {token for row in written[:8] for token in row}
    return trim(checkpoint, keep | {i for ids in checkpoint.tokenizer(["der die das Haus"]).input_ids for i in ids})


def test_the_encoder_is_the_same(checkpoint: Checkpoint, trimmed: Trimmed, clips: list[dict[str, np.ndarray]]) -> None:
    padded, mask = pad_regions(clips[:6])
    with torch.no_grad():
        before, after = checkpoint.model(padded, mask), trimmed.checkpoint.model(padded, mask)
    assert len(checkpoint.model.prompt) > 2
    assert before.hidden_states.shape[1] == mask.shape[1] + len(checkpoint.model.prompt)
    assert torch.equal(before.hidden_states, after.hidden_states)
    assert torch.equal(before.routing_weights, after.routing_weights)


def test_the_logits_of_what_is_kept_are_the_same(checkpoint: Checkpoint, trimmed: Trimmed) -> None:
    ids = torch.tensor(trimmed.ids)
    states, new = torch.randn(4, 11, 16), torch.randint(0, len(ids), (4, 7))
    logits = []
    for model, tokens in ((checkpoint.model, ids[new]), (trimmed.checkpoint.model, new)):
        encoded = BaseModelOutput(states)  # type: ignore[arg-type]
        with torch.no_grad():
            logits.append(model.language_model(encoder_outputs=encoded, decoder_input_ids=tokens).logits)
    assert logits[1].shape == (4, 7, len(ids))
    assert (logits[0][..., ids] - logits[1]).abs().max() <= 1e-6


def test_texts_of_kept_pieces_come_out_unchanged(
    checkpoint: Checkpoint, trimmed: Trimmed, clips: list[dict[str, np.ndarray]], written: list[list[int]]
) -> None:
    small = trimmed.checkpoint
    padded, mask = pad_regions(clips)
    rows = small.model.generate(small.model.features(padded, mask), mask, 1, 6)
    kept = [i for i, row in enumerate(written) if set(row) <= set(trimmed.ids)]
    assert len(kept) >= 8
    assert len({tuple(written[i]) for i in kept}) > 5, "the model writes the same whatever it sees"
    for i in kept:
        before = checkpoint.tokenizer.decode(written[i], skip_special_tokens=True)
        assert small.tokenizer.decode(rows[i], skip_special_tokens=True) == before
    report = agreement(checkpoint.model, trimmed, clips, num_beams=4, max_new_tokens=6)
    assert (report.clips, report.kept) == (16, len(kept))
    assert 0 < report.same_with_beams <= report.kept_with_beams <= 16


def test_a_text_that_comes_out_otherwise_is_an_error(
    checkpoint: Checkpoint, written: list[list[int]], clips: list[dict[str, np.ndarray]]
) -> None:
    wrong = trim(checkpoint, {token for row in written for token in row})
    with torch.no_grad():
        wrong.checkpoint.model.language_model.lm_head.weight[5:].neg_()
    with pytest.raises(BundleError, match="come out otherwise; nothing was written"):
        agreement(checkpoint.model, wrong, clips, num_beams=2, max_new_tokens=6)


def test_ids_mean_what_they_meant(checkpoint: Checkpoint, trimmed: Trimmed) -> None:
    before, after = checkpoint.tokenizer, trimmed.checkpoint.tokenizer
    assert trimmed.ids[:3] == (0, 1, 2)
    assert list(trimmed.ids) == sorted(set(trimmed.ids))
    assert len(after) == after.vocab_size == len(trimmed.ids) < _PIECES
    assert (after.pad_token_id, after.eos_token_id, after.unk_token_id) == (0, 1, 2)
    for new, old in enumerate(trimmed.ids):
        assert after.convert_ids_to_tokens(new) == before.convert_ids_to_tokens(old)
        assert after.sp_model.get_score(new) == before.sp_model.get_score(old)
        assert after.decode([new]) == before.decode([old])
    assert all(after.sp_model.is_byte(after.sp_model.piece_to_id(f"<0x{i:02X}>")) for i in range(256))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=20), st.integers(0, 2**32 - 1))
def test_a_text_of_kept_pieces_is_cut_as_before(checkpoint: Checkpoint, text: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = wordfreq.top_n_list("de", 2_000)
    text = f"{' '.join(rng.choice(words, 4))} {text} {' '.join(rng.choice(words, 2)).title()}"
    before = checkpoint.tokenizer(text).input_ids
    others = rng.choice(_PIECES, 30)
    small = trim(checkpoint, {*before, *others.tolist()})
    after = small.checkpoint.tokenizer(text).input_ids
    assert [small.ids[i] for i in after] == before
    assert small.checkpoint.tokenizer.decode(after) == checkpoint.tokenizer.decode(before)


def test_pieces_that_go_do_not_make_the_unknown_likelier(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """SentencePiece scores an unknown character by the lowest of all scores, which may be that of a piece that goes."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(checkpoint.tokenizer.sp_model.serialized_model_proto())
    for piece, score in {"▁αβ": -50, "γδ": -50, "▁αβγ": -1, "δ": -1000}.items():
        proto.pieces.add(piece=piece, score=score, type=_PIECE.NORMAL)
    path = tmp_path / "spiece.model"
    path.write_bytes(proto.SerializeToString())
    tokenizer = T5Tokenizer(str(path), extra_ids=0, legacy=False)
    assert tokenizer.tokenize("αβγδ") == ["▁αβ", "γδ"]
    greek = Checkpoint(checkpoint.model, checkpoint.experts, tokenizer, checkpoint.config)
    small = trim(greek, set(tokenizer.convert_tokens_to_ids(["▁αβ", "γδ", "▁αβγ"])))
    assert small.checkpoint.tokenizer.tokenize("αβγδ") == ["▁αβ", "γδ"]
    checkpoint.model.read_prompt(checkpoint.tokenizer)


def test_sentinels_go(checkpoint: Checkpoint, tmp_path: Path) -> None:
    _unigram(tmp_path)
    tokenizer = T5Tokenizer(str(tmp_path / "spiece.model"), extra_ids=20, legacy=False)
    assert len(tokenizer) == _PIECES + 30
    sentinels = Checkpoint(checkpoint.model, checkpoint.experts, tokenizer, checkpoint.config)
    small = trim(sentinels, {700, 701, _PIECES + 15, _ROWS - 1})
    assert {700, 701} < set(small.ids)
    assert max(small.ids) < _PIECES
    assert len(small.checkpoint.tokenizer) == len(small.ids)
    checkpoint.model.read_prompt(checkpoint.tokenizer)


def test_the_given_checkpoint_stays_as_it_is(checkpoint: Checkpoint, trimmed: Trimmed) -> None:
    language_model = checkpoint.model.language_model
    for config in (language_model.config, language_model.encoder.config, language_model.decoder.config):
        assert config.vocab_size == _ROWS
    assert language_model.shared.weight.shape == language_model.lm_head.weight.shape == (_ROWS, 16)
    assert (
        checkpoint.config.model.language_model.vocab_size == checkpoint.model.config.language_model.vocab_size == _ROWS
    )
    assert len(checkpoint.tokenizer) == _PIECES + 10
    tables = trimmed.checkpoint.model.language_model
    assert tables.encoder.embed_tokens.weight is tables.decoder.embed_tokens.weight is tables.shared.weight


def test_it_says_what_it_saves(trimmed: Trimmed) -> None:
    small, rows = trimmed.checkpoint.model.language_model, len(trimmed.ids)
    assert small.shared.weight.shape == small.lm_head.weight.shape == (rows, 16)
    assert (trimmed.rows, trimmed.bytes_before, trimmed.bytes) == (_ROWS, 2 * _ROWS * 16 * 4, 2 * rows * 16 * 4)
    assert f"{rows:,} of 1,024 pieces kept" in str(trimmed)


def test_it_survives_the_round_trip(trimmed: Trimmed, clips: list[dict[str, np.ndarray]], tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint", trimmed.checkpoint)
    again = load_checkpoint(tmp_path / "checkpoint")
    rows = len(trimmed.ids)
    assert again.config == trimmed.checkpoint.config
    assert again.config.model.language_model.vocab_size == again.model.language_model.config.vocab_size == rows
    for name, value in trimmed.checkpoint.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name
    text = "Das ist der Preis: 42 € für größere Häuser, 漢字 <unk> "
    assert again.tokenizer(text).input_ids == trimmed.checkpoint.tokenizer(text).input_ids
    padded, mask = pad_regions(clips[:4])
    with torch.no_grad():
        states = again.model(padded, mask).hidden_states
    assert torch.equal(states, trimmed.checkpoint.model(padded, mask).hidden_states)


def test_a_vocabulary_of_characters_can_be_trimmed(checkpoint: Checkpoint) -> None:
    tokenizer = train_tokenizer(["abcdefghijklmnopqrstuvwxyz translate to German:"], _ROWS)
    spelled = Checkpoint(checkpoint.model, checkpoint.experts, tokenizer, checkpoint.config)
    small = trim(spelled, set(tokenizer("face bad").input_ids))
    assert small.checkpoint.tokenizer.decode(small.checkpoint.tokenizer("bad face").input_ids) == "bad face</s>"
    assert small.checkpoint.tokenizer("x").input_ids[-2] == 2
    checkpoint.model.read_prompt(checkpoint.tokenizer)


def _tests_itself(model: bytes) -> bool:
    """Whether the model has `self_test_data`, which newer releases of sentencepiece read as an unknown field."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    whole = proto.ByteSize()
    if "self_test_data" in proto.DESCRIPTOR.fields_by_name:
        proto.ClearField("self_test_data")
    proto.DiscardUnknownFields()
    return proto.ByteSize() < whole


def test_a_model_that_tests_itself_can_be_trimmed(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "spiece.model"
    pieces = " ".join(_unigram(tmp_path).sp_model.encode("Abend", out_type=str))
    # Newer trainers write none, and published models have some: field 4, with a sample of a text and its pieces.
    sample = b"\x0a\x05Abend\x12" + bytes([len(pieces.encode())]) + pieces.encode()
    samples = b"\x0a" + bytes([len(sample)]) + sample
    path.write_bytes(path.read_bytes() + b"\x22" + bytes([len(samples)]) + samples)
    assert _tests_itself(path.read_bytes())
    tokenizer = T5Tokenizer(str(path), extra_ids=0, legacy=False)
    tested = Checkpoint(checkpoint.model, checkpoint.experts, tokenizer, checkpoint.config)
    text = "Das ist ein Haus"
    small = trim(tested, set(tokenizer(text).input_ids))
    assert not _tests_itself(small.checkpoint.tokenizer.sp_model.serialized_model_proto())
    assert [small.ids[i] for i in small.checkpoint.tokenizer(text).input_ids] == tokenizer(text).input_ids
    checkpoint.model.read_prompt(checkpoint.tokenizer)


def test_pieces_of_a_corpus_are_those_of_its_lines(
    tokenizer: T5Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "_LINES", 2)
    lines = ["Guten Abend", "", "und nun das Wetter", "漢", "morgen 12 Grad\u2028und Regen"]
    path = tmp_path / "corpus.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    expected = {i for line in lines for i in tokenizer(line, add_special_tokens=False).input_ids}
    assert pieces(tokenizer, str(path)) == pieces_of_corpus(tokenizer, path) == expected


def test_a_corpus_that_is_of_no_use_is_one_line(tokenizer: T5Tokenizer, tmp_path: Path) -> None:
    bad = {
        "cannot be read": None,
        "empty": b" \n\n",
        "line 3 is not UTF-8": "gut\ngut\nsch\u00f6n\n".encode("latin-1"),
        "none of the model's pieces": "漢字\n".encode(),
    }
    for i, (message, contents) in enumerate(bad.items()):
        path = tmp_path / f"{i}.txt"
        if contents is not None:
            path.write_bytes(contents)
        with pytest.raises(InputError, match=message) as error:
            pieces_of_corpus(tokenizer, path)
        assert str(path) in str(error.value)
        assert len(str(error.value).splitlines()) == 1
    with pytest.raises(InputError, match="cannot be read"):
        pieces_of_corpus(tokenizer, tmp_path)


def test_a_language_can_be_written_with_its_pieces(checkpoint: Checkpoint) -> None:
    tokenizer = checkpoint.tokenizer
    kept = pieces_of_languages(tokenizer, ["de"])
    frequent = wordfreq.top_n_list("de", 8_000)
    text = [" ".join(frequent[i::40]) for i in range(40)] + ["Haus, Straße (1984)! Was? Für 20 €: „nichts“."]
    used = {i for ids in tokenizer(text, add_special_tokens=False).input_ids for i in ids}
    known = {i for i in used if not tokenizer.sp_model.is_byte(i)}
    numbers = {i for w in frequent if any(c.isdigit() for c in w) for i in tokenizer(w).input_ids}
    assert known - numbers <= kept
    assert not any(tokenizer.sp_model.id_to_piece(i).startswith("▁<extra_id") for i in kept)
    small = trim(checkpoint, kept)
    sentence = "Heute Abend wird es kälter, 12 Grad."
    again = small.checkpoint.tokenizer(sentence).input_ids
    assert [small.ids[i] for i in again] == tokenizer(sentence).input_ids


def test_languages_add_up(tokenizer: T5Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "WORDS", 500)
    german, english = pieces_of_languages(tokenizer, ["de"]), pieces_of_languages(tokenizer, ["en"])
    assert pieces(tokenizer, "lang:de,en") == german | english
    assert german - english
    assert english - german
    assert pieces_of_languages(tokenizer, ["de-CH"]) == german


@pytest.mark.parametrize("language", ["xx", "", "klingon", "br"])
def test_an_unknown_language_names_those_there_are(tokenizer: T5Tokenizer, language: str) -> None:
    with pytest.raises(InputError, match=r"no word list; there are ar bg bn .* de .* zh;") as error:
        pieces(tokenizer, f"lang:{language}")
    assert len(str(error.value).splitlines()) == 1


def test_a_language_of_another_script_is_an_error(tokenizer: T5Tokenizer) -> None:
    with pytest.raises(InputError, match="lang:he: the model's vocabulary lacks its letters"):
        pieces_of_languages(tokenizer, ["he"])


def test_what_cannot_be_trimmed_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    def with_tokenizer(tokenizer: T5Tokenizer) -> Checkpoint:
        return Checkpoint(checkpoint.model, checkpoint.experts, tokenizer, checkpoint.config)

    bpe = _unigram(tmp_path, model_type="bpe")
    with pytest.raises(CheckpointError, match="its kind is BPE"):
        trim(with_tokenizer(bpe), {5})
    added = _unigram(tmp_path)
    added.add_tokens(["[gloss]"])
    with pytest.raises(CheckpointError, match=r"tokens were added .*\[gloss\]"):
        trim(with_tokenizer(added), {5})
    search = checkpoint.model.language_model.generation_config
    search.suppress_tokens = [17]
    with pytest.raises(CheckpointError, match="suppress_tokens"):
        trim(checkpoint, {5})
    search.suppress_tokens, search.forced_eos_token_id = None, 17
    with pytest.raises(CheckpointError, match="forced_eos_token_id is 17"):
        trim(checkpoint, {5})
    search.forced_eos_token_id = None
    checkpoint.model.read_prompt(checkpoint.tokenizer)
