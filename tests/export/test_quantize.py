"""int8 engines: smaller, close to fp32, safe on processors that add in 16 bits, and what must stay exact stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper
from random_models import random_batch

from signet_export.decoder import DECODER, DECODER_WITH_PAST, export_decoders, share_weights
from signet_export.encoder import export_encoder
from signet_export.fuse import FusedEncoder
from signet_export.precision import graphs
from signet_export.quantize import quantize
from signet_runtime.errors import BundleError
from signet_train.config import ModelConfig
from signet_train.model.signet import Signet
from signet_train.tokenizer import train_tokenizer

ENCODER = "encoder.onnx"
_CONFIG: dict[str, Any] = {
    "language_model": {"vocab_size": 640, "d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 2, "num_heads": 4},
    # Both stages have a product of 128 x 128 and more, inside the branches of a skipped expert too.
    "backbone": {
        "input_channels": 64,
        "spatial_channels": [64, 128],
        "temporal_channels": [128, 128],
        "embedding": 128,
    },
    "fusion": {"adapter_rank": 2, "query_hidden": 128, "router_hidden": 128, "top_k": 2},
}


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("fp32")
    torch.manual_seed(0)
    model = Signet(ModelConfig.model_validate(_CONFIG), 3).eval()
    export_encoder(FusedEncoder(model, "topk"), directory / ENCODER)
    export_decoders(model.language_model, train_tokenizer(["abcdefghijklmnopqrstuvwxyz"], 40), directory)
    return directory


@pytest.fixture(scope="module")
def int8(fp32: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("int8")
    for name in (ENCODER, DECODER, DECODER_WITH_PAST):
        quantize(fp32 / name, directory / name)
    return directory


def run(path: Path, feed: dict[str, Any]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    engine = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in engine.get_outputs()]
    return dict(zip(names, engine.run(names, feed), strict=True))


def clips() -> dict[str, np.ndarray]:
    regions, mask = random_batch([13, 24, 1], 0)
    return {**{name: region.numpy() for name, region in regions.items()}, "attention_mask": mask.long().numpy()}


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean()))


def weights(path: Path) -> dict[str, TensorProto]:
    return {tensor.name: tensor for scopes in graphs(onnx.load(path)) for tensor in scopes[-1].initializer}


def test_encoder_states_and_routing_are_close(fp32: Path, int8: Path) -> None:
    expected, found = (run(path / ENCODER, clips()) for path in (fp32, int8))
    real = expected["encoder_attention_mask"] > 0
    assert 1e-4 < relative_error(found["encoder_hidden_states"][real], expected["encoder_hidden_states"][real]) < 0.05
    np.testing.assert_allclose(found["routing_weights"], expected["routing_weights"], atol=0.01)
    assert ((found["routing_weights"] > 0) == (expected["routing_weights"] > 0)).all()


def test_decoders_are_close_and_share_weights(fp32: Path, int8: Path, tmp_path: Path) -> None:
    share_weights([int8 / DECODER, int8 / DECODER_WITH_PAST], tmp_path)
    rng = np.random.default_rng(0)
    states = {"encoder_attention_mask": np.ones((2, 6), np.int64)}
    first = {"encoder_hidden_states": rng.normal(size=(2, 6, 128)).astype(np.float32)}
    ids = rng.integers(3, 600, (2, 9))
    logits, cached = [], []
    for directory in (fp32, tmp_path):
        now = run(directory / DECODER, {**states, **first, "input_ids": ids[:, :-1]})
        logits.append(now.pop("logits"))
        past = {name.replace("present", "past_key_values"): value for name, value in now.items()}
        cached.append(run(directory / DECODER_WITH_PAST, {**states, **past, "input_ids": ids[:, -1:]})["logits"])
    assert 1e-4 < relative_error(logits[1], logits[0]) < 0.06
    assert 1e-4 < relative_error(cached[1], cached[0]) < 0.06
    apart = sum((int8 / name).stat().st_size for name in (DECODER, DECODER_WITH_PAST))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 0.7 * apart


def test_size(fp32: Path, int8: Path) -> None:
    assert (int8 / ENCODER).stat().st_size < 0.55 * (fp32 / ENCODER).stat().st_size
    whole = sum((fp32 / name).stat().st_size for name in (DECODER, "decoder.onnx_data"))
    assert (int8 / DECODER).stat().st_size < 0.45 * whole


def test_no_sum_of_two_products_leaves_16_bits(int8: Path) -> None:
    for name in (ENCODER, DECODER, DECODER_WITH_PAST):
        quantized = [numpy_helper.to_array(t) for t in weights(int8 / name).values() if t.data_type == TensorProto.INT8]
        matrices = [matrix.astype(int) for matrix in quantized if matrix.ndim == 2]
        assert matrices
        for matrix in matrices:
            assert np.abs(matrix).max() > 32
            assert 2 * 255 * np.abs(matrix).max() <= 2**15 - 1


def test_experts_that_may_be_skipped_are_quantized_too(int8: Path) -> None:
    branches = [scopes[-1] for scopes in graphs(onnx.load(int8 / ENCODER)) if len(scopes) > 1]
    counts = [sum(node.op_type == "MatMulInteger" for node in graph.node) for graph in branches]
    assert sorted(counts)[-3:] == [max(counts)] * 3 and max(counts) > 0 and counts.count(0) == 3


def test_routing_and_filters_are_not_quantized(fp32: Path, int8: Path) -> None:
    before, after = weights(fp32 / ENCODER), weights(int8 / ENCODER)
    filters = [name for name, tensor in before.items() if len(tensor.dims) == 4 and tensor.dims[1] == 8]
    assert len(filters) == 18  # three experts, three streams, two blocks
    for name in filters:
        stored = numpy_helper.to_array(after[f"{name}_fp16"])
        np.testing.assert_allclose(stored, numpy_helper.to_array(before[name]), rtol=2**-10, atol=1e-7)
        assert name not in after
    read = {
        name: after[name].data_type
        for scopes in graphs(onnx.load(int8 / ENCODER))
        for node in scopes[-1].node
        if "router" in node.name or "aggregation" in node.name
        for name in node.input
        if name in after and len(after[name].dims) == 2
    }
    assert len(read) == 4 and set(read.values()) == {TensorProto.FLOAT}


def test_what_is_quantized_is_not_quantized_again(int8: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"decoder_model\.onnx: has weights in .*; convert the fp32 export"):
        quantize(int8 / DECODER, tmp_path / "twice.onnx")
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_when_it_fails(fp32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("signet_export.quantize.quantize_dynamic", full)
    with pytest.raises(OSError, match="No space left"):
        quantize(fp32 / DECODER, tmp_path / DECODER)
    assert not list(tmp_path.iterdir())


def test_a_graph_without_large_products_is_refused(tmp_path: Path) -> None:
    values = [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "small.onnx")
    with pytest.raises(BundleError, match="no matrix product that is worth computing in int8"):
        quantize(tmp_path / "small.onnx", tmp_path / "int8.onnx")
