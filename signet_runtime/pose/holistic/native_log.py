"""What a native library says while it starts."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

# What LiteRT writes to stderr when it takes its CPU kernels, whatever the log level.
_NOISE = re.compile(rb"^INFO: Created TensorFlow.*\n?", re.MULTILINE)


@contextmanager
def without_native_log() -> Iterator[None]:
    """Take LiteRT's start-up chatter out of stderr; anything else written meanwhile is passed on.

    The C++ code writes to the file descriptor itself, so replacing `sys.stderr` would not reach it.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as caught:
        stderr = os.dup(2)
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            caught.seek(0)
            rest = _NOISE.sub(b"", caught.read())
            if rest:
                os.write(2, rest)
