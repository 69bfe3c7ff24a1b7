"""The small ONNX graphs of generation on a device, written without the package that makes graphs.

A graph is a few dozen bytes of protobuf: fields are a number and a varint, or a number, a length and so many bytes.
"""

from __future__ import annotations

_FLOAT, _INT64 = 1, 7  # TensorProto.DataType
_INTS = 7  # AttributeProto.AttributeType
_IR_VERSION, _OPSET = 8, 17


def gather_model(count: int) -> bytes:
    """Write y_i = the ``rows`` of x_i, for i below ``count``: float32 of any shape, int64 (R,)."""
    inputs = [_value(f"x{i}", _FLOAT) for i in range(count)]
    return _model(
        [_node("Gather", [f"x{i}", "rows"], [f"y{i}"]) for i in range(count)],
        [*inputs, _value("rows", _INT64)],
        [_value(f"y{i}", _FLOAT) for i in range(count)],
    )


def likeliest_model() -> bytes:
    """Write the ``count`` largest of ``logits``' last axis, falling, where they are, and the axis' log-sum-exp."""
    last_axis = _field(1, "axes") + _field(8, -1) + _field(20, _INTS)
    return _model(
        [
            _node("TopK", ["logits", "count"], ["values", "tokens"]),
            _node("ReduceLogSumExp", ["logits"], ["log_sum"], last_axis),
        ],
        [_value("logits", _FLOAT), _value("count", _INT64)],
        [_value("values", _FLOAT), _value("tokens", _INT64), _value("log_sum", _FLOAT)],
    )


def _model(nodes: list[bytes], inputs: list[bytes], outputs: list[bytes]) -> bytes:
    parts = [(1, nodes), (2, [b"generation"]), (11, inputs), (12, outputs)]
    graph = b"".join(_field(number, value) for number, values in parts for value in values)
    return _field(1, _IR_VERSION) + _field(7, graph) + _field(8, _field(1, "") + _field(2, _OPSET))


def _node(operator: str, inputs: list[str], outputs: list[str], attribute: bytes = b"") -> bytes:
    names = [(1, name) for name in inputs] + [(2, name) for name in outputs]
    fields = b"".join(_field(number, name) for number, name in names) + _field(4, operator)
    return fields + (_field(5, attribute) if attribute else b"")


def _value(name: str, element: int) -> bytes:
    return _field(1, name) + _field(2, _field(1, _field(1, element)))


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers are written as they lie in memory
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
