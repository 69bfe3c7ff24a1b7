"""Translations as tab-separated values: a line a sentence, for spreadsheets and scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from signet_runtime.translation import Translation

COLUMNS = ("input", "start", "end", "text", "log_prob", "reliability", "suppressed", "expert", "error")


class Table:
    """A header, then a line a sentence and a line for an input that failed; times in seconds."""

    one_input = False

    def __init__(self) -> None:
        self._head = _row(COLUMNS)

    def add(self, source: str, translation: Translation) -> str | None:
        """Return the line of a sentence; there is none before it is complete."""
        if not translation.complete:
            return None
        routing = translation.routing
        return self._with_head(
            (
                source,
                f"{translation.start:.3f}",
                f"{translation.end:.3f}",
                translation.text,
                _number(translation.log_prob),
                _number(translation.reliability),
                "yes" if translation.suppressed else "",
                max(routing, key=routing.__getitem__, default=""),
                "",
            )
        )

    def fail(self, source: str, message: str, *, alone: bool) -> str | None:
        """Return the line of an input that cannot be translated."""
        return self._with_head((source, "", "", "", "", "", "", "", message))

    def end(self) -> str | None:
        """Return None: every line was written when it came."""
        return None

    def _with_head(self, values: tuple[str, ...]) -> str:
        head, self._head = self._head, ""
        return head + _row(values)


def _row(values: tuple[str, ...]) -> str:
    return "\t".join(" ".join(value.split()) for value in values) + "\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
