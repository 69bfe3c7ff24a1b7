"""Translations as SubRip and WebVTT cues."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from signet_runtime.translator import Translation


def to_srt(translations: Iterable[Translation]) -> str:
    """SubRip; clips without text have no cue."""
    cues = [
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{_line(cue.text)}\n"
        for number, cue in enumerate((cue for cue in translations if _line(cue.text)), start=1)
    ]
    return "\n".join(cues)


def to_vtt(translations: Iterable[Translation]) -> str:
    """WebVTT; clips without text have no cue."""
    cues = [
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{_escape(_line(cue.text))}\n"
        for cue in translations
        if _line(cue.text)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _clock(seconds: float, mark: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}{mark}{milliseconds % 1000:03}"


def _line(text: str) -> str:
    # A blank line would end the cue, an arrow would begin its times.
    return " ".join(text.split()).replace("-->", "->")


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
