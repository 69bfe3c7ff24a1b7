"""Translations as SubRip and WebVTT cues."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from signet_runtime.outputs.words import words

if TYPE_CHECKING:
    from signet_runtime.translation import Translation


class Subtitles:
    """A subtitle file that is written cue by cue.

    Args:
        form: "srt" (SubRip) or "vtt" (WebVTT).
    """

    one_input = True

    def __init__(self, form: str) -> None:
        self._form = form
        self._head = "WEBVTT\n\n" if form == "vtt" else ""
        self._numbers = count(1)
        self._parting = ""

    def cue(self, translation: Translation) -> str:
        """Return what the next cue adds to the file; a translation without text has none."""
        head, self._head = self._head, ""
        text = _line(translation.text)
        if not text:
            return head
        parting, self._parting = self._parting, "\n"
        if self._form == "vtt":
            times = f"{_clock(translation.start, '.')} --> {_clock(translation.end, '.')}"
            return f"{head}{parting}{times}\n{_as_they_are_read(translation) or _escape(text)}\n"
        times = f"{_clock(translation.start, ',')} --> {_clock(translation.end, ',')}"
        return f"{parting}{next(self._numbers)}\n{times}\n{text}\n"

    def add(self, source: str, translation: Translation) -> str | None:
        """Return the cue of a sentence; there is none before it is complete."""
        return self.cue(translation) if translation.complete else None

    def fail(self, source: str, message: str, *, alone: bool) -> str | None:
        """Return None: a subtitle file has no place for what failed."""
        return None

    def end(self) -> str | None:
        """Return None: everything was written when it came."""
        return None


def _clock(seconds: float, mark: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}{mark}{milliseconds % 1000:03}"


def _as_they_are_read(translation: Translation) -> str | None:
    """Write a cue in which words appear as they are read, each once all before it have; None without their times."""
    shown, latest = [], translation.start
    for word in words(translation.pieces):
        text = _escape(_line(word.text))
        # A time stands between two others of the cue, or players leave it out.
        if latest < word.start < translation.end:
            latest = word.start
            text = f"<{_clock(latest, '.')}>{text}"
        shown.append(text)
    return " ".join(shown) or None


def _line(text: str) -> str:
    # A blank line would end the cue, an arrow would begin its times.
    return " ".join(text.split()).replace("-->", "->")


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
