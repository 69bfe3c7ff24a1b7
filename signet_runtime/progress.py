"""How far something is, as a bar: on a terminal, or in a notebook."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

# Called with the number done and of all, None if unknown; True is a bar, None or False nothing.
Progress = Callable[[int, int | None], None] | bool | None


class Bar:
    """A bar on standard error or in a notebook's output; nothing where neither is there to see it.

    Args:
        name: what is worked at.
        hidden: show nothing in any case.
    """

    def __init__(self, name: str, hidden: bool = False) -> None:
        self._name, self._hidden = name, hidden
        self._bar: RichProgress | None = None

    def __enter__(self) -> Bar:
        if not self._hidden:
            from rich.console import Console
            from rich.markup import escape
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            console = Console(stderr=True)
            if console.is_terminal or console.is_jupyter:
                columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
                self._bar = Progress(*columns, console=console, transient=True)
                self._task = self._bar.add_task(escape(self._name), total=None)
                self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, total: int | None) -> None:
        """Show how much is done, of how much if that is known."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """While something else is written to the terminal."""
        if self._bar is not None:
            self._bar.stop()
        yield
        if self._bar is not None:
            self._bar.start()


@contextlib.contextmanager
def shown_progress(progress: Progress, source: object) -> Iterator[Callable[[int, int | None], None] | None]:
    """Yield what is called with the progress of a source: what was given, or a bar where True was."""
    if progress is True:
        with Bar(Path(source).name if isinstance(source, str | Path) else "frames") as bar:
            yield bar.update
    else:
        yield progress or None
