"""Rows stay in Arrow: they are the same rows, chosen and compared by column, and another process maps the same file."""

from __future__ import annotations

import dataclasses
import os
import pickle
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signet_runtime.errors import InputError
from signet_runtime.string_hashes import hash_string, hash_strings
from signet_train.data import manifest as module
from signet_train.data import rows as rows_module
from signet_train.data.located import LocatedRow, LocatedRows
from signet_train.data.manifest import Manifest, read_manifest, read_manifests, write_manifest
from signet_train.data.rows import Row, Rows, repeated

_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


def made(count: int, seed: int = 0) -> list[Row]:
    rng = random.Random(seed)
    return [
        Row(
            id=f"{n}-{rng.random()}",
            split=rng.choice(["train", "train", "dev", "test"]),
            poses=f"p.arrow#{n}",
            text=rng.choice(["", "Grüß Gott", "你好", "a\u2028b"]) + str(n),
            language=rng.choice(["de", "zh"]),
            sign_language=rng.choice(["gsg", "csl"]),
            start=rng.choice([None, rng.random()]),
            corpus=rng.choice([None, "csl-news"]),
        )
        for n in range(count)
    ]


@pytest.fixture(params=["in memory", "mapped"])
def table(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Rows, list[Row]]:
    monkeypatch.setattr(rows_module, "BATCH", 7)  # so that there are many
    monkeypatch.setattr(module, "BATCH", 11)
    if request.param == "mapped":
        monkeypatch.setattr(module, "_LARGE", 10)
    rows = made(100)
    write_manifest(tmp_path / "m.parquet", rows)
    read = read_manifest(tmp_path / "m.parquet").rows
    assert isinstance(read, Rows) and (read._mapped is not None) == (request.param == "mapped")
    return read, rows


def test_rows_are_those_of_a_list(table: tuple[Rows, list[Row]]) -> None:
    rows, expected = table
    assert rows == expected and list(rows) == expected and len(rows) == 100
    for index in (0, 1, 50, 99, -1, -100):
        assert rows[index] == expected[index]
    for part in (slice(3, 60), slice(None, None, -7), slice(90, 200), slice(5, 5)):
        assert rows[part] == expected[part] and list(rows[part]) == expected[part]
    for index in (100, -101):
        with pytest.raises(IndexError):
            rows[index]
    assert rows != expected[:-1] and rows != [*expected[:-1], expected[0]]


def test_columns_choose_rows_as_python_does(table: tuple[Rows, list[Row]]) -> None:
    rows, expected = table
    chosen = rows.where("split", ["dev", "test"]).where("sign_language", {"csl"})
    wanted = [row for row in expected if row.split != "train" and row.sign_language == "csl"]
    assert chosen == wanted and [chosen[i] for i in range(len(chosen))] == wanted
    assert len(rows.where("split", ["none"])) == 0 and list(rows.where("split", ["none"])) == []
    assert chosen.distinct("corpus") == {row.corpus for row in wanted}
    for part, of_list in ((rows, expected), (chosen, wanted)):
        assert part.characters("text") == set("".join(row.text for row in of_list))
    parts = LocatedRows([(chosen, Path("a")), (rows.where("split", ["none"]), Path("b")), (rows, Path("c"))])
    every = [LocatedRow(row, Path("a")) for row in wanted] + [LocatedRow(row, Path("c")) for row in expected]
    assert list(parts) == every and [parts[i] for i in range(-len(parts), 0)] == every and parts[2:5] == every[2:5]


def test_another_process_gets_the_same_rows_and_of_a_mapped_file_its_name_alone(table: tuple[Rows, list[Row]]) -> None:
    rows, expected = table
    for part in (rows, rows[10:20], rows.where("split", ["dev"])):
        sent = pickle.dumps(part)
        assert pickle.loads(sent) == list(part)
        if rows._mapped is not None:
            assert len(sent) < 1500 and expected[15].id.encode() not in sent


@given(st.lists(_text, max_size=30), st.integers(0, 5))
def test_a_hash_is_the_string_s_wherever_it_stands(texts: list[str], start: int) -> None:
    texts = [*texts, "x" * 5000, ""]
    hashes = hash_strings(pa.array(texts).slice(start))
    assert hashes.tolist() == [int(hash_string(text)) for text in texts[start:]]
    assert len(set(hashes.tolist())) == len(set(texts[start:]))


def test_nulls_hash_as_empty_strings_whatever_lies_below_them() -> None:
    values = pa.array(["abc", "def", None, "ghi"])
    masked = pa.Array.from_buffers(pa.string(), 4, [pa.py_buffer(bytes([0b1101])), *values.buffers()[1:]])
    assert hash_strings(values)[2] == hash_string("")
    assert hash_strings(masked)[[0, 3]].tolist() == hash_strings(values)[[0, 3]].tolist()


