"""How much memory a model takes, known from its configuration, before anything of it is built."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from signet_runtime.errors import ConfigError
from signet_runtime.skeleton import BODY, FACE, LEFT_HAND, Region
from signet_train.config import BackboneConfig, FusionConfig, LanguageModelConfig, ModelConfig, TrainConfig

_FLOAT = 4  # bytes of a weight
_TRAINED = 12  # more of one that is trained: its gradient, and AdamW's two means
_RELATIVE_BUCKETS = 32  # mT5's
_BESIDE_HANDS = {"hands": 0, "hands+body": 1, "hands+body+face": 2}
_CGROUP = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, slots=True)
class Weights:
    """How many weights the parts of a model have.

    Attributes:
        expert: of one expert; experts: how many there are.
        fusion: between experts and mT5.
        encoder, decoder: of mT5, without what it knows of pieces.
        pieces: both of mT5's tables of pieces, what it reads and what it writes.
    """

    expert: int
    experts: int
    fusion: int
    encoder: int
    decoder: int
    pieces: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.expert * self.experts + self.fusion + self.encoder + self.decoder + self.pieces

    def trained(self, config: TrainConfig) -> int:
        """Return how many a stage trains (`set_trainable`)."""
        if config.stage == "align":
            return self.fusion + self.encoder
        frozen = 0 if config.stage == "pretrain" or config.train_experts else self.expert * self.experts
        return self.total - frozen


def count_weights(config: ModelConfig, experts: int) -> Weights:
    """Count the weights of a `Signet` of ``experts`` experts, without its running statistics."""
    language_model = config.language_model
    encoder, decoder = _stack(language_model, attentions=1), _stack(language_model, attentions=2)
    pieces = 2 * language_model.vocab_size * language_model.d_model
    fusion = 0 if config.fusion is None else _fusion(config.fusion, config.backbone, experts)
    return Weights(_backbone(config.backbone), experts, fusion, encoder, decoder, pieces)


def _backbone(config: BackboneConfig) -> int:
    streams = sum(_stream(region, config) for region in (BODY, LEFT_HAND, FACE))
    width = 4 * config.temporal_channels[-1]
    return streams + width + width * config.embedding + config.embedding


def _stream(region: Region, config: BackboneConfig) -> int:
    joints, before = len(region.joints), config.input_channels
    found = 4 * before
    kernels = [1] * len(config.spatial_channels) + [config.temporal_kernel] * len(config.temporal_channels)
    for channels, kernel in zip((*config.spatial_channels, *config.temporal_channels), kernels, strict=True):
        found += 2 * (joints * joints + before * channels + channels) + 2 * channels  # both hops, and their norm
        if kernel > 1:
            found += channels * channels * kernel + 3 * channels
        if before != channels:
            found += before * channels + 3 * channels
        before = channels
    return found


def _fusion(config: FusionConfig, backbone: BackboneConfig, experts: int) -> int:
    embedding = backbone.embedding
    adapters = experts * (2 * embedding + 2 * embedding * config.adapter_rank) if config.adapter_rank else 0
    if config.gating != "router":
        return adapters + (experts * embedding**2 + embedding if config.gating == "concatenate" else 0)
    prior = (2 + _BESIDE_HANDS[config.router_reads]) * backbone.temporal_channels[-1]
    aggregation = 2 * prior * config.query_hidden + config.query_hidden + 3 * prior
    router = prior * config.router_hidden + config.router_hidden + (config.router_hidden + 1) * experts
    return adapters + aggregation + router


def _stack(config: LanguageModelConfig, attentions: int) -> int:
    """Count an encoder or decoder: ``attentions`` a layer, a gated feed-forward, a norm before each."""
    attention = 4 * config.d_model * config.num_heads * config.d_kv
    layer = attentions * attention + 3 * config.d_model * config.d_ff + (attentions + 1) * config.d_model
    return config.num_layers * layer + config.d_model + _RELATIVE_BUCKETS * config.num_heads


def memory_of(device: str | None) -> int:
    """Return the bytes that a process may use on ``device``: a GPU's, or the machine's, a container's, its own limit.

    None is a GPU where there is one.
    """
    import torch

    if device != "cpu" and torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else []
    with contextlib.suppress(OSError, ValueError):  # no container, or no limit
        found.append(int(_CGROUP.read_text()))
    if sys.platform != "win32":
        import resource

        found += [limit for limit in resource.getrlimit(resource.RLIMIT_AS) if limit > 0]
    return min(found, default=8 * 10**9)


def check_fits(config: TrainConfig, device: str | None) -> None:
    """Know before a model is built that it cannot be trained here.

    What is counted is less than what a run takes: weights, gradients, AdamW's state, and one step of the beam search.

    Raises:
        ConfigError: more than there is; with what takes most.
    """
    weights, memory = count_weights(config.model, max(1, len(config.experts))), memory_of(device)
    needed = _FLOAT * weights.total + _TRAINED * weights.trained(config)
    written = config.optimisation.batch_size * config.card.num_beams * config.model.language_model.vocab_size * _FLOAT
    if config.stage != "align" and needed + written > memory and written > needed:
        raise ConfigError(
            f"card.num_beams x optimisation.batch_size x model.language_model.vocab_size: the scores of a step of the "
            f"beam search take {_gigabytes(written)} of the {_gigabytes(memory)} here; lower one of them"
        )
    if needed + written > memory:
        shares = {
            "model.backbone": weights.expert * weights.experts,
            "model.fusion": weights.fusion,
            "model.language_model": weights.encoder + weights.decoder + weights.pieces,
        }
        most = max(shares, key=lambda name: shares[name])
        raise ConfigError(
            f"model: {weights.total / 1e6:,.1f} million weights take {_gigabytes(needed)} to train, and there are "
            f"{_gigabytes(memory)} here; most are {most}'s ({shares[most] / 1e6:,.1f} million): make it smaller"
        )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
