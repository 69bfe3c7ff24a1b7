"""Stage III: adapters, aggregation, router and mT5 on frozen experts (Sec. 3.8, Eq. 10)."""

from __future__ import annotations

from pathlib import Path

import torch

from signet_runtime.errors import BundleError
from signet_train.checkpoint import Checkpoint, load_checkpoint
from signet_train.config import TrainConfig
from signet_train.model.signet import Signet
from signet_train.stages.loop import language_model_loss, train


def finetune(config: TrainConfig, out: Path, device: torch.device, resume: bool = False) -> None:
    """Fuse frozen experts and tune the rest; ``out`` becomes a run directory (see `train`).

    Raises:
        BundleError: no experts or no fusion configured, or experts that do not fit together.
    """
    if resume:
        checkpoint = load_checkpoint(out / "last")
    else:
        checkpoint = assemble(config)
    train(checkpoint, out, language_model_loss(config), device, resume)


def assemble(config: TrainConfig) -> Checkpoint:
    """Frozen experts from their checkpoints, a fresh fusion, and the mT5 of ``language_model_from``."""
    if config.model.fusion is None or not config.experts or config.language_model_from is None:
        raise BundleError("Stage III needs model.fusion, experts and language_model_from in its configuration")
    torch.manual_seed(config.seed)
    model = Signet(config.model, len(config.experts))
    cards = []
    for expert, path in zip(model.experts, config.experts, strict=True):
        source = load_checkpoint(path)
        card = source.experts[0]
        if len(source.experts) != 1 or card.backbone != config.model.backbone:
            raise BundleError(f"{path}: an expert is a Stage I checkpoint with the backbone that model.backbone states")
        if cards and card.profile != cards[0].profile:
            raise BundleError(f"{path}: normalisation profile {card.profile}, others have {cards[0].profile}")
        expert.load_state_dict(source.model.experts[0].state_dict())
        cards.append(card)
    language = load_checkpoint(config.language_model_from)
    model.language_model.load_state_dict(language.model.language_model.state_dict())
    return Checkpoint(model, cards, language.tokenizer, config)
