"""A pickle without trusting it: a reader of the format that can make numbers, strings, containers and number arrays.

Python's own unpickler is a machine that calls what it is told to. To restrict the names that it may look up is not
enough: numpy's constructors can be told to take raw bytes for pointers, one instruction sets the attributes of
whatever is at hand, and ten bytes can claim gigabytes. Nothing here calls, imports or sets anything that the pickle
chooses: numpy's constructors are known by name, and what they would have made is made here, of checked types and sizes.
"""

from __future__ import annotations

import codecs
import math
import pickle
import pickletools
import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from signet_runtime.errors import InputError

_GLOBALS = {
    **{(f"numpy.{core}.multiarray", name): name for core in ("core", "_core") for name in ("_reconstruct", "scalar")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): "_frombuffer" for core in ("core", "_core")},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",  # how protocols below 3 write bytes,
    ("__builtin__", "bytes"): "bytes",  # no bytes,
    **{(module, name): name for module in ("__builtin__", "builtins") for name in ("set", "frozenset")},  # and sets
}

# What a dict's keys and a set's members may be: to hash a tuple of tuples of tuples … can overflow the interpreter's
# own stack, and integers of any length can be chosen so that all have one hash.
_HASHABLE = (str, bytes, int, float, bool, type(None))
_LONGEST_KEY = 64  # bits of an integer
# To print a longer one takes a time that grows with its square, and Python refuses it.
_LONGEST_NUMBER = 1780  # bytes of an integer, nearly 4,300 digits


def load_pickle(data: bytes) -> Any:
    """Read what a pickle of any protocol holds; Python 2's strings are taken to be UTF-8.

    Returns:
        dicts (their keys strings, bytes, numbers, bools or None), sets of the same, lists, tuples, strings, bytes,
        numbers, bools, None, and arrays of numbers and bools; arrays of objects as nested lists. What the pickle holds
        once may be in many places, or in itself.

    Raises:
        InputError: a pickle that asks for anything else, or a damaged one.
    """
    try:
        return _Reader(data).load()
    except _RefusedError as error:
        raise InputError(f"refused, its pickle asks for {error}, and only plain data may be in it") from None
    except (ValueError, TypeError, LookupError, OverflowError, AttributeError, struct.error, MemoryError) as error:
        raise InputError("not a pickle, or a damaged one") from error


class _RefusedError(Exception):
    pass


class _Global:
    """A name that the pickle has looked up."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class _Type:
    """An array's type: of plain numbers, or None for objects."""

    __slots__ = ("dtype",)

    def __init__(self, spec: str) -> None:
        if not re.fullmatch(r"[fiu][1248]|b1|O8?", spec):
            raise _RefusedError(f"an array of {ascii(spec)[:40]}")
        self.dtype = None if spec[0] == "O" else np.dtype(spec)

    def set(self, state: tuple) -> None:
        # Version, byte order, and what only compound types have; a ninth would be metadata.
        if len(state) != 8 or state[2:5] != (None, None, None):
            raise _RefusedError("a compound type")
        if self.dtype is not None and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """An array whose content is still to come, and what it is remembered as."""

    __slots__ = ("key",)

    def __init__(self) -> None:
        self.key: int | None = None


