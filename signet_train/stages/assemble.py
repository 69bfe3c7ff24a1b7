"""The model a stage starts from: fresh, or put together from the checkpoints of earlier stages."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from transformers import MT5ForConditionalGeneration
from transformers.models.mt5.modeling_mt5 import MT5Stack

from signet_runtime.errors import CheckpointError
from signet_train.checkpoint import Checkpoint, ExpertCard, load_checkpoint, load_expert, load_mt5, refuse_other_size
from signet_train.config import TrainConfig
from signet_train.data.batches.cache import digest
from signet_train.model.signet import Signet
from signet_train.stages.plan import StagePlan, find_start
from signet_train.tokenizer import train_tokenizer

_log = logging.getLogger(__name__)


def new_expert(plan: StagePlan, name: str) -> Checkpoint:
    """Make Stage I's start: a fresh backbone, and ``config.mt5`` or a fresh mT5.

    A fresh one gets a vocabulary of the characters of the whole corpus, whatever splits they are in and whatever sign
    languages the expert learns, so that experts of one corpus share it and no reference has characters without a piece.

    Raises:
        CheckpointError: the mT5 is not of the configured size.
    """
    config = plan.config
    torch.manual_seed(config.seed)
    model = Signet(config.model, 1)
    if config.mt5 is not None:
        language_model, tokenizer = load_mt5(config.mt5)
        put_language_model(model, language_model, config.mt5)
    else:
        tokenizer = train_tokenizer(plan.characters, config.model.language_model.vocab_size)
        size = sum(parameter.numel() for parameter in model.parameters())
        _log.info(
            "mt5 is not set: a vocabulary of the corpus's %d characters, and %.1f M weights from nothing. It can write "
            "what it was trained on, and hardly more; mt5 = %s starts from a language model that has read text",
            len(plan.characters),
            size / 1e6,
            '"google/mt5-base"',
        )
    card = ExpertCard(
        name=name,
        sign_languages=tuple(sorted(plan.sign_languages)),
        corpus=" + ".join(path.stem for path in config.data.manifests),
        seen=tuple(sorted(plan.corpora)),
        source="signet-train pretrain",
        normalisation=config.data.normalisation,
        pose_estimator=config.card.pose_estimator,
        frame_rate=plan.clock,
        backbone=config.model.backbone,
    )
    return Checkpoint(model, [card], tokenizer, config)


def fused_experts(plan: StagePlan) -> Checkpoint:
    """Make Stage II's and III's start: frozen experts, fusion, and a language model (see `find_start`).

    Raises:
        ConfigError: as `find_start`.
        CheckpointError: as `find_start`; or the language model or the fusion is not of the configured size, or the
            fusion was trained on other experts.
    """
    config, start = plan.config, find_start(plan)
    torch.manual_seed(config.seed)
    model = Signet(config.model, len(config.experts))
    load_experts(model, config.experts)
    language_model, tokenizer = load_mt5(start.language_model / "language_model")
    put_language_model(model, language_model, str(start.language_model))
    if start.fusion is not None:
        put_fusion(model, start.fusion)
    return Checkpoint(model, start.cards, tokenizer, config)


def load_experts(model: Signet, paths: Sequence[Path]) -> None:
    """Fill the model's experts from Stage I checkpoints of its backbone's size (see `fitting_experts`).

    Raises:
        CheckpointError: as `load_expert`.
    """
    for expert, path in zip(model.experts, paths, strict=True):
        _, weights = load_expert(path)
        expert.load_state_dict(weights)


def put_fusion(model: Signet, source: Path) -> None:
    """Give the model the fusion of a Stage II or III checkpoint, if it was trained on these experts.

    Raises:
        CheckpointError: it was trained on others, or is of another size.
    """
    other = load_checkpoint(source).model
    if digest(other.experts) != digest(model.experts):
        raise CheckpointError(
            f"{source}: its fusion was trained on other experts than these, or on another order of them"
        )
    assert other.fusion is not None and model.fusion is not None
    theirs, stated, weights = other.config.fusion, model.config.fusion, other.fusion.state_dict()
    assert theirs is not None and stated is not None
    if not stated.adapter_rank:  # Stage III without the adapters that Stage II had
        theirs = theirs.model_copy(update={"adapter_rank": 0})
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith("adapters.")}
    if theirs != stated:
        raise CheckpointError(f"{source}: another fusion than model.fusion states: {other.config.fusion}")
    model.fusion.load_state_dict(weights)


def put_language_model(model: Signet, language_model: MT5ForConditionalGeneration, source: str) -> None:
    """Give the model an mT5's weights.

    Raises:
        CheckpointError: it is not of the configured size.
    """
    refuse_other_size(language_model, model.config.language_model, source)
    model.language_model.load_state_dict(language_model.state_dict())


def text_encoder(config: TrainConfig, checkpoint: Checkpoint) -> MT5Stack:
    """Return Stage II's frozen text encoder: ``config.mt5``'s, or a copy of the language model's at the start.

    Raises:
        CheckpointError: it is of another width, or it reads other tokens.
    """
    if config.mt5 is None:
        return copy.deepcopy(cast(MT5Stack, checkpoint.model.language_model.get_encoder()))
    model, tokenizer = load_mt5(config.mt5)
    if tokenizer.get_vocab() != checkpoint.tokenizer.get_vocab():
        raise CheckpointError(f"{config.mt5}: its vocabulary is not that of the language model that is aligned with it")
    if model.config.d_model != config.model.language_model.d_model:
        raise CheckpointError(
            f"{config.mt5}: its width is {model.config.d_model}, not {config.model.language_model.d_model}"
        )
    return cast(MT5Stack, model.get_encoder())
