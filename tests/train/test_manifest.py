from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signet_runtime.errors import InputError, OutputError
from signet_train.data.manifest import Row, read_manifest, read_manifests, write_manifest

SUFFIXES = [".parquet", ".jsonl"]
ROW = Row(id="a", split="train", poses="poses/a.npz", text="Guten Tag.", language="de", sign_language="gsg")

_text = st.text(st.characters(exclude_categories=("Cs",)))  # all of Unicode: line separators, controls, quotes …
_seconds = st.floats(allow_nan=False, allow_infinity=False)
_rows = st.lists(
    st.builds(
        Row,
        **dict.fromkeys(("id", "split", "poses", "text", "language", "sign_language"), _text),
        **dict.fromkeys(("video", "signer", "gloss", "corpus"), st.none() | _text),
        **dict.fromkeys(("fps", "start", "end"), st.none() | _seconds),
    ),
    max_size=5,
)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(deadline=None)
@given(rows=_rows)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, suffix: str, rows: list[Row]) -> None:
    path = tmp_path_factory.mktemp("manifest") / f"rows{suffix}"
    write_manifest(path, rows)
    assert read_manifest(path).rows == rows


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_manifests_from_before_there_was_a_column_for_it_have_no_corpus(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    write_manifest(path, [dataclasses.replace(ROW, gloss="GUTEN TAG")])
    if suffix == ".parquet":
        pq.write_table(pq.read_table(path).drop_columns("corpus"), path)
        assert "corpus" not in pq.read_schema(path).names
    else:
        assert "corpus" not in path.read_text()
    assert read_manifest(path).rows == [dataclasses.replace(ROW, gloss="GUTEN TAG", corpus=None)]


def test_manifests_with_and_without_a_corpus_are_used_together(tmp_path: Path) -> None:
    write_manifest(tmp_path / "old.jsonl", [ROW])
    write_manifest(tmp_path / "new.parquet", [dataclasses.replace(ROW, id="b", corpus="how2sign")])
    manifests = read_manifests([tmp_path / "old.jsonl", tmp_path / "new.parquet"])
    assert [row.corpus for manifest in manifests for row in manifest.rows] == [None, "how2sign"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_relative_paths_start_at_the_manifest(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_manifest(Path("new") / "directory" / f"m{suffix}", [ROW])
    assert read_manifest(Path("new") / "directory" / f"m{suffix}").root == tmp_path / "new" / "directory"


def test_splits_keep_the_order(tmp_path: Path) -> None:
    rows = [dataclasses.replace(ROW, id=str(i), split="dev" if i % 2 else "train") for i in range(5)]
    write_manifest(tmp_path / "m.jsonl", rows)
    assert [row.id for row in read_manifest(tmp_path / "m.jsonl").split("train")] == ["0", "2", "4"]


def test_json_lines_say_only_what_is_known(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.jsonl", [dataclasses.replace(ROW, text="Grüß Gott", start=1.0)])
    (line,) = (tmp_path / "m.jsonl").read_text(encoding="utf-8").splitlines()
    assert "Grüß" in line
    known = ["id", "split", "poses", "text", "language", "sign_language", "start"]
    assert list(json.loads(line)) == known


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_manifest_is_replaced_whole_or_not_at_all(tmp_path: Path, suffix: str, failure: BaseException) -> None:
    path = tmp_path / f"m{suffix}"
    write_manifest(path, [ROW])

    def half() -> Iterator[Row]:
        yield from [dataclasses.replace(ROW, id=f"{n}") for n in range(20_000)]
        assert len(list(tmp_path.iterdir())) == 2  # it is being written
        raise failure

    with pytest.raises(OutputError if isinstance(failure, OSError) else KeyboardInterrupt) as raised:
        write_manifest(path, half())
    if isinstance(failure, OSError):
        assert str(raised.value) == f"{path}: cannot be written (No space left on device)"
    assert read_manifest(path).rows == [ROW]
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_to_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/m\.parquet: cannot be written"):
        write_manifest(tmp_path / "file" / "m.parquet", [ROW])
    (tmp_path / "directory.jsonl").mkdir()
    with pytest.raises(OutputError, match=r"directory\.jsonl: cannot be written"):
        write_manifest(tmp_path / "directory.jsonl", [ROW])


def test_an_id_is_one_row_s_in_all_manifests_together(tmp_path: Path) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.parquet"
    write_manifest(one, [ROW])
    write_manifest(two, [dataclasses.replace(ROW, id="b")])
    assert [manifest.rows[0].id for manifest in read_manifests([one, two])] == ["a", "b"]
    write_manifest(two, [dataclasses.replace(ROW, id="b"), ROW])
    with pytest.raises(InputError, match=r"two\.parquet: the id 'a' occurs twice \(.*one\.jsonl has it already\)"):
        read_manifests([one, two])
    write_manifest(one, [ROW, ROW])
    with pytest.raises(InputError, match=r"one\.jsonl: the id 'a' occurs twice"):
        read_manifests([one])


def test_other_formats_are_refused(tmp_path: Path) -> None:
    for use, error in ((read_manifest, InputError), (lambda path: write_manifest(path, [ROW]), OutputError)):
        with pytest.raises(error, match=r"m\.csv: a manifest is a \.parquet or \.jsonl file"):
            use(tmp_path / "m.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_manifest_says_what_makes_one(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        with pytest.raises(InputError, match=rf"m\{suffix}: no such manifest; `signet-train manifest` makes one"):
            read_manifest(tmp_path / f"m{suffix}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": None}, "row 2: text: "),
        ({"text": 7}, "row 2: text: "),
        ({"fps": "fast"}, "row 2: fps: "),
        ({"sentence": "x"}, "row 2: sentence: "),
    ],
)
def test_a_row_that_is_none_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    good = {key: value for key, value in dataclasses.asdict(ROW).items() if value is not None}
    records = [good, {**good, **change}]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(InputError, match=rf"m\.jsonl: {message}") as raised:
        read_manifest(tmp_path / "m.jsonl")
    assert "\n" not in str(raised.value)


def test_a_table_of_something_else_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "label": ["b"]}), tmp_path / "m.parquet")
    with pytest.raises(InputError, match=r"m\.parquet: row 1: "):
        read_manifest(tmp_path / "m.parquet")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("keep", [1, -20])
def test_a_damaged_manifest_is_one_line(tmp_path: Path, suffix: str, keep: int) -> None:
    path = tmp_path / f"m{suffix}"
    write_manifest(path, [ROW, ROW])
    path.write_bytes(path.read_bytes()[:keep])
    message = r"not a manifest, or a damaged one \(.+\)$" if suffix == ".parquet" else r"line [12]: not JSON \(.+\)$"
    with pytest.raises(InputError, match=message) as raised:
        read_manifest(path)
    assert "\n" not in str(raised.value)


def test_a_directory_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").mkdir()
    with pytest.raises(InputError, match=r"m\.jsonl: not a manifest"):
        read_manifest(tmp_path / "m.jsonl")
