"""Stage I: one backbone and its mT5, end to end (Sec. 3.3, Eq. 3)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from signet_runtime.errors import BundleError
from signet_train.checkpoint import Checkpoint, ExpertCard, load_checkpoint
from signet_train.config import TrainConfig
from signet_train.data.words import WordStream
from signet_train.model.signet import Signet
from signet_train.stages.loop import drawn_batch, train
from signet_train.tokenizer import build_character_tokenizer


def pretrain(config: TrainConfig, out: Path, device: torch.device, resume: bool = False) -> None:
    """Train an expert from scratch; ``out`` becomes a run directory (see `train`).

    Raises:
        BundleError: the configuration asks for fusion, which a single expert does not have.
    """
    if config.model.fusion is not None:
        raise BundleError("model.fusion: Stage I trains a single expert; leave the fusion section out")
    if resume:
        checkpoint = load_checkpoint(out / "last")
    else:
        torch.manual_seed(config.seed)
        languages = tuple(s for s in config.data.sign_languages if s not in config.data.held_out)
        card = ExpertCard(
            name=out.name,
            sign_languages=languages,
            corpus="spoken-to-signed 0.4.0 fingerspelling",
            source="signet-train pretrain",
            backbone=config.model.backbone,
        )
        tokenizer = build_character_tokenizer(out)
        checkpoint = Checkpoint(Signet(config.model, 1), [card], tokenizer, config)
    model = checkpoint.model.to(device)
    stream = WordStream(config.data, config.seed)

    def step_loss(step: int) -> Tensor:
        regions, mask, labels = drawn_batch(checkpoint, stream, step)
        return model.loss(model.features(regions, mask), mask, labels, config.label_smoothing)

    train(checkpoint, out, step_loss, resume)
