"""Translations as they come, in the format that was asked for, on stdout or in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from signet_runtime.errors import OutputError
from signet_runtime.files import GrowingFile, reporting
from signet_runtime.outputs.formats import FORMATS

if TYPE_CHECKING:
    from signet_runtime.errors import SignetError
    from signet_runtime.translator import Translation


class Results:
    """Where translations go, each as soon as there is one.

    Args:
        form: a name in `FORMATS`.
        to: standard output, or a file.

    Attributes:
        broken: whether something could not be written, and nothing more can be.

    Raises:
        OutputError: what is given to it cannot be written.
    """

    def __init__(self, form: str, to: TextIO | GrowingFile) -> None:
        self._format, self._to = FORMATS[form](), to
        self.broken = False

    def add(self, source: str, translation: Translation) -> None:
        """Write a sentence that ``source`` says, or what there is of one that still goes on, if the format has that."""
        self._write(self._format.add(source, translation))

    def fail(self, source: str, problem: SignetError, *, alone: bool) -> None:
        """Write that ``source``, ``alone`` or one of several, cannot be translated, if the format says so."""
        self._write(self._format.fail(source, str(problem), alone=alone))

    def _write(self, text: str | None) -> None:
        if text is None:
            return
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
