"""Pickled labels are data: plain containers come back as they are, and nothing in a pickle is ever called."""

from __future__ import annotations

import collections
import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signet_runtime.errors import InputError
from signet_train.data.safe_pickle import load_plain_pickle

_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pickles") / "labels.train"


@settings(max_examples=60, deadline=None)
@given(content=_PLAIN, protocol=st.sampled_from([3, 4, 5]), compress=st.booleans())
def test_plain_data_comes_back(path: Path, content: object, protocol: int, compress: bool) -> None:
    data = pickle.dumps(content, protocol)
    path.write_bytes(gzip.compress(data) if compress else data)
    assert load_plain_pickle(path) == content


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_data_or_an_input_error(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        load_plain_pickle(path)
    except InputError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)


def _touch(marker: Path) -> None:
    marker.write_text("executed")


class _Reduces:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> object:
        return _touch, (self.marker,)


def attacks(marker: Path) -> dict[str, bytes]:
    command = f"touch {marker}".encode()
    return {
        "reduce": pickle.dumps({"name": _Reduces(marker)}, 4),
        "global": b"cos\nsystem\n(S'" + command + b"'\ntR.",
        "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + bytes([len(command)]) + command + b"\x85R.",
        "inst": b"(S'" + command + b"'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS'" + command + b"'\no.",
        "newobj": b"\x80\x02cos\nsystem\n(S'" + command + b"'\nt\x81.",
        "builtin": b"cbuiltins\neval\n(S'open(\"" + str(marker).encode() + b'", "w")\'\ntR.',
        "dotted name": b"\x80\x04\x8c\x08builtins\x8c\x10str.format.__new\x93.",
        "extension": b"\x80\x02\x82\x01.",
        "persistent": b"Psomething\n.",
        "harmless class": pickle.dumps(collections.OrderedDict(a=1), 4),
        "array": pickle.dumps(np.arange(3), 4),
    }


@pytest.mark.parametrize("name", attacks(Path("x")))
@pytest.mark.parametrize("compress", [False, True])
def test_a_pickle_that_asks_for_more_is_refused_before_anything_runs(tmp_path: Path, name: str, compress: bool) -> None:
    marker, path = tmp_path / "marker", tmp_path / "labels.train"
    data = attacks(marker)[name]
    path.write_bytes(gzip.compress(data) if compress else data)
    with pytest.raises(InputError, match=r"labels\.train: (refused|not a pickle)"):
        load_plain_pickle(path)
    assert not marker.exists()


def test_the_attacks_would_work_on_pickle_itself(tmp_path: Path) -> None:
    for name in ("reduce", "global", "stack global", "inst", "obj", "builtin"):
        marker = tmp_path / name.replace(" ", "-")
        pickle.loads(attacks(marker)[name])
        assert marker.exists(), name


def test_what_was_refused_is_named(tmp_path: Path) -> None:
    path = tmp_path / "labels.dev"
    path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(InputError, match=r"labels\.dev: refused, its pickle asks for os\.system"):
        load_plain_pickle(path)


def test_missing_cut_off_and_damaged_files_are_input_errors(tmp_path: Path) -> None:
    path = tmp_path / "labels.test"
    with pytest.raises(InputError, match="cannot be read"):
        load_plain_pickle(path)
    whole = pickle.dumps({"a": list(range(1000))})
    compressed = bytearray(gzip.compress(whole))
    compressed[-6] ^= 0xFF  # the checksum
    for damaged in (whole[:-5], gzip.compress(whole)[:-20], bytes(compressed), b""):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"labels\.test: .*damaged"):
            load_plain_pickle(path)


def test_strings_of_old_pickles_are_read_as_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "old.pkl"
    path.write_bytes(b"\x80\x02U\x06" + "你好".encode() + b".")
    assert load_plain_pickle(path) == "你好"
