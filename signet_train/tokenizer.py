"""A small SentencePiece vocabulary of its own for models that spell."""

from __future__ import annotations

import io
from pathlib import Path

import sentencepiece
from transformers import T5Tokenizer

from signet_train.data.fingerspelling import SIGN_LANGUAGES, lexicon


def build_character_tokenizer(directory: Path) -> T5Tokenizer:
    """One piece per letter of the demo's alphabets, with mT5's ids: pad 0, end of sentence 1, unknown 2."""
    letters = sorted({letter for language in SIGN_LANGUAGES for part in lexicon()[language] for letter in part})
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(letters),
        model_writer=model,
        model_type="char",
        vocab_size=len(letters) + 4,  # and pad, end, unknown, the word boundary
        character_coverage=1.0,
        normalization_rule_name="nfkc",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "spiece.model"
    path.write_bytes(model.getvalue())
    return T5Tokenizer(str(path), extra_ids=0, legacy=False)
