"""Fixtures that more than one part of the suite needs."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from pathlib import Path

import pytest

from signet_runtime.errors import EngineError
from signet_runtime.pose.models import DIRECTORY_VARIABLE, find_models, model_directory

# What a shell runs in the background ignores Ctrl-C, and so would the programs that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests have caches of their own, in which the pose estimator's models are not.
with contextlib.suppress(EngineError):
    os.environ.setdefault(DIRECTORY_VARIABLE, str(model_directory(find_models(offline=True))))

# And no models of whoever runs them.
os.environ.setdefault("SIGNET_MODELS", tempfile.mkdtemp(prefix="signet-models-"))

_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Directory of real recordings that are not part of the project; tests skip without it."""
    if not _SHARED.is_dir():
        pytest.skip("the real recordings are not on this machine")
    return _SHARED
