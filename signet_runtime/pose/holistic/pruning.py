"""A model without the outputs that nobody reads.

BlazePose computes a segmentation mask beside its landmarks, which is a third of its work. A runtime computes whatever
is in the file, so the operations that only the mask needs are struck off the file's list. The format is FlatBuffers
(https://flatbuffers.dev/internals): a table starts with the distance back to its vtable, which holds for each field
the distance from the table's start; vectors start with their length; what is stored elsewhere is a distance from
where that distance stands.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

# Positions of fields in the tables of TensorFlow Lite's schema, version 3.
_MODEL_SUBGRAPHS = 2
_SUBGRAPH_OUTPUTS, _SUBGRAPH_OPERATORS = 2, 3
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

    def shorten(self, start: int, length: int) -> None:
        """Let a vector end earlier."""
        struct.pack_into("<I", self.content, start - 4, length)


def with_outputs(content: bytes, outputs: Sequence[int]) -> bytes:
    """Return a `.tflite` file that computes these of its outputs, in this order, and nothing that they do not need.

    Raises:
        ValueError: it is no such file.
    """
    if content[4:8] != b"TFL3":
        raise ValueError("not a TensorFlow Lite model")
    try:
        return _with_outputs(_Tables(content), outputs)
    except (struct.error, IndexError) as error:
        raise ValueError(f"a damaged TensorFlow Lite model: {error}") from error


def _with_outputs(tables: _Tables, outputs: Sequence[int]) -> bytes:
    graph = tables.follow(tables.vector(tables.follow(0), _MODEL_SUBGRAPHS)[0])
    every = tables.integers(graph, _SUBGRAPH_OUTPUTS)
    wanted = [every[index] for index in outputs]
    start, _ = tables.vector(graph, _SUBGRAPH_OUTPUTS)
    struct.pack_into(f"<{len(wanted)}i", tables.content, start, *wanted)
    tables.shorten(start, len(wanted))

    start, length = tables.vector(graph, _SUBGRAPH_OPERATORS)
    needed, kept = set(wanted), []
    for operator in reversed([tables.follow(start + 4 * index) for index in range(length)]):
        if needed.intersection(tables.integers(operator, _OPERATOR_OUTPUTS)):
            needed.update(tables.integers(operator, _OPERATOR_INPUTS))
            kept.append(operator)
    for index, operator in enumerate(reversed(kept)):
        struct.pack_into("<I", tables.content, start + 4 * index, operator - (start + 4 * index))
    tables.shorten(start, len(kept))
    return bytes(tables.content)
