"""Filling a feature cache: the frozen experts over every sample, once."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from signet_runtime.errors import CheckpointError, ConfigError, OutputError
from signet_runtime.files import reporting, whole_file
from signet_runtime.locks import alone_in
from signet_train.config import TrainConfig
from signet_train.data.batches.cache import SHARD, fingerprint, read_description, shard_path, write_shard
from signet_train.data.batches.collate import load_batches, pad_regions
from signet_train.data.batches.dataset import LocatedRows, PoseDataset, Sample
from signet_train.model.signet import Signet
from signet_train.stages.assemble import load_experts
from signet_train.stages.loop import make_accelerator
from signet_train.stages.plan import fitting_experts, plan_stage

_ATTEMPTS = 20
_ALONE = "wait until it is done, or name another in data.cache"


@dataclass(frozen=True, slots=True)
class Planned:
    """What a cache will be.

    Attributes:
        rows: by split.
        shards: how many files; missing: how many of them are not there yet.
        bytes: of all of it, at most: clips may have fewer frames than the model reads.
    """

    rows: dict[str, int]
    shards: int
    missing: int
    bytes: int


def cache_features(config: TrainConfig, views: int, half: bool, device: str | None, dry_run: bool = False) -> Planned:
    """Write ``config.data.cache``: ``views`` noisy views of every training sample, one plain view for validation.

    Shards that are there already are kept, so a run that was stopped goes on. Several processes share the work.

    Args:
        dry_run: read and compare all that would be needed, and write nothing.

    Returns:
        what was missing before.

    Raises:
        ConfigError: no cache or no experts configured.
        CheckpointError: the directory has a cache of something else.
        OutputError: the cache cannot be written, or another process writes one of something else.
    """
    cache = config.data.cache
    if cache is None or not config.experts:
        raise ConfigError(
            "data.cache and experts: a configuration of Stage II or III that names both is what is cached"
        )
    accelerator = make_accelerator(config.optimisation.precision, device)
    plan = plan_stage(config)
    config = plan.config
    fitting_experts(config, plan.clock)
    model = Signet(config.model, len(config.experts))
    load_experts(model, config.experts)
    experts = model.eval().requires_grad_(False).experts.to(accelerator.device)
    rows = plan.rows
    description = {"views": views, "half": half, "made_of": fingerprint(config, experts, rows)}
    _refuse_another(cache, description)
    jobs = [
        (split, view, shard)
        for split, located in rows.items()
        for view in range(views if split == config.data.train else 1)
        for shard in range((len(located) + SHARD - 1) // SHARD)
    ]
    planned = _planned(config, cache, rows, jobs, views, half)
    if dry_run:
        return planned
    with _begun(cache, description) if accelerator.is_main_process else contextlib.nullcontext():
        accelerator.wait_for_everyone()
        own = jobs[accelerator.process_index :: accelerator.num_processes]
        _fill(model, config, rows, own, half, accelerator)
    return planned


def _fill(
    model: Signet,
    config: TrainConfig,
    rows: Mapping[str, LocatedRows],
    jobs: Sequence[tuple[str, int, int]],
    half: bool,
    accelerator: Accelerator,
) -> None:
    cache = config.data.cache
    assert cache is not None
    for split, view, shard in tqdm(jobs, unit="shard", disable=not accelerator.is_main_process):
        if shard_path(cache, split, view, shard).is_file():  # by a run that was stopped, or one that runs beside this
            continue
        dataset = PoseDataset(rows[split], config, training=split == config.data.train)
        stop = min((shard + 1) * SHARD, len(dataset))
        size = config.optimisation.batch_size
        keys = [[(view, i) for i in range(s, min(s + size, stop))] for s in range(shard * SHARD, stop, size)]
        features: list[tuple[Tensor, Tensor]] = []
        for regions, mask in load_batches(dataset, keys, _regions_and_mask, config.data.workers):
            with torch.no_grad():
                found = model.features(
                    {k: v.to(accelerator.device) for k, v in regions.items()}, mask.to(accelerator.device)
                )
            for embeddings, priors, real in zip(found.embeddings.cpu(), found.priors.cpu(), mask, strict=True):
                dtype = torch.float16 if half else torch.float32
                features.append((embeddings[:, real].to(dtype), priors.to(dtype)))
        write_shard(shard_path(cache, split, view, shard), features)
    accelerator.wait_for_everyone()


def _planned(
    config: TrainConfig,
    cache: Path,
    rows: Mapping[str, LocatedRows],
    jobs: Sequence[tuple[str, int, int]],
    views: int,
    half: bool,
) -> Planned:
    counts = {split: len(located) for split, located in rows.items()}
    samples = sum(count * (views if split == config.data.train else 1) for split, count in counts.items())
    of_frame = len(config.experts) * config.model.backbone.embedding * (2 if half else 4)
    missing = sum(not shard_path(cache, *job).is_file() for job in jobs)
    return Planned(counts, len(jobs), missing, samples * config.data.max_frames * of_frame)


@contextlib.contextmanager
def _begun(cache: Path, description: dict[str, object]) -> Iterator[None]:
    """Note what the cache is of, and at the end of the block that it is whole.

    Processes of the same may fill it side by side. What one of something else left before it had made anything is
    removed, unless it is alive.
    """
    draft, whole = cache / "unfinished.json", cache / "cache.json"
    with contextlib.ExitStack() as stack:
        for attempt in range(_ATTEMPTS):
            try:
                stack.enter_context(alone_in(cache, _ALONE))
                break
            except OutputError:
                if draft.is_file() and read_description(draft).model_dump() == description:
                    break
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(0.1)  # it may be about to say what it makes
        _refuse_another(cache, description)
        with whole_file(draft) as temporary:
            temporary.write_text(json.dumps(description, indent=2))
        yield
        with reporting(cache), contextlib.suppress(FileNotFoundError):  # one that runs beside this was first
            draft.replace(whole)


def _refuse_another(cache: Path, description: dict[str, object]) -> None:
    """Refuse a cache of something else, unless its run was killed before it had made anything."""
    whole, draft = cache / "cache.json", cache / "unfinished.json"
    bare = not whole.exists() and not any(cache.glob("*/*/[0-9]*.safetensors"))
    for file in (whole, draft):
        if file.is_file() and read_description(file).model_dump() != description and not bare:
            raise CheckpointError(f"{cache}: holds a cache of something else; delete it or name another in data.cache")


def _regions_and_mask(samples: Sequence[Sample]) -> tuple[dict[str, Tensor], Tensor]:
    return pad_regions([sample.regions for sample in samples])
