"""The paper's ablations are configurations: other gating, other router inputs, no adapters."""

from __future__ import annotations

import pytest
import torch

from signet_runtime.errors import CheckpointError
from signet_runtime.skeleton import REGIONS
from signet_train.checkpoint import Checkpoint, load_checkpoint
from signet_train.config import BackboneConfig, FusionConfig, LanguageModelConfig, ModelConfig
from signet_train.model.fusion import Features, Unrouted
from signet_train.model.signet import Signet

BACKBONE = BackboneConfig(input_channels=4, spatial_channels=(4, 8), temporal_channels=(12,), embedding=16)
MT5 = LanguageModelConfig(vocab_size=32, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)


def model(experts: int = 3, **fusion) -> Signet:
    settings = {"query_hidden": 8, "router_hidden": 8, "adapter_rank": 2, **fusion}
    config = ModelConfig(backbone=BACKBONE, fusion=FusionConfig(**settings), language_model=MT5)
    return Signet(config, experts).eval()


def random_features(experts: int = 3) -> Features:
    return Features(torch.randn(2, experts, 5, 16), torch.randn(2, experts, 24))


def test_without_gating_experts_count_alike() -> None:
    averaged, features = model(gating="average"), random_features()
    for adapter in averaged.fusion.adapters:
        torch.nn.init.normal_(adapter.up)
    with torch.no_grad():
        fused, weights = averaged.fuse(features)
        adapted = [a(features.embeddings[:, i]) for i, a in enumerate(averaged.fusion.adapters)]
    torch.testing.assert_close(fused, (adapted[0] + adapted[1] + adapted[2]) / 3)
    assert weights.shape == (2, 3) and torch.allclose(weights, torch.full((2, 3), 1 / 3))
    assert averaged.routed is None


def test_concatenated_experts_are_projected_and_begin_as_their_average() -> None:
    joined, features = model(gating="concatenate", adapter_rank=0), random_features()
    assert isinstance(joined.fusion, Unrouted) and joined.fusion.projection is not None
    with torch.no_grad():
        torch.testing.assert_close(joined.fuse(features)[0], features.embeddings.mean(dim=1))
        torch.nn.init.normal_(joined.fusion.projection.weight)
        weight = joined.fusion.projection.weight
        expected = sum(features.embeddings[:, i] @ weight[:, 16 * i : 16 * (i + 1)].T for i in range(3))
        torch.testing.assert_close(joined.fuse(features)[0], expected, atol=1e-5, rtol=1e-5)


def test_no_adapters_leave_embeddings_as_they_are_and_add_no_parameters() -> None:
    plain, features = model(adapter_rank=0), random_features()
    with torch.no_grad():
        fused, weights = plain.fuse(features)
    torch.testing.assert_close(fused, torch.einsum("bn,bnte->bte", weights, features.embeddings))
    assert not list(plain.fusion.adapters.parameters())


@pytest.mark.parametrize("reads", ["hands", "hands+body", "hands+body+face"])
def test_the_router_reads_what_it_is_told_to(reads: str) -> None:
    routed = model(router_reads=reads)
    regions = {name: torch.randn(2, 7, len(region.joints), 3) for name, region in REGIONS.items()}
    mask = torch.arange(7) < torch.tensor([7, 4])[:, None]
    with torch.no_grad():
        before = routed.features(regions, mask).priors
        assert before.shape == (2, 3, 12 * (1 + reads.count("+")) + 12)
        for region, read in (("body", "body" in reads), ("face", "face" in reads)):
            # With body injection, the hands' features see the wrists too: only the nose moves here.
            changed = {**regions, region: regions[region] + torch.eye(regions[region].shape[2])[0][:, None]}
            after = routed.features(changed, mask).priors
            assert torch.equal(before, after) is not read, region
        assert routed.fuse(routed.features(regions, mask))[1].shape == (2, 3)


def test_an_ablation_is_not_exported(experts: list, tmp_path) -> None:
    from signet_export.bundle import export_bundle

    cards = [load_checkpoint(path).experts[0] for path in experts]
    made = load_checkpoint(experts[0])
    for changes in ({"gating": "average"}, {"router_reads": "hands+body"}):
        checkpoint = Checkpoint(model(2, **changes), cards, made.tokenizer, made.config)
        with pytest.raises(CheckpointError, match="ablation"):
            export_bundle(checkpoint, tmp_path / "bundle")
        assert not (tmp_path / "bundle").exists()
