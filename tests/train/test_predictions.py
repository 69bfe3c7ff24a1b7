"""Prediction files: what is written comes back, what other people wrote is read, what is wrong is named."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signet_runtime.errors import InputError, OutputError
from signet_train.evaluation.predictions import Prediction, read_predictions, write_predictions

SAMPLE = [
    Prediction("11August-1", "am tag regnet es", "am tag schneit es"),
    Prediction("S003", "他说：“你好”, 3\t次。", ""),
    Prediction("x", 'He said "hello", twice', '"Hello"'),
]
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
predictions = st.builds(Prediction, text, text.filter(str.strip), text)


@settings(max_examples=60, deadline=None)
@given(st.lists(predictions, min_size=1, max_size=4))
def test_what_is_written_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[Prediction]) -> None:
    path = tmp_path_factory.mktemp("written") / "new" / "test.jsonl"
    write_predictions(path, rows)
    assert read_predictions(path) == rows
    assert [entry.name for entry in path.parent.iterdir()] == ["test.jsonl"]


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(predictions, min_size=1, max_size=4), suffix=st.sampled_from([".json", ".csv", ".tsv"]))
def test_other_peoples_tables_are_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Prediction], suffix: str
) -> None:
    path = tmp_path_factory.mktemp("tables") / f"test{suffix}"
    if suffix == ".json":
        path.write_text(json.dumps([{"extra": 1, **dataclasses.asdict(row)} for row in rows]), encoding="utf-8")
    else:
        # A bare carriage return is a line's end to whoever reads text: the csv module keeps it only unread.
        rows = [
            Prediction(*(part.replace("\r", "") for part in (row.id, row.reference, row.hypothesis))) for row in rows
        ]
        rows = [row for row in rows if row.reference.strip()] or SAMPLE
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="," if suffix == ".csv" else "\t")
            writer.writerow(["hypothesis", "score", "reference", "id"])
            writer.writerows([row.hypothesis, 0.5, row.reference, row.id] for row in rows)
    assert read_predictions(path) == rows


def test_plain_text_pairs_are_read_line_by_line(tmp_path: Path) -> None:
    hypotheses, references = tmp_path / "out.txt", tmp_path / "ref.txt"
    hypotheses.write_bytes("eins\r\n\r\ndrei\u2028vier\r\n".encode())
    references.write_text("one\ntwo\nthree", encoding="utf-8-sig")
    assert read_predictions(hypotheses, references) == [
        Prediction("1", "one", "eins"),
        Prediction("2", "two", ""),
        Prediction("3", "three", "drei\u2028vier"),
    ]


def test_numbers_may_be_ids(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text('\n{"id": 7, "reference": "eins", "hypothesis": "zwei"}\n\n')
    assert read_predictions(path) == [Prediction("7", "eins", "zwei")]


GOOD = '{"id": "a", "reference": "b", "hypothesis": "c"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl", GOOD + '{"id": "a", "reference": "b"}\n', "line 2: hypothesis: Field required"),
        ("p.jsonl", GOOD + '{"id": "a", "reference": "b", "hypothesis": null}', "line 2: hypothesis: Input should be"),
        ("p.jsonl", GOOD + "\n{", "line 3: not JSON"),
        ("p.jsonl", GOOD + "[1, 2, 3]", "line 2"),
        ("p.jsonl", GOOD + "[" * 100_000, "line 2: not JSON"),
        ("p.jsonl", '{"id": "a", "reference": " ", "hypothesis": "c"}', "line 1: the reference is empty"),
        ("p.jsonl", "\n", "holds no predictions"),
        ("p.jsonl", "é".encode("latin-1"), "not UTF-8"),
        ("p.json", "[]", "holds no predictions"),
        ("p.json", GOOD, "must be a list"),
        ("p.json", f"[{GOOD}", "not JSON"),
        ("p.json", f'[{GOOD}, {{"id": "a"}}]', "row 2: reference: Field required"),
        ("p.csv", "", "line 1: no column 'id'"),
        ("p.csv", "id,reference\n1,a\n", "line 1: no column 'hypothesis'"),
        ("p.csv", "id,reference,hypothesis\n", "holds no predictions"),
        ("p.csv", "id,reference,hypothesis\n1,a,b\n2,a\n", "line 3: more or fewer fields"),
        ("p.csv", "id,reference,hypothesis\n1,a,b, and c\n", "line 2: more or fewer fields"),
        ("p.tsv", 'id\treference\thypothesis\n1\ta\t"b\n2\ta\tb\n', "starts in line 2: unexpected end of data"),
        ("p.txt", "a\n", "give their file with --references"),
        ("p.parquet", b"PAR1", "give their file with --references"),
    ],
)
def test_a_bad_file_is_one_line_that_says_where(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=message) as caught:
        read_predictions(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_plain_texts_of_unequal_length_are_refused(tmp_path: Path) -> None:
    hypotheses, references = tmp_path / "out.txt", tmp_path / "ref.txt"
    hypotheses.write_text("a\nb\n")
    references.write_text("a\nb\n\n")
    with pytest.raises(InputError, match=r"out\.txt has 2 lines and .*ref\.txt has 3"):
        read_predictions(hypotheses, references)
    hypotheses.write_text("a\nb\nc\n")
    with pytest.raises(InputError, match=r"ref\.txt: line 3: the reference is empty"):
        read_predictions(hypotheses, references)
    hypotheses.write_text("")
    references.write_text("")
    with pytest.raises(InputError, match="holds no predictions"):
        read_predictions(hypotheses, references)


def test_a_table_has_its_own_references(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.jsonl", SAMPLE)
    with pytest.raises(InputError, match=r"leave .*ref\.txt out"):
        read_predictions(tmp_path / "p.jsonl", tmp_path / "ref.txt")


@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.csv"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: no such file"):
        read_predictions(tmp_path / name)


def test_an_interrupted_writing_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    write_predictions(path, SAMPLE)

    def interrupted() -> Iterator[Prediction]:
        yield SAMPLE[1]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_predictions(path, interrupted())
    assert read_predictions(path) == SAMPLE
    assert [entry.name for entry in tmp_path.iterdir()] == ["p.jsonl"]


def test_what_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"name the file ….jsonl"):
        write_predictions(tmp_path / "p.csv", SAMPLE)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_predictions(tmp_path / "file" / "p.jsonl", SAMPLE)
