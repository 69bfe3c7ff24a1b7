"""A pinned model is a model of the experts that stay."""

from __future__ import annotations

import pytest
import torch
from random_models import random_batch, random_signet

from signet_export.routing import pin, preferred
from signet_runtime.errors import BundleError
from signet_train.checkpoint import Checkpoint, ExpertCard
from signet_train.config import TrainConfig
from signet_train.tokenizer import train_tokenizer


def whole(k: int = 2) -> Checkpoint:
    model = random_signet(3, k, seed=4)
    config = TrainConfig.model_validate(
        {"stage": "finetune", "data": {"manifests": []}, "model": model.config.model_dump()}
    )
    cards = [
        ExpertCard(name=n, sign_languages=(n,), corpus="none", source="test", backbone=model.config.backbone)
        for n in ("csl", "ase", "bfi")
    ]
    return Checkpoint(model, cards, train_tokenizer(["abc"], 64), config)


@pytest.mark.parametrize("kept", [[0], [2], [0, 2], [1, 2]])
def test_pinned_experts_are_routed_among_themselves(kept: list[int]) -> None:
    checkpoint = whole()
    pinned = pin(checkpoint, kept)
    assert [card.name for card in pinned.experts] == [("csl", "ase", "bfi")[i] for i in kept]
    model, other = checkpoint.model, pinned.model
    regions, mask = random_batch([9, 14], 1)
    assert model.fusion is not None and other.fusion is not None
    with torch.no_grad():
        features = model.features(regions, mask)
        descriptor = model.fusion.aggregation(features.priors[:, kept])
        logits = model.fusion.router.mlp(descriptor)[:, kept]
        expected = torch.zeros_like(logits)
        k = min(2, len(kept))
        top = logits.topk(k, dim=-1)
        expected.scatter_(1, top.indices, top.values.softmax(-1))
        adapted = [model.fusion.adapters[i](features.embeddings[:, i]) for i in kept]
        fused = sum(w[:, None, None] * z for w, z in zip(expected.unbind(1), adapted, strict=True))
        found, weights = other.fuse(other.features(regions, mask))
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(found, fused, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kept", [[], [3], [-1], [1, 0], [1, 1]])
def test_experts_that_there_are_not_cannot_be_pinned(kept: list[int]) -> None:
    with pytest.raises(BundleError, match="pinned routing: no experts"):
        pin(whole(), kept)


def test_the_preferred_experts_are_those_of_most_clips() -> None:
    weights = torch.tensor([[0.4, 0.6, 0], [0, 0.5, 0.5], [0.9, 0.1, 0]])
    assert preferred(weights) == ([0, 1], {(0, 1): 2, (1, 2): 1})
