"""Text is spelled as transformers' tokenizer spells it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_bundle import TinyBundle

from signet_runtime.errors import BundleError
from signet_runtime.generation.tokenizer import Tokenizer

KINDS: dict[str, dict[str, Any]] = {
    "as exported": {"extra_ids": 0, "legacy": False},
    "sentinels": {"extra_ids": 3},
    "no prefix": {"extra_ids": 0, "legacy": False, "add_prefix_space": False},
    "cleaned up": {"extra_ids": 0, "clean_up_tokenization_spaces": True},
}
ADDED = ["<sign>", "."]


@pytest.fixture(scope="module", params=[*KINDS, "bytes", "added"])
def both(
    request: pytest.FixtureRequest, tiny: TinyBundle, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Tokenizer]:
    """transformers' tokenizer, saved as an export saves it, and ours, which reads what it saved."""
    from transformers import T5Tokenizer

    directory = tmp_path_factory.mktemp("tokenizer")
    model = tiny.path / "spiece.model" if request.param != "bytes" else _with_bytes(directory)
    theirs = T5Tokenizer(str(model), **KINDS.get(request.param, {"extra_ids": 0, "legacy": False}))
    if request.param == "added":
        theirs.add_tokens(ADDED)
        theirs.add_special_tokens({"additional_special_tokens": ["<hidden>"]})
    theirs.save_pretrained(directory / "saved")
    return theirs, Tokenizer.read(directory / "saved")


def _with_bytes(directory: Path) -> Path:
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["hand . , ? n't 's water", "ä ö 你 好"] * 4),
        model_prefix=str(directory / "bytes"),
        vocab_size=300,
        hard_vocab_limit=False,
        byte_fallback=True,
        character_coverage=0.98,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return directory / "bytes.model"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_texts_are_transformers(both: tuple[Any, Tokenizer], data: st.DataObject) -> None:
    theirs, ours = both
    ids = data.draw(st.lists(st.integers(0, len(theirs) + 5), max_size=12))
    known = [i for i in ids if i < len(theirs)]  # mT5's vocabulary is larger than its tokenizer's
    assert ours.decode(ids) == theirs.batch_decode([known], skip_special_tokens=True)[0].strip()


def test_words_come_back(both: tuple[Any, Tokenizer]) -> None:
    theirs, ours = both
    assert ours.decode(theirs("water hand").input_ids) == "water hand"


def test_a_tokenizer_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match=r"spiece\.model"):
        Tokenizer.read(tmp_path)
