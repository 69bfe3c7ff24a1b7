from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
_name = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=60)
_seconds = st.floats(-1e6, 1e6)
_rows = st.lists(
    st.builds(
        Row,
        **dict.fromkeys(("id", "split", "poses", "language", "sign_language"), _name),
        **dict.fromkeys(("video", "signer", "corpus"), st.none() | _name),
        **dict.fromkeys(("start", "end"), st.none() | _seconds),
        text=_text,
        gloss=st.none() | _text,
        fps=st.none() | st.floats(0.01, 1000),
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
    what = "not a manifest" if suffix == ".parquet" else r"line [12]: not JSON"
    message = rf"{what}, or a damaged one \(.+\)$"
    with pytest.raises(InputError, match=message) as raised:
        read_manifest(path)
    assert "\n" not in str(raised.value)


def test_a_directory_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").mkdir()
    with pytest.raises(InputError, match=r"m\.jsonl: is a directory"):
        read_manifest(tmp_path / "m.jsonl")


# --- From strangers --------------------------------------------------------------------------------------------


VALID = {"id": "a", "split": "train", "poses": "a.npz", "text": "x", "language": "en", "sign_language": "ase"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"id": "a" * 300}, "row 2: id: more than 200 characters"),
        ({"id": "a\x1b[2J"}, "row 2: id: a control character"),
        ({"split": "train\n"}, "row 2: split: a control character"),
        ({"poses": "b" * 300 + ".npz"}, "row 2: poses: a name of more than 255 bytes"),
        ({"video": "é" * 130}, "row 2: video: a name of more than 255 bytes"),
        ({"poses": "a\0"}, "row 2: poses: a byte 0"),
        ({"text": "a" * 100_001}, "row 2: text: more than 100000 characters"),
        ({"start": float("nan")}, "row 2: start: no time"),
        ({"end": 1e300}, "row 2: end: no time"),
        ({"fps": 1e-9}, "row 2: fps: not 0.01 to 1000"),
        ({"fps": -25.0}, "row 2: fps: not 0.01 to 1000"),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_what_no_row_can_be_is_named(tmp_path: Path, suffix: str, change: dict[str, Any], says: str) -> None:
    path = tmp_path / f"m{suffix}"
    rows = [Row(**VALID), Row(**{**VALID, "id": "b", **change}), Row(**{**VALID, "id": "c"})]
    write_manifest(path, rows)
    with pytest.raises(InputError) as error:
        read_manifest(path)
    assert says in str(error.value) and str(error.value).isprintable()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (json.dumps(VALID).replace('"x"', '"\\ud800"'), "line 1: not JSON"),
        ("[" * 100_000, "line 1: not JSON: nested too deep"),
        ('{"a":' * 100 + "1" + "}" * 100, "line 1: not JSON"),
        (json.dumps(VALID).replace('"x"', "9" * 5000), "a number of more than 300 digits"),
        (" " * 5_000_000, "line 1: line bytes"),
    ],
)
def test_lines_that_are_no_rows_are_named(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_manifest(path)
    assert says in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize(
    "column",
    [
        pa.array([2**62], pa.timestamp("ms")),
        pa.array([0], pa.timestamp("s", tz="Atlantis/Nowhere")),
        pa.array([{"a": 1}]),
        pa.array([b"\xff"], pa.binary()),
    ],
)
def test_columns_of_strange_types_are_one_line(tmp_path: Path, column: pa.Array) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({**{name: [value] for name, value in VALID.items()}, "signer": column}), path)
    with pytest.raises(InputError, match=r"m\.parquet: "):
        read_manifest(path)


def test_what_is_no_file_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.jsonl")
    for name in ("zero", "pipe"):
        with pytest.raises(InputError, match=rf"{name}\.jsonl: is a .*, and must be a file"):
            read_manifest(tmp_path / f"{name}.jsonl")
    with pytest.raises(InputError, match="no such manifest"):
        read_manifest(tmp_path / ("a" * 300 + ".jsonl"))
