"""CSL-News' list becomes rows, and a day's news stays in one split."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from signet_runtime.errors import InputError
from signet_train.data.datasets import reader
from signet_train.data.manifest import Row

read = reader("csl-news")


def record(stem: str, text: str = "共同关注。") -> dict[str, str]:
    return {"video": f"{stem}.mp4", "pose": f"{stem}.pkl", "text": text}


def write(root: Path, records: object, name: str = "CSL_News_Labels.json") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")


@pytest.mark.parametrize("name", ["CSL_News_Labels.json", "data/train/CSL_News_Labels.json"])
def test_rows_of_the_list(tmp_path: Path, name: str, passes_check: Callable[[Iterable[Row]], None]) -> None:
    write(tmp_path, [record("Common-Concerns_20201113_0-287_14330"), record("x", " ")], name)
    assert read(tmp_path) == [
        Row(
            id="Common-Concerns_20201113_0-287_14330",
            split="train",
            poses="poses/Common-Concerns_20201113_0-287_14330.npz",
            text="共同关注。",
            language="zh",
            sign_language="csl",
            video=str(tmp_path / "rgb_format/Common-Concerns_20201113_0-287_14330.mp4"),
        )
    ]
    passes_check(read(tmp_path))


def test_a_day_is_in_one_split_and_two_hundredths_are_held_out(tmp_path: Path) -> None:
    days = [f"{year}{month:02}{day:02}" for year in range(2015, 2024) for month in range(1, 13) for day in range(1, 29)]
    names = [f"Common-Concerns_{day}_0-287_{n}" for n, day in enumerate(days)]
    names += [f"{day}_Dragon-TV__51012-51087_{n}" for n, day in enumerate(days)]
    write(tmp_path, [record(name) for name in names])
    rows = read(tmp_path)
    splits = defaultdict(set)
    for row, day in zip(rows, days + days, strict=True):
        splits[day].add(row.split)
    assert all(len(found) == 1 for found in splits.values())
    counts = Counter(row.split for row in rows)
    assert 0.005 < counts["dev"] / len(rows) < 0.015
    assert 0.005 < counts["test"] / len(rows) < 0.015
    assert read(tmp_path) == rows


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no CSL_News_Labels\.json or .* there; .*ZechengLi19/CSL-News"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([record("a"), {"video": "b.mp4", "text": "…"}], "record 2: not a record with video, pose and text"),
        ([{"video": "a.mp4", "pose": "a.pkl", "text": None}], "record 1: not a record"),
        ([{"video": "../a.mp4", "pose": "a.pkl", "text": "…"}], "record 1: '../a.mp4' cannot name"),
        ({"a": record("a")}, "not a list of records"),
    ],
)
def test_a_broken_record_is_named(tmp_path: Path, records: object, message: str) -> None:
    write(tmp_path, records)
    with pytest.raises(InputError, match=rf"CSL_News_Labels\.json: {message}"):
        read(tmp_path)
