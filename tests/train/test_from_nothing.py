"""A model that starts from no pretrained mT5: it is said, sized by what there is, and no character is lost."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from keypoint_corpus import corpus
from tiny_runs import MODEL, config

from signet_runtime.errors import InputError
from signet_train.config import LanguageModelConfig
from signet_train.data.manifest import read_manifest, write_manifest
from signet_train.stages import run as stage
from signet_train.stages.assemble import new_expert
from signet_train.stages.plan import plan_stage

UNSIZED = {**MODEL, "language_model": {k: v for k, v in MODEL["language_model"].items() if k != "vocab_size"}}


def with_texts(manifest: Path, texts: dict[str, str]) -> None:
    """Give all rows of a split another text."""
    rows = read_manifest(manifest).rows
    write_manifest(manifest, [replace(row, text=texts.get(row.split, row.text)) for row in rows])


@pytest.mark.parametrize("seed", range(3))
def test_characters_of_every_split_have_a_piece(tmp_path: Path, seed: int) -> None:
    letters = np.random.default_rng(seed).permutation([chr(c) for c in range(0x4E00, 0x4E40)]).tolist()
    texts = {"train": "".join(letters[:20]), "dev": "".join(letters[20:25]), "test": "".join(letters[25:30])}
    manifest = corpus(tmp_path)
    with_texts(manifest, texts)
    expert = new_expert(plan_stage(config("pretrain", manifest, model=UNSIZED)), "expert")
    for text in texts.values():
        ids = expert.tokenizer(text).input_ids
        assert expert.tokenizer.unk_token_id not in ids
        assert expert.tokenizer.decode(ids, skip_special_tokens=True) == text


def test_the_vocabulary_is_as_large_as_the_texts_need(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = corpus(tmp_path)
    with caplog.at_level(logging.INFO):
        expert = new_expert(plan_stage(config("pretrain", manifest, model=UNSIZED)), "expert")
    pieces = len(expert.tokenizer)
    size = expert.config.model.language_model.vocab_size
    assert pieces <= size < pieces + 8 and size < LanguageModelConfig().vocab_size
    assert expert.model.language_model.shared.weight.shape[0] == size
    characters = len({c for row in read_manifest(manifest).rows for c in row.text})
    assert f"mt5 is not set: a vocabulary of the corpus's {characters} characters" in caplog.text
    # A size that is stated stays.
    assert plan_stage(config("pretrain", manifest)).config.model.language_model.vocab_size == 64


def test_the_next_stage_takes_the_size_from_what_it_starts_from(tmp_path: Path) -> None:
    manifest = corpus(tmp_path)
    first = stage.run_stage(
        config("pretrain", manifest, model=UNSIZED, optimisation={"epochs": 1}), tmp_path / "e", "cpu"
    )
    assert first.steps == 1
    fused = config("finetune", manifest, experts=[tmp_path / "e" / "best"], model={**UNSIZED, "fusion": {"top_k": 1}})
    assert plan_stage(fused).config.model.language_model.vocab_size < 64


def test_too_few_samples_are_said_before_a_model_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signet_train.stages.assemble.Signet", lambda *_: pytest.fail("was built"))
    settings = config("pretrain", corpus(tmp_path), optimisation={"batch_size": 8, "accumulation": 4})
    with pytest.raises(InputError, match=r"has 8 samples, and a step takes 32 .* --set optimisation\.accumulation=1"):
        stage.run_stage(settings, tmp_path / "run", "cpu")
