from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import langcodes
import pytest

from signet_runtime.errors import InputError
from signet_train.data.datasets import reader
from signet_train.data.datasets.youtube_sl25 import WRITTEN
from signet_train.data.manifest import Row

GERMAN, HEBREW, BRITISH, UNKNOWN = "aaaaaaaaaaa", "bbbbbbbbbbb", "ccccccccccc", "-dddddddddd"


def captions(text: str) -> str:
    return f"WEBVTT\n\n00:00:01.000 --> 00:00:02.500\n{text}\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    lines = [f"{GERMAN},gsg", f"{HEBREW},isr", f"{BRITISH},bfi", f"{UNKNOWN},???", "eeeeeeeeeee,vietnam"]
    (tmp_path / "youtube-sl-25-metadata.csv").write_text("\r\n".join(lines) + "\r\n")
    texts = {f"{GERMAN}.de": "Hallo", f"{GERMAN}.en": "Hello", f"{HEBREW}.iw": "שלום", f"{BRITISH}.fr": "Bonjour"}
    for name, text in {**texts, f"{UNKNOWN}.pt-BR": "Olá", "eeeeeeeeeee.vi": "Xin chào"}.items():
        (tmp_path / f"{name}.vtt").write_text(captions(text), encoding="utf-8")
    return tmp_path


def read(root: Path) -> dict[str, Row]:
    return {row.text: row for row in reader("youtube-sl-25")(root)}


def test_captions_are_read_in_the_language_of_where_it_is_signed(
    root: Path, passes_check: Callable[[Iterable[Row]], None]
) -> None:
    rows = read(root)
    assert {text: (row.sign_language, row.language) for text, row in rows.items()} == {
        "Hallo": ("gsg", "de"),
        "שלום": ("isr", "he"),  # which YouTube calls by its old code
        "Olá": ("und", "pt"),
        "Xin chào": ("und", "vi"),
    }  # British Sign Language's French captions are a translation
    assert (rows["Olá"].id, rows["Olá"].start, rows["Olá"].end) == (f"{UNKNOWN}-1000-2500", 1.0, 2.5)
    passes_check(rows.values())


def test_an_unknown_sign_language_with_captions_in_two_languages_is_left_out(root: Path) -> None:
    (root / f"{UNKNOWN}.en.vtt").write_text(captions("Hi"))
    assert "Olá" not in read(root) and "Hi" not in read(root)


def test_captions_tagged_with_the_sign_language_are_in_its_written_language(root: Path) -> None:
    (root / f"{GERMAN}.de.vtt").rename(root / f"{GERMAN}.gsg.vtt")
    assert read(root)["Hallo"].language == "de"


def test_written_languages_are_as_captions_are_compared() -> None:
    for languages in WRITTEN.values():
        assert languages
        assert [langcodes.standardize_tag(language) for language in languages] == languages


@pytest.mark.parametrize("line", ["aaaaaaaaaaa", "aaaaaaaaaaa,", "aaaaaaaaaaa,gsg,x", "video_id,language"])
def test_a_broken_line_is_named(root: Path, line: str) -> None:
    (root / "youtube-sl-25-metadata.csv").write_text(f"{GERMAN},gsg\n{line}\n")
    with pytest.raises(InputError, match=r"youtube-sl-25-metadata\.csv: line 2: "):
        read(root)


def test_a_missing_list_says_where_it_is_published(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no youtube-sl-25-metadata\.csv.*https://storage\.googleapis\.com"):
        read(tmp_path)
