"""What an ONNX file refers to outside of itself, read without the package onnx: other files, and operators.

The file is a protocol buffer: fields with a number and a kind, of which only those on the way to tensors and nodes are
entered, so that weights are stepped over. Numbers are those of `onnx.proto`.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from signet_runtime.boundary import open_regular
from signet_runtime.errors import BundleError

# Operators that ONNX Runtime brings along; whatever else would be a library that somebody registers.
_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"}
# Of these, what loads a file or a program of the graph's choice.
_REFUSED = {"EPContext", "PythonOp", "PythonOpGrad", "ExternalCustomOp", "TorchScriptOp", "ATen"}

# Message -> field -> message that is in it.
_INSIDE = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "tensor": {13: "external"},
}
_TEXTS = {
    "node": {4: "operator", 7: "domain"},
    "function": {1: "name", 10: "domain"},
    "external": {1: "key", 2: "value"},
}
_MOST_FIELDS = 3_000_000
_OTHER_FORMAT = b"ORTM"  # ONNX Runtime's own, which it would take, and in which this does not look
_DEEPEST = 100


class References(NamedTuple):
    """What a graph names: files beside it, and domains of operators that ONNX Runtime does not have."""

    files: frozenset[str]
    operators: frozenset[str]


def references(path: Path) -> References:
    """Return what an ONNX file refers to.

    Raises:
        BundleError: it cannot be read, or is no protocol buffer.
    """
    with open_regular(path, BundleError, "an ONNX file", "copy or export the bundle again") as file:
        if len(start := file.read(8)) < 8 or start[4:] == _OTHER_FORMAT:
            raise ValueError("another format")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            return _walk(whole)


def _walk(whole: mmap.mmap) -> References:
    files: set[str] = set()
    named: set[tuple[str, str]] = set()
    functions: set[str] = set()
    waiting = [("model", 0, len(whole), 0)]
    fields = 0
    while waiting:
        kind, start, end, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ValueError("graphs within graphs without end")
        inside, texts = _INSIDE.get(kind, {}), _TEXTS.get(kind, {})
        said: dict[str, str] = {}
        for number, begin, until in _fields(whole, start, end):
            fields += 1
            if fields > _MOST_FIELDS:
                raise ValueError("more fields than a graph has")
            if number in inside:
                waiting.append((inside[number], begin, until, depth + 1))
            elif number in texts:
                said[texts[number]] = whole[begin:until].decode("utf-8")
        if kind == "node":
            named.add((said.get("domain", ""), said.get("operator", "")))
        elif kind == "function":
            functions.add(said.get("domain", ""))
        elif kind == "external" and said.get("key") == "location":
            files.add(said.get("value", ""))
    foreign = {
        f"{domain or 'ai.onnx'}.{operator}"
        for domain, operator in named
        if operator in _REFUSED or (domain not in _DOMAINS and domain not in functions)
    }
    return References(frozenset(files), frozenset(foreign))


def _fields(whole: mmap.mmap, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Give of each field with a length its number, where its content begins and where it ends."""
    while position < end:
        tag, position = _varint(whole, position, end)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            _, position = _varint(whole, position, end)
        elif kind == 1:
            position += 8
        elif kind == 5:
            position += 4
        elif kind == 2:
            length, position = _varint(whole, position, end)
            if length > end - position:
                raise ValueError("a field is longer than what it is in")
            yield number, position, position + length
            position += length
        else:
            raise ValueError(f"a field of kind {kind}")
    if position != end:
        raise ValueError("a field is cut off")


def _varint(whole: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end:
        byte = whole[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            break
    raise ValueError("a number is cut off")
