"""People's own tables: in any encoding, with any separator, with columns of any usual name; faults are said at once."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from signet_runtime.errors import InputError
from signet_train.cli import main
from signet_train.data.datasets.tables import any_text, meanings
from signet_train.data.datasets.videos import read
from signet_train.data.languages import language_problem, sign_language_problem, sign_languages
from signet_train.data.manifest import read_manifest

GERMAN = {"clip1.mp4": "schöne Grüße", "clip2.mp4": "es schneit über Köln"}


def videos(root: Path, names: list[str]) -> None:
    for name in names:
        (root / name).touch()


def manifest(root: Path, table: str, *options: str) -> Result:
    arguments = ["manifest", "videos", str(root / table), "--out", str(root / "m.jsonl"), *options]
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize(
    ("encoding", "separator", "language", "texts"),
    [
        ("latin-1", ";", "de", GERMAN),
        ("cp1252", "\t", "fr", {"clip1.mp4": "l'été à Noël", "clip2.mp4": "ça coûte 3 €"}),
        ("gb18030", ",", "zh", {"clip1.mp4": "今天天气很好", "clip2.mp4": "我们去学校"}),
        ("cp1251", ";", "ru", {"clip1.mp4": "погода хорошая", "clip2.mp4": "идёт дождь"}),
        ("cp1250", ";", "pl", {"clip1.mp4": "żółw", "clip2.mp4": "przyjdź jutro"}),
        ("utf-16", "\t", "de", GERMAN),
        ("utf-8-sig", ",", "de", GERMAN),
    ],
)
def test_a_table_as_a_spreadsheet_left_it(
    tmp_path: Path,
    encoding: str,
    separator: str,
    language: str,
    texts: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    videos(tmp_path, list(texts))
    lines = [separator.join(("Video", "Sentence")), *(separator.join(pair) for pair in texts.items())]
    (tmp_path / "my sentences.csv").write_bytes("\r\n".join(lines).encode(encoding))
    with caplog.at_level(logging.WARNING, logger="signet_runtime"):
        result = manifest(tmp_path, "my sentences.csv", "--language", language, "--sign-language", "gsg")
    assert result.exit_code == 0, result.output
    assert [row.text for row in read_manifest(tmp_path / "m.jsonl").rows] == list(texts.values())
    assert ("is not UTF-8; read as" in caplog.text) == (not encoding.startswith("utf"))  # a guess is said


def test_an_encoding_that_is_said_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("żółw".encode("cp1250"))
    assert any_text(path, "cp1250", "de") == "żółw"
    with pytest.raises(InputError, match=r"t\.csv: is not in ascii"):
        any_text(path, "ascii", None)
    with pytest.raises(InputError, match="'nonsense' is no encoding that is known"):
        any_text(path, "nonsense", None)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (["File-Name", "TEXT"], {"File-Name": "file_name", "TEXT": "text"}),
        (["clip", "Übersetzung", "Signer ID"], {"clip": "file_name", "Übersetzung": "text", "Signer ID": "signer"}),
        (["path", "video", "text", "sentence"], {"video": "file_name", "text": "text"}),  # one each, the likelier
        (["id", "name", "file_name", "gloss"], {"id": "id", "file_name": "file_name", "gloss": "gloss"}),
    ],
)
def test_columns_are_known_by_their_names(header: list[str], found: dict[str, str]) -> None:
    assert meanings(header, {}) == found


def test_columns_of_other_names_are_asked_for_and_then_taken(tmp_path: Path) -> None:
    videos(tmp_path, ["a.mp4"])
    (tmp_path / "t.csv").write_text("file,was er sagt\na.mp4,Hallo\n")
    languages = ("--language", "de", "--sign-language", "gsg")
    missing = manifest(tmp_path, "t.csv", *languages)
    assert missing.exit_code == 3
    assert "no column text (what is signed), nor gloss; it has file_name, was er sagt. Say" in missing.stderr
    assert manifest(tmp_path, "t.csv", *languages, "--column", "text=was er sagt").exit_code == 0
    assert "no column 'nein'; the table has" in manifest(tmp_path, "t.csv", *languages, "--column", "text=nein").stderr
    assert "no column means 'satz'" in manifest(tmp_path, "t.csv", *languages, "--column", "satz=file").stderr
    assert manifest(tmp_path, "t.csv", *languages, "--column", "text").exit_code == 2


def test_recordings_that_are_not_there_are_named_at_once(tmp_path: Path) -> None:
    videos(tmp_path, ["a.mp4"])
    (tmp_path / "t.csv").write_text("file_name,text\n" + "".join(f"{name}.mp4,x\n" for name in "abcde"))
    result = manifest(tmp_path, "t.csv", "--language", "de", "--sign-language", "gsg")
    assert result.exit_code == 3 and not (tmp_path / "m.jsonl").exists()
    assert "4 of 5 recordings are not there: " in result.stderr and f"{tmp_path / 'b.mp4'}, " in result.stderr
    assert "d.mp4 and 1 more" in result.stderr


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--language", "german", "--sign-language", "gsg"), "is not a BCP 47 tag (de, en, zh): did you mean de?"),
        (("--language", "deutsch", "--sign-language", "gsg"), "did you mean de?"),
        (
            ("--language", "de", "--sign-language", "dgs"),
            "code of Dogoso, which is not a sign language: did you mean gsg",
        ),
        (("--language", "de", "--sign-language", "DGS"), "did you mean gsg (German Sign Language)?"),
        (("--language", "de", "--sign-language", "german"), "did you mean gsg (German Sign Language)"),
        (("--language", "gsg", "--sign-language", "gsg"), "is a sign language (German Sign Language)"),
        (("--language", "de", "--sign-language", "deu"), "code of German, which is not a sign language"),
    ],
)
def test_languages_that_are_none_are_said_with_what_may_be_meant(
    tmp_path: Path, options: tuple[str, ...], problem: str
) -> None:
    videos(tmp_path, ["a.mp4"])
    (tmp_path / "t.csv").write_text("file_name,text\na.mp4,x\n")
    result = manifest(tmp_path, "t.csv", *options)
    assert result.exit_code == 3 and problem in result.stderr, result.stderr


def test_every_sign_language_is_one_and_no_spoken_language_is() -> None:
    assert {"ase", "gsg", "bfi", "csl", "asf", "ise", "eso", "lls", "svk"} <= sign_languages().keys()
    assert all(sign_language_problem(code) is None for code in sign_languages())
    for code in ("eng", "deu", "zho", "fra", "xxx", "", "g", "gsgx"):
        assert sign_language_problem(code) is not None
    assert [language_problem(tag) for tag in ("de", "zh-Hant", "pt-BR", "und")] == [None] * 4


def test_a_gloss_does_without_a_text(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file_name,gloss\na.mp4,HOUSE\nb.mp4,CAT\n")
    rows = read(tmp_path, "en", "ase")
    assert [(row.gloss, row.text) for row in rows] == [("HOUSE", ""), ("CAT", "")]
    videos(tmp_path, ["a.mp4", "b.mp4"])
    assert manifest(tmp_path, "metadata.csv", "--language", "en", "--sign-language", "ase").exit_code == 0
    (tmp_path / "metadata.csv").write_text("file_name,gloss\na.mp4,\n")
    with pytest.raises(InputError, match=r"line 2: no text"):
        read(tmp_path, "en", "ase")


@pytest.mark.parametrize("seed", range(5))
def test_bytes_of_any_kind_end_in_a_table_or_in_one_line(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    (tmp_path / "t.csv").write_bytes(b"file_name,text\na.mp4," + rng.bytes(60) + b"\n")
    videos(tmp_path, ["a.mp4"])
    result = manifest(tmp_path, "t.csv", "--language", "de", "--sign-language", "gsg")
    assert result.exit_code in (0, 3), result.output
    assert "Traceback" not in result.output
