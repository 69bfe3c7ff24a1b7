"""The graphs that are written byte by byte are what onnx would have made, and compute what they are for."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, TypeProto, ValueInfoProto, helper

from signet_runtime.engines.session import open_session
from signet_runtime.generation.candidates import likeliest
from signet_runtime.generation.graphs import _varint, gather_model, likeliest_model
from signet_runtime.generation.memory import DeviceMemory


def value(name: str, element: int) -> ValueInfoProto:
    return ValueInfoProto(name=name, type=TypeProto(tensor_type=TypeProto.Tensor(elem_type=element)))


def model(nodes: list, inputs: list, outputs: list) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "generation", inputs, outputs)
    return onnx.ModelProto(ir_version=8, graph=graph, opset_import=[helper.make_opsetid("", 17)])


@pytest.mark.parametrize("count", [1, 24, 300])
def test_gathering(count: int) -> None:
    nodes = [helper.make_node("Gather", [f"x{i}", "rows"], [f"y{i}"]) for i in range(count)]
    inputs = [*(value(f"x{i}", TensorProto.FLOAT) for i in range(count)), value("rows", TensorProto.INT64)]
    expected = model(nodes, inputs, [value(f"y{i}", TensorProto.FLOAT) for i in range(count)])
    assert onnx.load_from_string(gather_model(count)) == expected


def test_the_likeliest() -> None:
    nodes = [
        helper.make_node("TopK", ["logits", "count"], ["values", "tokens"]),
        helper.make_node("ReduceLogSumExp", ["logits"], ["log_sum"], axes=[-1]),
    ]
    expected = model(
        nodes,
        [value("logits", TensorProto.FLOAT), value("count", TensorProto.INT64)],
        [value("values", TensorProto.FLOAT), value("tokens", TensorProto.INT64), value("log_sum", TensorProto.FLOAT)],
    )
    assert onnx.load_from_string(likeliest_model()) == expected


def test_on_a_device_as_on_the_host() -> None:
    memory = DeviceMemory("CPUExecutionProvider", "cpu")
    rng = np.random.default_rng(0)
    logits = (rng.standard_normal((3, 1, 500)) * 10).astype(np.float32)
    expected, found = likeliest(logits[:, -1], 7), memory.likeliest(memory.put(logits), 7)
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_allclose(found.log_probs, expected.log_probs, rtol=1e-6, atol=1e-6)
    assert memory.likeliest(memory.put(logits), 600).tokens.shape == (3, 500)
    cache = {f"layer.{i}": rng.standard_normal((3, 2, i, 4)).astype(np.float32) for i in (1, 5)}
    moved = memory.take({name: memory.put(array) for name, array in cache.items()}, np.array([2, 0, 0, 1]))
    for name, array in cache.items():
        np.testing.assert_array_equal(moved[name].numpy(), array[[2, 0, 0, 1]])


@given(st.integers(0, 2**64 - 1))
def test_varints(number: int) -> None:
    encoded = _varint(number)
    assert sum((byte & 0x7F) << (7 * i) for i, byte in enumerate(encoded)) == number
    assert [byte >> 7 for byte in encoded] == [1] * (len(encoded) - 1) + [0]


def test_a_broken_graph_is_not_loaded() -> None:
    with pytest.raises(Exception, match=r"(?i)model|protobuf|parse"):
        open_session(likeliest_model()[:-9], "CPUExecutionProvider")
