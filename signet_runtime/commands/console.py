"""What a command shows and where: results alone on stdout, single lines on stderr, progress on a terminal."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import click

from signet_runtime.commands.faults import last_words
from signet_runtime.errors import ExitCode, OutputError, SignetError, one_line
from signet_runtime.printable import printable

_DEBUG = "SIGNET_DEBUG"


def debug_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--debug`."""
    return click.option(
        "--debug",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_debug,
        help=f"Show where an error came from, as a traceback (or {_DEBUG}=1).",
    )(command)


def _debug(_context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if asked:
        os.environ[_DEBUG] = "1"  # the processes that a command starts show it, too


class Commands(click.Group):
    """Commands in the order of their use, each with `--debug`."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command."""
        if not any(parameter.name == "debug" for parameter in cmd.params):
            debug_option(cmd)
        super().add_command(cmd, name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.commands)


def complain(command: str, error: SignetError) -> None:
    """Say in one line on stderr what went wrong."""
    _show_origin(error)
    click.echo(f"{command}: error: {one_line(error)}", err=True)


@contextlib.contextmanager
def exit_on_error(command: str, interrupted: str = "interrupted", extra: str = "edge") -> Iterator[None]:
    """End the process where the block raises or is interrupted: a line on stderr and its exit code.

    What is neither a `SignetError` nor the machine's is a defect of ours, and the line says so; with `--debug` a
    traceback comes before any line.

    Args:
        interrupted: what the line says after Ctrl-C, unless the exception says more.
        extra: of the installation, to be named where a package is missing.

    Raises:
        SystemExit: with that code.
    """
    try:
        yield
    except SignetError as error:
        complain(command, error)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort) as stop:
        click.echo(f"{command}: {stop if str(stop) else interrupted}", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
        raise  # click's own, and a reader that has gone, to whom nobody can report
    except Exception as error:
        _show_origin(error)
        code, line = last_words(error, extra)
        click.echo(f"{command}: {printable(line)}", err=True)
        sys.exit(code)


def _show_origin(error: BaseException) -> None:
    if os.environ.get(_DEBUG, "0") not in ("", "0"):
        lines = "".join(traceback.format_exception(error)).splitlines()
        click.echo("\n".join(printable(line) for line in lines), err=True)


@contextlib.contextmanager
def own_stdout() -> Iterator[TextIO]:
    """Yield the real standard output for results; whatever else is printed, from C too, goes to standard error."""
    if sys.stdout is None:
        raise OutputError("standard output is closed; give -o FILE")
    try:
        descriptor = sys.stdout.fileno()
    except OSError:  # replaced by an object in memory: nothing written from C can reach it
        in_memory = sys.stdout
        with contextlib.redirect_stdout(sys.stderr):
            yield in_memory
        return
    sys.stdout.flush()
    saved = os.dup(descriptor)
    # A file name that is not valid Unicode must not end the run; in JSON this is even its escape.
    results = open(os.dup(saved), "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    os.dup2(2, descriptor)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield results
    finally:
        with contextlib.suppress(OSError):  # every write was flushed and reported
            results.close()
        os.dup2(saved, descriptor)
        os.close(saved)


@contextlib.contextmanager
def own_stderr(quiet: bool, command: str = "signet-translate") -> Iterator[None]:
    """Our warnings as single lines on standard error, and of other libraries only what matters."""
    # Everything is on this machine; the hub libraries must not even ask. Read when they are imported.
    for name, value in {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}.items():
        os.environ.setdefault(name, value)
    with own_notes(command, quiet), warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def own_notes(command: str, quiet: bool) -> Iterator[None]:
    """Our warnings as single lines on standard error, by the command that shows them."""
    logger = logging.getLogger("signet_runtime")
    handler = _OneLine(command, logging.ERROR if quiet else logging.WARNING)
    propagate, logger.propagate = logger.propagate, False  # other libraries put handlers on the root
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


class _OneLine(logging.Handler):
    def __init__(self, command: str, level: int) -> None:
        super().__init__(level)
        self._command = command

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"{self._command}: {record.levelname.lower()}: {printable(record.getMessage())}", err=True)
