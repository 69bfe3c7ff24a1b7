"""The stages: Stage I trains an expert, Stage II aligns fused experts with text, Stage III tunes them to translate."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.data import Dataset

from signet_runtime.errors import ConfigError
from signet_runtime.locks import alone_in
from signet_train.checkpoint import Checkpoint, load_checkpoint
from signet_train.config import TrainConfig
from signet_train.data.batches.cache import CachedDataset, fingerprint
from signet_train.data.batches.collate import Batch, Collate, load_batches
from signet_train.data.batches.dataset import LocatedRows, PoseDataset
from signet_train.data.batches.sampling import in_order
from signet_train.data.provenance import languages_of
from signet_train.evaluation.metrics import character_error_rate, corpus_bleu4, recognition_accuracy, tokenizer_for
from signet_train.memory import check_fits
from signet_train.model.signet import Features, Signet
from signet_train.model.stgcn import sync_statistics
from signet_train.ranges import name_of
from signet_train.stages.assemble import fused_experts, new_expert, text_encoder
from signet_train.stages.generate import comparable, predict
from signet_train.stages.loop import Outcome, check_fills_a_step, make_accelerator, train
from signet_train.stages.objectives import Alignment, Translation, set_trainable
from signet_train.stages.plan import StagePlan, plan_stage
from signet_train.stages.progress import changes_since, prepare_directory
from signet_train.stages.recipe import Run
from signet_train.stages.validation import Observer, Validation

_ALONE = "wait until it is done, or give another --out"

_log = logging.getLogger(__name__)


def run_stage(config: TrainConfig, out: Path, device: str | None = None, resume: bool = False) -> Outcome:
    """Train what ``config`` describes; ``out`` becomes a run directory (see `train`).

    A run that is resumed may have other epochs than before, and other settings that make nothing wrong of what was
    learned; what changed is in its log.

    Raises:
        InputError: manifests or samples that cannot be used.
        ConfigError: a configuration that does not fit together.
        CheckpointError: checkpoints that do not fit it or one another, or a run directory that is taken.
        OutputError: another process trains there.
    """
    accelerator = make_accelerator(config.optimisation.precision, device)
    with alone_in(out, _ALONE) if accelerator.is_main_process else contextlib.nullcontext():
        return _run_stage(config, out, accelerator, device, resume)


def _run_stage(config: TrainConfig, out: Path, accelerator: Accelerator, device: str | None, resume: bool) -> Outcome:
    with accelerator.main_process_first():
        prepare_directory(out, resume)
    plan = plan_stage(config)
    config = plan.config
    changed: dict[str, tuple[Any, Any]] = {}
    check_fills_a_step(len(plan.training), config.optimisation, accelerator.num_processes)
    check_fits(config, device)
    if resume:
        changed = changes_since(out, config, accelerator.num_processes)
        checkpoint = replace(load_checkpoint(out / "last"), config=config)
    elif config.stage == "pretrain":
        checkpoint = new_expert(plan, name_of(out))
    else:
        checkpoint = fused_experts(plan)
    set_trainable(checkpoint.model, config.stage, config.train_experts)
    sync_statistics(checkpoint.model.experts)  # of those that are trained: frozen ones keep theirs
    if config.optimisation.gradient_checkpointing:
        language_model = checkpoint.model.language_model
        language_model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    training, validation = datasets(plan, checkpoint.model)
    if config.stage == "align":
        # The text encoder is what the stage started from, also when the stage is resumed.
        start = fused_experts(plan) if resume and config.mt5 is None else checkpoint
        optimisation = config.optimisation
        objective = Alignment(
            checkpoint.model, text_encoder(config, start), optimisation.temperature, optimisation.learn_temperature
        )
        run = alignment_run(checkpoint, objective, training, validation, accelerator)
    else:
        run = translation_run(checkpoint, training, validation, plan.validation, accelerator)
    return train(run, out, accelerator, resume, changed)


def datasets(plan: StagePlan, model: Signet) -> tuple[Dataset, Dataset]:
    """Return training and validation samples, from the cache where one is configured.

    Raises:
        ConfigError: a cache of experts that are trained.
        CheckpointError: as `CachedDataset`.
    """
    config = plan.config
    if config.data.cache is None:
        return PoseDataset(plan.training, config, training=True), PoseDataset(plan.validation, config, training=False)
    if config.stage == "pretrain" or config.train_experts:
        raise ConfigError("data.cache: features can be cached of frozen experts only; leave it out")
    made_of = fingerprint(config, model.experts, plan.rows)
    training = CachedDataset(plan.training, config, config.data.train, made_of)
    return training, CachedDataset(plan.validation, config, config.data.validation, made_of)


def translation_run(
    checkpoint: Checkpoint,
    training: Dataset,
    validation: Dataset,
    rows: LocatedRows,
    accelerator: Accelerator,
) -> Run:
    """Set up Stage I or III: the best validation BLEU-4 is kept, in recognition the best per-instance accuracy.

    ``rows`` are the validation's: their texts' languages decide how BLEU takes them apart, unless the configuration
    does.
    """
    config = checkpoint.config
    tokenize = config.tokenize or _common_tokenizer(rows)

    def validate(check: Callable[[], None]) -> Validation:
        batch_size = config.optimisation.batch_size
        observer = Observer(checkpoint.model, config.optimisation.label_smoothing, rows)

        def observe(features: Features, batch: Batch, indices: Sequence[int]) -> None:
            observer(features, batch, indices)
            check()

        found = predict(
            checkpoint,
            validation,
            accelerator,
            num_beams=config.card.num_beams,
            batch_size=batch_size,
            observe=observe,
        )
        found = comparable(found, tokenize)
        references, hypotheses = [p.reference for p in found], [p.hypothesis for p in found]
        if config.task == "recognise":
            per_instance, per_class = recognition_accuracy(references, hypotheses)
            figures = {"per_instance": per_instance, "per_class": per_class}
        else:
            bleu = corpus_bleu4(references, hypotheses, tokenize)
            figures = {"bleu4": bleu, "cer": 100 * character_error_rate(references, hypotheses)}
        figures = {"validation_loss": observer.loss(accelerator), **figures}
        return Validation(figures, found, observer.routing())

    objective = Translation(checkpoint.model, config.optimisation.label_smoothing)
    metric = "per_instance" if config.task == "recognise" else "bleu4"
    return Run(checkpoint, objective, training, validate, metric, "highest")


def _common_tokenizer(rows: LocatedRows) -> str:
    """Return the tokenizer of all texts; of several languages that want different ones, characters, which is said."""
    languages = languages_of(rows)
    tokenizers = {tokenizer_for(language) for language in languages}
    if len(tokenizers) <= 1:
        return tokenizers.pop() if tokenizers else "13a"
    _log.warning("validation has texts in %s: BLEU counts characters (tokenize says otherwise)", ", ".join(languages))
    return "char"


def alignment_run(
    checkpoint: Checkpoint, objective: Alignment, training: Dataset, validation: Dataset, accelerator: Accelerator
) -> Run:
    """Set up Stage II: the lowest validation InfoNCE is kept."""
    config = checkpoint.config

    @torch.no_grad()
    def validate(check: Callable[[], None]) -> Validation:
        objective.eval()
        size = config.optimisation.batch_size
        keys = in_order(len(validation), size)  # type: ignore[arg-type]
        # Every process does every batch: it is short, and the figure then does not depend on their number.
        collate = Collate(checkpoint.tokenizer, config.data.max_target_tokens)
        total = torch.zeros((), device=accelerator.device)
        for batch in load_batches(validation, keys, collate, config.data.workers):
            with accelerator.autocast():
                total += objective(batch.to(accelerator.device), gather_negatives=False)
            check()
        info_nce = float(total) / len(validation)  # type: ignore[arg-type]
        return Validation({"info_nce": info_nce, "temperature": float(objective.log_temperature.exp())})

    return Run(checkpoint, objective, training, validate, "info_nce", "lowest")
