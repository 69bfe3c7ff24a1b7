"""What a token looks at, as an output of the decoders: where in the clip a piece was read follows from it.

The mean of cross-attention over the heads of the later half of the layers; the first ones look all over. The numbers
are there in any case, so this costs a mean and no product.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from signet_runtime.errors import BundleError
from signet_runtime.generation.hypothesis import CROSS_ATTENTION

_CROSS = "EncDecAttention"  # transformers' name of the layer


def expose_attention(path: Path) -> None:
    """Give a decoder that `export_decoders` wrote, in whatever precision, the output `CROSS_ATTENTION`, in its place.

    Raises:
        BundleError: its graph has no cross-attention.
        OSError: the file cannot be written.
    """
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    weights = [node for node in graph.node if node.op_type == "Softmax" and _CROSS in node.name]
    if not weights:
        raise BundleError(f"{path}: the exported decoder has no cross-attention to tell of")
    nodes: list[NodeProto] = []
    layers: list[str] = []
    for i, node in enumerate(weights[len(weights) // 2 :]):  # (R, heads, tokens, S)
        nodes.append(helper.make_node("Cast", [node.output[0]], [f"{CROSS_ATTENTION}_{i}"], to=TensorProto.FLOAT))
        layers.append(f"{CROSS_ATTENTION}_{i}")
    nodes.append(helper.make_node("Concat", layers, [f"{CROSS_ATTENTION}_heads"], axis=1))
    heads = numpy_helper.from_array(np.array([1], np.int64), f"{CROSS_ATTENTION}_axis")
    names = [f"{CROSS_ATTENTION}_heads", heads.name]
    nodes.append(helper.make_node("ReduceMean", names, [CROSS_ATTENTION], keepdims=0))
    graph.initializer.append(heads)
    graph.node.extend(nodes)
    shape = ["batch_size", "decoder_sequence_length", "encoder_sequence_length_out"]
    graph.output.append(helper.make_tensor_value_info(CROSS_ATTENTION, TensorProto.FLOAT, shape))
    path.write_bytes(model.SerializeToString())
