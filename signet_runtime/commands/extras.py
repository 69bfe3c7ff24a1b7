"""A command whose part of the installation is missing says which one, in a line."""

from __future__ import annotations

import sys
from collections.abc import Callable

from signet_runtime.commands.console import complain
from signet_runtime.errors import EngineError
from signet_runtime.installation import how_to_install

_OWN = ("signet_runtime", "signet_train", "signet_export")


def run_command(command: str, extra: str, load: Callable[[], Callable[[], object]]) -> None:
    """Run what ``load`` imports; where a package is not installed, name the extra that has it and exit with 5."""
    try:
        load()()
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if not package or package in _OWN:
            raise
        missing = EngineError(f"{package} is not installed; {how_to_install(extra)}")
        complain(command, missing)
        sys.exit(missing.exit_code)
