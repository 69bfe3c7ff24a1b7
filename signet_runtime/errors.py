"""What can go wrong, each with the exit code that a command ends with, and how an exception is said in a line."""

from __future__ import annotations

from enum import IntEnum

from signet_runtime.printable import printable


class ExitCode(IntEnum):
    """What every command ends with; the README and each command's help say the same.

    FAILED is nobody's promise: what Python itself ends with, and a benchmark that missed its limit. USAGE is click's
    own. DEFECT is a fault of ours, EX_SOFTWARE of sysexits.h.
    """

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNUSABLE = 3
    INVALID = 4
    UNAVAILABLE = 5
    DEFECT = 70
    INTERRUPTED = 130


class SignetError(Exception):
    """One line for the user: what, where, and what to do about it."""

    exit_code = ExitCode.FAILED


class InputError(SignetError):
    """The input cannot be used: not a video, damaged, empty, or without a signer."""

    exit_code = ExitCode.UNUSABLE


class OutputError(SignetError):
    """The output cannot be written: another kind of file, no such directory, no permission, or the disk is full."""

    exit_code = ExitCode.UNUSABLE


class ConfigError(SignetError):
    """A configuration is missing, not TOML, or its settings are unknown, wrong, or do not fit one another."""

    exit_code = ExitCode.INVALID


class CheckpointError(SignetError):
    """A checkpoint, or the features cached of its experts, is missing, damaged, or does not fit what is asked of it."""

    exit_code = ExitCode.INVALID


class BundleError(SignetError):
    """A bundle is missing, damaged, of an unknown kind, or cannot be made."""

    exit_code = ExitCode.INVALID


class TrainingError(SignetError):
    """Training went wrong: its loss is no number, or what is frozen has changed."""

    exit_code = ExitCode.INVALID


class EngineError(SignetError):
    """An engine, execution provider or pose estimator that was asked for is not available."""

    exit_code = ExitCode.UNAVAILABLE


class ModelError(SignetError):
    """A model that was asked for by name is not known, not here and not to be had, or its licence is not accepted."""

    exit_code = ExitCode.UNAVAILABLE


def one_line(error: BaseException) -> str:
    """Return all that an exception says, in one printable line; its name where it says nothing."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def first_line(error: BaseException) -> str:
    """Return what an exception says first, where a library goes on with advice; its name where it says nothing."""
    return printable((str(error).strip() or type(error).__name__).splitlines()[0])
