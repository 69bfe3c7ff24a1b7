"""Pickles come back as they were, and nothing in a forged one is called, set or allocated."""

from __future__ import annotations

import copyreg
import io
import pickle
import struct
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from signet_runtime.errors import InputError
from signet_runtime.pose.pickles import load_pickle

# What Python reports of itself when something is run, opened or looked up.
_ALARMS = ("os.", "subprocess.", "exec", "compile", "open", "import", "pickle.", "socket.", "ctypes.", "marshal.")
_heard: list[str] | None = None


def _listen(event: str, _arguments: object) -> None:
    if _heard is not None and event.startswith(_ALARMS):
        _heard.append(event)


sys.addaudithook(_listen)


@contextmanager
def nothing_happens() -> Iterator[None]:
    global _heard
    _heard = heard = []
    try:
        yield
    finally:
        _heard = None
    assert heard == []


def refused(data: bytes, match: str | None = None) -> None:
    with nothing_happens(), pytest.raises(InputError, match=match) as error:
        load_pickle(data)
    assert "\n" not in str(error.value)


def test_something_that_happens_is_heard() -> None:
    with pytest.raises(AssertionError, match=r"pickle\.find_class"), nothing_happens():
        pickle.loads(b"cos\ngetcwd\n)R.")


# --- What is admitted ---------------------------------------------------------------------------------------

_keys = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
_leaves = _keys | st.integers(2**62, 2**80) | st.binary() | st.sets(_keys) | st.frozensets(_keys)
_data = st.recursive(
    _leaves,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(_keys, inner),
    max_leaves=20,
)


