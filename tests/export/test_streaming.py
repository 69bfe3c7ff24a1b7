"""An encoder in two graphs gives what one gives, also when the first is run while frames come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from pydantic import ValidationError
from random_models import random_batch, random_signet
from test_export import _CONFIG

from signet_export.cli import main
from signet_export.encoder import export_split_encoder
from signet_export.fuse import FusedEncoder
from signet_export.split import FrameFeatures, reach
from signet_export.tensorrt import Target
from signet_runtime.bundle import Bundle, Engine, write_manifest
from signet_runtime.engines.encoder import Encoded
from signet_runtime.engines.incremental import IncrementalEncoder
from signet_runtime.engines.onnx import OnnxEncoder, load_encoder
from signet_runtime.engines.random_clips import random_clips
from signet_train.checkpoint import Checkpoint, ExpertCard, save_checkpoint
from signet_train.config import BackboneConfig, TrainConfig
from signet_train.data.batches.collate import pad_regions
from signet_train.model.signet import Signet
from signet_train.tokenizer import train_tokenizer

# Experts, k, body injection, fusion, length of the prompt.
MODELS = [(1, 1, True, False, 0), (2, 1, False, True, 3), (3, 2, True, True, 0)]


@pytest.fixture(scope="module", params=MODELS, ids=str)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Signet, OnnxEncoder]:
    """A model, and its encoder in two graphs."""
    experts, k, injection, fused, prompt = request.param
    path, model = tmp_path_factory.mktemp("split"), random_signet(experts, k, injection=injection, fused=fused)
    model.prompt = torch.randint(0, 64, (prompt,))
    dense = FusedEncoder(model, "dense")
    export_split_encoder(dense, path / "features.onnx", path / "rest.onnx")
    weights = sum(int(np.prod(w.dims)) for file in path.iterdir() for w in onnx.load(file).graph.initializer)
    assert weights <= 1.02 * sum(p.numel() for p in dense.parameters()), "something is stored twice"
    features, rest = (onnxruntime.InferenceSession(path / f"{name}.onnx") for name in ("features", "rest"))
    return model, OnnxEncoder(rest, features, reach(model.config.backbone))


def assert_same(found: Encoded, model: Signet, clips: list[dict[str, np.ndarray]]) -> None:
    with torch.no_grad():
        expected = model(*pad_regions(clips))
    np.testing.assert_array_equal(found.attention_mask, expected.mask.numpy())
    np.testing.assert_allclose(found.routing_weights, expected.routing_weights, atol=1e-5, rtol=0)
    real = expected.mask.numpy()
    np.testing.assert_allclose(found.hidden_states[real], expected.hidden_states.numpy()[real], atol=1e-5, rtol=0)


def test_two_graphs_are_the_model(pair: tuple[Signet, OnnxEncoder]) -> None:
    model, encoder = pair
    for lengths in ([23, 1, 9, 16], [8], [1], [3, 2]):
        clips = random_clips(lengths, np.random.default_rng(sum(lengths)))
        assert_same(encoder(clips), model, clips)


def test_read_along_is_read_at_the_end(pair: tuple[Signet, OnnxEncoder]) -> None:
    model, encoder = pair
    along, rng = IncrementalEncoder(encoder), np.random.default_rng(0)
    for length in [1, 2, 5, 300, *rng.integers(3, 300, 6)]:
        clips = random_clips([length], rng)
        stop = 0
        while (stop := stop + int(rng.integers(1, 40))) < length:
            along.update({name: region[:stop] for name, region in clips[0].items()})
        assert_same(along(clips), model, clips)


@pytest.mark.parametrize("width", [(16,), (16, 16), (8, 8, 16)])
def test_a_frame_is_felt_as_far_as_the_reach_and_no_further(width: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    backbone = BackboneConfig(input_channels=4, spatial_channels=(8, 8), temporal_channels=width, embedding=32)
    config = random_signet(2, 1).config.model_copy(update={"backbone": backbone})
    features = FrameFeatures(FusedEncoder(Signet(config, 2).eval(), "dense")).double()
    regions, mask = random_batch([41], 0)
    before, after = ({name: region.double() for name, region in regions.items()} for _ in range(2))
    for region in after.values():
        region[:, 20] += 1
    with torch.no_grad():
        change = (features(*before.values(), mask.long()) - features(*after.values(), mask.long())).abs()
    felt = torch.nonzero(change[0].amax(dim=1) > 1e-9).flatten()  # within a tile of filters rounding goes further
    far = reach(backbone)
    assert (int(felt.min()), int(felt.max())) == (20 - far, 20 + far)


# --- Bundles ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with the causal normalisation."""
    config = TrainConfig.model_validate({**_CONFIG, "data": {**_CONFIG["data"], "normalisation": "causal"}})
    torch.manual_seed(1)
    cards = [
        ExpertCard(
            name=n,
            sign_languages=(n,),
            corpus="none",
            source="test",
            normalisation="causal",
            backbone=config.model.backbone,
        )
        for n in ("ase", "gsg", "ssp")
    ]
    tokenizer = train_tokenizer(["abcdefghijklmnopqrstuvwxyz"], 64)
    path = tmp_path_factory.mktemp("causal") / "checkpoint"
    save_checkpoint(path, Checkpoint(Signet(config.model, 3).eval(), cards, tokenizer, config))
    return path


