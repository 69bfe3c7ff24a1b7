from __future__ import annotations

import csv
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from signet_runtime.errors import InputError
from signet_train.data.datasets.splits import hash_split
from signet_train.data.datasets.videos import read
from signet_train.data.manifest import Row


def table(root: Path, *lines: dict[str, str], encoding: str = "utf-8") -> Path:
    columns = list(dict.fromkeys(column for line in lines for column in line))
    with (root / "metadata.csv").open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(lines)
    return root


def test_every_column_of_the_table_is_used(tmp_path: Path, passes_check: Callable[[Iterable[Row]], None]) -> None:
    table(
        tmp_path,
        {
            "file_name": "clips/01.mp4",
            "text": 'Er sagte: "Grüß dich, du!"',
            "split": "dev",
            "language": "de",
            "sign_language": "gsg",
            "signer": "Anna",
            "gloss": "GRUSS  DU",
            "start": "1.5",
            "end": "3",
            "id": "first",
            "weather": "sunny",
        },
        {"file_name": "clips/02.mp4", "text": "Ja.", "split": "my-own", "language": "de", "sign_language": "gsg"},
        encoding="utf-8-sig",  # as Excel writes it
    )
    first, second = read(tmp_path)
    assert first == Row(
        id="first",
        split="dev",
        poses="poses/first.npz",
        text='Er sagte: "Grüß dich, du!"',
        language="de",
        sign_language="gsg",
        video=str(tmp_path / "clips" / "01.mp4"),
        start=1.5,
        end=3.0,
        signer="Anna",
        gloss="GRUSS DU",
    )
    assert (second.id, second.split, second.start, second.signer, second.gloss) == (
        "clips-02",
        "my-own",
        None,
        None,
        None,
    )
    passes_check([first, second])


def test_several_sentences_in_a_video_have_ids_of_their_own(tmp_path: Path) -> None:
    table(tmp_path, *({"file_name": "a.mp4", "text": "x", "start": s, "end": e} for s, e in (("", "1"), ("1", "2.25"))))
    assert [row.id for row in read(tmp_path, "en", "ase")] == ["a-1000", "a-1000-2250"]


def test_what_the_table_does_not_say_is_given(tmp_path: Path) -> None:
    table(
        tmp_path,
        {"file_name": "a.mp4", "text": "x", "language": ""},
        {"file_name": "b.mp4", "text": "y"} | {"language": "de"},
    )
    rows = read(tmp_path, language="en", sign_language="ase")
    assert [(row.language, row.sign_language) for row in rows] == [("en", "ase"), ("de", "ase")]
    with pytest.raises(InputError, match=r"line 2: no sign_language .*give --sign-language"):
        read(tmp_path, language="en")
    with pytest.raises(InputError, match=r"line 2: no language .*give --language"):
        read(tmp_path, sign_language="ase")


def test_splits_without_a_column(tmp_path: Path) -> None:
    names = ["validation/a.mp4", "val/b.mp4", "test/c.mp4", "train/d.mp4"]
    table(tmp_path, *({"file_name": name, "text": "x"} for name in names))
    assert [row.split for row in read(tmp_path, "en", "ase")] == ["dev", "dev", "test", "train"]
    lines = [{"file_name": f"clips/{i}.mp4", "text": "x", "signer": f"s{i % 50}"} for i in range(500)]
    rows = read(table(tmp_path, *lines), "en", "ase")
    assert set(Counter(row.split for row in rows)) == {"train", "dev", "test"}
    assert all(row.split == hash_split(row.signer or "", percent=10) for row in rows)


def test_a_text_file_beside_each_video(tmp_path: Path) -> None:
    for name, text in {"train/a": "Hello\nworld\n", "dev/b": "\ufeffÇa va?"}.items():
        path = tmp_path / f"{name}.MOV"
        path.parent.mkdir()
        path.touch()
        path.with_suffix(".txt").write_text(text, encoding="utf-8")
    (tmp_path / "README.txt").write_text("not a sentence")
    rows = {row.id: row for row in read(tmp_path, "en", "ase")}
    assert {name: (row.split, row.text) for name, row in rows.items()} == {
        "train-a": ("train", "Hello world"),
        "dev-b": ("dev", "Ça va?"),
    }
    assert rows["train-a"].video == str(tmp_path / "train" / "a.MOV")


