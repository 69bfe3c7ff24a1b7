"""A command whose part of the installation is missing says which one, in a line."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

NOT_AVAILABLE = 5
_OWN = ("signet_runtime", "signet_train", "signet_export")


def run_command(command: str, extra: str, load: Callable[[], Callable[[], object]]) -> None:
    """Run what ``load`` imports; where a package is not installed, name the extra that has it and exit with 5."""
    try:
        load()()
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if not package or package in _OWN:
            raise
        click.echo(f"{command}: error: {package} is not installed; pip install 'signet-slt[{extra}]'", err=True)
        sys.exit(NOT_AVAILABLE)
