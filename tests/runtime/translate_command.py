"""What tests of `signet-translate` share: how to run it, and what it may say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from tiny_bundle import NOTICE

Translate = Callable[..., Result]
WriteVideo = Callable[..., Path]

needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")


def the_error(result: Result) -> str:
    """The one line that the command may say about what went wrong."""
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if NOTICE not in line]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("signet-translate: error: ")
    return lines[0]
