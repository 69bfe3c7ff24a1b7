"""Tables and JSON come back as they were written; anything else is an error that names the file."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signet_runtime.errors import InputError
from signet_train.data.datasets.annotations import clip_id, find_file, read_json, read_table

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
    assert read == lines


@settings(max_examples=80, deadline=None)
@given(lines=st.lists(st.tuples(_FIELD.filter(bool), _FIELD), max_size=5))
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