def test_linked_directories_are_followed_once(tmp_path: Path) -> None:
    videos, root = tmp_path / "disk", tmp_path / "root"
    videos.mkdir()
    root.mkdir()
    (videos / "a.mp4").touch()
    (videos / "a.txt").write_text("x")
    (videos / "loop").symlink_to(videos)
    (root / "clips").symlink_to(videos)
    assert [row.id for row in read(root, "en", "ase")] == ["clips-a"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"text": ""}, "no text"),
        ({"file_name": ""}, "file_name .* is not a file in the folder"),
        ({"file_name": "../a.mp4"}, "file_name .* is not a file in the folder"),
        ({"file_name": "/a.mp4"}, "file_name .* is not a file in the folder"),
        ({"start": "one"}, "start: 'one' is not seconds"),
        ({"end": "nan"}, "end: 'nan' is not a time"),
        ({"start": "-1"}, "start: '-1' is not a time"),
        ({"start": "2", "end": "2"}, "ends at 2.0 s, before it starts"),
        ({"id": "a/b"}, "cannot name a clip"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: dict[str, str], message: str) -> None:
    good = {"file_name": "a.mp4", "text": "x", "start": "", "end": "", "id": ""}
    table(tmp_path, good, {**good, **line})
    with pytest.raises(InputError, match=rf"metadata\.csv: line 3: .*{message}"):
        read(tmp_path, "en", "ase")


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no metadata\.csv .* and no videos"):
        read(tmp_path, "en", "ase")
    (tmp_path / "a.mp4").touch()
    with pytest.raises(InputError, match=r"a\.txt: no such file; it should say what is signed in a\.mp4"):
        read(tmp_path, "en", "ase")
    (tmp_path / "a.txt").write_bytes("ä".encode("latin-1"))
    with pytest.raises(InputError, match=r"a\.txt: not UTF-8"):
        read(tmp_path, "en", "ase")
    (tmp_path / "a.txt").write_text(" \n")
    with pytest.raises(InputError, match=r"a\.mp4: no text"):
        read(tmp_path, "en", "ase")
    (tmp_path / "metadata.csv").write_text("file_name,words\na.mp4,x\n")
    with pytest.raises(InputError, match=r"metadata\.csv: line 1: no column text"):
        read(tmp_path, "en", "ase")
    (tmp_path / "metadata.csv").write_text("file_name,text\na.mp4,Hello, world\n")
    with pytest.raises(InputError, match=r"metadata\.csv: line 2: 3 fields where the header has 2"):
        read(tmp_path, "en", "ase")


def test_what_a_mac_puts_beside_a_file_is_none(tmp_path: Path) -> None:
    for name in ("a.mp4", "._a.mp4", "__MACOSX/a.mp4", ".Trashes/b.mp4"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "._a.txt").write_bytes(b"\0\5\x16\7")
    assert [row.id for row in read(tmp_path, "en", "ase")] == ["a"]


def test_letters_with_marks_are_found_however_they_are_composed(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "Grüße") for form in ("NFC", "NFD"))
    (tmp_path / f"{apart}.mp4").touch()
    table(tmp_path, {"file_name": f"{composed}.mp4", "text": "x"})
    (row,) = read(tmp_path, "de", "gsg")
    assert (row.id, row.video) == (composed, str(tmp_path / f"{apart}.mp4"))
    (tmp_path / "metadata.csv").unlink()
    (tmp_path / f"{composed}.txt").write_text("y")
    (row,) = read(tmp_path, "de", "gsg")
    assert (row.id, row.text) == (composed, "y")


def test_splits_are_known_in_any_case_of_letters(tmp_path: Path) -> None:
    table(tmp_path, *({"file_name": f"{s}.mp4", "text": "x", "split": s} for s in ("Train", "VAL", "Test", "Mine")))
    assert [row.split for row in read(tmp_path, "en", "ase")] == ["train", "dev", "test", "Mine"]
    table(tmp_path, {"file_name": "Dev/a.mp4", "text": "x"})
    assert [row.split for row in read(tmp_path, "en", "ase")] == ["dev"]


@pytest.mark.parametrize("suffix", ["mts", "wmv", "3gp", "gif", "mp4", "TS", "flv", "ogv", "m2ts", "mxf"])
def test_every_recording_that_can_be_translated_is_a_row(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.{suffix}").touch()
    (tmp_path / "a.txt").write_text("x")
    assert [row.id for row in read(tmp_path, "en", "ase")] == ["a"]


def test_a_table_from_a_spreadsheet_with_decimal_commas(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file_name;text;start\na.mp4;Hallo;1,5\n;;\n", encoding="utf-8-sig")
    assert [(row.text, row.start) for row in read(tmp_path, "de", "gsg")] == [("Hallo", 1.5)]


def test_folders_and_suffixes_as_windows_and_cameras_write_them(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for name in ("clips/a.MP4", "clips/b.mts"):
        (tmp_path / name).touch()
        (tmp_path / name).with_suffix(".TXT").write_text("Hello")
    assert [(row.id, row.text) for row in read(tmp_path, "en", "ase")] == [("clips-a", "Hello"), ("clips-b", "Hello")]
    (tmp_path / "metadata.csv").write_text("file_name,text\nclips\\a.mp4,Hi\nclips\\..\\b.mts,Ho\n")
    with pytest.raises(InputError, match=r"line 3: file_name .* is not a file in the folder"):
        read(tmp_path, "en", "ase")
    (tmp_path / "metadata.csv").write_text("file_name,text\nclips\\a.mp4,Hi\n")
    (row,) = read(tmp_path, "en", "ase")
    assert (row.id, Path(row.video or "").resolve()) == ("clips-a", (tmp_path / "clips" / "a.MP4").resolve())


def test_a_video_without_its_text_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, text in (("a", None), ("b", "Hello"), ("c", ""), ("d", "You")):
        (tmp_path / f"{name}.mp4").touch()
        if text is not None:
            (tmp_path / f"{name}.txt").write_text(text)
    assert [row.text for row in read(tmp_path, "en", "ase")] == ["Hello", "You"]
    assert [record.getMessage().split(": ")[2] for record in caplog.records] == [
        "no such file; it should say what is signed in a.mp4",
        "no text; it should say what is signed in c.mp4",
    ]
