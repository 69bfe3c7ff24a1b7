"""16-bit engines: the large matrix products of an ONNX graph in fp16 or bf16, all else as it was.

mT5 was trained in bf16 and overflows fp16 (65504) where sums grow: in the residual stream and the products that write
to it (attention's output, the feed-forward's second matrix), in the feed-forward's gated product, in unscaled attention
scores. None of these is computed in fp16 here. What is left of mT5 reads a normalised vector, of which the length is
known, so no output can exceed a bound that follows from the weights alone: a product is in fp16 if its bound fits.

The converters that come with ONNX Runtime and ONNX think of everything as 16-bit and cast what a node that is kept in
fp32 gives back to fp16, so the residual stream would overflow between two such nodes; nor do they enter subgraphs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import ml_dtypes
import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from signet_runtime.errors import BundleError

Half = Literal["fp16", "bf16"]

_DTYPES = {"fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
_ONNX = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
_LARGEST_FP16 = float(np.finfo(np.float16).max)
_CONVERTED = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT8, TensorProto.UINT8)
_SMALLEST = 64 * 64  # numbers in a matrix: what is smaller is not worth a conversion of its input
_INLINE = 1_900_000_000  # bytes: a protobuf file ends at 2 GiB

# Parts of mT5, as transformers names its modules and exporters name nodes.
_MT5 = ("SelfAttention/", "EncDecAttention/", "DenseReluDense/", "lm_head/")
# The choice of experts jumps where it is wrong, and these products have one row a clip.
_ROUTING = ("/router/", "/aggregation/")


def to_half(source: Path, target: Path, kind: Half) -> None:
    """Write a copy of a fp32 graph with its large products in 16 bits; inputs and outputs stay fp32.

    fp16 keeps those of mT5's products in fp32 that cannot be shown to stay in range, see above; bf16, with the range of
    fp32, keeps none. Tables of embeddings are stored in 16 bits. Subgraphs are converted too.

    Args:
        source: ONNX file, with or without external data.
        target: file to write; beyond 1.9 GB its weights lie beside it, in ``target`` + "_data".

    Raises:
        BundleError: the graph has no product to convert, or is not fp32.
        OSError: it cannot be written.
    """
    model = load_fp32(source)
    converted = 0
    for scopes in graphs(model):
        nodes = []
        producers = {name: node for node in scopes[-1].node for name in node.output}
        done: dict[str, str] = {}  # value in this graph -> its 16-bit cast
        for node in scopes[-1].node:
            weight = constant_matrix(node, scopes)
            if weight is not None and (kind == "bf16" or _fits(node, weight, producers, scopes)):
                nodes += _in_half(node, kind, scopes, done)
                converted += 1
            else:
                nodes += table_in_half(node, kind, scopes) or [node]
        replace_nodes(scopes[-1], nodes)
    if not converted:
        raise BundleError(f"{source}: has no matrix product that is worth computing in {kind}; keep it in fp32")
    drop_unused(model)
    save(model, target)


def load_fp32(source: Path) -> ModelProto:
    """Read a graph with its weights.

    Raises:
        BundleError: some are in another precision already.
    """
    model = onnx.load(source)
    for scopes in graphs(model):
        for tensor in scopes[-1].initializer:
            if len(tensor.dims) > 1 and tensor.data_type in _CONVERTED:
                kind = TensorProto.DataType.Name(tensor.data_type).lower()
                raise BundleError(f"{source}: has weights in {kind}; convert the fp32 export, not what came of it")
    return model


def graphs(model: ModelProto) -> Iterator[list[GraphProto]]:
    """Yield every graph of the model, innermost last in a list of those it can see."""

    def below(scopes: list[GraphProto]) -> Iterator[list[GraphProto]]:
        yield scopes
        for node in scopes[-1].node:
            for attribute in node.attribute:
                for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                    yield from below([*scopes, graph])

    yield from below([model.graph])


def find(name: str, scopes: list[GraphProto]) -> tuple[TensorProto, GraphProto] | None:
    """Find a constant that is visible in the innermost graph, and where it is stored."""
    for graph in reversed(scopes):
        for tensor in graph.initializer:
            if tensor.name == name:
                return tensor, graph
    return None


def constant_matrix(node: NodeProto, scopes: list[GraphProto]) -> TensorProto | None:
    """Return a product's second operand, if it is a constant fp32 matrix (or a stack of them) worth changing.

    Products that choose experts have none.
    """
    if node.op_type not in ("MatMul", "Gemm") or any(part in f"/{node.name}" for part in _ROUTING):
        return None
    found = find(node.input[1], scopes)
    if found is None or found[0].data_type != TensorProto.FLOAT:
        return None
    rows, columns = found[0].dims[-2:] if len(found[0].dims) > 1 else (0, 0)
    return found[0] if rows * columns >= _SMALLEST else None


def _fits(node: NodeProto, weight: TensorProto, producers: dict[str, NodeProto], scopes: list[GraphProto]) -> bool:
    """Tell whether fp16 holds a product's input, weights and output; of experts, outside mT5, only the weights.

    An input of mT5's is n * g with n of root mean square 1 at most and g the norm's scale. With d its width and W the
    matrix, Cauchy and Schwarz give |output_j| <= sqrt(d) * |g * W_j|, whatever was read.
    """
    matrix = numpy_helper.to_array(weight)
    if np.abs(matrix).max() > _LARGEST_FP16:
        return False
    if not any(part in node.name for part in _MT5):
        return True
    scale = _norm_scale(producers.get(node.input[0]), scopes)
    if scale is None or matrix.ndim != 2 or len(scale) != len(matrix):
        return False
    wide = scale.astype(np.float64)
    # One column block at a time: the table of a vocabulary in fp64 would be 1.5 GB.
    longest = max(
        float(np.linalg.norm(wide[:, None] * matrix[:, i : i + 4096], axis=0).max())
        for i in range(0, matrix.shape[1], 4096)
    )
    largest = np.sqrt(len(scale)) * max(longest, float(np.abs(wide).max()))
    return bool(largest * (1 + 2.0**-9) < _LARGEST_FP16)  # what rounding to 11 bits adds, twice


def _norm_scale(node: NodeProto | None, scopes: list[GraphProto]) -> np.ndarray | None:
    """Return the scale of the norm whose last step this node is: vector times x / sqrt(mean(x^2) + eps)."""
    if node is None or node.op_type != "Mul":
        return None
    producers = {name: n for n in scopes[-1].node for name in n.output}
    inputs = [_behind(name, producers) for name in node.input]
    vectors = [found[0] for name in inputs if (found := find(name, scopes)) is not None and len(found[0].dims) == 1]
    others = [name for name in inputs if find(name, scopes) is None]
    if len(vectors) != 1 or len(others) != 1 or not _is_normalised(producers.get(others[0]), producers):
        return None
    return numpy_helper.to_array(vectors[0])


def _behind(name: str, producers: dict[str, NodeProto]) -> str:
    """Return the value that others stand for: exporters store equal constants once."""
    while name in producers and producers[name].op_type == "Identity":
        name = producers[name].input[0]
    return name


def _is_normalised(node: NodeProto | None, producers: dict[str, NodeProto]) -> bool:
    """Tell whether a node is x / sqrt(...), or x * (1 / sqrt(...)), with a root of what follows from a mean of x^2."""
    if node is None or node.op_type not in ("Mul", "Div"):
        return False
    x = node.input[0]
    divisor = producers.get(node.input[1])
    if node.op_type == "Mul":
        if divisor is None or divisor.op_type not in ("Div", "Reciprocal"):
            return False
        divisor = producers.get(divisor.input[-1])
    chain: list[str] = []
    while divisor is not None and len(chain) < 4:
        chain.append(divisor.op_type)
        if divisor.op_type == "Pow":
            return divisor.input[0] == x and chain == ["Sqrt", "Add", "ReduceMean", "Pow"]
        divisor = next((producers[name] for name in divisor.input if name in producers), None)
    return False


def _in_half(node: NodeProto, kind: Half, scopes: list[GraphProto], done: dict[str, str]) -> list[NodeProto]:
    """Make the product between casts; constants are converted once, and values of this graph cast once."""
    before = []
    inputs = []
    for name in node.input:
        stored = find(name, scopes)
        if stored is not None:
            inputs.append(constant_in_half(*stored, kind))
            continue
        if name not in done:
            done[name] = f"{name}_{kind}"
            before.append(helper.make_node("Cast", [name], [done[name]], f"{done[name]}_cast", to=_ONNX[kind]))
        inputs.append(done[name])
    product = NodeProto()
    product.CopyFrom(node)
    product.input[:] = inputs
    product.output[:] = [f"{node.output[0]}_{kind}_product"]
    # Another name than `done` gives: what reads the product next reads the fp32 value, cast again if it must be.
    after = helper.make_node(
        "Cast", list(product.output), list(node.output), f"{product.output[0]}_cast", to=TensorProto.FLOAT
    )
    return [*before, product, after]


def table_in_half(node: NodeProto, kind: Half, scopes: list[GraphProto]) -> list[NodeProto] | None:
    """Return rows of a table of embeddings, of which the table is stored in 16 bits; None for any other node."""
    stored = find(node.input[0], scopes) if node.op_type == "Gather" else None
    if stored is None or len(stored[0].dims) != 2 or not may_be_half(stored[0], kind):
        return None
    rows = NodeProto()
    rows.CopyFrom(node)
    rows.input[0] = constant_in_half(*stored, kind)
    rows.output[:] = [f"{node.output[0]}_{kind}"]
    after = helper.make_node(
        "Cast", list(rows.output), list(node.output), f"{rows.output[0]}_cast", to=TensorProto.FLOAT
    )
    return [rows, after]


def may_be_half(tensor: TensorProto, kind: Half) -> bool:
    """Tell whether a constant is in fp32, worth storing in 16 bits, and within their range."""
    if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2 or np.prod(tensor.dims[-2:]) < _SMALLEST:
        return False
    return kind == "bf16" or bool(np.abs(numpy_helper.to_array(tensor)).max() <= _LARGEST_FP16)


def constant_in_half(tensor: TensorProto, graph: GraphProto, kind: Half) -> str:
    """Return the name of a constant's copy in 16 bits, which is put beside it once."""
    name = f"{tensor.name}_{kind}"
    if find(name, [graph]) is None:
        values = numpy_helper.to_array(tensor).astype(_DTYPES[kind])
        graph.initializer.append(helper.make_tensor(name, _ONNX[kind], tensor.dims, values.tobytes(), raw=True))
    return name


