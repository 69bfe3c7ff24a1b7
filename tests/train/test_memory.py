"""What a model takes is known from its configuration alone, and what cannot be here is refused before it is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_runs import FUSION, MODEL, config

import signet_train.memory
from signet_runtime.errors import ConfigError
from signet_train.config import FusionConfig, ModelConfig
from signet_train.memory import check_fits, count_weights, memory_of
from signet_train.model.signet import Signet
from signet_train.stages.run import run_stage

WIDTHS = st.integers(1, 24)
MODELS = st.fixed_dictionaries(
    {
        "backbone": st.fixed_dictionaries(
            {
                "input_channels": WIDTHS,
                "spatial_channels": st.lists(WIDTHS, min_size=1, max_size=3),
                "temporal_channels": st.lists(WIDTHS, min_size=1, max_size=3),
                "temporal_kernel": st.sampled_from([1, 3, 5]),
            }
        ),
        "language_model": st.fixed_dictionaries(
            {"vocab_size": st.integers(5, 90), "d_kv": WIDTHS, "d_ff": WIDTHS, "num_layers": st.integers(1, 3)}
            | {"num_heads": st.integers(1, 5)}
        ),
        "fusion": st.none()
        | st.fixed_dictionaries(
            {
                "adapter_rank": st.integers(0, 5),
                "gating": st.sampled_from(["router", "average", "concatenate"]),
                "router_reads": st.sampled_from(["hands", "hands+body", "hands+body+face"]),
                "query_hidden": WIDTHS,
                "router_hidden": WIDTHS,
                "top_k": st.just(1),
            }
        ),
    }
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sizes=MODELS, width=st.integers(1, 24), experts=st.integers(1, 4))
def test_weights_are_counted_as_they_are_built(sizes: dict[str, Any], width: int, experts: int) -> None:
    sizes = {**sizes, "backbone": {**sizes["backbone"], "embedding": width}}
    model = ModelConfig.model_validate({**sizes, "language_model": {**sizes["language_model"], "d_model": width}})
    experts = experts if model.fusion is not None else 1
    with torch.device("meta"):
        built = Signet(model, experts)
    found = count_weights(model, experts)
    assert found.total == sum(p.numel() for p in built.parameters())
    assert found.expert == sum(p.numel() for p in built.experts[0].parameters())
    if built.fusion is not None:
        assert found.fusion == sum(p.numel() for p in built.fusion.parameters())


def test_the_papers_size_is_counted() -> None:
    found = count_weights(ModelConfig(fusion=FusionConfig()), 3)
    assert found.expert == 5_346_088  # Table 12
    assert round(found.total / 1e6, 1) == 599.9  # Table 5 has 599.8


LARGE = {**MODEL, "language_model": {**MODEL["language_model"], "vocab_size": 4_000_000}}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"model": LARGE},
            r"model: 128\.\d million weights take 2\.\d GB to train, .* most are model.language_model's",
        ),
        ({"card": {"num_beams": 100}, "optimisation": {"batch_size": 60_000, "epochs": 1}}, r"card\.num_beams x "),
    ],
)
def test_what_cannot_be_here_is_refused_before_it_is_built(
    changes: dict[str, Any], says: str, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signet_train.memory, "memory_of", lambda device: 900_000_000)
    monkeypatch.setattr("signet_train.stages.run.check_fills_a_step", lambda *_: None)
    monkeypatch.setattr("signet_train.stages.assemble.Signet", None)  # nothing can be built
    with pytest.raises(ConfigError, match=says):
        run_stage(config("pretrain", manifest, **changes), tmp_path / "run", "cpu")
    assert not (tmp_path / "run" / "last").exists()


def test_stages_need_what_they_train(experts: list[Path], manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned = config("finetune", manifest, experts=experts, model={**MODEL, "fusion": FUSION})
    weights = count_weights(tuned.model, 2)
    aligned, learned = tuned.model_copy(update={"stage": "align"}), tuned.model_copy(update={"train_experts": True})
    assert weights.trained(aligned) < weights.trained(tuned) < weights.trained(learned) == weights.total
    monkeypatch.setattr(
        signet_train.memory, "memory_of", lambda device: 4 * weights.total + 12 * weights.trained(tuned)
    )
    check_fits(aligned, "cpu")
    with pytest.raises(ConfigError, match=r"million weights"):
        check_fits(learned, "cpu")


def test_the_machine_has_memory() -> None:
    assert 10**8 < memory_of("cpu") < 10**14
