"""A pinned model is a model of the experts that stay."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from random_models import random_batch, random_signet
from tiny_runs import words

from signet_export.cli import main
from signet_export.pinning import calibrate, pin, preferred
from signet_runtime.bundle import Bundle
from signet_runtime.errors import CheckpointError
from signet_train.checkpoint import Checkpoint, ExpertCard, save_checkpoint
from signet_train.config import TrainConfig
from signet_train.tokenizer import train_tokenizer


def whole(k: int = 2) -> Checkpoint:
    model = random_signet(3, k, seed=4)
    config = TrainConfig.model_validate(
        {
            "stage": "finetune",
            "data": {"manifests": [], "frame_rate": 6.25, "workers": 0},
            "card": {"max_new_tokens": 4},
            "model": model.config.model_dump(),
        }
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
    with pytest.raises(CheckpointError, match="pinned routing: no experts"):
        pin(whole(), kept)


def test_the_preferred_experts_are_those_of_most_clips() -> None:
    weights = torch.tensor([[0.4, 0.6, 0], [0, 0.5, 0.5], [0.9, 0.1, 0]])
    assert preferred(weights) == ([0, 1], {(0, 1): 2, (1, 2): 1})


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return words(tmp_path_factory.mktemp("words") / "words.jsonl", train=2, dev=4)


def test_calibration_counts_and_compares(manifest: Path) -> None:
    checkpoint = whole()
    found = calibrate(checkpoint, manifest, "dev", None)
    assert sum(found.sets.values()) == 8  # four words of each of two alphabets
    names = ("csl", "ase", "bfi")
    assert " + ".join(names[i] for i in found.kept) == max(found.sets, key=lambda chosen: found.sets[chosen])
    assert 0 <= found.same_text <= 1 and all(rate >= 0 for rate in found.errors)
    assert "of 8" in found.report()


def test_a_pinned_bundle_holds_the_experts_that_stay(manifest: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint", whole())
    arguments = [str(tmp_path / "checkpoint"), "--out", str(tmp_path / "bundle"), "--routing", "pinned"]
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 2
    assert "--routing pinned needs --calibrate" in refused.stderr
    result = CliRunner().invoke(main, [*arguments, "--calibrate", str(manifest)])
    assert result.exit_code == 0, result.stderr
    assert "agrees with the router" in result.stderr
    bundle = Bundle.load(tmp_path / "bundle")
    assert len(bundle.manifest.experts) == 2
    assert (bundle.manifest.routing.mode, bundle.manifest.routing.k) == ("pinned", 2)
    told = CliRunner().invoke(main, ["inspect", str(tmp_path / "bundle")]).stdout
    assert "pinned, 2 of 2" in told and "encoder.onnx" in told
    against = ["verify", str(tmp_path / "bundle"), "--against", str(tmp_path / "checkpoint")]
    checked = CliRunner().invoke(main, against)
    assert checked.exit_code == 0, checked.stderr
    assert '"same_tokens"' in checked.stdout
    # What is not its checkpoint is noticed.
    other = whole()
    with torch.no_grad():
        other.model.experts[0].projection.bias += 1
        other.model.experts[1].projection.bias += 1
        other.model.experts[2].projection.bias += 1
    save_checkpoint(tmp_path / "other", other)
    differs = CliRunner().invoke(main, [*against[:3], str(tmp_path / "other")])
    assert differs.exit_code == 4
    assert "differs from the model" in differs.stderr
