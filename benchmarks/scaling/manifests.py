"""A manifest of a million rows: opened, checked, and where training and caching begin."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.pose_store import motion
from benchmarks.scaling.process import Taken, apart, taken
from signet_train.config import TrainConfig
from signet_train.data.manifest import Row, read_manifest, write_manifest
from signet_train.data.store.arrow import new_store, quantise

_CLIPS = 200
_WORDS = ("weather", "tomorrow", "rain", "sun", "north", "south", "wind", "people", "went", "home")
_MODEL = {
    "backbone": {"input_channels": 4, "spatial_channels": [4, 8], "temporal_channels": [8], "embedding": 16},
    "language_model": {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2},
}
_FUSION = {"adapter_rank": 2, "query_hidden": 8, "router_hidden": 8}


def _rows(count: int) -> Iterator[Row]:
    rng = np.random.default_rng(0)
    for i in range(count):
        yield Row(
            id=f"clip-{i:07}-{rng.integers(2**32):08x}",
            split=("dev", "test")[i % 100] if i % 100 < 2 and i < 20_000 else "train",
            poses=f"poses.arrow#{i % _CLIPS}",
            text=" ".join(rng.choice(_WORDS, 9)),
            language="en",
            sign_language="ase",
            video=f"videos/{i // 50:06}.mp4",
            start=float(i % 50),
            end=i % 50 + 3.5,
            corpus="youtube-asl",
        )


def _make(directory: Path, count: int) -> Path:
    path = directory / f"{count}.parquet"
    write_manifest(path, _rows(count))
    return path


def _config(stage: str, manifest: Path, **changes: object) -> TrainConfig:
    model = _MODEL if stage == "pretrain" else {**_MODEL, "fusion": _FUSION}
    settings = {
        "stage": stage,
        "model": model,
        "data": {"manifests": [manifest], "workers": 2, **({"cache": manifest.parent / "cache"} if changes else {})},
        "optimisation": {"epochs": 1, "batch_size": 8, "accumulation": 1},
        "card": {"num_beams": 1, "max_new_tokens": 4},
        **changes,
    }
    return TrainConfig.model_validate(settings)


def _open(path: Path) -> Taken:
    with taken() as found:
        rows = read_manifest(path).rows
        assert rows[len(rows) // 2].text
    return found


def _check(path: Path) -> Taken:
    from signet_train.data.check import check_rows

    with taken() as found:
        assert not check_rows([(path, read_manifest(path))], max_frames=10_000, sample=_CLIPS)
    return found


def _start(path: Path) -> Taken:
    from signet_train.data.batches.collate import Collate, load_batches
    from signet_train.data.batches.sampling import BatchOrder
    from signet_train.stages.assemble import new_expert
    from signet_train.stages.plan import plan_stage
    from signet_train.stages.run import datasets

    new_expert(plan_stage(_config("pretrain", _small(path))), "warm")  # what libraries take is not the manifest's
    with taken() as found:
        plan = plan_stage(_config("pretrain", path))
        checkpoint = new_expert(plan, "expert")
        training, _ = datasets(plan, checkpoint.model)
        order = BatchOrder(len(plan.training), 8, 1, 1, seed=0)
        batches = load_batches(training, order, Collate(checkpoint.tokenizer, 50), workers=2)
        for _ in range(10):
            next(batches)
    batches.close()
    return found


def _cache(path: Path) -> Taken:
    from signet_train.stages.caching import cache_features

    expert = path.parent / "expert" / "last"

    def settings(manifest: Path) -> TrainConfig:
        return _config("align", manifest, experts=[expert, expert])

    cache_features(settings(_small(path)), 1, False, "cpu", dry_run=True)
    with taken() as found:
        assert cache_features(settings(path), 1, False, "cpu", dry_run=True).missing
    return found


def _small(path: Path) -> Path:
    return path.with_name("1000.parquet")


def measure(directory: Path, count: int) -> list[tuple[str, Taken]]:
    """Return what each action takes with a manifest of so many rows, libraries that are loaded first not counted."""
    from signet_train.stages.run import run_stage

    rng = np.random.default_rng(0)
    with new_store(directory / "poses.arrow") as store:
        for i in range(_CLIPS):
            store.add(f"{i}", quantise(motion(rng)), origin=f"clip {i}")
    small, large = _make(directory, 1000), _make(directory, count)
    run_stage(_config("pretrain", small), directory / "expert", "cpu")
    found = [("opened for the first time, written down", apart(partial(_open, large)))]
    found.append(("opened", apart(partial(_open, large))))
    found.append((f"`check --sample {_CLIPS} --workers 1`", apart(partial(_check, large))))
    found.append(("training: planned, and the first 10 batches by 2 processes", apart(partial(_start, large))))
    found.append(("`cache --dry-run`", apart(partial(_cache, large))))
    return found
