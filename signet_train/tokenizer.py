"""A small SentencePiece vocabulary of its own for a model that does not start from a pretrained mT5."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece
from transformers import T5Tokenizer

from signet_runtime.errors import ConfigError

_OTHERS = 4  # pad, end, unknown, the word boundary


def characters_of(texts: Iterable[str]) -> list[str]:
    """Return the characters of texts that are no space, sorted."""
    return sorted({character for text in texts for character in text if not character.isspace()})


def pieces_for(characters: Sequence[str]) -> int:
    """Return how many pieces `train_tokenizer` makes."""
    return len(characters) + _OTHERS


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> T5Tokenizer:
    """Make one piece of each character of the texts, with mT5's ids: pad 0, end of sentence 1, unknown 2.

    Raises:
        ConfigError: the texts have more characters than the model's vocabulary has room for.
    """
    characters = characters_of(texts)
    pieces = pieces_for(characters)
    if pieces > vocab_size:
        raise ConfigError(
            f"model.language_model.vocab_size is {vocab_size}, and the texts' characters make {pieces} pieces"
        )
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(characters),
        model_writer=model,
        model_type="char",
        vocab_size=pieces,
        character_coverage=1.0,
        normalization_rule_name="nfkc",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "spiece.model")
        path.write_bytes(model.getvalue())
        return T5Tokenizer(str(path), extra_ids=0, legacy=False)
