"""Fixtures that more than one part of the suite needs."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

# What a shell runs in the background ignores Ctrl-C, and so would the programs that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Directory of real recordings that are not part of the project; tests skip without it."""
    if not _SHARED.is_dir():
        pytest.skip("the real recordings are not on this machine")
    return _SHARED