def test_a_causal_checkpoint_becomes_a_bundle_that_reads_along(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    result = CliRunner().invoke(main, [str(saved), "--out", str(path), "--archive", str(tmp_path / "b.signet")])
    assert result.exit_code == 0, result.stderr
    assert "routing is dense" in result.stderr
    bundle = Bundle.load(path, verify=True)
    engine = bundle.engine()
    assert (bundle.manifest.normalisation, bundle.manifest.routing.mode) == ("causal", "dense")
    assert (engine.features, engine.reach) == ("features.onnx", 4)  # two blocks of five taps
    assert load_encoder(bundle, engine, "cpu").can_stream
    told = CliRunner().invoke(main, ["inspect", str(path)]).stdout
    assert "profile causal" in told and "reads along, 4 frames behind" in told and "features.onnx" in told
    against = CliRunner().invoke(main, ["verify", str(path), "--against", str(saved)])
    assert against.exit_code == 0, against.stderr

    # What is read along is compared too.
    wrong = engine.model_copy(update={"reach": 1})
    write_manifest(path, bundle.manifest.model_copy(update={"engines": [wrong]}))
    refused = CliRunner().invoke(main, ["verify", str(path), "--against", str(saved)])
    assert refused.exit_code == 4
    assert "differs from the model" in refused.stderr


def test_what_two_graphs_cannot_be_is_one_line(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signet_export.tensorrt.choose_target", lambda *_: Target("tensorrt-rtx", "sm86", None))
    result = CliRunner().invoke(main, [str(saved), "--out", str(tmp_path / "b"), "--engine", "trt"])
    assert result.exit_code == 5
    assert [line for line in result.stderr.splitlines() if "error" in line] == [
        "signet-export: error: --engine trt: with the causal profile the encoder is two graphs, which TensorRT engines "
        "are not made of; export it with --engine onnx"
    ]
    assert not (tmp_path / "b").exists()


def test_a_manifest_states_features_and_reach_or_neither() -> None:
    engine = {"kind": "onnx", "precision": "fp32", "encoder": "e", "decoder": "d", "decoder_with_past": "p"}
    apart = {**engine, "features": "f", "reach": 4}
    assert Engine.model_validate(engine).files == ["e", "d", "p"]
    assert Engine.model_validate(apart).files == ["f", "e", "d", "p"]
    build = {"version": "1", "target": "sm86", "profiles": {}, "executed": False}
    for change, message in (
        ({"reach": None}, "go together"),
        ({"features": None}, "go together"),
        ({"reach": 0}, "greater than or equal to 1"),
        ({"kind": "tensorrt", "build": build}, "no features apart"),
    ):
        with pytest.raises(ValidationError, match=message):
            Engine.model_validate({**apart, **change})
