"""PHOENIX-2014-T's release, and the label files of GFSLT-VLP, become rows."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from signet_runtime.errors import InputError
from signet_train.data.datasets import reader
from signet_train.data.manifest import Row

read = reader("phoenix14t")

_HEADER = "name|video|start|end|speaker|orth|translation\n"
_LINES = {
    "train": "11August_2010_Wednesday_tagesschau-1|11August_2010_Wednesday_tagesschau-1/1/*.png|-1|-1|Signer08|"
    "JETZT WETTER MORGEN DONNERSTAG ZWOELF FEBRUAR|und nun die wettervorhersage für morgen .\n"
    "11August_2010_Wednesday_tagesschau-4|11August_2010_Wednesday_tagesschau-4/1/*.png|-1|-1|Signer01|"
    '|er sagt " nein \n',
    "dev": "11August_2010_Wednesday_tagesschau-2|11August_2010_Wednesday_tagesschau-2/1/*.png|-1|-1|Signer08|"
    "DRUCK TIEF KOMMEN|tiefer luftdruck bestimmt in den nächsten tagen unser wetter\n",
    "test": "25October_2010_Monday_tagesschau-17|25October_2010_Monday_tagesschau-17/1/*.png|-1|-1|Signer01|"
    "REGEN SCHNEE REGION|regen und schnee lassen nach\n",
}


def release(root: Path, below: str = "PHOENIX-2014-T-release-v3/PHOENIX-2014-T") -> Path:
    manual = root / below / "annotations" / "manual"
    manual.mkdir(parents=True)
    for split, lines in _LINES.items():
        (manual / f"PHOENIX-2014-T.{split}.corpus.csv").write_text(_HEADER + lines, encoding="utf-8")
    return root / below


@pytest.mark.parametrize("below", ["PHOENIX-2014-T-release-v3/PHOENIX-2014-T", "PHOENIX-2014-T", "."])
def test_rows_of_the_release(tmp_path: Path, below: str, passes_check: Callable[[Iterable[Row]], None]) -> None:
    corpus = release(tmp_path, below)
    rows = read(tmp_path)
    assert [row.split for row in rows] == ["train", "train", "dev", "test"]
    assert rows[2] == Row(
        id="11August_2010_Wednesday_tagesschau-2",
        split="dev",
        poses="poses/11August_2010_Wednesday_tagesschau-2.npz",
        text="tiefer luftdruck bestimmt in den nächsten tagen unser wetter",
        language="de",
        sign_language="gsg",
        video=str(corpus / "features/fullFrame-210x260px/dev/11August_2010_Wednesday_tagesschau-2"),
        fps=25.0,
        signer="Signer08",
        gloss="DRUCK TIEF KOMMEN",
    )
    assert rows[1].text == 'er sagt " nein'  # a quote quotes nothing
    assert rows[1].gloss is None
    passes_check(rows)


def test_frames_that_were_repacked_one_directory_deeper_are_found(tmp_path: Path) -> None:
    frames = release(tmp_path) / "features/fullFrame-210x260px/dev/11August_2010_Wednesday_tagesschau-2/1"
    frames.mkdir(parents=True)
    assert read(tmp_path)[2].video == str(frames)


def test_a_relative_root_gives_absolute_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert read(Path())[0].video == read(tmp_path)[0].video


def label_files(root: Path) -> None:
    for split, name in (("train", "a-1"), ("dev", "b-2"), ("test", "c-3")):
        label = {"name": f"{split}/{name}", "gloss": "REGEN KOMMEN", "text": "es regnet", "length": 2, "imgs_path": []}
        (root / f"labels.{split}").write_bytes(gzip.compress(pickle.dumps({label["name"]: label})))


def test_label_files_are_read_where_there_is_no_release(tmp_path: Path) -> None:
    label_files(tmp_path)
    rows = read(tmp_path)
    assert [(row.id, row.split, row.text, row.gloss) for row in rows] == [
        ("a-1", "train", "es regnet", "REGEN KOMMEN"),
        ("b-2", "dev", "es regnet", "REGEN KOMMEN"),
        ("c-3", "test", "es regnet", "REGEN KOMMEN"),
    ]
    release(tmp_path)
    assert len(read(tmp_path)) == 4  # the release is the authority


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no .*PHOENIX-2014-T\.train\.corpus\.csv there; it is part of the release"):
        read(tmp_path)
    (release(tmp_path) / "annotations/manual/PHOENIX-2014-T.test.corpus.csv").unlink()
    with pytest.raises(InputError, match=r"PHOENIX-2014-T\.test\.corpus\.csv"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name;orth;translation\n", r"line 1: no column speaker"),
        (_HEADER + "a|a/1/*.png|-1|-1|Signer01|GLOSS\n", r"line 2: 6 fields where the header has 7"),
        (_HEADER + "../a|a/1/*.png|-1|-1|Signer01|GLOSS|text\n", r"line 2: '\.\./a' cannot name"),
        ("", r"line 1: no column name"),
    ],
)
def test_a_broken_csv_is_named_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    path = release(tmp_path) / "annotations/manual/PHOENIX-2014-T.dev.corpus.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=rf"PHOENIX-2014-T\.dev\.corpus\.csv: {message}"):
        read(tmp_path)


def test_another_encoding_is_an_input_error(tmp_path: Path) -> None:
    path = release(tmp_path) / "annotations/manual/PHOENIX-2014-T.dev.corpus.csv"
    path.write_text(_HEADER + _LINES["dev"], encoding="latin-1")
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path)


@pytest.mark.parametrize("content", [[1], {"dev/b": {"name": "dev/b"}}, {"dev/b": 3}, {"x": {"name": 1}}])
def test_a_broken_label_file_is_named_with_its_record(tmp_path: Path, content: object) -> None:
    label_files(tmp_path)
    (tmp_path / "labels.dev").write_bytes(gzip.compress(pickle.dumps(content)))
    with pytest.raises(InputError, match=r"labels\.dev: '.*': not a label"):
        read(tmp_path)
