"""People's own tables of recordings: in whatever encoding a spreadsheet left them, with columns called as they like."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import langcodes
from charset_normalizer import from_bytes

from signet_runtime.boundary import read_bounded
from signet_runtime.errors import InputError
from signet_train.data.datasets.annotations import read_text

logger = logging.getLogger("signet_runtime")

# What a column may be called, by what it means. As they stand, and without case, accents, spaces and dashes.
_NAMES: dict[str, tuple[str, ...]] = {
    "file_name": ("filename", "video", "video_path", "video_file", "videofile", "file", "path", "filepath", "clip",
                  "datei"),
    "text": ("sentence", "translation", "caption", "transcript", "transcription", "satz", "ubersetzung",
             "text_translation",
             "uebersetzung", "句子", "文本", "翻译"),
    "gloss": ("glosses", "glosse", "glossen", "sign", "label"),
    "signer": ("signer_id", "speaker", "speaker_id", "person", "participant", "subject"),
    "split": ("subset", "partition", "set"),
    "language": ("lang", "text_language", "spoken_language", "sprache"),
    "sign_language": ("signlanguage", "signed_language", "sl", "gebardensprache"),
    "start": ("start_time", "begin", "from", "start_s"),
    "end": ("end_time", "stop", "to", "end_s"),
    "id": ("name", "key", "uid"),
}  # fmt: skip

# What Windows writes a language in that is not said to be UTF-8, by its script, or by itself.
_PAGES = {"Cyrl": "cp1251", "Grek": "cp1253", "Hans": "gb18030", "Hant": "big5", "Jpan": "cp932", "Kore": "cp949"}
_PAGES |= dict.fromkeys(("pl", "cs", "sk", "hu", "sl", "hr", "ro", "sq", "bs"), "cp1250") | {"tr": "cp1254"}
_PAGES |= {"Hebr": "cp1255", "Arab": "cp1256", "Thai": "cp874"}


def meanings(header: Sequence[str], asked: Mapping[str, str]) -> dict[str, str]:
    """Return what columns mean, by their names; a column by its own name comes before one by a similar name.

    Args:
        asked: names of columns by their meaning, as somebody said them.

    Raises:
        InputError: a column that was asked for is not there, or there is no such meaning.
    """
    there = ", ".join(header)
    found = {}
    for meaning, name in asked.items():
        if meaning not in _NAMES:
            raise InputError(f"no column means {meaning!r}; there are {', '.join(_NAMES)}")
        if name not in header:
            raise InputError(f"no column {name!r}; the table has {there}")
        found[name] = meaning
    for exact in (True, False):
        for meaning, names in _NAMES.items():
            if meaning in found.values():
                continue
            wanted = (meaning,) if exact else names
            likeliest_first = (column for name in wanted for column in header if _plain(column) == name)
            match = next((column for column in likeliest_first if column not in found), None)
            if match is not None:
                found[match] = meaning
    return found


def _plain(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name.strip().casefold())
    return re.sub(r"[\s-]+", "_", "".join(c for c in letters if not unicodedata.combining(c)))


def any_text(path: Path, encoding: str | None, language: str | None) -> str:
    """Return a text file, in ``encoding``; where none is said in UTF-8, or else in what it seems to be, which is said.

    Args:
        language: of the text, if it is known; it tells what Windows would have written.

    Raises:
        InputError: not text in that encoding, or in any; not readable.
    """
    try:
        if encoding is not None:
            return read_bounded(path, "table_bytes", InputError, "a text").decode(encoding)
        return read_text(path, "table_bytes")
    except LookupError:
        raise InputError(f"{path}: {encoding!r} is no encoding that is known; take utf-8, cp1252 or gb18030") from None
    except UnicodeError as error:
        if encoding is not None:
            raise InputError(f"{path}: is not in {encoding} ({error})") from None
    content = read_bounded(path, "table_bytes", InputError, "a text")
    guess, text = _guessed(content, language)
    if guess is None or text is None:
        raise InputError(f"{path}: cannot be read as text in any encoding; save it as UTF-8")
    strange = re.search(r"\S*[^\x00-\x7f]\S*", text)
    logger.warning(
        "%s: is not UTF-8; read as %s, in which it says %r: if that is wrong, say --encoding, or save it as UTF-8",
        path,
        guess,
        strange[0] if strange else "",
    )
    return text


def _guessed(content: bytes, language: str | None) -> tuple[str | None, str | None]:
    page = None
    if language is not None and langcodes.tag_is_valid(language):
        tag = langcodes.Language.get(language).maximize()
        page = _PAGES.get(tag.language or "") or _PAGES.get(tag.script or "", "cp1252")
    best = from_bytes(content, cp_isolation=[*dict.fromkeys(_PAGES.values()), "cp1252"]).best()
    for name in (page, best.encoding if best is not None else None):
        if name is not None:
            try:
                return name, content.decode(name)
            except UnicodeDecodeError:
                continue
    return None, None