@given(_data, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_data_comes_back_from_any_protocol(content: object, protocol: int) -> None:
    again = load_pickle(pickle.dumps(content, protocol))
    assert again == content and type(again) is type(content)


@given(
    npst.arrays(
        npst.floating_dtypes(endianness="?", sizes=(16, 32, 64))
        | npst.integer_dtypes(endianness="?")
        | npst.unsigned_integer_dtypes(endianness="?")
        | npst.boolean_dtypes(),
        npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
    st.integers(0, pickle.HIGHEST_PROTOCOL),
    st.booleans(),
)
def test_arrays_come_back_from_any_protocol(array: np.ndarray, protocol: int, fortran: bool) -> None:
    array = np.asfortranarray(array) if fortran else array
    # Twice the same: the second time it is remembered.
    first, second = load_pickle(pickle.dumps([array, array], protocol))
    for again in (first, second):
        assert (again.shape, again.dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(again, array)


def test_numpy_2_and_numpy_scalars_and_arrays_of_arrays() -> None:
    array = np.arange(6.0).reshape(2, 3)
    for protocol in (4, 5):
        of_numpy_2 = pickle.dumps(array, protocol)
        for name in (b"core.multiarray", b"core.numeric"):  # each behind its length, which is one more
            length = len(b"numpy." + name)
            of_numpy_2 = of_numpy_2.replace(bytes([length]) + b"numpy." + name, bytes([length + 1]) + b"numpy._" + name)
        assert b"numpy._core" in of_numpy_2
        np.testing.assert_array_equal(load_pickle(of_numpy_2), array)
    assert load_pickle(pickle.dumps([np.float32(0.5), np.int64(7), np.bool_(True)])) == [0.5, 7, True]
    ragged = np.empty(2, object)
    ragged[:] = [array, array[:1]]
    first, second = load_pickle(pickle.dumps(ragged))
    np.testing.assert_array_equal(first, array)
    np.testing.assert_array_equal(second, array[:1])
    assert load_pickle(pickle.dumps(np.array([[1, None], ["a", 2.5]], object))) == [[1, None], ["a", 2.5]]


def test_strings_of_python_2_are_read_as_utf_8() -> None:
    greeting = "你好".encode()
    for written in (b"U\x06" + greeting, b"T\x06\0\0\0" + greeting, rb"S'\xe4\xbd\xa0\xe5\xa5\xbd'" + b"\n"):
        assert load_pickle(b"\x80\x02" + written + b".") == "你好"
    for damaged in (b"S'\n.", b"Sno quotes\n.", b"U\x01\xff.", b"T\xff\xff\xff\xffa."):
        refused(damaged, "damaged")


# --- What is refused ----------------------------------------------------------------------------------------

_GADGETS = """
    os system; posix system; nt system; builtins eval; __builtin__ eval; builtins exec; builtins getattr;
    builtins __import__; builtins open; builtins compile; builtins bytes; builtins bytearray; builtins object;
    builtins type; subprocess Popen; subprocess check_output; functools partial; operator attrgetter;
    operator methodcaller; importlib import_module; copyreg _reconstructor; copyreg __newobj__;
    copy_reg _reconstructor; pickle loads; marshal loads; types FunctionType; codecs open; _codecs decode;
    io open; shutil rmtree; ctypes CDLL; webbrowser open; runpy run_path; timeit timeit; pydoc pipepager;
    bdb Bdb; collections OrderedDict; numpy load; numpy fromfile; numpy memmap; numpy frombuffer;
    numpy fromfunction; numpy vectorize; numpy.core.multiarray fromfile; numpy.core.multiarray ndarray;
    numpy._core.multiarray fromfile; numpy.core.multiarray set_typeDict;
    numpy.testing._private.utils runstring; numpy.testing runstring; numpy.f2py compile;
    numpy.f2py.crackfortran myeval; numpy.lib.npyio load; numpy.distutils.exec_command exec_command;
    numpy.core.numeric loads; numpy ndarray.tofile; numpy dtype.__class__; torch load;
    torch.storage _load_from_bytes; torch FloatStorage; torch._utils _rebuild_tensor_v2;
    torch._utils _rebuild_tensor; torch.jit.unsupported_tensor_ops execWrapper;
    signet_runtime.pose.pickles _Type
"""
GADGETS = [gadget.strip() for gadget in _GADGETS.split(";")]

ARGUMENT = pickle.dumps(("touch /tmp/should-never-be-there",), 2)[2:-1]


@pytest.mark.parametrize("gadget", GADGETS)
def test_no_name_is_looked_up_however_it_is_written(gadget: str) -> None:
    module, name = (part.encode() for part in gadget.split())
    short_text = [b"\x8c" + bytes([len(part)]) + part for part in (module, name)]
    refused(b"c" + module + b"\n" + name + b"\n" + ARGUMENT + b"R.", "refused.*" + gadget.replace(" ", "."))
    refused(b"\x80\x04" + b"".join(short_text) + b"\x93" + ARGUMENT + b"R.", "refused")
    refused(b"(" + ARGUMENT + b"i" + module + b"\n" + name + b"\n.", "refused.*INST")
    refused(b"(c" + module + b"\n" + name + b"\n" + ARGUMENT + b"o.", "refused")
    refused(b"\x80\x02c" + module + b"\n" + name + b"\n)\x81.", "refused")
    # Its parts from the memory, where they were put as parts of something else.
    remembered = b"\x80\x04](" + b"\x94".join(short_text) + b"\x94eh\x00h\x01\x93)R."
    refused(remembered, "refused")
    # Inside of what is admitted.
    inside = b"\x80\x04}\x8c\x09keypointsc" + module + b"\n" + name + b"\n" + ARGUMENT + b"Rs."
    refused(inside, "refused")


def test_no_instruction_makes_or_changes_an_object() -> None:
    dtype = b"cnumpy\ndtype\n"
    for name, data in {
        "NEWOBJ": dtype + b")\x81.",
        "NEWOBJ_EX": dtype + b")}\x92.",
        "OBJ": b"(" + dtype + b"o.",
        "PERSID": b"Pos\n.",
        "BINPERSID": b"U\x01aQ.",
        "NEXT_BUFFER": b"\x80\x05\x97.",
        "READONLY_BUFFER": b"\x80\x05\x98.",
        "EXT1": b"\x82\xf0.",
        "EXT2": b"\x83\xf0\x00.",
        "EXT4": b"\x84\xf0\x00\x00\x00.",
    }.items():
        refused(data, f"refused|{name}")
    # The state of what a name stands for, of a list, a dict, an array that is finished.
    attributes = b"}\x8c\x04name\x8c\x06systems"
    finished = pickle.dumps(np.zeros(2), 2)[:-1]
    for thing in (dtype, b"cnumpy\nndarray\n", b"]", b"}", finished, b"I1\n", b"N"):
        refused(thing + attributes + b"b.", "refused")
        refused(thing + b"N" + attributes + b"\x86b.", "refused|damaged")
    # A call of anything but a name, and of names that are only ever arguments.
    for thing in (b"]", b"N", b"}", b"I1\n", b"cnumpy\nndarray\n", dtype + b"\x8c\x02f8\x85R"):
        refused(thing + b")R.", "refused")
    refused(b"c__builtin__\nbytes\nI1000\n\x85R.", "refused")
    refused(b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00rot\x86R.", "refused")


def test_a_registered_extension_is_no_way_round() -> None:
    copyreg.add_extension("os", "system", 0xF0)
    try:
        with pytest.raises(pickle.UnpicklingError):
            _Strict(io.BytesIO(b"\x82\xf0.")).load()  # so the extension is there
        refused(b"\x82\xf0X\x02\x00\x00\x00id\x85R.", "refused.*EXT1")
    finally:
        copyreg.remove_extension("os", "system", 0xF0)


class _Strict(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> None:
        raise pickle.UnpicklingError(f"{module}.{name}")


class _Reduced:
    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple:
        return self.call


class _Subclass(np.ndarray):
    pass


def test_forged_arrays_are_refused() -> None:
    reconstruct, f8 = np.core.multiarray._reconstruct, np.dtype("f8")

    def array(*state: object, of: type = np.ndarray) -> bytes:
        return pickle.dumps(_Reduced(reconstruct, (of, (0,), b"b"), state), 2)

    def dtype(spec: object, *state: object) -> object:
        return _Reduced(np.dtype, (spec, False, True), state) if state else _Reduced(np.dtype, (spec, False, True))

    eight = b"\0" * 8
    plain = (3, "<", None, None, None, -1, -1, 0)
    np.testing.assert_array_equal(load_pickle(array(1, (1,), dtype("f8", *plain), False, eight)), [0.0])
    objects_without_flags = dtype("O8", 3, "|", None, None, None, -1, -1, 0)
    for forged in (
        array(1, (1,), objects_without_flags, False, b"\x41" * 8),  # bytes for pointers
        array(1, (1,), dtype("O", *plain), False, [1, 2]),
        array(1, (1,), dtype("V8", *plain), False, eight),
        array(1, (1,), dtype("M8", *plain), False, eight),
        array(1, (1,), dtype("U2", *plain), False, eight),
        array(1, (1,), dtype("f8,O", *plain), False, eight),
        array(1, (1,), dtype("f8", 3, "<", None, ("a",), {"a": (f8, 0)}, 8, 1, 0), False, eight),
        array(1, (1,), dtype("f8", 3, "<", (f8, (4,)), None, None, -1, -1, 0), False, eight),
        array(1, (1,), dtype("f8", 4, "<", None, None, None, -1, -1, 0, {"a": 1}), False, eight),
        array(1, (1,), dtype(["f8"], *plain), False, eight),
        array(1, (2,), f8, False, eight),
        array(1, (2**61,), f8, False, eight),
        array(1, (-1,), f8, False, eight),
        array(1, (2**62, 2**62), f8, False, eight),
        array(1, [1], f8, False, eight),
        array(1, (1.0,), f8, False, eight),
        array(1, (1,), f8, False, "text"),
        array(1, (1,), "f8", False, eight),
        array(1, (1,), None, False, eight),
        array(1, (1,) * 100, f8, False, eight),
        array((1,), f8, False, eight),
        array(),
        array(1, (1,), f8, False, eight, of=_Subclass),
        array(1, (1,), f8, False, eight, of=np.matrix),
        pickle.dumps(np.zeros(2).view(_Subclass)),
        pickle.dumps(np.zeros(1, "f8,i4")),
        pickle.dumps(np.array(["a"])),
        pickle.dumps(np.array([1], "M8[s]")),
        pickle.dumps(np.array([1j])),
        pickle.dumps(np.ma.zeros(3)),
        pickle.dumps(np.array([_Reduced(eval, ("1",))], object)),
        pickle.dumps([np.float64(1), _Reduced(exec, ("",))]),
        pickle.dumps(_Reduced(np.core.multiarray.scalar, (np.dtype("O"), b"\x41" * 8)), 2),
    ):
        refused(forged)


def test_a_pickle_in_a_pickle_is_bytes() -> None:
    inner = pickle.dumps(_Reduced(eval, ("1/0",)))
    with nothing_happens():
        assert load_pickle(pickle.dumps({"keypoints": inner})) == {"keypoints": inner}


def test_what_claims_more_than_it_holds_is_not_believed() -> None:
    f8, members = pickle.dumps(np.zeros(1), 2), b"".join(b"J" + struct.pack("<i", i) for i in range(3000))
    claims = {
        "memory": b"Nr\xff\xff\xff\x7f.",
        "memory in decimals": b"Np99999999999\n.",
        "bytes": b"\x8e" + struct.pack("<Q", 2**62) + b"a.",
        "bytearray": b"\x96" + struct.pack("<Q", 2**40) + b"a.",
        "text": b"\x8d" + struct.pack("<Q", 2**63) + b"a.",
        "number": b"\x8b\xff\xff\xff\x7f\x01.",
        "negative number": b"\x8b\xff\xff\xff\xff.",
        "digits": b"L" + b"9" * 100_000 + b"L\n.",
        "array": f8.replace(b"K\x01\x85", b"\x8a\x05\0\0\0\0\x01\x85", 1),
        "frame": b"\x95" + struct.pack("<Q", 2**62),
        "lists": pickle.dumps(np.zeros((10**9, 0), object)),
        "sets of one list": b"cbuiltins\nset\nq\0]q\1(" + members + b"e(" + b"h\0h\1\x85R" * 3000 + b"t.",
        "cut": f8[:-9],
    }
    tracemalloc.start()
    try:
        for data in claims.values():
            with suppress(InputError):
                load_pickle(data)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_keys_that_can_be_made_to_have_one_hash_are_refused() -> None:
    for key in (2**64, 2**61 * (2**61 - 1), -(2**64)):
        for content in ({key: 1}, {key}, frozenset([key])):
            for protocol in (2, 4):
                refused(pickle.dumps(content, protocol), "damaged")


def test_a_set_takes_no_more_than_its_members() -> None:
    for forged in (
        b"\x8f]\x90.",  # no mark
        b"\x8f(]\x90.",  # a list as a member
        b"](I1\n\x90.",  # members of a list
        b"cbuiltins\nset\n)R.",
        b"cbuiltins\nset\nI3\n\x85R.",
        b"cbuiltins\nset\n]]\x86R.",
        b"cbuiltins\nset\n}\x85R.",
        b"c__builtin__\nfrozenset\nX\x01\0\0\0a\x85R.",
    ):
        refused(forged)


def test_depth_is_no_matter() -> None:
    deep = 200_000
    assert isinstance(load_pickle(b"]" * deep + b"a" * (deep - 1) + b"."), list)
    assert isinstance(load_pickle(b")" + b"\x85" * deep + b"."), tuple)
    deep_key = b")" + b"\x85" * deep  # to hash it overflows the stack
    refused(b"}" + deep_key + b"Ns.", "damaged")
    refused(b"\x8f(" + deep_key + b"\x90.", "damaged")
    refused(b"(" + deep_key + b"\x91.", "damaged")
    refused(b"cbuiltins\nset\n]" + deep_key + b"a\x85R.", "damaged")
    refused(b"(" * deep + b".")


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_noise_is_refused_or_data(noise: bytes) -> None:
    try:
        load_pickle(noise)
    except InputError as error:
        assert "\n" not in str(error)


_CODES = {ord(value) for value in pickle.__dict__.values() if isinstance(value, bytes) and len(value) == 1}
_NAMES = """
    numpy dtype; numpy ndarray; numpy.core.multiarray _reconstruct; numpy.core.multiarray scalar;
    numpy.core.numeric _frombuffer; _codecs encode; builtins set; builtins frozenset
"""
_PIECES = [bytes([code]) for code in sorted(_CODES)]
_PIECES += [b"c" + name.strip().replace(" ", "\n").encode() + b"\n" for name in _NAMES.split(";")]
_PIECES += [b"K\x01", b"K\x00", b"U\x02f8", b"\x8c\x02f8", b"\x8c\x01O", b"C\x08" + bytes(8), b"X\x01\x00\x00\x00<"]
_PIECES += [bytes([code]) for code in b"N\x85\x86\x87(tRb\x94]}aesu\x8f\x90\x91"] + [b"h\x00"]


@settings(max_examples=500)
@given(st.lists(st.sampled_from(_PIECES), max_size=40))
def test_any_program_of_the_instructions_is_refused_or_data(program: list[bytes]) -> None:
    try:
        load_pickle(b"".join(program) + b".")
    except InputError as error:
        assert "\n" not in str(error)
