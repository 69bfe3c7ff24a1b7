"""How2Sign's translations become rows: re-aligned ones of full videos, original ones of sentence clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from signet_runtime.errors import InputError
from signet_train.data.datasets import reader
from signet_train.data.manifest import Row

read = reader("how2sign")

_HEADER = "VIDEO_ID\tVIDEO_NAME\tSENTENCE_ID\tSENTENCE_NAME\tSTART_REALIGNED\tEND_REALIGNED\tSENTENCE\n"
_TRAIN = (
    "--7E2sU6zP4\t--7E2sU6zP4-5-rgb_front\t--7E2sU6zP4_10\t--7E2sU6zP4_10-5-rgb_front\t129.06\t137.11\t"
    "And I call them decorative elements.\n"
    "G19uBylwQww\tG19uBylwQww-10-rgb_front\tG19uBylwQww_13\tG19uBylwQww_13-10-rgb_front\t71.67\t85.0\t"
    '"""Oops, let\'s go""."\n'
)
_OTHER = "-fZc293MpJk\t-fZc293MpJk-1-rgb_front\t-fZc293MpJk_{0}\t-fZc293MpJk_{0}-1-rgb_front\t0.26\t6.79\tHi!\n"


def annotate(root: Path, name: str = "how2sign_realigned_{split}.csv", header: str = _HEADER) -> None:
    for split, lines in (("train", _TRAIN), ("val", _OTHER.format(1)), ("test", _OTHER.format(2))):
        path = root / name.format(split=split)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(header + lines, encoding="utf-8")


def test_rows_of_the_realigned_translation(tmp_path: Path, passes_check: Callable[[Iterable[Row]], None]) -> None:
    annotate(tmp_path)
    rows = read(tmp_path)
    assert [row.split for row in rows] == ["train", "train", "dev", "test"]
    assert rows[0] == Row(
        id="--7E2sU6zP4_10-5-rgb_front",
        split="train",
        poses="poses/--7E2sU6zP4_10-5-rgb_front.npz",
        text="And I call them decorative elements.",
        language="en",
        sign_language="ase",
        video=str(tmp_path / "video_level/train/rgb_front/raw_videos/--7E2sU6zP4-5-rgb_front.mp4"),
        start=129.06,
        end=137.11,
        signer="5",
    )
    assert rows[1].text == '"Oops, let\'s go".'
    assert rows[1].signer == "10"
    passes_check(rows)


def test_videos_are_taken_from_where_they_are(tmp_path: Path) -> None:
    annotate(tmp_path, "sentence_level/{split}/text/en/raw_text/re_aligned/how2sign_realigned_{split}.csv")
    (tmp_path / "raw_videos" / "val").mkdir(parents=True)
    videos = [Path(row.video or "").relative_to(tmp_path).parent for row in read(tmp_path)]
    assert videos[2:] == [Path("raw_videos/val"), Path("raw_videos")]


def test_the_original_translation_goes_with_sentence_clips(tmp_path: Path) -> None:
    header = _HEADER.replace("_REALIGNED", "")
    annotate(tmp_path, "how2sign_{split}.csv", header)
    row = read(tmp_path)[2]
    assert row.video == str(tmp_path / "val_rgb_front_clips/raw_videos/-fZc293MpJk_1-1-rgb_front.mp4")
    assert (row.start, row.end) == (None, None)
    annotate(tmp_path)
    assert read(tmp_path)[2].start == 0.26  # with both, the re-aligned one


def test_sentences_without_text_or_duration_are_left_out(tmp_path: Path) -> None:
    annotate(tmp_path)
    path = tmp_path / "how2sign_realigned_val.csv"
    line = _OTHER.format(3)
    path.write_text(_HEADER + line.replace("Hi!", "  ") + line.replace("6.79", "0.26") + _OTHER.format(4))
    assert [row.id for row in read(tmp_path) if row.split == "dev"] == ["-fZc293MpJk_4-1-rgb_front"]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no how2sign_realigned_train\.csv or .* there; .*how2sign\.github\.io"):
        read(tmp_path)
    annotate(tmp_path)
    (tmp_path / "how2sign_realigned_test.csv").unlink()
    with pytest.raises(InputError, match=r"no how2sign_realigned_test\.csv or"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_HEADER + _OTHER.format(1) + _OTHER.format(2).replace("6.79", "soon"), "line 3: START_REALIGNED and END_"),
        (_HEADER + _OTHER.format(1).replace("\tHi!", ""), "line 2: 6 fields where the header has 7"),
        (_HEADER + _OTHER.format(1).replace("Hi!", '"Hi!'), r"line \d: "),
        (_HEADER + _OTHER.format(1).replace("Hi!", '"Hi!\nYou."'), "line 3: a quoted field runs over several lines"),
        (_HEADER + _OTHER.format("1/2"), "line 2: .* cannot name a clip"),
        (_HEADER.replace("VIDEO_NAME", "NAME"), "line 1: no column VIDEO_NAME"),
    ],
)
def test_a_broken_csv_is_named_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    annotate(tmp_path)
    (tmp_path / "how2sign_realigned_val.csv").write_text(content)
    with pytest.raises(InputError, match=rf"how2sign_realigned_val\.csv: {message}"):
        read(tmp_path)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    annotate(tmp_path, header="\ufeff" + _HEADER.replace("VIDEO_ID\tVIDEO_NAME", "VIDEO_NAME\tVIDEO_ID"))
    assert len(read(tmp_path)) == 4
