"""Configurations of runs that take a second: a model of a few thousand weights on a few spelled words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from signet_train.config import TrainConfig
from signet_train.data.manifest import Row, write_manifest
from signet_train.data.spelled.corpus import spelling_rows

MODEL: dict[str, Any] = {
    "backbone": {"input_channels": 4, "spatial_channels": [4, 8], "temporal_channels": [8], "embedding": 16},
    "language_model": {
        "vocab_size": 64,
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 32,
        "num_layers": 1,
        "num_heads": 2,
        "dropout": 0.0,
    },
}
FUSION = {"adapter_rank": 2, "query_hidden": 8, "router_hidden": 8, "adapter_dropout": 0.0}


def words(path: Path, *, train: int = 24, dev: int = 6, sign_languages: tuple[str, ...] = ("ase", "gsg")) -> Path:
    """A manifest of spelled words; ids and words are the same in every run."""
    rows: list[Row] = []
    for sign_language in sign_languages:
        listed = list(spelling_rows((sign_language,), max_letters=4, words_each=train, redrawn=None, seed=0))
        rows += [row for row in listed if row.split == "train"]
        rows += [row for row in listed if row.split == "dev"][:dev]
    write_manifest(path, rows)
    return path


def config(stage: str, manifest: Path, **changes: Any) -> TrainConfig:
    """``data`` and ``optimisation`` in ``changes`` are added to, all else is replaced."""
    settings: dict[str, Any] = {
        "stage": stage,
        "model": MODEL if stage == "pretrain" else {**MODEL, "fusion": FUSION},
        "tokenize": "char",
        "card": {"num_beams": 1, "max_new_tokens": 6},
    }
    data = {"manifests": [manifest], "frame_rate": 6.25, "workers": 0}
    optimisation = {"epochs": 2, "batch_size": 8, "accumulation": 1, "lr": 1e-2}
    given = {**settings, **changes}
    given["data"] = {**data, **changes.get("data", {})}
    given["optimisation"] = {**optimisation, **changes.get("optimisation", {})}
    return TrainConfig.model_validate(given)
