"""What a stage minimises, as modules whose forward is a loss, so that they can be wrapped for several processes."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from transformers.models.mt5.modeling_mt5 import MT5Stack

from signet_train.data.batches.collate import Batch
from signet_train.model.losses import gather, info_nce, token_loss
from signet_train.model.pooling import masked_mean
from signet_train.model.signet import Features, Signet


def features_of(model: Signet, batch: Batch) -> Features:
    """Return a batch's features: the cache's where it comes from there, else the experts'."""
    return Features(*batch.features) if batch.features is not None else model.features(batch.regions, batch.mask)


class Translation(nn.Module):
    """Stages I and III: the sum over target tokens of Eq. 3 and Eq. 10, label-smoothed."""

    def __init__(self, model: Signet, label_smoothing: float) -> None:
        super().__init__()
        self.model, self.label_smoothing = model, label_smoothing

    def forward(self, batch: Batch) -> Tensor:
        logits = self.model.logits(features_of(self.model, batch), batch.mask, batch.labels)
        return token_loss(logits, batch.labels, self.label_smoothing)

    @staticmethod
    def count(batch: Batch) -> int:
        """Count the terms that the sum of `forward` has: tokens, so that a step's loss is that of one large batch."""
        return int((batch.labels != -100).sum())


class Alignment(nn.Module):
    """Stage II: Eq. 9 between the LM encoder's mean and a frozen text encoder's, times the samples of the batch.

    Negatives are the forward pass's, gathered across processes; gradient accumulation adds none.
    """

    def __init__(self, model: Signet, text_encoder: MT5Stack, temperature: float, learned: bool = True) -> None:
        super().__init__()
        self.model, self.text_encoder = model, text_encoder.requires_grad_(False)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)), requires_grad=learned)

    def train(self, mode: bool = True) -> Alignment:
        super().train(mode)
        self.text_encoder.eval()
        return self

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute V and t of Eq. 9: (B, H) each, means over real frames and real tokens."""
        encoded = self.model.encode(features_of(self.model, batch), batch.mask)
        signs = encoded.hidden_states[:, -batch.mask.shape[1] :]  # a prompt says nothing of the clip
        real = batch.labels != -100
        with torch.no_grad():
            tokens = batch.labels.masked_fill(~real, 0)
            text = self.text_encoder(input_ids=tokens, attention_mask=real.long()).last_hidden_state
        return masked_mean(signs, batch.mask), masked_mean(text, real)

    def forward(self, batch: Batch, gather_negatives: bool = True) -> Tensor:
        """Compute the loss; ``gather_negatives``: with those of all processes."""
        visual, text = self.embed(batch)
        if gather_negatives:
            visual, text = gather(visual), gather(text)
        return info_nce(visual, text, self.log_temperature) * len(batch.labels)

    @staticmethod
    def count(batch: Batch) -> int:
        """Count the terms that the loss of `forward` stands for: samples."""
        return len(batch.labels)


def set_trainable(model: Signet, stage: str, train_experts: bool) -> None:
    """Choose the parameters that a stage trains.

    Stage I: all. Stage II: fusion and the LM encoder; experts, decoder and token embeddings stand still. Stage III: all
    but the experts, unless ``train_experts``.
    """
    model.requires_grad_(stage != "align")
    if stage != "pretrain":
        model.experts.requires_grad_(train_experts)
    if stage == "align":
        assert model.fusion is not None
        model.fusion.requires_grad_(True)
        encoder = cast(MT5Stack, model.language_model.get_encoder())
        encoder.block.requires_grad_(True)
        encoder.final_layer_norm.requires_grad_(True)