def replace_nodes(graph: GraphProto, nodes: list[NodeProto]) -> None:
    """Make these the graph's nodes; some may be its own."""
    copies = []
    for node in nodes:
        copy = NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    graph.ClearField("node")
    graph.node.extend(copies)


def drop_unused(model: ModelProto) -> None:
    """Remove constants that nothing reads, and stored shapes and types, which may be wrong by now."""
    read = {name for scopes in graphs(model) for node in scopes[-1].node for name in node.input}
    read |= {value.name for scopes in graphs(model) for value in scopes[-1].output}
    for scopes in graphs(model):
        scopes[-1].ClearField("value_info")
        kept = [tensor for tensor in scopes[-1].initializer if tensor.name in read]
        if len(kept) < len(scopes[-1].initializer):
            unused = [i for i, tensor in enumerate(scopes[-1].initializer) if tensor.name not in read]
            for i in reversed(unused):
                del scopes[-1].initializer[i]


def save(model: ModelProto, target: Path) -> None:
    """Write the model, its weights beside it where one file cannot hold them."""
    size = sum(len(t.raw_data) for scopes in graphs(model) for t in scopes[-1].initializer)
    if size > _INLINE:
        onnx.save(model, target, save_as_external_data=True, location=f"{target.name}_data")
    else:
        onnx.save(model, target)
