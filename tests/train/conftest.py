"""A small corpus, and two experts that were pretrained on its two alphabets."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_runs import config, words

from signet_train.stages.run import run_stage


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return words(tmp_path_factory.mktemp("data") / "words.jsonl")


@pytest.fixture(scope="session")
def experts(tmp_path_factory: pytest.TempPathFactory, manifest: Path) -> list[Path]:
    root = tmp_path_factory.mktemp("experts")
    for name, sign_language in (("one", "ase"), ("two", "gsg")):
        run_stage(config("pretrain", manifest, data={"sign_languages": [sign_language]}), root / name, "cpu")
    return [root / "one" / "best", root / "two" / "best"]
