"""Manifests of training, from the file to what is written of them again."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq

from signet_train.data.manifest import read_manifests, write_manifest
from tests.fuzz.mutations import edit_json, edit_lines
from tests.fuzz.target import Target, as_file, scratch

_ROWS = [
    {"id": "a", "split": "train", "poses": "poses/a.npz", "text": "Guten Tag.", "language": "de"},
    {
        "id": "b",
        "split": "dev",
        "poses": "poses.arrow#b",
        "text": "晴れ",
        "language": "ja",
        "video": "b.mp4",
        "fps": 25.0,
    }
    | {"start": 1.5, "end": 3.0, "signer": "A", "gloss": "HARE", "corpus": "x"},
    {"id": "c", "split": "test", "poses": "spell://ase/word", "text": "word", "language": "en"},
]
_ROWS = [{**row, "sign_language": "gsg"} for row in _ROWS]


def _read(suffix: str) -> Callable[[bytes], None]:
    def parse(data: bytes) -> None:
        (manifest,) = read_manifests([as_file(data, f"m{suffix}")])
        for other in (".jsonl", ".parquet"):
            write_manifest(scratch() / f"again{other}", manifest.rows)

    return parse


def _lines() -> list[bytes]:
    return ["".join(json.dumps(row, ensure_ascii=ascii_) + "\n" for row in _ROWS).encode() for ascii_ in (True, False)]


def _tables() -> list[bytes]:
    made = []
    for compression, dictionary in (("none", False), ("snappy", True), ("zstd", True)):
        file = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(_ROWS), file, compression=compression, use_dictionary=dictionary)
        made.append(file.getvalue())
    numbers = pa.table({**{name: [row[name] for row in _ROWS] for name in _ROWS[0]}, "start": [0, 1, 2]})
    times = numbers.set_column(numbers.num_columns - 1, "start", pa.array([0, 1, 2], pa.timestamp("us", tz="UTC")))
    for table in (numbers, times):
        file = io.BytesIO()
        pq.write_table(table, file)
        made.append(file.getvalue())
    return made


TARGETS = (
    Target("manifest-jsonl", _read(".jsonl"), functools.cache(_lines), edit_lines(edit_json)),
    Target("manifest-parquet", _read(".parquet"), functools.cache(_tables)),
)
