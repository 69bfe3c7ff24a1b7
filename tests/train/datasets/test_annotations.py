"""Tables, JSON and pickles come back as they were written; anything else is an error that names the file."""

from __future__ import annotations

import csv
import gzip
import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signet_runtime.errors import InputError
from signet_train.data.datasets.annotations import clip_id, find_file, read_json, read_pickle, read_table

_FIELD = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=8)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables") / "table.csv"


@settings(max_examples=80, deadline=None)
@given(lines=st.lists(st.tuples(_FIELD, _FIELD), max_size=5), delimiter=st.sampled_from(["\t", "|", ","]))
def test_a_quoted_table_comes_back(path: Path, lines: list[tuple[str, str]], delimiter: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([("NAME", "TEXT"), *lines])
    read = [(line["NAME"], line["TEXT"]) for _, line in read_table(path, ("TEXT",), delimiter, quoted=True)]
    assert read == [line for line in lines if any(field.strip() for field in line)]


@settings(max_examples=80, deadline=None)
@given(lines=st.lists(st.tuples(_FIELD.filter(str.strip), _FIELD), max_size=5))
def test_an_unquoted_table_comes_back_with_its_quotes(path: Path, lines: list[tuple[str, str]]) -> None:
    lines = [(name.replace("|", '"'), text.replace("|", '"')) for name, text in lines]
    path.write_text("name|text\n" + "".join(f"{name}|{text}\n" for name, text in lines), encoding="utf-8", newline="")
    assert [(line["name"], line["text"]) for _, line in read_table(path, ("name", "text"), "|")] == lines


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=100), quoted=st.booleans())
def test_any_bytes_are_lines_or_an_input_error(path: Path, data: bytes, quoted: bool) -> None:
    path.write_bytes(b"a|b\n" + data)
    for read in (lambda: list(read_table(path, ("a",), "|", quoted)), lambda: read_json(path)):
        try:
            read()
        except InputError as error:
            assert str(error).startswith(str(path))
            assert "\n" not in str(error)


_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(content=_PLAIN, protocol=st.sampled_from([2, 4, 5]), compress=st.booleans())
def test_a_pickle_of_plain_data_comes_back(path: Path, content: object, protocol: int, compress: bool) -> None:
    data = pickle.dumps(content, protocol)
    path.write_bytes(gzip.compress(data) if compress else data)
    assert read_pickle(path) == content


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200), begins=st.sampled_from([b"", b"\x1f\x8b", gzip.compress(b"")[:10]]))
def test_any_bytes_are_a_pickle_or_an_input_error(path: Path, data: bytes, begins: bytes) -> None:
    path.write_bytes(begins + data)
    try:
        read_pickle(path)
    except InputError as error:
        assert str(error).startswith(str(path))
        assert "\n" not in str(error)


class _Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("compress", [False, True])
def test_a_pickle_that_asks_for_more_is_refused_before_anything_runs(tmp_path: Path, compress: bool) -> None:
    marker, file = tmp_path / "marker", tmp_path / "labels.train"
    data = pickle.dumps({"name": _Attack(marker)})
    pickle.loads(data)
    marker.rmdir()  # so it would have worked
    file.write_bytes(gzip.compress(data) if compress else data)
    with pytest.raises(InputError, match=r"labels\.train: refused, its pickle asks for posix\.mkdir, and"):
        read_pickle(file)
    assert not marker.exists()


def test_missing_cut_off_and_damaged_pickles_are_input_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "labels.test"
    with pytest.raises(InputError, match=r"labels\.test: cannot be read"):
        read_pickle(file)
    whole = pickle.dumps({"a": list(range(1000))})
    compressed, checksum = gzip.compress(whole), bytearray(gzip.compress(whole))
    checksum[-6] ^= 0xFF
    for damaged in (whole[:-5], compressed[:-20], compressed[:15] + bytes(9), bytes(checksum), b""):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match=r"labels\.test: .*damaged"):
            read_pickle(file)
    monkeypatch.setenv("SIGNET_LIMITS", f"text_bytes={len(whole) - 1}")
    file.write_bytes(compressed)
    with pytest.raises(InputError, match=r"labels\.test: text bytes"):
        read_pickle(file)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\nb", "a\0b", "\u202ea"])
def test_what_cannot_name_a_file_names_no_clip(name: str) -> None:
    with pytest.raises(InputError, match=r"table\.csv: line 2: .* cannot name a clip"):
        clip_id(name, "table.csv: line 2")


def test_what_can_name_a_file_names_a_clip() -> None:
    for name in ("-fZc293MpJk_0-1-rgb_front", "S000007_P0003_T00", "Übung 1", "共同关注"):
        assert clip_id(name, "") == name


def test_the_first_file_that_is_there_is_found(tmp_path: Path) -> None:
    (tmp_path / "b").touch()
    (tmp_path / "c").touch()
    assert find_file(tmp_path, ["a", "b", "c"], "nowhere") == tmp_path / "b"
    with pytest.raises(InputError, match=r"no a or d there; it is published nowhere"):
        find_file(tmp_path, ["a", "d"], "it is published nowhere")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_table_is_read_as_a_spreadsheet_saves_it(tmp_path: Path, delimiter: str, encoding: str) -> None:
    lines = [["Name ", "text", "", ""], ["a", "Grüße, du", "", ""], ["", "", "", ""], [" ", "", "", ""], ["b", "c"]]
    with (tmp_path / "t.csv").open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(lines)
    for wanted in (",", "\t"):
        read = list(read_table(tmp_path / "t.csv", ("name", "text"), wanted, quoted=wanted == ","))
        assert [(line["name"], line["text"]) for _, line in read] == [("a", "Grüße, du"), ("b", "c")]
        assert [where.split()[-1] for where, _ in read] == ["2", "5"]


def test_excels_own_first_line_names_the_separator(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("sep=;\nname;text\na;b, c\n")
    assert list(read_table(tmp_path / "t.csv", ("text",), ",", quoted=True)) == [
        (f"{tmp_path / 't.csv'}: line 3", {"name": "a", "text": "b, c"})
    ]


def test_tables_that_are_refused_say_why(tmp_path: Path) -> None:
    for content, message in (
        (b"name;words\na;b\n", "line 1: no column text"),
        ("name,text\na,Grüße\n".encode("cp1252"), "UTF-8"),
        (b"name,text\na,b,c\n", "line 2: 3 fields where the header has 2"),
        (b"name,text\na\n", "line 2: 1 fields where the header has 2"),
    ):
        (tmp_path / "t.csv").write_bytes(content)
        with pytest.raises(InputError, match=message):
            list(read_table(tmp_path / "t.csv", ("name", "text"), ",", quoted=True))
