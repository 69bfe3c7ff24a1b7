"""How far the peers' code and ours may be apart, and how far a run found them, printed after it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from parity import Agree

_largest: dict[str, tuple[float, float]] = {}  # difference and tolerance


@pytest.fixture
def agree(request: pytest.FixtureRequest) -> Agree:
    """``agree("features: body", ours, theirs)``: every number, to the tolerance that the first word names."""
    import numpy as np
    from parity import TOLERANCES

    peer = request.module.__name__.rpartition("test_")[2]

    def compare(what: str, ours: Any, theirs: Any) -> None:
        a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        assert a.shape == b.shape, what
        difference, tolerance = float(np.abs(a - b).max()), TOLERANCES[what.partition(":")[0]]
        _largest[f"{peer} {what}"] = max((difference, tolerance), _largest.get(f"{peer} {what}", (0.0, tolerance)))
        assert difference <= tolerance, what

    return compare


@pytest.fixture(scope="session")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random mT5 and a tokenizer of characters, as a directory."""
    from peer import save_language_model, small_config

    return save_language_model(tmp_path_factory.mktemp("mt5"), small_config())


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _largest:
        terminalreporter.section("largest absolute difference from the peers' code")
        for what, (difference, tolerance) in _largest.items():
            terminalreporter.write_line(f"{what}: {difference:.1e} (tolerance {tolerance:.0e})")
