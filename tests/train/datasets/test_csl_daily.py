"""CSL-Daily's annotations, and Uni-Sign's labels for it, become rows."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from signet_runtime.errors import InputError
from signet_train.data.datasets import reader
from signet_train.data.manifest import Row

read = reader("csl-daily")


def record(
    name: str, chars: str = "他是谁？", gloss: tuple[str, ...] = ("他", "谁"), signer: int = 3
) -> dict[str, Any]:
    return {
        "name": name,
        "length": 55,
        "label_gloss": list(gloss),
        "label_char": list(chars),
        "label_word": ["他", "是", "谁", "？"],
        "label_postag": ["r", "v", "v", "w"],
        "signer": signer,
        "time": 0,
    }


_RECORDS = [
    record("S000007_P0003_T00"),
    record("S000020_P0000_T00", "他今年四岁。", ("他", "今天", "年龄", "4"), 0),
    record("S001000_P0008_T00", "现在可以在ATM机上用。", ("现在", "ATM"), 8),
    record("S000020_P0004_T00", "他今年四岁。", ("他", "今天", "年龄", "4"), 4),
]
_SPLITS = (
    "name|split\nS000005_P0004_T00|train\nS000020_P0000_T00|dev\nS001000_P0008_T00|train\nS000020_P0004_T00|test\n"
)


def corpus(root: Path, records: object = None, splits: str = _SPLITS) -> Path:
    labels = root / "sentence_label"
    labels.mkdir()
    info = _RECORDS if records is None else records
    content = {"info": info, "gloss_map": ["他", "谁"], "char_map": ["他"], "word_map": ["他"], "postag_map": ["r"]}
    (labels / "csl2020ct_v2.pkl").write_bytes(pickle.dumps(content))
    (labels / "split_1.txt").write_text(splits, encoding="utf-8")
    return labels


def test_rows_of_the_corpus(tmp_path: Path, passes_check: Callable[[Iterable[Row]], None]) -> None:
    corpus(tmp_path)
    rows = {row.id: row for row in read(tmp_path)}
    assert {name: row.split for name, row in rows.items()} == {
        "S000007_P0003_T00": "train",  # split_1.txt lists S000005_P0004_T00 in its place
        "S000020_P0000_T00": "dev",
        "S001000_P0008_T00": "train",
        "S000020_P0004_T00": "test",
    }
    assert rows["S000020_P0000_T00"] == Row(
        id="S000020_P0000_T00",
        split="dev",
        poses="poses/S000020_P0000_T00.npz",
        text="他今年四岁。",
        language="zh",
        sign_language="csl",
        video=str(tmp_path / "sentence/frames_512x512/S000020_P0000_T00"),
        fps=30.0,
        signer="0",
        gloss="他 今天 年龄 4",
    )
    assert rows["S001000_P0008_T00"].text == "现在可以在ATM机上用。"
    passes_check(rows.values())


def test_the_table_is_read_without_the_pickle_and_says_the_same(tmp_path: Path) -> None:
    labels = corpus(tmp_path)
    pickled = read(tmp_path)
    (labels / "csl2020ct_v2.pkl").unlink()
    lines = ["index|name|length|gloss|char|word|postag"]
    for index, r in enumerate(_RECORDS):
        chars, words = " ".join(r["label_char"]), " ".join(r["label_word"])
        lines.append(f"{index}|{r['name']}|55|{' '.join(r['label_gloss'])}|{chars}|{words}|r v v w")
    (labels / "video_map.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    mapped = read(tmp_path)
    assert [(r.id, r.split, r.text, r.gloss) for r in mapped] == [(r.id, r.split, r.text, r.gloss) for r in pickled]
    assert all(row.signer is None for row in mapped)


def test_cropped_clips_are_taken_where_they_are(tmp_path: Path) -> None:
    corpus(tmp_path)
    (tmp_path / "sentence-crop").mkdir()
    row = read(tmp_path)[0]
    assert (row.video, row.fps) == (str(tmp_path / "sentence-crop/S000007_P0003_T00.mp4"), None)


def label_files(root: Path) -> None:
    for split, number in (("train", 0), ("dev", 1), ("test", 2)):
        name = f"S00000{number}_P0000_T00"
        label = {"name": name, "gloss": ["你们", "好"], "text": "你们好！", "video_path": f"{name}.mp4"}
        (root / f"labels.{split}").write_bytes(gzip.compress(pickle.dumps({name: label}, 4)))


def test_label_files_are_read_without_the_corpus(tmp_path: Path) -> None:
    label_files(tmp_path)
    assert [(r.id, r.split, r.text, r.gloss, r.signer) for r in read(tmp_path)] == [
        ("S000000_P0000_T00", "train", "你们好！", "你们 好", None),
        ("S000001_P0000_T00", "dev", "你们好！", "你们 好", None),
        ("S000002_P0000_T00", "test", "你们好！", "你们 好", None),
    ]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no sentence_label/csl2020ct_v2\.pkl or sentence_label/video_map\.txt there"):
        read(tmp_path)
    labels = corpus(tmp_path)
    (labels / "split_1.txt").unlink()
    with pytest.raises(InputError, match=r"no sentence_label/split_1\.txt there; it is part of CSL-Daily"):
        read(tmp_path)


def test_a_missing_label_file_is_named(tmp_path: Path) -> None:
    label_files(tmp_path)
    (tmp_path / "labels.test").unlink()
    with pytest.raises(InputError, match=r"no labels\.test there"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (_SPLITS.replace("dev", "val"), r"split_1\.txt: line 3: 'val' is not one of"),
        (_SPLITS + "S009999_P0000_T00|test\n", r"split_1\.txt: S009999_P0000_T00 is only there or only in csl2020ct"),
        (_SPLITS.replace("S000020_P0000_T00|dev\n", ""), r"split_1\.txt: S000020_P0000_T00 is only"),
        ("name split\n", r"split_1\.txt: line 1: no column name"),
    ],
)
def test_splits_that_do_not_fit_are_named(tmp_path: Path, splits: str, message: str) -> None:
    corpus(tmp_path, splits=splits)
    with pytest.raises(InputError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([*_RECORDS[:2], {"name": "x"}], r"record 3 of 'info': not a record"),
        ([record("a/b")], r"record 1 of 'info': 'a/b' cannot name"),
        ("none", r"has no list 'info'"),
        ([None], r"record 1 of 'info': not a record"),
    ],
)
def test_a_broken_annotation_is_named_with_its_record(tmp_path: Path, records: object, message: str) -> None:
    corpus(tmp_path, records)
    with pytest.raises(InputError, match=rf"csl2020ct_v2\.pkl: {message}"):
        read(tmp_path)


@pytest.mark.parametrize(("content", "message"), [({"n": {"name": "n"}}, "'n': not a label"), ([1], "not labels")])
def test_a_broken_label_file_is_named_with_its_record(tmp_path: Path, content: object, message: str) -> None:
    label_files(tmp_path)
    (tmp_path / "labels.dev").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=rf"labels\.dev: {message}"):
        read(tmp_path)
