"""Every export is proven equal to the PyTorch model, or does not exist."""

from __future__ import annotations

import importlib.util
import tarfile
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import signet_export.bundle as exporting
import signet_export.verify as verifying
from signet_export.bundle import export_bundle
from signet_export.cli import main
from signet_export.fuse import FusedEncoder
from signet_export.verification import Verification
from signet_export.verify import verify
from signet_runtime.bundle import Bundle
from signet_runtime.engines.onnx import OnnxEncoder
from signet_runtime.engines.random_clips import random_clips
from signet_runtime.engines.session import create_session
from signet_runtime.errors import BundleError, OutputError
from signet_train.checkpoint import Checkpoint, ExpertCard, load_checkpoint, save_checkpoint
from signet_train.config import TrainConfig
from signet_train.model.signet import Signet
from signet_train.tokenizer import train_tokenizer

_CONFIG = {
    "stage": "finetune",
    "data": {"manifests": ["words.jsonl"], "frame_rate": 6.25},
    "card": {"name": "tiny", "language": "mul", "max_new_tokens": 8},
    "model": {
        "backbone": {"input_channels": 4, "spatial_channels": [4, 8], "temporal_channels": [8, 8], "embedding": 16},
        "fusion": {"adapter_rank": 2, "query_hidden": 8, "router_hidden": 8},
        "language_model": {
            "vocab_size": 64,
            "d_model": 16,
            "d_kv": 8,
            "d_ff": 32,
            "num_layers": 1,
            "num_heads": 2,
            "absolute_positions": True,
        },
    },
}


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """Three random experts whose statistics, adapters and offsets are all away from their initial values."""
    torch.manual_seed(0)
    config = TrainConfig.model_validate(_CONFIG)
    model = Signet(config.model, 3).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 2)
        for name, parameter in model.named_parameters():
            if name.endswith(("up", "part_offset")):
                parameter.normal_(std=0.3)
    cards = [
        ExpertCard(name=n, sign_languages=(n,), corpus="none", source="test", backbone=config.model.backbone)
        for n in ("ase", "gsg", "ssp")
    ]
    tokenizer = train_tokenizer(["abcdefghijklmnopqrstuvwxyz"], 64)
    return Checkpoint(model, cards, tokenizer, config)


