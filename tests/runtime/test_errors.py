"""The errors and their exit codes are those that users are told of; a command ends with them, and with one line."""

from __future__ import annotations

import errno
import inspect
import os
import re
from pathlib import Path

import click
import pytest

import signet_runtime
from signet_runtime import errors
from signet_runtime.commands.console import exit_on_error
from signet_runtime.errors import BundleError, ExitCode, InputError, SignetError, first_line, one_line
from signet_runtime.outputs.subtitles import Subtitles

ROOT = Path(__file__).parents[2]
CLASSES = [
    c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, SignetError) and c is not SignetError
]

# What the words of the documented table stand for.
DOCUMENTED = {
    "input": "InputError",
    "output": "OutputError",
    "configuration": "ConfigError",
    "checkpoint": "CheckpointError",
    "bundle": "BundleError",
    "training": "TrainingError",
    "engine": "EngineError",
    "model": "ModelError",
}


def table(page: Path) -> dict[int, str]:
    """Its sentence on exit codes, by code."""
    found = re.search(r"Exit codes(?:\*\*)?: (.*?interrupted)", page.read_text(encoding="utf-8"), re.DOTALL)
    assert found, f"{page} says nothing of exit codes"
    parts = re.findall(r"(\d+) (.*?)(?=, \d|$)", " ".join(found[1].split()))
    return {int(code): words for code, words in parts}


def test_every_error_ends_with_the_code_that_is_documented() -> None:
    documented = {
        DOCUMENTED[word]: code
        for code, words in table(ROOT / "ARCHITECTURE.md").items()
        for word in re.findall(r"\w+", words)
        if word in DOCUMENTED
    }
    assert {c.__name__: int(c.exit_code) for c in CLASSES} == documented


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "README.md"])
def test_the_codes_that_are_documented_are_all_that_there_are(page: str) -> None:
    assert sorted(table(ROOT / page)) == sorted(set(ExitCode) - {ExitCode.FAILED})


def test_every_error_can_be_had_from_the_package() -> None:
    for error in (SignetError, *CLASSES):
        assert getattr(signet_runtime, error.__name__) is error
        assert error.__name__ in signet_runtime.__all__


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        *((error("a.mp4:\n  no"), error.exit_code, "it: error: a.mp4: no") for error in CLASSES),
        (KeyboardInterrupt(), 130, "it: stopped"),
        (click.Abort(), 130, "it: stopped"),
    ],
)
def test_a_command_ends_with_a_line_and_a_code(
    raised: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, exit_on_error("it", "stopped"):
        raise raised
    assert ended.value.code == code
    assert capsys.readouterr() == ("", f"{line}\n")


def test_a_defect_says_that_it_is_one_and_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SIGNET_DEBUG", raising=False)
    for debug in (False, True):
        with pytest.raises(SystemExit) as ended, exit_on_error("it"):
            Subtitles("srt").cue("text")  # type: ignore[arg-type]
        assert ended.value.code == ExitCode.DEFECT == 70
        said = capsys.readouterr().err
        assert re.search(
            r"it: a defect of ours: AttributeError: .* in signet_runtime\.outputs\.subtitles\.Subtitles\.cue, line \d+",
            said,
        )
        assert "report" in said.splitlines()[-1]
        assert (len(said.splitlines()) == 1) != debug
        assert ("Traceback" in said) == debug
        monkeypatch.setenv("SIGNET_DEBUG", "1")


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        (MemoryError(), 5, "not enough memory"),
        (ImportError("libtorch.so: failed to map segment from shared object"), 5, "not enough memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 5, "not enough memory"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), 5, "ulimit -n"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.npz"), 3, "a.npz: "),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "b\x1b[2J\n"), 3, r"b\x1b[2J"),
        (ModuleNotFoundError("No module named 'torch'", name="torch.nn"), 5, "torch is not installed"),
        (ModuleNotFoundError("No module named 'signet_runtime.x'", name="signet_runtime.x"), 70, "defect"),
    ],
)
def test_what_the_machine_lacks_is_no_defect(
    raised: Exception, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, exit_on_error("it"):
        raise raised
    said = capsys.readouterr().err
    assert ended.value.code == code and says in said and len(said.splitlines()) == 1 and "\x1b" not in said


@pytest.mark.parametrize("passes", [click.UsageError("no"), click.exceptions.Exit(3), BrokenPipeError()])
def test_what_is_for_others_passes(passes: Exception) -> None:
    with pytest.raises(type(passes)), exit_on_error("it"):
        raise passes


@pytest.mark.parametrize("error", [ValueError("a\n b\tc"), BundleError("a b c\n"), InputError("  a  b c")])
def test_an_error_is_one_line(error: Exception) -> None:
    assert one_line(error) == "a b c"


def test_what_a_library_says_first_is_one_line() -> None:
    assert first_line(OSError("\nno such model\nIf this is private, log in")) == "no such model"
    for silent in (KeyError(), ValueError(" \n")):
        assert first_line(silent) == one_line(silent) == type(silent).__name__
