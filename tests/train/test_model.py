"""The paper's modules against independent computations, and the promises that padding and freezing make."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from signet_runtime.skeleton import FACE, LEFT_HAND, REGIONS
from signet_train.config import BackboneConfig, FusionConfig, LanguageModelConfig, ModelConfig
from signet_train.model.adapter import Adapter
from signet_train.model.aggregation import Aggregation, hand_prior
from signet_train.model.backbone import Backbone
from signet_train.model.losses import token_loss
from signet_train.model.pooling import masked_mean
from signet_train.model.router import Router, fuse
from signet_train.model.signet import Signet, sinusoids
from signet_train.model.stgcn import FrameLayout, STGCNBlock, distance_partition
from signet_train.parameters import parameter_table

SMALL = BackboneConfig(input_channels=8, spatial_channels=(8, 12), temporal_channels=(16, 16), embedding=32)


def small_signet(absolute_positions: bool = False, router_reads: str = "hands") -> Signet:
    config = ModelConfig(
        backbone=SMALL,
        fusion=FusionConfig(adapter_rank=4, query_hidden=16, router_hidden=16, router_reads=router_reads),
        language_model=LanguageModelConfig(
            vocab_size=48, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, absolute_positions=absolute_positions
        ),
    )
    model = Signet(config, num_experts=3)
    randomise(model)
    return model


def randomise(model: nn.Module) -> None:
    """Every zero and every fresh statistic becomes something that a mistake would change."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 2)
                module.bias.normal_()
        for name, parameter in model.named_parameters():
            if name.endswith(("up", "part_offset", "bias")):
                parameter.normal_(std=0.3)


def random_regions(batch: int, frames: int) -> dict[str, torch.Tensor]:
    return {name: torch.randn(batch, frames, len(region.joints), 3) for name, region in REGIONS.items()}


def conv_first_block(block: STGCNBlock, x: torch.Tensor) -> torch.Tensor:
    """ST-GCN as its authors write it: 1x1 convolution, then a sum over adjacency subsets, in (B, C, T, J)."""

    def norm(bn: nn.BatchNorm1d, y: torch.Tensor) -> torch.Tensor:
        shape = (1, -1, 1, 1)
        y = (y - bn.running_mean.view(shape)) / (bn.running_var.view(shape) + bn.eps).sqrt()
        return y * bn.weight.view(shape) + bn.bias.view(shape)

    subsets, channels, _ = block.gcn.weight.shape
    y = torch.nn.functional.conv2d(x, block.gcn.weight.flatten(0, 1)[..., None, None], block.gcn.bias.flatten())
    y = y.view(len(x), subsets, channels, *x.shape[2:])
    y = torch.einsum("nkctv,kvw->nctw", y, block.gcn.adjacency)
    y = norm(block.gcn.norm, y).relu()
    if block.tcn is not None:
        y = norm(
            block.tcn.norm, torch.nn.functional.conv2d(y, block.tcn.conv.weight, block.tcn.conv.bias, padding=(2, 0))
        )
    residual = x
    if isinstance(block.residual, nn.Sequential):
        linear, bn = block.residual
        residual = norm(bn, torch.nn.functional.conv2d(x, linear.weight[..., None, None], linear.bias))
    return (y + residual).relu()


@pytest.mark.parametrize(("channels", "kernel"), [((5, 7), 1), ((6, 6), 5), ((5, 7), 5)])
def test_block_equals_convolution_first(channels: tuple[int, int], kernel: int) -> None:
    block = STGCNBlock(*channels, kernel, distance_partition(LEFT_HAND), dropout=0.0).eval()
    randomise(block)
    with torch.no_grad():
        block.gcn.adjacency.normal_()
        x = torch.randn(2, 9, 21, channels[0])
        layout = FrameLayout(torch.ones(2, 9, dtype=torch.bool))
        ours = layout.unpack(block(layout.pack(x), layout))
        reference = conv_first_block(block, x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-5)


def test_adjacency_is_column_normalised_hops() -> None:
    adjacency = distance_partition(FACE)
    torch.testing.assert_close(adjacency.sum(dim=(0, 1)), torch.ones(18))
    # The nose tip has all 17 others as neighbours, each a share of 1/18 with itself.
    torch.testing.assert_close(adjacency[1, :17, 17], torch.full((17,), 1 / 18))
    assert adjacency[0].count_nonzero() == 18


def test_paper_size() -> None:
    backbone = Backbone(BackboneConfig())
    assert sum(p.numel() for p in backbone.parameters()) == 5_346_088
    table = parameter_table()
    for exact in ("5,346,088", "582,401,280", "78,336"):  # FACTS: backbone, mT5-base, three adapters
        assert exact in table


