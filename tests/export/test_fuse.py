"""The fused encoder computes what the training model does: every routing, any weights, padding and lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import random_batch, random_signet
from torch import nn

from signet_export.encoder import export_encoder
from signet_export.fuse import FusedEncoder
from signet_export.winograd import convolve, transform_filters, transforms


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 3), st.integers(0, 10**6))
def test_minimal_filtering_is_the_convolution(tiles: int, experts: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(experts, 4, tiles, 7, 6, generator=g)
    taps = torch.randn(experts, 5, 6, 5, generator=g) / 30**0.5
    out, _, inputs = transforms()
    found = convolve(x, transform_filters(taps), out.float(), inputs.float()).view(experts, 4, tiles, 7, 5)
    for n in range(experts):
        frames = x[n].transpose(0, 1).flatten(0, 1)  # (T, 7, 6)
        expected = nn.functional.conv1d(frames.permute(1, 2, 0), taps[n], padding=2).permute(2, 0, 1)
        torch.testing.assert_close(found[n].transpose(0, 1).flatten(0, 1), expected, atol=1e-5, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 3).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))),
    st.sampled_from([("dense", False), ("dense", True), ("topk", False)]),
    st.booleans(),
    st.lists(st.integers(1, 23), min_size=1, max_size=4),
    st.integers(0, 10**6),
)
def test_fused_is_unfused(
    size: tuple[int, int], form: tuple[Any, bool], injection: bool, lengths: list[int], seed: int
) -> None:
    model, (routing, stacked) = random_signet(*size, injection=injection, seed=seed), form
    regions, mask = random_batch(lengths, seed)
    with torch.no_grad():
        expected = model(regions, mask)
        states, read, weights = FusedEncoder(model, routing, stacked)(*regions.values(), mask.long())
    torch.testing.assert_close(states[mask], expected.hidden_states[mask], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weights, expected.routing_weights, atol=1e-6, rtol=0)
    assert torch.equal(read.bool(), mask)


def test_a_single_expert_needs_no_router() -> None:
    model = random_signet(1, 1, fused=False)
    regions, mask = random_batch([5, 8], 2)
    with torch.no_grad():
        states, _, weights = FusedEncoder(model)(*regions.values(), mask.long())
        torch.testing.assert_close(states[mask], model(regions, mask)[0][mask], atol=1e-5, rtol=1e-5)
    assert weights.tolist() == [[1], [1]]


@pytest.mark.parametrize("routing", ["topk", "dense"])
def test_without_adapters_the_experts_embeddings_are_fused_as_they_are(routing: Any) -> None:
    model = random_signet(3, 2, adapter_rank=0)
    regions, mask = random_batch([5, 8], 2)
    with torch.no_grad():
        expected = model(regions, mask)
        states, _, weights = FusedEncoder(model, routing)(*regions.values(), mask.long())
    torch.testing.assert_close(states[mask], expected.hidden_states[mask], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weights, expected.routing_weights, atol=1e-6, rtol=0)


@pytest.mark.parametrize("injection", [True, False])
def test_topk_does_not_compute_what_the_router_does_not_need(injection: bool) -> None:
    model = random_signet(3, 1, injection=injection, seed=3)
    regions, mask = random_batch([16], 3)
    fused = FusedEncoder(model, "topk")
    seen: list[str] = []
    for name, module in fused.named_modules():
        if name.endswith(("body", "face", "hand")):
            for method in ("lift", "over_time"):
                if hasattr(module, method):
                    original = getattr(module, method)
                    setattr(module, method, _noting(seen, f"{name}.{method}", original))
    with torch.no_grad():
        weights = fused(*regions.values(), mask.long())[2]
    (chosen,) = torch.nonzero(weights[0]).flatten().tolist()
    own = {f"remainders.{chosen}.remainder.{part}" for part in ("face.lift", "face.over_time", "body.over_time")}
    shared = {f"hands.{i}.hand.{part}" for i in range(3) for part in ("lift", "over_time")}
    body = {f"hands.{i}.body.lift" for i in range(3)} if injection else {f"remainders.{chosen}.remainder.body.lift"}
    assert set(seen) == own | shared | body


def _noting(seen: list[str], name: str, method: Any) -> Any:
    def noted(*arguments: Any) -> Any:
        seen.append(name)
        return method(*arguments)

    return noted


@pytest.mark.parametrize("routing", ["dense", "topk"])
def test_the_exported_graph_takes_any_batch_and_length(routing: str, tmp_path: Any) -> None:
    model = random_signet(3, 2, seed=6)
    fused = FusedEncoder(model, routing)  # type: ignore[arg-type]
    export_encoder(fused, tmp_path / "encoder.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx")
    for lengths in ([23, 1, 9, 16], [8], [5, 2], [1], [3]):
        regions, mask = random_batch(lengths, sum(lengths))
        feed = {name: region.numpy() for name, region in regions.items()} | {"attention_mask": mask.long().numpy()}
        states, read, weights = session.run(None, feed)
        with torch.no_grad():
            expected = fused(*regions.values(), mask.long())
        np.testing.assert_allclose(states[mask.numpy()], expected[0][mask].numpy(), atol=1e-5, rtol=1e-5)
        np.testing.assert_array_equal(read, expected[1].numpy())
        np.testing.assert_allclose(weights, expected[2].numpy(), atol=1e-6)
