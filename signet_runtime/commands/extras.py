"""A command whose part of the installation is missing, or cannot be loaded, says so in a line."""

from __future__ import annotations

from collections.abc import Callable

from signet_runtime.commands.console import exit_on_error


def run_command(command: str, extra: str, load: Callable[[], Callable[[], object]]) -> None:
    """Run what ``load`` imports; where a package is not installed, name the extra that has it and exit with 5."""
    with exit_on_error(command, extra=extra):
        load()()