@settings(max_examples=50)
@given(st.lists(st.sampled_from("abcdefgh"), max_size=20), st.integers(0, 20))
def test_repeated_rows_are_named_with_the_first(names: list[str], cut: int) -> None:
    rows = [dataclasses.replace(made(1)[0], id=name) for name in names]
    expected = [(n, names.index(name)) for n, name in enumerate(names) if names.index(name) < n]
    assert list(repeated([Rows.of(rows[:cut]), Rows.of(rows[cut:])], "id")) == expected


def test_what_was_written_down_of_other_contents_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGE", 10)
    path, rows = tmp_path / "m.parquet", made(30)

    def beside() -> list[Path]:
        return [other for other in tmp_path.iterdir() if other != path]

    write_manifest(path, rows)
    assert read_manifest(path).rows == rows
    (first,) = beside()
    write_manifest(path, rows[::-1])
    kept = read_manifest(path).rows
    assert kept == rows[::-1]
    (second,) = beside()  # what was of the earlier contents is gone
    assert second != first
    second.write_bytes(second.read_bytes()[:-40])  # cut off
    assert read_manifest(path).rows == rows[::-1]
    assert beside() == [second]


def test_where_nothing_can_be_written_rows_are_kept_in_the_user_s_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LARGE", 10)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    write_manifest(tmp_path / "data" / "m.parquet", made(30))
    unwritable = tmp_path / "data"
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != unwritable and real(path, mode))
    for _ in range(2):
        assert read_manifest(unwritable / "m.parquet").rows == made(30)
        assert len(list((tmp_path / "cache" / "signet" / "manifests").iterdir())) == 1
    assert [path.name for path in unwritable.iterdir()] == ["m.parquet"]


def test_faults_of_a_large_manifest_are_named_as_those_of_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LARGE", 10)
    monkeypatch.setattr(module, "BATCH", 8)
    good = pa.Table.from_batches(list(rows_module.batches_of(made(30))))
    texts = ["a"] * 30
    for change, said in (
        ({"text": [*texts[:20], None, *texts[21:]]}, "row 21: text: "),
        ({"text": list(range(30))}, "row 1: text: "),
        ({"fps": ["fast"] * 30}, "row 1: fps: "),
    ):
        (name, values), *_ = change.items()
        other = good.set_column(good.schema.get_field_index(name), name, pa.array(values))
        pq.write_table(other, tmp_path / "m.parquet")
        with pytest.raises(InputError, match=said):
            read_manifest(tmp_path / "m.parquet")
    pq.write_table(good.append_column("sentence", pa.array(texts)), tmp_path / "m.parquet")
    with pytest.raises(InputError, match="row 1: sentence: "):
        read_manifest(tmp_path / "m.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["m.parquet"]


def test_other_columns_of_the_same_meaning_are_taken(tmp_path: Path) -> None:
    rows = [dataclasses.replace(row, start=float(n)) for n, row in enumerate(made(20))]
    table = pa.Table.from_batches(list(rows_module.batches_of(rows)))
    for name, column in (
        ("split", table["split"].cast(pa.dictionary(pa.int8(), pa.string()))),
        ("text", table["text"].cast(pa.large_string())),
        ("start", table["start"].cast(pa.int32())),
        ("signer", pa.nulls(20)),
    ):
        table = table.set_column(table.schema.get_field_index(name), name, column)
    pq.write_table(table.select(table.schema.names[::-1]).drop_columns("gloss"), tmp_path / "m.parquet")
    assert read_manifest(tmp_path / "m.parquet").rows == rows


def test_json_lines_are_written_down_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGE_LINES", 1000)
    write_manifest(tmp_path / "m.jsonl", made(30))
    for _ in range(2):
        (manifest,) = read_manifests([tmp_path / "m.jsonl"])
        assert manifest.rows == made(30)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_split_of_a_manifest_that_was_made_of_a_list(tmp_path: Path) -> None:
    rows = made(20)
    assert Manifest(rows, tmp_path).split("dev") == [row for row in rows if row.split == "dev"]
    assert np.all([isinstance(row, Row) for row in Manifest(rows, tmp_path).split("train")])


def test_rows_are_made_as_they_are_written(tmp_path: Path) -> None:
    rows, taken = made(20_000), []

    def one_by_one() -> Iterator[Row]:
        for row in rows:
            taken.append(1)
            yield row

    write_manifest(tmp_path / "m.parquet", one_by_one())
    assert read_manifest(tmp_path / "m.parquet").rows == rows and len(taken) == len(rows)