class _Reader:
    """One pass over the instructions. They work on a stack, of which parts begin at marks, and a memory."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memory: dict[int, Any] = {}

    def load(self) -> Any:
        data, stop = self.data, pickle.STOP[0]
        while (code := data[self.position]) != stop:
            self.position += 1
            instruction = _INSTRUCTIONS.get(code)
            if instruction is None:
                known = [opcode.name for opcode in pickletools.opcodes if ord(opcode.code) == code]
                if not known:
                    raise ValueError(code)
                raise _RefusedError(f"the instruction {known[0]}")
            instruction(self)
        return self.stack.pop()

    def take(self, length: int) -> bytes:
        start, self.position = self.position, self.position + length
        if not 0 <= length <= len(self.data) - start:  # what is claimed and not there is never allocated
            raise ValueError(length)
        return self.data[start : self.position]

    def line(self) -> bytes:
        start, end = self.position, self.data.index(b"\n", self.position)
        self.position = end + 1
        return self.data[start:end]

    def number(self, form: struct.Struct) -> Any:
        (value,) = form.unpack_from(self.data, self.position)
        self.position += form.size
        return value

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def put(self, key: int) -> None:
        top = self.memory[key] = self.stack[-1]
        if type(top) is _Array:
            top.key = key

    def look_up(self, module: Any, name: Any) -> None:
        if (module, name) not in _GLOBALS:
            raise _RefusedError(ascii(f"{module}.{name}")[1:-1][:80])
        self.stack.append(_Global(_GLOBALS[module, name]))

    def look_up_from_stack(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (type(module) is type(name) is str):
            raise ValueError("a name")
        self.look_up(module, name)

    def append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError("a list")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not dict:
            raise ValueError("a dict")
        self.stack[-1].update(zip(_hashable(items[::2]), items[1::2], strict=True))

    def add_members(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not set:
            raise ValueError("a set")
        self.stack[-1].update(_hashable(items))

    def new_dict(self, items: list[Any]) -> None:
        self.stack.append({})
        self.set_items(items)

    def join(self, count: int) -> None:
        if len(self.stack) < count:
            raise ValueError("a tuple")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(function) is not _Global or type(arguments) is not tuple:
            raise _RefusedError("a call")
        self.stack.append(_made(function.name, arguments))

    def build(self) -> None:
        state, top = self.stack.pop(), self.stack[-1]
        if type(state) is not tuple or type(top) not in (_Type, _Array):
            raise _RefusedError("the state of an object")
        if type(top) is _Type:
            top.set(state)
            return
        _, shape, of_type, fortran, content = state
        self.stack[-1] = _array(content, of_type, shape, "F" if fortran is True or fortran == 1 else "C")
        if top.key is not None:
            self.memory[top.key] = self.stack[-1]


def _made(name: str, arguments: tuple) -> Any:
    if name == "_reconstruct" and type(arguments[0]) is _Global and arguments[0].name == "ndarray":
        return _Array()
    if name == "_frombuffer":
        return _array(*arguments)
    if name == "dtype":
        return _Type(arguments[0])
    if name == "scalar":
        of_type, content = arguments
        return _array(content, of_type, (), "C").item()
    if name == "encode" and arguments[1:] == ("latin1",):
        return arguments[0].encode("latin1")
    if name == "bytes" and not arguments:
        return b""
    if name in ("set", "frozenset") and [type(argument) for argument in arguments] == [list]:
        members = frozenset(_hashable(arguments[0]))
        arguments[0].clear()  # nothing else has it in a true pickle; in a forged one, a thousand sets would
        return set(members) if name == "set" else members
    raise _RefusedError(f"a call of {name}")


def _hashable(keys: list[Any]) -> list[Any]:
    for key in keys:
        if type(key) not in _HASHABLE or (type(key) is int and key.bit_length() > _LONGEST_KEY):
            raise ValueError("a key")
    return keys


def _array(content: Any, of_type: _Type, shape: Any, order: Any) -> Any:
    if type(of_type) is not _Type or type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("an array")
    if of_type.dtype is not None:
        if type(content) is not bytes or len(content) != math.prod(shape) * of_type.dtype.itemsize:
            raise ValueError("an array's size")
        return np.ndarray(shape, of_type.dtype, content, order="F" if order == "F" else "C")
    if type(content) is not list or len(content) != math.prod(shape):
        raise ValueError("an array's size")
    objects = np.empty(len(content), object)
    for i, item in enumerate(content):
        objects[i] = item
    # Of (10**12, 0) objects there are none, but as many lists.
    return objects.reshape(shape, order="F" if order == "F" else "C").tolist() if content else []


def _number(form: str) -> Callable[[_Reader], None]:
    unpack, size = struct.Struct(form).unpack_from, struct.calcsize(form)

    def push(reader: _Reader) -> None:  # for every coordinate of pickled lists, so without a call more than it needs
        reader.stack.append(unpack(reader.data, reader.position)[0])
        reader.position += size

    return push


def _sized(form: str, made: Callable[[bytes], Any]) -> Callable[[_Reader], None]:
    length = struct.Struct(form)
    return lambda reader: reader.stack.append(made(reader.take(reader.number(length))))


def _line(made: Callable[[bytes], Any]) -> Callable[[_Reader], None]:
    return lambda reader: reader.stack.append(made(reader.line()))


def _pushed(made: Callable[[_Reader], Any]) -> Callable[[_Reader], None]:
    return lambda reader: reader.stack.append(made(reader))


def _text(raw: bytes) -> str:
    return str(raw, "utf-8", "surrogatepass")


def _old_text(raw: bytes) -> str:
    return str(raw, "utf-8")


def _quoted(line: bytes) -> str:
    """Return the text of a line as Python 2 printed it: 'in quotes', whatever is not printable escaped."""
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise ValueError("a string")
    return _old_text(codecs.escape_decode(line[1:-1])[0])


def _integer(line: bytes) -> int | bool:
    if len(line) > 4300:
        raise ValueError("an integer")
    return line == b"01" if line in (b"00", b"01") else int(line.removesuffix(b"L"))


def _long(raw: bytes) -> int:
    if len(raw) > _LONGEST_NUMBER:
        raise ValueError("an integer")
    return int.from_bytes(raw, "little", signed=True)


_U8, _U32 = struct.Struct("<B"), struct.Struct("<I")

# Of the format's instructions, those that Python writes for data. Not among them: making objects (INST, OBJ, NEWOBJ,
# NEWOBJ_EX), registered classes (EXT1, …), and other files' objects (PERSID, BINPERSID, NEXT_BUFFER).
_INSTRUCTIONS: dict[int, Callable[[_Reader], None]] = {
    code[0]: instruction
    for code, instruction in {
        pickle.PROTO: lambda reader: reader.number(_U8),
        pickle.FRAME: lambda reader: reader.take(8),  # where frames begin is no matter
        pickle.NONE: _pushed(lambda _: None),
        pickle.NEWTRUE: _pushed(lambda _: True),
        pickle.NEWFALSE: _pushed(lambda _: False),
        pickle.INT: _line(_integer),
        pickle.LONG: _line(_integer),
        pickle.FLOAT: _line(float),
        pickle.BININT: _number("<i"),
        pickle.BININT1: _number("<B"),
        pickle.BININT2: _number("<H"),
        pickle.BINFLOAT: _number(">d"),
        pickle.LONG1: _sized("<B", _long),
        pickle.LONG4: _sized("<I", _long),
        pickle.UNICODE: _line(lambda line: str(line, "raw-unicode-escape")),
        pickle.STRING: _line(_quoted),
        pickle.SHORT_BINSTRING: _sized("<B", _old_text),
        pickle.BINSTRING: _sized("<I", _old_text),
        pickle.SHORT_BINUNICODE: _sized("<B", _text),
        pickle.BINUNICODE: _sized("<I", _text),
        pickle.BINUNICODE8: _sized("<Q", _text),
        pickle.SHORT_BINBYTES: _sized("<B", bytes),
        pickle.BINBYTES: _sized("<I", bytes),
        pickle.BINBYTES8: _sized("<Q", bytes),
        pickle.BYTEARRAY8: _sized("<Q", bytes),
        pickle.MARK: lambda reader: reader.marks.append(len(reader.stack)),
        pickle.EMPTY_TUPLE: _pushed(lambda _: ()),
        pickle.TUPLE1: lambda reader: reader.join(1),
        pickle.TUPLE2: lambda reader: reader.join(2),
        pickle.TUPLE3: lambda reader: reader.join(3),
        pickle.TUPLE: _pushed(lambda reader: tuple(reader.since_mark())),
        pickle.EMPTY_LIST: _pushed(lambda _: []),
        pickle.LIST: _pushed(lambda reader: reader.since_mark()),
        pickle.APPEND: lambda reader: reader.append([reader.stack.pop()]),
        pickle.APPENDS: lambda reader: reader.append(reader.since_mark()),
        pickle.EMPTY_DICT: _pushed(lambda _: {}),
        pickle.DICT: lambda reader: reader.new_dict(reader.since_mark()),
        pickle.SETITEM: lambda reader: reader.set_items([reader.stack.pop(-2), reader.stack.pop()]),
        pickle.SETITEMS: lambda reader: reader.set_items(reader.since_mark()),
        pickle.EMPTY_SET: _pushed(lambda _: set()),
        pickle.ADDITEMS: lambda reader: reader.add_members(reader.since_mark()),
        pickle.FROZENSET: _pushed(lambda reader: frozenset(_hashable(reader.since_mark()))),
        pickle.PUT: lambda reader: reader.put(int(reader.line())),
        pickle.BINPUT: lambda reader: reader.put(reader.number(_U8)),
        pickle.LONG_BINPUT: lambda reader: reader.put(reader.number(_U32)),
        pickle.MEMOIZE: lambda reader: reader.put(len(reader.memory)),
        pickle.GET: _pushed(lambda reader: reader.memory[int(reader.line())]),
        pickle.BINGET: _pushed(lambda reader: reader.memory[reader.number(_U8)]),
        pickle.LONG_BINGET: _pushed(lambda reader: reader.memory[reader.number(_U32)]),
        pickle.GLOBAL: lambda reader: reader.look_up(str(reader.line(), "utf-8"), str(reader.line(), "utf-8")),
        pickle.STACK_GLOBAL: lambda reader: reader.look_up_from_stack(),
        pickle.REDUCE: lambda reader: reader.call(),
        pickle.BUILD: lambda reader: reader.build(),
    }.items()
}
