"""Trains what is compared and reads the test words with it; whatever is finished is never done again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import Dataset

from benchmarks.ablations.variants import Variant, full, variants
from benchmarks.ablations.world import Data, World, subsample
from signet_runtime.files import whole_file
from signet_train.checkpoint import Checkpoint, load_checkpoint
from signet_train.config import TrainConfig
from signet_train.data.batches.cache import CachedSample
from signet_train.data.batches.collate import Collate
from signet_train.data.batches.dataset import PoseDataset, load_rows
from signet_train.data.batches.sampling import Key, in_order
from signet_train.stages.caching import cache_features
from signet_train.stages.generate import predict
from signet_train.stages.loop import make_accelerator
from signet_train.stages.run import run_stage

_BATCH = 50
ZERO_SHOT = "zero-shot"  # in place of a task: what is tried on languages that it was not trained on


@dataclass(frozen=True)
class Job:
    """One training with its tests; ``file`` is there when it is finished."""

    file: Path
    make: Callable[[], None]


@dataclass(frozen=True)
class Study:
    """A world, its manifests, and the directory that its runs are in: seed/task/variant/test.json."""

    world: World
    data: Data
    out: Path
    device: str | None

    def jobs(self, seeds: Sequence[int]) -> Iterator[Job]:
        """Everything, a seed after the other, experts first."""
        for seed in seeds:
            for expert in self.world.experts:
                file = self._expert(expert, 100, seed) / "test.json"
                yield Job(file, lambda e=expert, s=seed: self._pretrain(e, 100, s))  # type: ignore[misc]
            for task in self.world.tasks:
                for variant in variants(self.world, task):
                    yield self._job(task, variant, seed)
            if self.world.mixed and "paper" in self.world.asks:
                yield self._job(ZERO_SHOT, full(self.world, self.world.mixed[0]), seed)

    def _job(self, task: str, variant: Variant, seed: int) -> Job:
        file = self.out / f"seed-{seed}" / task / variant.name / "test.json"
        return Job(file, lambda: self._downstream(task, variant, seed, file))

    def _expert(self, expert: str, share: int, seed: int) -> Path:
        return self.out / f"seed-{seed}" / f"experts-{share}" / expert

    def _languages(self, task: str) -> tuple[str, ...]:
        tasks = self.world.mixed if task == ZERO_SHOT else (task,)
        return tuple(language for name in tasks for language in self.world.tasks[name])

    def _unseen(self) -> list[str]:
        return [task for task in self.world.tasks if self.world.matched(task) is None]

    def _config(
        self, stage: str, manifests: tuple[Path, ...], languages: tuple[str, ...], seed: int, **more: Any
    ) -> TrainConfig:
        world = self.world
        data = {**world.data, "manifests": manifests, "sign_languages": languages, **more.pop("data", {})}
        settings = {"stage": stage, "tokenize": world.tokenize, "seed": seed, "card": world.card, "data": data}
        settings |= {"mt5": world.mt5, "optimisation": getattr(world.optimisation, stage)}
        return TrainConfig.model_validate({**settings, **more})

    def _pretrain(self, expert: str, share: int, seed: int) -> None:
        """Stage I; the whole-data expert is then tried, with its own language model, on what it has not seen."""
        out = self._expert(expert, share, seed)
        manifests = subsample(self.data.pretraining, share, seed, self.out)
        sizes = {name: part for name, part in self.world.model.items() if name != "fusion"}
        _stage(self._config("pretrain", manifests, self.world.experts[expert], seed, model=sizes), out, self.device)
        if share == 100:
            checkpoint = load_checkpoint(out / "best")
            tests = {}
            for task in self.world.tasks:
                config = self._config("pretrain", self.data.downstream, self._languages(task), seed, model=sizes)
                tests[task] = read_test(checkpoint, config, self.device)
            _write(out / "test.json", {"expert": expert, "seed": seed, "tests": tests})

    def _downstream(self, task: str, variant: Variant, seed: int, file: Path) -> None:
        """Stage II where the variant has it, Stage III, and the test words for every k."""
        experts = tuple(self._expert(e, variant.share, seed) / "best" for e in variant.experts)
        for name in {*variant.experts, variant.source}:
            if not (self._expert(name, variant.share, seed) / "finished").is_file():
                self._pretrain(name, variant.share, seed)
        more: dict[str, Any] = {"model": variant.model(self.world.model, "finetune"), "experts": experts}
        languages, manifests = self._languages(task), self.data.downstream
        if variant.trainable:
            more["train_experts"] = True
        else:
            more["data"] = {"cache": self._cache(task, variant, seed)}
            cached = self._config("finetune", manifests, languages, seed, **more)
            if not (self._cache(task, variant, seed) / "cache.json").is_file():
                cache_features(cached, self.world.views, half=False, device=self.device)
        start = self._expert(variant.source, variant.share, seed) / "best"
        if variant.aligned:
            own = {
                "model": variant.model(self.world.model, "align"),
                "optimisation": variant.optimisation(self.world.optimisation.align),
            }
            align = self._config("align", manifests, languages, seed, start_from=start, **{**more, **own})
            _stage(align, file.parent / "align", self.device)
            start = file.parent / "align" / "best"
        config = self._config("finetune", manifests, languages, seed, start_from=start, **more)
        _stage(config, file.parent / "finetune", self.device)
        checkpoint = load_checkpoint(file.parent / "finetune" / "best")
        tried = self._unseen() if task == ZERO_SHOT else [task]
        tests = {}
        for name in tried:
            there = config.model_copy(
                update={"data": config.data.model_copy(update={"sign_languages": self.world.tasks[name]})}
            )
            tests[name] = read_test(checkpoint, there, self.device, mask=variant == full(self.world, name))
        _write(file, {"task": task, "variant": variant.name, "seed": seed, "tests": tests})
        for stage in ("align", "finetune"):
            for part in ("last", "tensorboard", *(() if variant == full(self.world, tried[0]) else ("best",))):
                shutil.rmtree(file.parent / stage / part, ignore_errors=True)

    def _cache(self, task: str, variant: Variant, seed: int) -> Path:
        name = f"{'+'.join(variant.experts)},{variant.reads.replace('+', '-')},{variant.share}"
        return self.out / f"seed-{seed}" / task / "features" / name


def _stage(config: TrainConfig, out: Path, device: str | None) -> None:
    """Train, or go on where it was stopped."""
    if (out / "finished").is_file() and not (out / "best").is_dir():
        shutil.rmtree(out)  # its weights were done with, but what it wrote is not there
    if not (out / "finished").is_file():
        run_stage(config, out, device, resume=(out / "last" / "config.json").is_file())
        (out / "config.json").write_text(config.model_dump_json(indent=2, exclude_defaults=True))
        (out / "finished").touch()


class _Seen(Dataset[CachedSample]):
    """What frozen experts see of the samples, computed once for all that is tried with it."""

    def __init__(self, checkpoint: Checkpoint, dataset: PoseDataset, accelerator: Accelerator) -> None:
        self.samples: list[CachedSample] = []
        collate = Collate(checkpoint.tokenizer, checkpoint.config.data.max_target_tokens)
        for keys in in_order(len(dataset), _BATCH):
            batch = collate([dataset[key] for key in keys]).to(accelerator.device)
            with torch.no_grad():
                found = checkpoint.model.features(batch.regions, batch.mask)
            for i, name in enumerate(batch.ids):
                embeddings = found.embeddings[i][:, batch.mask[i]].cpu().numpy()
                self.samples.append(CachedSample(name, embeddings, found.priors[i].cpu().numpy(), batch.texts[i]))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> CachedSample:
        return self.samples[key[1]]


def read_test(checkpoint: Checkpoint, config: TrainConfig, device: str | None, mask: bool = False) -> dict[str, Any]:
    """Read the test split with a model, for every k; with ``mask``, also with each expert in turn left out at k = 2.

    Gives references, and per trial what was written, how the router weighed the experts, and by Sec. 4.2 its confidence
    (the mean over clips of the largest weight) and the experts' redundancy (the mean cosine similarity over time of two
    chosen experts' adapted embeddings).
    """
    accelerator = make_accelerator("no", device)
    model = checkpoint.model.to(accelerator.device).eval()
    seen = _Seen(checkpoint, PoseDataset(load_rows(config.data, "test"), config, training=False), accelerator)
    trials: list[dict[str, Any]] = []
    experts = len(checkpoint.experts)
    if model.routed is None:
        trials.append({"hypotheses": _read(checkpoint, seen, accelerator)})
    else:
        last = model.routed.router.mlp[-1]
        assert isinstance(last, torch.nn.Linear)
        tried: list[tuple[int | None, int]] = [(None, k) for k in range(1, experts + 1)]
        if mask:
            tried += [(i, min(2, experts - 1)) for i in range(experts)]
        for masked, k in tried:
            model.routed.router.top_k = k
            bias = last.bias.detach().clone()
            if masked is not None:
                last.bias.data[masked] = -torch.inf
            trial = {"k": k, "masked": masked, "hypotheses": _read(checkpoint, seen, accelerator)}
            trials.append({**trial, **_routing(checkpoint, seen, accelerator)})
            last.bias.data.copy_(bias)
    return {"references": [sample.text for sample in seen.samples], "trials": trials}


def _read(checkpoint: Checkpoint, seen: _Seen, accelerator: Accelerator) -> list[str]:
    beams = checkpoint.config.card.num_beams
    return [p.hypothesis for p in predict(checkpoint, seen, accelerator, num_beams=beams, batch_size=_BATCH)]


@torch.no_grad()
def _routing(checkpoint: Checkpoint, seen: _Seen, accelerator: Accelerator) -> dict[str, Any]:
    fusion = checkpoint.model.routed
    assert fusion is not None
    weights, similarities = [], []
    for sample in seen.samples:
        embeddings = torch.from_numpy(sample.embeddings).to(accelerator.device)
        priors = torch.from_numpy(sample.priors).to(accelerator.device)
        weight = fusion.router(fusion.aggregation(priors[None]))[0]
        chosen = torch.nonzero(weight)[:, 0].tolist()
        adapted = [torch.nn.functional.normalize(fusion.adapters[i](embeddings[i]), dim=-1) for i in chosen]
        pairs = [(a, b) for n, a in enumerate(adapted) for b in adapted[:n]]
        similarities += [float((a * b).sum(-1).mean()) for a, b in pairs]
        weights.append([float(f"{w:.3g}") for w in weight.tolist()])  # a chosen expert's is above 0, however small
    confidence = float(np.mean(np.max(weights, axis=1)))
    return {"weights": weights, "confidence": confidence, "redundancy": float(np.mean(similarities or [np.nan]))}


def _write(file: Path, record: dict[str, Any]) -> None:
    """Whole or not at all."""
    with whole_file(file) as temporary:
        temporary.write_text(json.dumps(record, ensure_ascii=False))