@pytest.fixture(scope="module")
def bundle(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("export") / "bundle"
    export_bundle(checkpoint, path)
    return Bundle.load(path, verify=True)


def test_export_equals_pytorch_on_fresh_input(bundle: Bundle, checkpoint: Checkpoint) -> None:
    clips = random_clips([3, 50, 1, 20], np.random.default_rng())
    assert verify(bundle, checkpoint.model, clips, beams=(1, 4)).largest <= 1e-4


def test_padding_changes_nothing_in_the_engine(bundle: Bundle) -> None:
    encoder = OnnxEncoder(create_session(bundle.file("encoder.onnx"), "cpu"))
    clips = random_clips([40, 1, 2, 33, 7, 40, 12, 5], np.random.default_rng())
    together = encoder(clips)
    for i, clip in enumerate(clips):
        alone, length = encoder([clip]), len(clip["body"])
        np.testing.assert_allclose(alone.hidden_states[0], together.hidden_states[i, :length], atol=1e-5, rtol=0)
        np.testing.assert_allclose(alone.routing_weights[0], together.routing_weights[i], atol=1e-6, rtol=0)


@pytest.mark.parametrize("k", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_top_k_is_a_constant_of_the_graph(checkpoint: Checkpoint, tmp_path: Path, k: int) -> None:
    trained_with = checkpoint.model.fusion.router.top_k  # type: ignore[union-attr]
    export_bundle(checkpoint, tmp_path / "bundle", top_k=k)
    checkpoint.model.fusion.router.top_k = trained_with  # type: ignore[union-attr]
    bundle = Bundle.load(tmp_path / "bundle")
    assert bundle.manifest.routing.k == k
    encoder = OnnxEncoder(create_session(bundle.file("encoder.onnx"), "cpu"))
    weights = encoder(random_clips([9, 4], np.random.default_rng(1))).routing_weights
    assert ((weights > 0).sum(axis=1) == k).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)


def test_a_single_expert_exports_too(checkpoint: Checkpoint, tmp_path: Path) -> None:
    config = TrainConfig.model_validate({**_CONFIG, "stage": "pretrain", "model": {**_CONFIG["model"], "fusion": None}})
    single = Checkpoint(Signet(config.model, 1).eval(), checkpoint.experts[:1], checkpoint.tokenizer, config)
    export_bundle(single, tmp_path / "bundle")
    assert Bundle.load(tmp_path / "bundle").manifest.routing.k == 1


def test_which_frames_of_long_clips_are_read_is_in_the_manifest(checkpoint: Checkpoint, tmp_path: Path) -> None:
    data = {**_CONFIG["data"], "long_clips": "first"}
    config = TrainConfig.model_validate({**_CONFIG, "data": data})
    made = Checkpoint(checkpoint.model, checkpoint.experts, checkpoint.tokenizer, config)
    export_bundle(made, tmp_path / "bundle")
    assert Bundle.load(tmp_path / "bundle").manifest.long_clips == "first"


def test_a_prompt_becomes_constants_of_the_graph(checkpoint: Checkpoint, tmp_path: Path) -> None:
    language_model = {**_CONFIG["model"]["language_model"], "prompt": "read this"}
    config = TrainConfig.model_validate({**_CONFIG, "model": {**_CONFIG["model"], "language_model": language_model}})
    model = Signet(config.model, 3).eval()
    model.load_state_dict(checkpoint.model.state_dict())
    parity = export_bundle(Checkpoint(model, checkpoint.experts, checkpoint.tokenizer, config), tmp_path / "bundle")
    assert parity.largest <= 1e-4
    graph = onnx.load(tmp_path / "bundle" / "encoder.onnx").graph
    assert not any(list(weight.dims) == [64, 16] for weight in graph.initializer), "the whole vocabulary is in it"
    encoded = OnnxEncoder(create_session(tmp_path / "bundle" / "encoder.onnx", "cpu"))(
        random_clips([5, 9], np.random.default_rng())
    )
    prompt = len(checkpoint.tokenizer("read this").input_ids)
    assert encoded.hidden_states.shape == (2, prompt + 9, 16)
    assert encoded.attention_mask.sum(axis=1).tolist() == [prompt + 5, prompt + 9]


def test_a_wrong_engine_never_becomes_a_bundle(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = exporting.export_encoder

    def slightly_wrong(encoder: FusedEncoder, path: Path) -> None:
        with torch.no_grad():
            next(p for name, p in encoder.named_parameters() if name.endswith("projection.bias")).add_(0.05)
        original(encoder, path)

    monkeypatch.setattr(exporting, "export_encoder", slightly_wrong)
    with pytest.raises(BundleError, match="differs"):
        export_bundle(checkpoint, tmp_path / "bundle", top_k=3)
    checkpoint.model.fusion.router.top_k = 2  # type: ignore[union-attr]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("decoder", ["FastDecoder", "OptimumDecoder"])
def test_either_way_of_generating_is_proved(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder: str
) -> None:
    kind = getattr(verifying, decoder)
    generate = kind.generate
    monkeypatch.setattr(kind, "generate", lambda *given: [[3, *text] for text in generate(*given)])
    with pytest.raises(BundleError, match="other tokens than the model"):
        export_bundle(checkpoint, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_tensorrt_engines_are_built_for_a_gpu_that_is_not_here(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint", checkpoint)
    arguments = [str(tmp_path / "checkpoint"), "--out", str(tmp_path / "bundle"), "--engine", "trt", "--target", "sm86"]
    result = CliRunner().invoke(main, arguments)
    if importlib.util.find_spec("tensorrt_rtx_bindings") is None and importlib.util.find_spec("tensorrt") is None:
        assert result.exit_code == 5
        assert "[rtx]" in result.stderr
        assert not (tmp_path / "bundle").exists()
        return
    assert result.exit_code == 0, result.stderr
    bundle = Bundle.load(tmp_path / "bundle", verify=True)
    build = bundle.engine("trt").build
    assert build is not None and (build.target, build.executed) == ("sm86", False)
    assert "built and not executed" in CliRunner().invoke(main, ["inspect", str(tmp_path / "bundle")]).stdout


def test_a_target_that_there_is_not_is_one_line(tmp_path: Path) -> None:
    for arguments, code in ((["--engine", "trt", "--target", "abacus"], 5), (["--target", "sm86"], 2)):
        result = CliRunner().invoke(main, ["--out", str(tmp_path / "bundle"), *arguments])
        assert result.exit_code == code, result.stderr
        assert not (tmp_path / "bundle").exists()


def test_errors_are_one_line(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint", checkpoint)
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("mine")
    cases = {
        "not a checkpoint": [str(tmp_path), "--out", str(tmp_path / "a")],
        "exists already": [str(tmp_path / "checkpoint"), "--out", str(taken)],
        "will not be overwritten": [str(tmp_path / "checkpoint"), "--out", str(taken), "--force"],
        "top-k 9": [str(tmp_path / "checkpoint"), "--out", str(tmp_path / "b"), "--top-k", "9"],
    }
    for message, arguments in cases.items():
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 4, result.stderr
        assert message in result.stderr
        assert sum(": error: " in line for line in result.stderr.splitlines()) == 1
        assert "Traceback" not in result.stderr
    assert (taken / "thesis.txt").read_text() == "mine"


def test_checkpoints_survive_the_round_trip(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint", checkpoint)
    again = load_checkpoint(tmp_path / "checkpoint")
    for name, value in checkpoint.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name
    assert again.experts == checkpoint.experts
    assert again.config == checkpoint.config
    assert again.tokenizer("große").input_ids == checkpoint.tokenizer("große").input_ids


def test_a_bundle_with_a_trimmed_vocabulary_is_checked_like_any_other(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint", checkpoint)
    (tmp_path / "corpus.txt").write_text("a bad cab\n")
    arguments = [str(tmp_path / "checkpoint"), "--out", str(tmp_path / "bundle")]
    result = CliRunner().invoke(main, [*arguments, "--vocabulary", str(tmp_path / "corpus.txt")])
    assert result.exit_code == 0, result.stderr
    assert "of 64 pieces kept" in result.stderr and "all unchanged" in result.stderr
    decoder = onnx.load(tmp_path / "bundle" / "decoder_model.onnx", load_external_data=False)
    vocabulary = decoder.graph.output[0].type.tensor_type.shape.dim[2].dim_value
    assert 4 < vocabulary < 20
    against = ["verify", str(tmp_path / "bundle"), "--against", str(tmp_path / "checkpoint")]
    checked = CliRunner().invoke(main, against)
    assert checked.exit_code == 0, checked.stderr
    for corpus, code in (("missing.txt", 3), ("lang:xx", 3)):
        refused = CliRunner().invoke(
            main, [str(tmp_path / "checkpoint"), "--out", str(tmp_path / "b"), "--vocabulary", corpus]
        )
        assert refused.exit_code == code
        assert len(refused.stderr.splitlines()) == 1
        assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_precision_is_verified_within_what_it_allows(tmp_path: Path, precision: str) -> None:
    result = CliRunner().invoke(main, ["--out", str(tmp_path / "bundle"), "--precision", precision])  # the demo's
    assert result.exit_code == 0, result.stderr
    bundle = Bundle.load(tmp_path / "bundle", verify=True)
    assert bundle.manifest.engines[0].precision == precision
    found = Verification.model_validate_json(bundle.file("verification.json").read_text())
    assert found.precision == precision
    assert 0 < found.relative <= found.allowed[0] and found.routing <= found.allowed[1]
    assert sum(r.size for r in bundle.manifest.files.values()) < 6e6  # 6.6 MB in fp32
    refused = CliRunner().invoke(main, ["--out", str(tmp_path / "b"), "--engine", "trt", "--precision", "int8"])
    assert refused.exit_code == 2


def test_an_archive_unpacks_to_the_bundle(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint", checkpoint)
    arguments = [str(tmp_path / "checkpoint"), "--out", str(tmp_path / "tiny"), "--archive"]
    nowhere = CliRunner().invoke(main, [*arguments, str(tmp_path / "nowhere" / "a.signet")])
    assert nowhere.exit_code == 3 and not (tmp_path / "tiny").exists()
    result = CliRunner().invoke(main, [*arguments, str(tmp_path / "tiny.signet")])
    assert result.exit_code == 0, result.stderr
    (tmp_path / "unpacked").mkdir()
    with (
        pa.CompressedInputStream(str(tmp_path / "tiny.signet"), "zstd") as stream,
        tarfile.open(fileobj=stream, mode="r|") as archive,
    ):
        archive.extractall(tmp_path / "unpacked", filter="data")
    bundle = Bundle.load(tmp_path / "unpacked" / "tiny", verify=True)
    assert bundle.manifest == Bundle.load(tmp_path / "tiny").manifest


def test_too_little_memory_or_disk_is_said_with_how_much(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(exporting, "available_memory", lambda: 1000)
        with pytest.raises(BundleError, match=r"takes 0\.0 GB of memory, 0\.0 GB are free"):
            export_bundle(checkpoint, tmp_path / "bundle")
    monkeypatch.setattr(exporting, "disk_needed", lambda _: 10**18)
    with pytest.raises(OutputError, match=r"takes 1000000000\.0 GB on disk"):
        export_bundle(checkpoint, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []
