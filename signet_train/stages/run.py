"""The stages: Stage I trains an expert, Stage II aligns fused experts with text, Stage III tunes them to translate."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator
from torch.utils.data import Dataset

from signet_runtime.errors import ConfigError
from signet_train.checkpoint import Checkpoint, load_checkpoint
from signet_train.config import TrainConfig
from signet_train.data.batches.cache import CachedDataset, fingerprint
from signet_train.data.batches.collate import Collate, load_batches
from signet_train.data.batches.dataset import PoseDataset
from signet_train.data.batches.sampling import in_order
from signet_train.evaluation.metrics import corpus_bleu4, recognition_accuracy, tokenizer_for
from signet_train.model.signet import Signet
from signet_train.stages.assemble import fused_experts, new_expert, text_encoder
from signet_train.stages.generate import comparable, predict
from signet_train.stages.loop import Run, make_accelerator, prepare_directory, train
from signet_train.stages.objectives import Alignment, Translation, set_trainable
from signet_train.stages.plan import StagePlan, plan_stage


def run_stage(config: TrainConfig, out: Path, device: str | None = None, resume: bool = False) -> None:
    """Train what ``config`` describes; ``out`` becomes a run directory (see `train`).

    Raises:
        InputError: manifests or samples that cannot be used.
        ConfigError: a configuration that does not fit together.
        CheckpointError: checkpoints that do not fit it or one another, or a run directory that is taken.
    """
    accelerator = make_accelerator(config.optimisation.precision, device)
    with accelerator.main_process_first():
        prepare_directory(out, config, resume)
    plan = plan_stage(config)
    if resume:
        checkpoint = load_checkpoint(out / "last")
    elif config.stage == "pretrain":
        checkpoint = new_expert(plan, out.name)
    else:
        checkpoint = fused_experts(plan)
    set_trainable(checkpoint.model, config.stage, config.train_experts)
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
        run = translation_run(checkpoint, training, validation, plan.validation[0].row.language, accelerator)
    train(run, out, accelerator, resume)


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
    language: str,
    accelerator: Accelerator,
) -> Run:
    """Set up Stage I or III: the best validation BLEU-4 is kept, in recognition the best per-instance accuracy.

    ``language`` is the validation texts', BCP 47: it decides how BLEU takes them apart, unless the configuration does.
    """
    config = checkpoint.config
    tokenize = config.tokenize or tokenizer_for(language)

    def validate() -> dict[str, float]:
        batch_size = config.optimisation.batch_size
        found = predict(checkpoint, validation, accelerator, num_beams=config.card.num_beams, batch_size=batch_size)
        found = comparable(found, tokenize)
        references, hypotheses = [p.reference for p in found], [p.hypothesis for p in found]
        if config.task == "recognise":
            per_instance, per_class = recognition_accuracy(references, hypotheses)
            return {"per_instance": per_instance, "per_class": per_class}
        return {"bleu4": corpus_bleu4(references, hypotheses, tokenize)}

    objective = Translation(checkpoint.model, config.optimisation.label_smoothing)
    metric = "per_instance" if config.task == "recognise" else "bleu4"
    return Run(checkpoint, objective, training, validate, metric, "highest")


def alignment_run(
    checkpoint: Checkpoint, objective: Alignment, training: Dataset, validation: Dataset, accelerator: Accelerator
) -> Run:
    """Set up Stage II: the lowest validation InfoNCE is kept."""
    config = checkpoint.config

    @torch.no_grad()
    def validate() -> dict[str, float]:
        objective.eval()
        size = config.optimisation.batch_size
        keys = in_order(len(validation), size)  # type: ignore[arg-type]
        # Every process does every batch: it is short, and the figure then does not depend on their number.
        collate = Collate(checkpoint.tokenizer, config.data.max_target_tokens)
        total = torch.zeros((), device=accelerator.device)
        for batch in load_batches(validation, keys, collate, config.data.workers):
            with accelerator.autocast():
                total += objective(batch.to(accelerator.device), gather_negatives=False)
        return {"info_nce": float(total) / len(validation), "temperature": float(objective.log_temperature.exp())}  # type: ignore[arg-type]

    return Run(checkpoint, objective, training, validate, "info_nce", "lowest")
