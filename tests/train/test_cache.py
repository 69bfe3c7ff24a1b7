"""Cached features: the losses of uncached training, the views of its epochs, and no use of what others made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny_runs import config

from signet_runtime.errors import CheckpointError, ConfigError, OutputError
from signet_runtime.locks import alone_in
from signet_train.cli import main
from signet_train.config import TrainConfig
from signet_train.data.batches.collate import Collate
from signet_train.data.batches.dataset import PoseDataset
from signet_train.stages.assemble import fused_experts
from signet_train.stages.caching import cache_features
from signet_train.stages.objectives import Translation, features_of
from signet_train.stages.plan import plan_stage
from signet_train.stages.run import datasets, run_stage


def settings(manifest: Path, experts: list[Path], cache: Path | None, **data: object) -> TrainConfig:
    return config("finetune", manifest, experts=experts, start_from=experts[0], data={"cache": cache, **data})


def losses(run: Path) -> list[float]:
    import json

    return [row["loss"] for row in map(json.loads, (run / "log.jsonl").read_text().splitlines()) if "loss" in row]


def test_without_augmentation_cached_training_has_the_losses_of_uncached(
    manifest: Path, experts: list[Path], tmp_path: Path
) -> None:
    plain = {"noise": 0, "frame_drop": 0, "frame_rate": None}
    cached = settings(manifest, experts, tmp_path / "cache", **plain)
    # A spelled word is signed in another pace every epoch, so the words are stored first, as a recording would be.
    stored = store(manifest, tmp_path / "stored")
    cached = cached.model_copy(update={"data": cached.data.model_copy(update={"manifests": (stored,)})})
    cache_features(cached, views=1, half=False, device="cpu")
    run_stage(cached, tmp_path / "with", "cpu")
    uncached = cached.model_copy(update={"data": cached.data.model_copy(update={"cache": None})})
    run_stage(uncached, tmp_path / "without", "cpu")
    np.testing.assert_allclose(losses(tmp_path / "with"), losses(tmp_path / "without"), rtol=1e-4)


def store(manifest: Path, out: Path) -> Path:
    from dataclasses import replace

    from signet_runtime.pose.files import write_keypoints
    from signet_train.data.manifest import read_manifest, write_manifest
    from signet_train.data.poses import load_poses

    rows = read_manifest(manifest).rows
    (out / "poses").mkdir(parents=True)
    for row in rows:
        write_keypoints(out / "poses" / f"{row.id}.npz", load_poses(row.poses, manifest.parent).resample(6.25))
    write_manifest(out / "m.jsonl", [replace(row, poses=f"poses/{row.id}.npz") for row in rows])
    return out / "m.jsonl"


def test_a_view_is_what_an_epoch_would_have_seen(manifest: Path, experts: list[Path], tmp_path: Path) -> None:
    given = settings(manifest, experts, tmp_path / "cache")
    cache_features(given, views=2, half=False, device="cpu")
    plan = plan_stage(given)
    checkpoint = fused_experts(plan)
    training, validation = datasets(plan, checkpoint.model)
    collate = Collate(checkpoint.tokenizer, 50)
    model = checkpoint.model.eval()
    for epoch in (0, 1, 2):
        keys = [(epoch, 3), (epoch, 17)]
        found = collate([training[key] for key in keys])
        uncached = PoseDataset(plan.training, given, training=True)
        seen = collate([uncached[epoch % 2, index] for _, index in keys])
        assert torch.equal(found.mask, seen.mask) and torch.equal(found.labels, seen.labels)
        with torch.no_grad():
            expected = features_of(model, seen)
        for one, other, real in zip(found.features[0], expected.embeddings, seen.mask, strict=True):
            torch.testing.assert_close(one[:, real], other[:, real], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.features[1], expected.priors, atol=1e-5, rtol=1e-4)
        with torch.no_grad():
            losses = [Translation(model, 0.2)(batch) for batch in (found, seen)]
        torch.testing.assert_close(*losses, atol=1e-4, rtol=1e-5)
    plain = PoseDataset(plan.validation, given, training=False)
    assert collate([validation[0, 1]]).mask.shape == collate([plain[0, 1]]).mask.shape


def test_a_dry_run_says_what_is_missing_and_writes_nothing(manifest: Path, experts: list[Path], tmp_path: Path) -> None:
    given = settings(manifest, experts, tmp_path / "cache")
    planned = cache_features(given, views=2, half=True, device="cpu", dry_run=True)
    assert not (tmp_path / "cache").exists()
    assert planned.missing == planned.shards == cache_features(given, views=2, half=True, device="cpu").missing
    written = [file.stat().st_size for file in (tmp_path / "cache").rglob("*.safetensors")]
    assert len(written) == planned.shards and 0 < sum(written) < planned.bytes
    again = cache_features(given, views=2, half=True, device="cpu", dry_run=True)
    assert (again.missing, again.rows) == (0, planned.rows)
    with pytest.raises(CheckpointError, match="a cache of something else"):
        cache_features(given, views=3, half=True, device="cpu", dry_run=True)


def test_half_precision_takes_half_the_space(manifest: Path, experts: list[Path], tmp_path: Path) -> None:
    sizes = []
    for half in (False, True):
        cache = tmp_path / str(half)
        cache_features(settings(manifest, experts, cache), views=1, half=half, device="cpu")
        sizes.append(sum(f.stat().st_size for f in cache.rglob("*.safetensors")))
    assert sizes[1] < 0.6 * sizes[0]


def test_a_stopped_cache_goes_on_and_an_unfinished_one_is_not_used(
    manifest: Path, experts: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(manifest, experts, tmp_path / "cache")
    from signet_train.stages import caching

    original, written = caching.write_shard, []

    def stop_at_the_second(path: Path, samples: object) -> None:
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(path)
        original(path, samples)

    monkeypatch.setattr(caching, "write_shard", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        cache_features(given, views=1, half=False, device="cpu")
    with pytest.raises(CheckpointError, match="no finished feature cache"):
        run_stage(given, tmp_path / "run", "cpu")
    first = written[0].stat().st_mtime_ns
    monkeypatch.setattr(caching, "write_shard", original)
    cache_features(given, views=1, half=False, device="cpu")
    assert written[0].stat().st_mtime_ns == first
    run_stage(given, tmp_path / "run", "cpu")


def test_the_same_command_twice_at_once_fills_one_cache(
    manifest: Path, experts: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(manifest, experts, tmp_path / "cache")
    from signet_train.stages import caching

    original, written = caching.write_shard, []

    def and_the_other_overtakes(path: Path, samples: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        monkeypatch.setattr(caching, "write_shard", original)
        cache_features(given, views=2, half=False, device="cpu")
        written.append(path)
        original(path, samples)

    monkeypatch.setattr(caching, "write_shard", and_the_other_overtakes)
    cache_features(given, views=2, half=False, device="cpu")
    assert len(written) == 1  # the rest was there
    assert sorted(file.name for file in (tmp_path / "cache").iterdir()) == ["cache.json", "dev", "train"]
    run_stage(given, tmp_path / "run", "cpu")


def test_two_that_train_into_one_directory(manifest: Path, experts: list[Path], tmp_path: Path) -> None:
    with alone_in(tmp_path / "run", "wait"), pytest.raises(OutputError, match="another process is writing there"):
        run_stage(settings(manifest, experts, None), tmp_path / "run", "cpu")
    assert not (tmp_path / "run").exists()


def test_what_a_killed_cache_left_before_it_had_made_anything(
    manifest: Path, experts: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from signet_train.stages import caching

    def killed(path: Path, samples: object) -> None:
        raise KeyboardInterrupt

    cache = tmp_path / "cache"
    other = settings(manifest, experts, cache).model_copy(update={"seed": 7})
    with monkeypatch.context() as patched:
        patched.setattr(caching, "write_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            cache_features(other, views=1, half=False, device="cpu")
    assert [file.name for file in cache.iterdir()] == ["unfinished.json"]
    given = settings(manifest, experts, cache)
    with alone_in(cache, "wait"), pytest.raises(OutputError, match="another process is writing there"):
        cache_features(given, views=1, half=False, device="cpu")
    cache_features(given, views=1, half=False, device="cpu")
    assert sorted(file.name for file in cache.iterdir()) == ["cache.json", "dev", "train"]


def test_a_cache_of_something_else_is_refused(manifest: Path, experts: list[Path], tmp_path: Path) -> None:
    given = settings(manifest, experts, tmp_path / "cache")
    cache_features(given, views=1, half=False, device="cpu")
    for changes, named in (
        ({"experts": tuple(experts[::-1])}, "experts"),
        ({"seed": 7}, "seed"),
        ({"data": given.data.model_copy(update={"noise": 0.5})}, "noise"),
        ({"data": given.data.model_copy(update={"sign_languages": ("ase",)})}, "rows"),
    ):
        with pytest.raises(CheckpointError, match=f"made of other {named}"):
            run_stage(given.model_copy(update=changes), tmp_path / "run", "cpu")
    with pytest.raises(CheckpointError, match="holds a cache of something else"):
        cache_features(given, views=3, half=False, device="cpu")
    with pytest.raises(ConfigError, match="frozen experts only"):
        run_stage(config("pretrain", manifest, data={"cache": tmp_path / "cache"}), tmp_path / "run", "cpu")


def test_the_command_wants_a_configuration_that_names_a_cache(tmp_path: Path, manifest: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f'stage = "finetune"\n[data]\nmanifests = ["{manifest}"]\n')
    result = CliRunner().invoke(main, ["cache", str(path), "--device", "cpu"])
    assert result.exit_code == 4
    assert "data.cache and experts" in result.stderr
