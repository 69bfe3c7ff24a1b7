"""Translations as they come, in the format that was asked for: on stdout, in a file, or in a file an input."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from signet_runtime.errors import OutputError
from signet_runtime.files import GrowingFile, reporting
from signet_runtime.outputs.formats import FORMATS, SUFFIXES

if TYPE_CHECKING:
    from signet_runtime.errors import SignetError
    from signet_runtime.translation import Translation


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

    def end(self) -> None:
        """Write what comes after everything else; nothing where something could not be written before."""
        if not self.broken:
            self._write(self._format.end())

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


class OneOutput:
    """Everything in one place, which is finished however the run ends."""

    def __init__(self, form: str, to: TextIO | GrowingFile) -> None:
        self._results = Results(form, to)

    @property
    def broken(self) -> bool:
        """Whether nothing more can be written."""
        return self._results.broken

    @contextlib.contextmanager
    def of(self, source: Path | str) -> Iterator[Results]:
        """Yield where the results of an input go."""
        yield self._results

    def end(self) -> None:
        """Write what comes after everything else."""
        self._results.end()


class OutputDirectory:
    """A file an input, each there once its input is done.

    Args:
        form: a name in `FORMATS`.
        names: the file of every input, see `names_of_outputs`.

    Raises:
        OutputError: a directory cannot be made.
    """

    broken = False  # what one file cannot hold, the next may

    def __init__(self, form: str, names: dict[Path, Path]) -> None:
        self._form, self._names = form, names

    @contextlib.contextmanager
    def of(self, source: Path) -> Iterator[Results]:
        """Yield where the results of an input go.

        Raises:
            OutputError: its file, or the directory that it is in, cannot be made.
        """
        path = self._names[source]
        with reporting(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        file = GrowingFile(path)
        results = Results(self._form, file)
        try:
            yield results
        finally:
            results.end()
            file.finish()

    def end(self) -> None:
        """Do nothing: every file was finished with its input."""


def names_of_outputs(inputs: Sequence[Path], directory: Path, form: str) -> dict[Path, Path]:
    """Return a file in ``directory`` for each of the inputs, no two the same.

    They are called as the inputs, without folders and suffix. Those of which that would be the same keep their folders,
    from the deepest that all inputs share on, and if that is not enough their suffix.

    Raises:
        OutputError: ``directory`` is a file, an input is given twice, or a file would take the place of an input.
    """
    if directory.exists() and not directory.is_dir():
        raise OutputError(f"{directory}: is a file; --output-dir takes a directory, and makes it where there is none")
    suffix = SUFFIXES.get(form, f".{form}")
    absolute = {path: path.absolute() for path in inputs}  # not resolved: links have names of their own
    if len(set(absolute.values())) < len(inputs):
        twice = next(p for i, p in enumerate(inputs) if absolute[p] in [absolute[q] for q in inputs[:i]])
        raise OutputError(f"{twice}: is given twice, and has one file in {directory}")
    shared = Path(os.path.commonpath([path.parent for path in absolute.values()]))
    ways = [
        {path: Path(path.stem) for path in inputs},
        {path: absolute[path].relative_to(shared).with_suffix("") for path in inputs},
        {path: absolute[path].relative_to(shared) for path in inputs},
    ]
    chosen = {path: ways[0][path] for path in inputs}
    for way in ways[1:]:
        # Compared as file systems do that know no difference of case.
        counts = Counter(str(name).casefold() for name in chosen.values())
        chosen = {path: way[path] if counts[str(name).casefold()] > 1 else name for path, name in chosen.items()}
    if len(set(chosen.values())) < len(inputs):
        chosen = ways[-1]
    found = {path: directory / name.with_name(name.name + suffix) for path, name in chosen.items()}
    present = {path.resolve() for path in inputs}
    for path, file in found.items():
        if file.resolve() in present:
            raise OutputError(f"{file}: what {path} says would overwrite this input; choose another --output-dir")
    return found
