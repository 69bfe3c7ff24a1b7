"""int8 engines for the CPU: weights of the large products in 7 bits, what they read in 8, chosen at run time.

Seven bits, because without VNNI a processor adds pairs of 8-bit products in 16 bits: with weights of 8 bits they do not
fit and are cut off, silently, to as little as half. What is left in floating point, and why:

- products with fewer than 128 rows or columns: converting what they read and write costs more than they save;
- the choice of experts, which jumps where it is wrong, and attention's own products, which have no weights;
- the F(4, 5) filters: their transforms amplify what rounding adds. They are stored in fp16, and so are embeddings.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from signet_export.precision import (
    constant_in_half,
    constant_matrix,
    drop_unused,
    find,
    graphs,
    load_fp32,
    may_be_half,
    replace_nodes,
    save,
    table_in_half,
)
from signet_runtime.errors import BundleError

_SMALLEST = 128  # rows and columns


def quantize(source: Path, target: Path) -> None:
    """Write a copy of a fp32 graph with its large products in int8, one scale a column; inputs and outputs stay fp32.

    Activations get one scale a tensor when the graph runs. So what is computed together is rounded together: a clip's
    states depend on its batch, within the error of int8.

    Args:
        source: ONNX file, with or without external data.
        target: file to write; beyond 1.9 GB its weights lie beside it, in ``target`` + "_data".

    Raises:
        BundleError: the graph has no product to quantise, or is not fp32.
        OSError: it cannot be written.
    """
    model = load_fp32(source)
    chosen = _name_products(model)
    if not chosen:
        raise BundleError(f"{source}: has no matrix product that is worth computing in int8; keep it in fp32")
    _store_in_half(model)
    drop_unused(model)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        prepared, quantized = Path(scratch, "prepared.onnx"), Path(scratch, "quantized.onnx")
        save(model, prepared)
        del model
        logger = logging.getLogger()
        level = logger.level
        logger.setLevel(logging.ERROR)  # it logs to the root's, and asks for optimisations that the export has done
        try:
            quantize_dynamic(
                prepared,
                quantized,
                op_types_to_quantize=["MatMul"],
                nodes_to_quantize=chosen,
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
                extra_options={"EnableSubgraph": True},
            )
        finally:
            logger.setLevel(level)
        quantized.replace(target)


def _name_products(model: ModelProto) -> list[str]:
    """Return the products to quantise by name; a node that has none gets one, for the quantiser goes by names."""
    chosen = []
    for i, scopes in enumerate(graphs(model)):
        for j, node in enumerate(scopes[-1].node):
            node.name = node.name or f"node_{i}_{j}"
            weight = constant_matrix(node, scopes) if node.op_type == "MatMul" else None
            if weight is not None and len(weight.dims) == 2 and min(weight.dims) >= _SMALLEST:
                chosen.append(node.name)
    return chosen


def _store_in_half(model: ModelProto) -> None:
    """Keep tables of embeddings and stacks of filters in fp16, half the file; what computes with them gets fp32."""
    widened: dict[str, tuple[GraphProto, NodeProto]] = {}
    for scopes in graphs(model):
        nodes: list[NodeProto] = []
        for node in scopes[-1].node:
            stored = find(node.input[1], scopes) if node.op_type == "MatMul" else None
            if stored is not None and len(stored[0].dims) > 2 and may_be_half(stored[0], "fp16"):
                tensor, graph = stored
                node.input[1] = f"{tensor.name}_fp32"
                cast = [constant_in_half(tensor, graph, "fp16")], [node.input[1]], node.input[1]
                widened[node.input[1]] = graph, helper.make_node("Cast", *cast, to=TensorProto.FLOAT)
            nodes += table_in_half(node, "fp16", scopes) or [node]
        replace_nodes(scopes[-1], nodes)
    # Where the constant is, before all that reads it: there it is done once, when a session starts.
    for graph, node in widened.values():
        graph.node.insert(0, node)
