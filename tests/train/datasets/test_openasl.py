from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from signet_runtime.errors import InputError
from signet_train.data.datasets import reader
from signet_train.data.manifest import Row

HEADER = "vid\tyid\tstart\tend\traw-text\ttokenized-text\tgloss\tsplit"
YID = "Mci9oyb5V2E"
VID = f"{YID}-00:00:05.333-00:01:11.166"


def line(text: str = "I am Ed, 67.", split: str = "train", start: str = "00:00:05.333", vid: str = VID) -> str:
    return f"{vid}\t{YID}\t{start}\t00:01:11.166\t{text}\ti am ed , 6 7 .\t\t{split}"


def table(root: Path, *lines: str) -> Path:
    (root / "data").mkdir(exist_ok=True)
    (root / "data" / "openasl-v1.0.tsv").write_text("\n".join((HEADER, *lines)) + "\n", encoding="utf-8")
    return root


def read(root: Path) -> list[Row]:
    return reader("openasl")(root)


def test_clips(tmp_path: Path, passes_check: Callable[[Iterable[Row]], None]) -> None:
    assert read(table(tmp_path, line())) == [
        Row(
            id=VID,
            split="train",
            poses=f"poses/{VID}.npz",
            text="I am Ed, 67.",
            language="en",
            sign_language="ase",
            video=str(tmp_path / "video-clip" / f"{VID}.mp4"),
        )
    ]
    passes_check(read(table(tmp_path, line())))


def test_raw_videos_are_used_where_there_are_no_clips(tmp_path: Path) -> None:
    table(tmp_path, line(), line(vid=f"{YID}-2"))
    raw, clip = tmp_path / "raw" / f"{YID}.mp4", tmp_path / "cut" / f"{YID}-2.mp4"
    for path in (raw, clip):
        path.parent.mkdir()
        path.touch()
    first, second = read(tmp_path)
    assert (first.video, first.start, first.end) == (str(raw), 5.333, 71.166)
    assert (second.video, second.start, second.end) == (str(clip), None, None)


def test_splits(tmp_path: Path) -> None:
    rows = read(table(tmp_path, *(line(split=split, vid=split) for split in ("train", "valid", "test"))))
    assert [row.split for row in rows] == ["train", "dev", "test"]


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ('The boy said, "Look!"', 'The boy said, "Look!"'),
        ('"The boy said, ""Look!"""', 'The boy said, "Look!"'),  # as CSV quotes it
        ('"Look!" he said.', '"Look!" he said.'),
        ('USA!"', 'USA!"'),
        (' "Wait', '"Wait'),
    ],
)
def test_a_quote_never_swallows_a_line(tmp_path: Path, field: str, text: str) -> None:
    assert [row.text for row in read(table(tmp_path, line(field), line("Next.", vid="next")))] == [text, "Next."]


def test_rows_without_text_are_left_out(tmp_path: Path) -> None:
    assert read(table(tmp_path, line(" "))) == []


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (line(split="training"), "split 'training' is none of"),
        (line(start="5.333"), "start: '5.333' is not hours:minutes:seconds"),
        (line(vid="a/b"), "cannot name a clip"),
        (line() + "\textra", "9 fields where the header has 8"),
        (f"{VID}\t{YID}", "2 fields where the header has 8"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, broken: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"openasl-v1\.0\.tsv: line 3: .*{message}"):
        read(table(tmp_path, line(), broken))


def test_a_missing_table_or_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no openasl-v1\.0\.tsv.*https://github\.com/chevalierNoir/OpenASL"):
        read(tmp_path)
    (tmp_path / "openasl-v1.0.tsv").write_text("vid\tyid\n")
    with pytest.raises(InputError, match="no column start"):
        read(tmp_path)
