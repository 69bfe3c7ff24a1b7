"""Of what a generation's configuration may say nothing is ignored silently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from signet_runtime.errors import BundleError
from signet_runtime.generation.settings import SearchSettings

PLAIN = {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}


def read(directory: Path, **contents: Any) -> SearchSettings:
    (directory / "generation_config.json").write_text(json.dumps(PLAIN | contents))
    return SearchSettings.read(directory)


def test_what_transformers_writes_by_default_is_read(tmp_path: Path) -> None:
    from transformers import GenerationConfig

    GenerationConfig(**PLAIN).save_pretrained(tmp_path)
    assert SearchSettings.read(tmp_path) == SearchSettings(**PLAIN)


def test_every_setting_of_transformers_is_known(tmp_path: Path) -> None:
    from transformers import GenerationConfig

    defaults = GenerationConfig().to_dict()
    assert len(defaults) > 50
    assert read(tmp_path, **{n: v for n, v in defaults.items() if n not in PLAIN}) == SearchSettings(**PLAIN)


@pytest.mark.parametrize(
    "setting",
    [
        {"do_sample": True},
        {"no_repeat_ngram_size": 3},
        {"repetition_penalty": 1.2},
        {"bad_words_ids": [[3]]},
        {"forced_eos_token_id": 1},
        {"forced_bos_token_id": 5},
        {"suppress_tokens": [4]},
        {"num_beam_groups": 2},
        {"begin_suppress_tokens": [4]},
        {"penalty_alpha": 0.6},
        {"num_return_sequences": 2},
        {"stop_strings": ["."]},
        {"exponential_decay_length_penalty": [5, 1.1]},
        {"renormalize_logits": True},
        {"sequence_bias": [[[3], 1.0]]},
        {"something_new": 1},
    ],
    ids=str,
)
def test_what_it_does_not_have_is_refused_by_name(tmp_path: Path, setting: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=r"use --generation optimum$") as raised:
        read(tmp_path, **setting)
    ((name, value),) = setting.items()
    assert f"{name} {json.dumps(value)}" in str(raised.value)
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_settings_without_an_effect_may_be_there(tmp_path: Path) -> None:
    harmless = {"temperature": 0.7, "top_k": 5, "num_beams": 3, "max_length": 9, "_from_model_config": True}
    neutral = {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "num_beam_groups": 1, "bad_words_ids": None}
    assert read(tmp_path, **harmless, **neutral) == SearchSettings(**PLAIN)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"early_stopping": "sometimes"}, "early_stopping"),
        ({"length_penalty": "long"}, "length_penalty"),
        ({"eos_token_id": "</s>"}, "eos_token_id"),
        ({"decoder_start_token_id": None}, "decoder_start_token_id"),
    ],
)
def test_values_that_make_no_sense(tmp_path: Path, setting: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message) as raised:
        read(tmp_path, **setting)
    assert "\n" not in str(raised.value)


def test_ends_marks_and_the_start() -> None:
    several = SearchSettings(decoder_start_token_id=7, eos_token_id=(1, 5))
    assert several.ends == (1, 5)
    assert several.marks == {1, 5, 7}
    assert SearchSettings(decoder_start_token_id=0).ends == ()
    assert [
        SearchSettings(decoder_start_token_id=0, min_length=length, min_new_tokens=new).earliest_end
        for length, new in ((0, None), (6, None), (6, 2))
    ] == [1, 6, 3]


def test_the_beginning_of_a_text_starts_one_that_has_no_start(tmp_path: Path) -> None:
    assert read(tmp_path, decoder_start_token_id=None, bos_token_id=3).decoder_start_token_id == 3
