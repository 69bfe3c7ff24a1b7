"""What frozen experts make of a sample never changes: computed once, read by Stages II and III.

cache.json                           what the cache was made of; written last, so that a cache is whole or resumable
<split>/<view>/<shard>.safetensors   per row: embeddings (N, T, E) and priors (N, D)

A view is a sample as one epoch of uncached training would have seen it, noise, lost frames and all: view v is
epoch v's. Training goes through the views in turn, so a cache of as many views as epochs loses nothing, and a cache
of one shows every sample in the same noise every time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import Dataset

from signet_runtime.boundary import read_json, reading
from signet_runtime.errors import CheckpointError, OutputError, one_line
from signet_runtime.files import whole_file
from signet_train.config import TrainConfig
from signet_train.data.batches.dataset import LocatedRow, LocatedRows, target
from signet_train.data.batches.sampling import Key
from signet_train.ranges import Whole
from signet_train.settings import validated

SHARD = 256  # rows a file


@dataclass(frozen=True, slots=True)
class CachedSample:
    """embeddings: float32 (N, T, E); priors: float32 (N, D); text: the target."""

    id: str
    embeddings: np.ndarray
    priors: np.ndarray
    text: str


def digest(module: nn.Module) -> str:
    """Return the SHA-256 of a module's weights and running statistics: frozen experts keep theirs."""
    sha = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def fingerprint(config: TrainConfig, experts: nn.Module, rows: Mapping[str, LocatedRows]) -> dict[str, object]:
    """Return all that the features depend on, by name."""
    data = config.data
    fusion = config.model.fusion
    return {
        "experts": digest(experts),
        "router_reads": fusion.router_reads if fusion is not None else "hands",
        "rows": _digest_of_rows(rows),
        "frame_rate": data.frame_rate,
        "profile": data.normalisation,  # as caches that are there call it
        "max_frames": data.max_frames,
        # Absent where it is the default, so that caches from before there was a choice stay valid.
        **({"long_clips": data.long_clips} if data.long_clips != "sampled" else {}),
        "noise": data.noise,
        "frame_drop": data.frame_drop,
        "vary_signer": data.vary_signer,
        "seed": config.seed,
    }


def _digest_of_rows(rows: Mapping[str, LocatedRows]) -> str:
    """Return the SHA-256 of the JSON that has all ids and locations by split: it is never there as a whole."""
    sha = hashlib.sha256(b"{")
    for number, (split, located) in enumerate(rows.items()):
        sha.update(f"{', ' if number else ''}{json.dumps(split)}: [".encode())
        separator = ""
        for part, _ in located.parts:
            for batch in part.batches("id", "poses"):
                ids, places = batch.columns
                pairs = list(zip(ids.to_pylist(), places.to_pylist(), strict=True))
                sha.update((separator + json.dumps(pairs)[1:-1]).encode())
                separator = ", "
        sha.update(b"]")
    sha.update(b"}")
    return sha.hexdigest()


def shard_path(cache: Path, split: str, view: int, shard: int) -> Path:
    return cache / split / str(view) / f"{shard:05}.safetensors"


def write_shard(path: Path, samples: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Write embeddings and priors of up to `SHARD` rows, whole or not at all.

    Raises:
        OutputError: the shard cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for i, (embeddings, priors) in enumerate(samples):
        tensors[f"{i}.embeddings"], tensors[f"{i}.priors"] = embeddings.contiguous(), priors.contiguous()
    try:
        with whole_file(path) as temporary:
            save_file(tensors, temporary)
    except SafetensorError as error:  # as it calls a full disk
        raise OutputError(f"{path}: cannot be written ({one_line(error)})") from error


class Description(BaseModel):
    """What a cache was made of, and how: the contents of its ``cache.json``."""

    views: Annotated[int, Whole(1, 100_000, "noisy views of each training sample")]
    half: bool
    made_of: dict[str, Any]


def read_description(path: Path) -> Description:
    """Read what a cache says of itself.

    Raises:
        CheckpointError: it is damaged.
    """
    advice = "delete the cache and make it anew"
    stated = read_json(path, "settings_bytes", CheckpointError, "a feature cache's", advice)
    return validated(Description, stated, f"{path} ({advice})", CheckpointError)


class CachedDataset(Dataset[CachedSample]):
    """Features of a row, in the view that the epoch's turn is.

    Raises:
        CheckpointError: no cache there, an unfinished one, or one that other experts, rows or settings made.
    """

    def __init__(
        self, rows: Sequence[LocatedRow], config: TrainConfig, split: str, expected: dict[str, object]
    ) -> None:
        assert config.data.cache is not None
        self.rows, self.config, self.split, self.cache = rows, config, split, config.data.cache
        if not (self.cache / "cache.json").is_file():
            raise CheckpointError(f"{self.cache}: no finished feature cache; `signet-train cache CONFIG` makes it")
        description = read_description(self.cache / "cache.json")
        differing = [name for name, value in expected.items() if description.made_of.get(name) != value]
        if differing:
            raise CheckpointError(
                f"{self.cache}: made of other {', '.join(differing)} than this run's; make it anew, or drop data.cache"
            )
        self.views = description.views if split == config.data.train else 1

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> CachedSample:
        """Load the row of a key, ``(epoch, index)``, in the epoch's view.

        Raises:
            CheckpointError: a shard is missing or damaged.
        """
        epoch, index = key
        shard, place = divmod(index, SHARD)
        path = shard_path(self.cache, self.split, epoch % self.views, shard)
        with reading(path, CheckpointError, "features", "delete the cache and make it anew"):
            file = _open(path)
            embeddings, priors = (
                file.get_tensor(f"{place}.{part}").float().numpy() for part in ("embeddings", "priors")
            )
            experts, _, width = embeddings.shape
            if width != self.config.model.backbone.embedding or len(priors) != experts or priors.ndim != 2:
                raise ValueError(f"embeddings {embeddings.shape} and priors {priors.shape}")
        row = self.rows[index].row
        return CachedSample(row.id, embeddings, priors, target(row, self.config.task))


@lru_cache(maxsize=512)
def _open(path: Path) -> safe_open:
    return safe_open(path, framework="pt")
