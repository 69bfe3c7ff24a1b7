"""Caption and subtitle files, WebVTT and SubRip, as cues of plain text.

FFmpeg reads both, but leaves out, without a word, whatever follows a damaged cue; here that is an error.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path

from signet_runtime.boundary import reading
from signet_runtime.errors import InputError
from signet_train.data.datasets.annotations import read_text

CAPTION_SUFFIXES = {".srt", ".vtt"}

_TIME = r"(?:([0-9]{1,6}):\s*)?([0-5]?[0-9]):\s*([0-5]?[0-9])(?:\s*[.,]\s*([0-9]{3}))?"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?")
_WORD_TIME = re.compile(r"<(?:[0-9]+:)?[0-9]{2}:[0-9]{2}\.[0-9]{3}>")
_TAG = re.compile(rf"</?[A-Za-z][^<>]*>|{_WORD_TIME.pattern}|{{\\[^{{}}]*}}|{{/?[A-Za-z](?::[^{{}}]*)?}}")
_BREAK = re.compile(r"\\[Nh]")  # of SubStation Alpha, which SubRip is made of
_BLOCK = re.compile(r"(NOTE|STYLE|REGION)\b")
_INVISIBLE = re.compile("[\u200b\u200e\u200f\ufeff]")  # zero-width space, direction marks, byte order mark


@dataclass(frozen=True, slots=True)
class Cue:
    """``text``, on one line, shown from ``start`` to ``end`` (seconds)."""

    start: float
    end: float
    text: str


def read_captions(path: Path) -> list[Cue]:
    r"""Return the cues of a ``.vtt`` or ``.srt`` file, in UTF-8 or UTF-16, by time.

    The line between two cues may be blank rather than empty, or missing before a cue's number.

    Lines of a cue are joined by a space; tags (``<i>``, ``<c.yellow>``, ``<v Name>``, ``{\an8}``) are removed, entities
    (``&amp;``) and breaks (``\N``) resolved. Cues of the same times are one cue, as they are one picture on the screen.
    Cues without text, or that last no time, are left out. Where words are timed within cues (YouTube rolls captions so)
    each cue also repeats lines of the one before it: the repetition is left out.

    Raises:
        InputError: not readable, in another encoding, not WebVTT, without any cue where there is text, or
            the times of a cue are malformed (named by their line).
    """
    try:
        content = read_text(path)
    except UnicodeDecodeError:
        raise InputError(f"{path}: captions must be UTF-8 text; convert the file") from None
    subrip = path.suffix.lower() != ".vtt"
    if not subrip and not content.startswith("WEBVTT"):
        raise InputError(f"{path}: line 1: not WebVTT, which starts with WEBVTT")
    cues: list[tuple[float, float, list[str]]] = []
    inside = False
    for number, line in enumerate(content.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        if "-->" in line:
            times = _TIMES.fullmatch(line)
            if times is None:
                raise InputError(f"{path}: line {number}: {line.strip()!r} is not a cue's start --> end")
            if inside:
                _drop_number(cues[-1][2], subrip)
            cues.append((_seconds(times.groups()[:4]), _seconds(times.groups()[4:]), []))
            inside = True
        elif not line or (inside and _BLOCK.match(line) and cues[-1][2] and not cues[-1][2][-1].strip()):
            inside = False
        elif inside:  # and not a header, a note, a style, or a cue's number
            cues[-1][2].append(line)
    if subrip and not cues and content.strip():
        raise InputError(f"{path}: no cue in it, a line with start --> end and its text")
    with reading(path, InputError, "captions"):  # a character reference may be none
        found = _plain(cues)
        "".join(cue.text for cue in found).encode()  # or that of half a character
        return found


def _drop_number(lines: list[str], subrip: bool) -> None:
    """Take from a cue what names the next one, where the line between them is not empty, or is not there at all."""
    after_blank = len(lines) > 1 and not lines[-2].strip()
    if lines and lines[-1].strip() and (after_blank or (subrip and lines[-1].strip().isdecimal())):
        lines.pop()


def _seconds(groups: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, milliseconds = (int(group or 0) for group in groups)
    return (((hours * 60 + minutes) * 60 + seconds) * 1000 + milliseconds) / 1000


def _plain(cues: list[tuple[float, float, list[str]]]) -> list[Cue]:
    rolling = any(_WORD_TIME.search(line) for *_, lines in cues for line in lines)
    texts: dict[tuple[float, float], list[str]] = {}
    shown: list[str] = []
    for start, end, raw in cues:
        lines = [line for line in map(_clean, raw) if line]
        new = [line for line in lines if not (rolling and line in shown)]
        shown = lines
        text = " ".join(new)
        if text and start < end and text not in texts.setdefault((start, end), []):
            texts[start, end].append(text)
    return [Cue(start, end, " ".join(parts)) for (start, end), parts in sorted(texts.items())]


def _clean(line: str) -> str:
    return " ".join(_INVISIBLE.sub("", html.unescape(_BREAK.sub(" ", _TAG.sub("", line)))).split())
