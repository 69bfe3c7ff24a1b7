"""Stage III: adapters, aggregation, router and mT5 on frozen experts (Sec. 3.8, Eq. 10)."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from signet_runtime.errors import BundleError
from signet_train.checkpoint import Checkpoint, ExpertCard, load_checkpoint
from signet_train.config import TrainConfig
from signet_train.data.words import WordStream
from signet_train.model.signet import Features, Signet
from signet_train.stages.loop import drawn_batch, train


def finetune(config: TrainConfig, out: Path, device: torch.device, resume: bool = False) -> None:
    """Fuse frozen experts and tune the rest; ``out`` becomes a run directory (see `train`).

    Raises:
        BundleError: no experts or no fusion configured, or experts that do not fit together.
    """
    checkpoint = load_checkpoint(out / "last") if resume else assemble(config)
    model = checkpoint.model.to(device)
    features = FrozenFeatures(checkpoint)

    def step_loss(step: int) -> Tensor:
        return model.loss(*features.at(step), config.label_smoothing)

    train(checkpoint, out, step_loss, resume)


class FrozenFeatures:
    """What frozen experts make of a batch never changes, so it is computed once and trained on ``reuse`` times.

    Every ``reuse``-th step brings a new batch; the others draw one of the latest. Which batch a step gets
    depends on seed and step alone, so that a resumed run sees what an uninterrupted one would have.
    """

    _KEPT = 128

    def __init__(self, checkpoint: Checkpoint):
        self.checkpoint = checkpoint
        self.stream = WordStream(checkpoint.config.data, checkpoint.config.seed)
        self.kept: OrderedDict[int, tuple[Features, Tensor, Tensor]] = OrderedDict()

    def at(self, step: int) -> tuple[Features, Tensor, Tensor]:
        """Features, mask and labels for a step."""
        config = self.checkpoint.config
        newest, age = divmod(step, config.reuse)
        index = newest
        if age:
            index = int(
                np.random.default_rng([config.seed, step]).integers(max(0, newest + 1 - self._KEPT), newest + 1)
            )
        if index not in self.kept:
            regions, mask, labels = drawn_batch(self.checkpoint, self.stream, index)
            with torch.no_grad():
                self.kept[index] = (self.checkpoint.model.features(regions, mask), mask, labels)
            if len(self.kept) > self._KEPT:
                self.kept.popitem(last=False)
        return self.kept[index]


def assemble(config: TrainConfig) -> Checkpoint:
    """Frozen experts from their checkpoints, a fresh fusion, and the mT5 of ``language_model_from``, or a fresh one."""
    if config.model.fusion is None or not config.experts:
        raise BundleError("Stage III needs model.fusion and experts in its configuration")
    torch.manual_seed(config.seed)
    model = Signet(config.model, len(config.experts))
    cards: list[ExpertCard] = []
    for expert, path in zip(model.experts, config.experts, strict=True):
        source = load_checkpoint(path)
        card = source.experts[0]
        if len(source.experts) != 1 or card.backbone != config.model.backbone:
            raise BundleError(f"{path}: an expert is a Stage I checkpoint with the backbone that model.backbone states")
        if cards and card.profile != cards[0].profile:
            raise BundleError(f"{path}: normalisation profile {card.profile}, others have {cards[0].profile}")
        expert.load_state_dict(source.model.experts[0].state_dict())
        cards.append(card)
    tokenizer = source.tokenizer
    if config.language_model_from is not None:
        language = load_checkpoint(config.language_model_from)
        model.language_model.load_state_dict(language.model.language_model.state_dict())
        tokenizer = language.tokenizer
    return Checkpoint(model, cards, tokenizer, config)
