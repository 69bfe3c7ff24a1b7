"""What ends a command that is not the project's own error: the machine is at its end, or there is a defect of ours."""

from __future__ import annotations

import errno
import re
import sys
import traceback
from collections.abc import Iterator

from signet_runtime.errors import ExitCode, one_line
from signet_runtime.installation import how_to_install

# How libraries say that memory ran out, in exceptions that say so by no class: the loader, C++, ONNX Runtime, torch.
_NO_MEMORY = re.compile(
    r"allocate memory|allocate \d+ bytes|bad_?alloc|bad allocation|out of memory|enough memory|failed to map segment",
    re.IGNORECASE,
)
_OURS = re.compile(r"(signet_\w+|benchmarks)(\.|$)")


def last_words(error: BaseException, extra: str) -> tuple[int, str]:
    """Return the exit code of an exception that nobody expected, and the line that says what it was.

    Args:
        extra: of the installation, to be named where a package is missing.
    """
    if isinstance(error, ModuleNotFoundError) and error.name and not _OURS.match(error.name):
        return ExitCode.UNAVAILABLE, f"error: {error.name.split('.')[0]} is not installed; {how_to_install(extra)}"
    if any(isinstance(link, MemoryError) or _NO_MEMORY.search(str(link)) for link in _chain(error)):
        limited = "; `ulimit -v` limits it here" if _is_limited() else ""
        return ExitCode.UNAVAILABLE, f"error: there is not enough memory{limited} ({_named(error)}){_where(error)}"
    for link in _chain(error):
        if isinstance(link, OSError) and link.errno in (errno.EMFILE, errno.ENFILE):
            return ExitCode.UNAVAILABLE, "error: too many files are open at once; raise the limit with `ulimit -n`"
    if isinstance(error, RuntimeError) and "Symlink loop" in str(error):  # Path.resolve's, until Python 3.13
        return ExitCode.UNUSABLE, f"error: a link leads to itself ({one_line(error)})"
    if isinstance(error, OSError) and error.errno:
        where = f"{error.filename}: " if error.filename else ""
        return ExitCode.UNUSABLE, f"error: {where}cannot be read or written ({error.strerror or one_line(error)})"
    return ExitCode.DEFECT, (
        f"a defect of ours: {_named(error)}{_where(error)}; please report it, with what --debug shows"
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _named(error: BaseException) -> str:
    name, says = type(error).__name__, one_line(error)
    return name if says == name else f"{name}: {says[:300]}"


def _where(error: BaseException) -> str:
    """Name the innermost function of ours that the exception came through."""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        module = str(frame.f_globals.get("__name__", ""))
        if _OURS.match(module) and not module.endswith(("commands.console", ".cli")):
            return f" in {module}.{frame.f_code.co_qualname}, line {line}"
    return ""


def _is_limited() -> bool:
    if sys.platform == "win32":
        return False
    import resource

    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
