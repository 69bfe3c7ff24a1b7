"""A piece of a model: without the outputs that nobody reads, or from one tensor in its middle to another.

BlazePose computes a segmentation mask beside its landmarks, which is a third of its work. A runtime computes whatever
is in the file, so the operations that only the mask needs are struck off the file's list. The face mesh with attention
has operations that LiteRT lacks; it runs as the pieces between them.

The format is FlatBuffers (https://flatbuffers.dev/internals): a table starts with the distance back to its vtable,
which holds for each field the distance from the table's start; vectors start with their length; what is stored
elsewhere is a distance from where that distance stands.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

# Positions of fields in the tables of TensorFlow Lite's schema, version 3.
_MODEL_SUBGRAPHS = 2
_SUBGRAPH_TENSORS, _SUBGRAPH_INPUTS, _SUBGRAPH_OUTPUTS, _SUBGRAPH_OPERATORS = 0, 1, 2, 3
_TENSOR_NAME = 3
_OPERATOR_INPUTS, _OPERATOR_OUTPUTS = 1, 2


class _Tables:
    """The numbers of a FlatBuffers file."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)

    def follow(self, place: int) -> int:
        """Return where the distance at ``place`` leads."""
        return place + struct.unpack_from("<I", self.content, place)[0]

    def vector(self, table: int, field: int) -> tuple[int, int]:
        """Return where a vector of a table begins, and its length; length 0 where the table has none."""
        vtable = table - struct.unpack_from("<i", self.content, table)[0]
        size = struct.unpack_from("<H", self.content, vtable)[0]
        entry = 4 + 2 * field
        offset = struct.unpack_from("<H", self.content, vtable + entry)[0] if entry < size else 0
        if not offset:
            return 0, 0
        start = self.follow(table + offset)
        return start + 4, struct.unpack_from("<I", self.content, start)[0]

    def integers(self, table: int, field: int) -> tuple[int, ...]:
        """Return a vector of 32-bit integers."""
        start, length = self.vector(table, field)
        return struct.unpack_from(f"<{length}i", self.content, start)

    def text(self, table: int, field: int) -> str:
        """Return a string."""
        start, length = self.vector(table, field)
        return self.content[start : start + length].decode(errors="replace")

    def tables(self, table: int, field: int) -> list[int]:
        """Return where the tables of a vector begin."""
        start, length = self.vector(table, field)
        return [self.follow(start + 4 * index) for index in range(length)]

    def put_integers(self, table: int, field: int, values: Sequence[int]) -> None:
        """Replace a vector of 32-bit integers by one that is not longer."""
        start = self._shorten(table, field, len(values))
        struct.pack_into(f"<{len(values)}i", self.content, start, *values)

    def put_tables(self, table: int, field: int, places: Sequence[int]) -> None:
        """Replace a vector of tables by one that is not longer, of tables that lie behind it."""
        start = self._shorten(table, field, len(places))
        for index, place in enumerate(places):
            struct.pack_into("<I", self.content, start + 4 * index, place - (start + 4 * index))

    def _shorten(self, table: int, field: int, length: int) -> int:
        start, room = self.vector(table, field)
        if length > room:
            raise ValueError(f"no more than {room} of a model's inputs or outputs can be replaced")
        struct.pack_into("<I", self.content, start - 4, length)
        return start


def piece(content: bytes, outputs: Sequence[int | str], inputs: Sequence[str] = ()) -> bytes:
    """Return a `.tflite` file that computes these outputs, in this order, and nothing that they do not need.

    Args:
        content: the whole file.
        outputs: each one's place among the file's own outputs, or the name of any tensor.
        inputs: names of the tensors that will be given; none: the file's own inputs.

    Raises:
        ValueError: it is no such file, has no such tensor, or has fewer inputs or outputs of its own.
    """
    if content[4:8] != b"TFL3":
        raise ValueError("not a TensorFlow Lite model")
    try:
        return _piece(_Tables(content), outputs, inputs)
    except (struct.error, IndexError) as error:
        raise ValueError(f"a damaged TensorFlow Lite model: {error}") from error


def _piece(tables: _Tables, outputs: Sequence[int | str], inputs: Sequence[str]) -> bytes:
    graph = tables.tables(tables.follow(0), _MODEL_SUBGRAPHS)[0]
    names = [tables.text(tensor, _TENSOR_NAME) for tensor in tables.tables(graph, _SUBGRAPH_TENSORS)]
    own = tables.integers(graph, _SUBGRAPH_OUTPUTS)
    wanted = [names.index(output) if isinstance(output, str) else own[output] for output in outputs]
    given = [names.index(name) for name in inputs] or tables.integers(graph, _SUBGRAPH_INPUTS)
    tables.put_integers(graph, _SUBGRAPH_OUTPUTS, wanted)
    tables.put_integers(graph, _SUBGRAPH_INPUTS, given)

    needed, kept = set(wanted).difference(given), []
    for operator in reversed(tables.tables(graph, _SUBGRAPH_OPERATORS)):
        if needed.intersection(tables.integers(operator, _OPERATOR_OUTPUTS)):
            needed.update(set(tables.integers(operator, _OPERATOR_INPUTS)).difference(given))
            kept.append(operator)
    tables.put_tables(graph, _SUBGRAPH_OPERATORS, kept[::-1])
    return bytes(tables.content)
