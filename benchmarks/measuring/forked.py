"""Commands in processes that are forked from one which has everything loaded, so that moments fall into their work."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

_PDEATHSIG = 1  # prctl's option: a process that ends, however it does, takes its commands along


def start(
    run: Callable[[], object],
    log: Path,
    *,
    cwd: Path | None = None,
    limits: Mapping[int, int] | None = None,
    user: int | None = None,
    environment: Mapping[str, str | None] | None = None,
    closed: bool = False,
) -> int:
    """Start a command in a process, and a process group, of its own; give its id.

    Args:
        run: the command, which may end by SystemExit.
        log: what it says is added to.
        limits: of the process, by `resource`'s numbers.
        user: who it runs as.
        environment: variables that are others, or, None, not there.
        closed: it has no standard output.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        if sys.platform.startswith("linux"):
            ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(out, 1)
        os.dup2(out, 2)
        if closed:
            os.close(1)
            sys.stdout = None
        if cwd is not None:
            os.chdir(cwd)
        for name, value in (environment or {}).items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        if user is not None:
            os.setgid(user)
            os.setuid(user)
        for number, most in (limits or {}).items():
            resource.setrlimit(number, (most, most))
        run()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)


def wait(child: int) -> int:
    """Return the exit code of a process; of one that a signal ended, minus its number."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