def test_the_exported_layout_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeping only real frames is a matter of speed and statistics, not of results."""
    backbone = Backbone(SMALL)
    randomise(backbone)
    regions, mask = random_regions(3, 11), torch.arange(11) < torch.tensor([11, 4, 7])[:, None]
    backbone.eval()
    with torch.no_grad():
        expected = backbone(regions, mask)
        monkeypatch.setattr(torch.jit, "is_tracing", lambda: True)
        static = backbone({name: r.masked_fill(~mask[:, :, None, None], 9.0) for name, r in regions.items()}, mask)
    for a, b in zip(expected, static, strict=True):
        torch.testing.assert_close(a[mask], b[mask], atol=1e-5, rtol=1e-5)


def test_batchnorm_never_sees_padding() -> None:
    regions, mask = random_regions(2, 10), torch.arange(10) < torch.tensor([10, 3])[:, None]
    torch.manual_seed(0)
    one = Backbone(SMALL).train()
    two = Backbone(SMALL).train()
    two.load_state_dict(one.state_dict())
    one(regions, mask)
    two({name: torch.where(mask[:, :, None, None], r, 99.0) for name, r in regions.items()}, mask)
    for (name, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name, atol=1e-6, rtol=1e-5)


def test_padding_never_changes_a_result() -> None:
    model = small_signet().eval()
    lengths = [30, 1, 2, 17, 9, 30, 5, 24]
    mask = torch.arange(30) < torch.tensor(lengths)[:, None]
    regions = {name: r.masked_fill(~mask[:, :, None, None], 5.0) for name, r in random_regions(8, 30).items()}
    with torch.no_grad():
        together, _, weights = model(regions, mask)
        for i, length in enumerate(lengths):
            own = {name: r[i : i + 1, :length] for name, r in regions.items()}
            alone, _, own_weights = model(own, mask[i : i + 1, :length])
            torch.testing.assert_close(alone[0], together[i, :length], atol=1e-5, rtol=0)
            torch.testing.assert_close(own_weights[0], weights[i], atol=1e-6, rtol=0)


def test_body_injection_reaches_hands_and_face_but_not_back() -> None:
    backbone = Backbone(SMALL)
    regions, mask = random_regions(1, 6), torch.ones(1, 6, dtype=torch.bool)
    regions["body"].requires_grad_()
    out = backbone(regions, mask)
    out.left_hand.sum().backward()
    assert regions["body"].grad is None or not regions["body"].grad.any()  # gradient stopped
    moved = {**regions, "body": regions["body"].detach() + 1}
    assert not torch.allclose(backbone.eval()(moved, mask).left_hand, backbone(regions, mask).left_hand)
    apart = Backbone(SMALL.model_copy(update={"body_injection": False})).eval()
    torch.testing.assert_close(apart(moved, mask).left_hand, apart(regions, mask).left_hand)


def test_adapter_equation_12() -> None:
    adapter = Adapter(32, 4, dropout=0.1).eval()
    z = torch.randn(2, 5, 32)
    torch.testing.assert_close(adapter(z), z)  # B = 0: the identity at first
    assert 0.005 < adapter.down.std() < 0.02  # variance 1e-4
    with torch.no_grad():
        adapter.up.normal_()
        adapter.norm.weight.normal_()
    x = z.double().numpy()
    normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    normed = normed * adapter.norm.weight.double().detach().numpy()
    expected = x + normed @ adapter.down.double().detach().numpy() @ adapter.up.double().detach().numpy()
    np.testing.assert_allclose(adapter(z).detach().numpy(), expected, atol=1e-5)


def test_means_run_over_real_positions() -> None:
    states, mask = torch.randn(2, 4, 3), torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]).bool()
    expected = np.stack([states[0, :3].numpy().mean(0), states[1, 0].numpy()])
    np.testing.assert_allclose(masked_mean(states, mask).numpy(), expected, atol=1e-6)
    assert not masked_mean(states, torch.zeros_like(mask)).any()


@pytest.mark.parametrize("reads", ["hands", "hands+body", "hands+body+face"])
def test_priors_are_the_means_of_real_frames_right_hand_first(reads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_signet(router_reads=reads).eval()
    regions, mask = random_regions(2, 6), torch.arange(6) < torch.tensor([6, 2])[:, None]
    seen = model.experts[0](regions, mask)
    by_name = {"body": seen.body[1, :2].mean(0), "face": seen.face[1, :2].mean(0)}
    hands = torch.cat([seen.right_hand[1, :2].mean(0), seen.left_hand[1, :2].mean(0)])  # Eq. 4
    torch.testing.assert_close(hand_prior(seen.left_hand, seen.right_hand, mask)[1], hands)
    expected = torch.cat([hands, *(by_name[region] for region in reads.split("+")[1:])])
    torch.testing.assert_close(model.features(regions, mask).priors[1, 0], expected)
    # and the model's are that very function's
    monkeypatch.setattr("signet_train.model.fusion.hand_prior", lambda *_: hands.expand(2, -1) + 1)
    torch.testing.assert_close(model.features(regions, mask).priors[1, 0, : len(hands)], hands + 1)


def test_aggregation_algorithm_1() -> None:
    aggregation = Aggregation(6, 8)
    h = np.random.default_rng(0).normal(size=(2, 3, 6))
    w1, b1, w2, b2 = (p.detach().double().numpy() for p in aggregation.query.parameters())
    query = np.maximum(h.mean(1) @ w1.T + b1, 0) @ w2.T + b2
    logits = (query[:, None] * h).sum(-1) / np.sqrt(6)
    alpha = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    pooled = (alpha[..., None] * h).sum(1)
    expected = (pooled - pooled.mean(-1, keepdims=True)) / np.sqrt(pooled.var(-1, keepdims=True) + 1e-5)
    ours = aggregation(torch.from_numpy(h).float()).detach().numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_router_takes_the_top_k_at_inference(k: int) -> None:
    router = Router(6, 8, num_experts=3, temperature=1.0, top_k=k).eval()
    x = torch.randn(5, 6)
    logits = router.mlp(x).detach().double().numpy()
    expected = np.zeros_like(logits)
    for row, out in zip(logits, expected, strict=True):
        best = np.argsort(-row)[:k]
        out[best] = np.exp(row[best]) / np.exp(row[best]).sum()
    np.testing.assert_allclose(router(x).detach().numpy(), expected, atol=1e-6)


def test_router_samples_gumbel_softmax_in_training() -> None:
    torch.manual_seed(0)
    router = Router(4, 8, num_experts=3, temperature=1.0, top_k=1).train()
    x = torch.randn(1, 4).expand(20_000, 4)
    weights = router(x)
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(x)))
    assert (weights > 0).all()  # soft: every expert takes part
    # The Gumbel-max property: the largest weight is expert i's with probability softmax(logits)_i.
    frequency = torch.bincount(weights.argmax(-1), minlength=3) / len(x)
    torch.testing.assert_close(frequency, router.mlp(x[:1])[0].softmax(-1).detach(), atol=0.02, rtol=0)


def test_router_rejects_k_outside_the_experts() -> None:
    with pytest.raises(ValueError, match="top_k"):
        Router(4, 8, num_experts=2, temperature=1.0, top_k=3)


def test_fused_embedding_is_the_weighted_sum_of_adapted_experts() -> None:
    model = small_signet().eval()
    regions, mask = random_regions(2, 7), torch.ones(2, 7, dtype=torch.bool)
    with torch.no_grad():
        fused, weights = model.fuse(model.features(regions, mask))
        assert ((weights > 0).sum(-1) == 2).all()
        expected = sum(
            weights[:, i, None, None] * model.fusion.adapters[i](model.experts[i](regions, mask).embeddings)
            for i in range(3)
        )
    torch.testing.assert_close(fused, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fuse(weights, torch.ones(2, 3, 4, 5)), torch.ones(2, 4, 5))


def test_positions_are_vaswani_sinusoids() -> None:
    time, channel = np.arange(40)[:, None], np.arange(8)
    angles = time / 100 ** (channel / 8)
    np.testing.assert_allclose(sinusoids(40, 16).numpy(), np.hstack([np.sin(angles), np.cos(angles)]), atol=1e-5)


@pytest.mark.parametrize("absolute_positions", [False, True])
def test_positions_are_added_to_what_mt5_reads_if_asked_for(absolute_positions: bool) -> None:
    model = small_signet(absolute_positions).eval()
    regions, mask = random_regions(1, 7), torch.ones(1, 7, dtype=torch.bool)
    with torch.no_grad():
        features = model.features(regions, mask)
        read = model.fuse(features)[0] + absolute_positions * sinusoids(7, 32)
        expected = model.language_model.get_encoder()(inputs_embeds=read).last_hidden_state
        torch.testing.assert_close(model.encode(features, mask).hidden_states, expected, atol=1e-5, rtol=1e-5)


def test_frozen_means_frozen() -> None:
    model = small_signet().train()
    before = {name: value.clone() for name, value in model.experts.state_dict().items()}
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.1)
    regions, mask = random_regions(2, 6), torch.ones(2, 6, dtype=torch.bool)
    for _ in range(2):
        labels = torch.randint(3, 48, (2, 4))
        token_loss(model.logits(model.features(regions, mask), mask, labels), labels, 0.1).backward()
        optimizer.step()
    for name, value in model.experts.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in model.experts.parameters())
    # What should learn does.
    for part in ("adapters", "aggregation", "router"):
        assert any(p.grad is not None and p.grad.any() for p in getattr(model.fusion, part).parameters()), part


def test_loss_ignores_padded_labels() -> None:
    model = small_signet().eval()
    regions, mask = random_regions(2, 6), torch.ones(2, 6, dtype=torch.bool)
    labels = torch.tensor([[5, 6, 1], [7, 1, -100]])
    longer = torch.nn.functional.pad(labels, (0, 3), value=-100)
    with torch.no_grad():
        features = model.features(regions, mask)
        short, padded = (token_loss(model.logits(features, mask, x), x, 0.1) for x in (labels, longer))
        torch.testing.assert_close(short, padded, atol=1e-5, rtol=1e-6)
