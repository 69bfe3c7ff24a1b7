"""WLASL's JSON becomes rows of its first glosses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from signet_runtime.errors import InputError
from signet_train.data.datasets import reader
from signet_train.data.datasets.wlasl import read
from signet_train.data.manifest import Row


def instance(video_id: str, split: str = "train", signer: int = 9) -> dict[str, Any]:
    return {
        "bbox": [385, 37, 885, 720],
        "fps": 25,
        "frame_end": -1,
        "frame_start": 1,
        "instance_id": 0,
        "signer_id": signer,
        "source": "aslbrick",
        "split": split,
        "url": "http://example.org/book.mp4",
        "variation_id": 0,
        "video_id": video_id,
    }


_ENTRIES = [
    {
        "gloss": "book",
        "instances": [instance("69241", signer=118), instance("07069", "val"), instance("07068", "test")],
    },
    {"gloss": "a lot", "instances": [instance("02123", "val")]},
    {"gloss": "drink", "instances": [instance("69302")]},
]


def write(root: Path, entries: object = _ENTRIES, name: str = "WLASL_v0.3.json") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries, indent=4))
    return path


def test_rows_of_the_first_glosses(tmp_path: Path, passes_check: Callable[[Iterable[Row]], None]) -> None:
    write(tmp_path)
    rows = read(tmp_path, glosses=2)
    assert rows[0] == Row(
        id="69241",
        split="train",
        poses="poses/69241.npz",
        text="book",
        language="en",
        sign_language="ase",
        video=str(tmp_path / "videos/69241.mp4"),
        signer="118",
        gloss="book",
    )
    assert [(row.id, row.split, row.gloss) for row in rows[1:]] == [
        ("07069", "dev", "book"),
        ("07068", "test", "book"),
        ("02123", "dev", "a lot"),
    ]
    passes_check(rows)


def test_the_repository_and_split_directories_are_known(tmp_path: Path) -> None:
    write(tmp_path, name="start_kit/WLASL_v0.3.json")
    assert read(tmp_path, glosses=3)[1].video == str(tmp_path / "start_kit/videos/07069.mp4")
    (tmp_path / "rgb_format").mkdir()
    assert read(tmp_path, glosses=3)[1].video == str(tmp_path / "rgb_format/val/07069.mp4")


def test_the_two_sizes_by_name(tmp_path: Path) -> None:
    write(tmp_path, [{"gloss": f"sign {n}", "instances": [instance(f"{n:05}")]} for n in range(2000)])
    assert len(reader("wlasl100")(tmp_path)) == 100
    assert len(reader("wlasl2000")(tmp_path)) == 2000


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no WLASL_v0\.3\.json or start_kit/WLASL_v0\.3\.json there; .*dxli94"):
        read(tmp_path, glosses=100)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([_ENTRIES[0], {"gloss": "x"}], "gloss 2: not a gloss"),
        ([_ENTRIES[0], {"gloss": "x", "instances": [instance("1", "validation")]}], "gloss 2: not a gloss"),
        ([_ENTRIES[0], {"gloss": "x", "instances": [instance("../1")]}], "gloss 2: '../1' cannot name"),
        ([_ENTRIES[0]], "not a list of 2 or more glosses"),
        ({"gloss": "x"}, "not a list of 2"),
    ],
)
def test_a_broken_record_is_named(tmp_path: Path, entries: object, message: str) -> None:
    write(tmp_path, entries)
    with pytest.raises(InputError, match=rf"WLASL_v0\.3\.json: {message}"):
        read(tmp_path, glosses=2)


def test_a_cut_off_file_is_an_input_error(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text()[:200])
    with pytest.raises(InputError, match=r"WLASL_v0\.3\.json: not JSON"):
        read(tmp_path, glosses=2)
