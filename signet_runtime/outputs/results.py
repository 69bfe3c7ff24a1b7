"""Translations as they come, in the format that was asked for, on stdout or in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from signet_runtime.errors import OutputError
from signet_runtime.files import GrowingFile, reporting
from signet_runtime.outputs.json_lines import error_to_json, to_json
from signet_runtime.outputs.subtitles import Subtitles

if TYPE_CHECKING:
    from signet_runtime.errors import SignetError
    from signet_runtime.translator import Translation

FORMATS = ("text", "json", "srt", "vtt")


class Results:
    """Where translations go, each as soon as there is one.

    Args:
        form: one of `FORMATS`.
        to: standard output, or a file.

    Attributes:
        broken: whether something could not be written, and nothing more can be.

    Raises:
        OutputError: what is given to it cannot be written.
    """

    def __init__(self, form: str, to: TextIO | GrowingFile) -> None:
        self._form, self._to = form, to
        self.broken = False
        self._subtitles = Subtitles(form) if form in ("srt", "vtt") else None

    def add(self, source: str, translation: Translation) -> None:
        """Write a sentence that ``source`` says; what there is of one that still goes on is for JSON only."""
        if self._form == "json":
            self._write(to_json(source, translation) + "\n")
        elif not translation.complete:
            return
        elif self._subtitles is not None:
            self._write(self._subtitles.cue(translation))
        else:
            self._write(" ".join(translation.text.split()) + "\n")

    def fail(self, source: str, problem: SignetError, *, alone: bool) -> None:
        """Write that ``source`` cannot be translated; an empty line keeps texts by their inputs, unless it is alone."""
        if self._form == "json":
            self._write(error_to_json(source, str(problem)) + "\n")
        elif not alone:
            self._write("\n")

    def _write(self, text: str) -> None:
        try:
            if isinstance(self._to, GrowingFile):
                self._to.write(text)
                return
            with reporting("standard output"):
                self._to.write(text)
                self._to.flush()
        except OutputError:
            self.broken = True
            raise
