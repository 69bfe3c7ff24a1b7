"""A server in this process, around the smallest bundle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tiny_bundle import FakeEstimator, TinyBundle, random_poses

from signet_runtime import translator as translator_module
from signet_runtime.pose.files import write_keypoints
from signet_runtime.serve.app import create_app
from signet_runtime.serve.settings import Limits, Settings

Serve = Callable[..., TestClient]


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where servers of a test keep uploads; nothing may be left there."""
    directory = tmp_path / "scratch"
    directory.mkdir()
    return directory


@pytest.fixture
def serve(tiny: TinyBundle, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Start a server: limits and settings as keywords."""
    monkeypatch.setattr(translator_module, "load_estimator", lambda *args, **options: FakeEstimator())
    with contextlib.ExitStack() as stack:

        def start(**given: Any) -> TestClient:
            limits = {name: given.pop(name) for name in list(given) if name in Limits.__dataclass_fields__}
            settings = Settings(bundles=(tiny.path,), scratch=scratch, limits=replace(Limits(), **limits))
            app = create_app(replace(settings, **given))
            return stack.enter_context(TestClient(app, base_url="http://localhost", raise_server_exceptions=False))

        yield start
    assert list(scratch.iterdir()) == []


@pytest.fixture
def keypoints(tmp_path: Path) -> Path:
    """A file of keypoints, of somebody who signs for two seconds."""
    path = tmp_path / "poses.npz"
    write_keypoints(path, random_poses(7, frames=50))
    return path
