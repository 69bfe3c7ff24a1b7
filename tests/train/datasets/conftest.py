"""What every reader's rows have to pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from signet_runtime.pose.files import write_keypoints
from signet_runtime.pose.sequence import PoseSequence
from signet_train.cli import main
from signet_train.data.manifest import Row, write_manifest


@pytest.fixture
def passes_check(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Iterable[Row]], None]:
    """`signet-train check` finds no fault with rows whose keypoints were extracted to where they point."""

    def run(rows: Iterable[Row]) -> None:
        root: Path = tmp_path_factory.mktemp("checked")
        rows = list(rows)
        poses = PoseSequence(
            np.random.default_rng(0).random((3, 133, 2)), np.ones((3, 133)), 25.0, (64, 48), "mediapipe"
        )
        for row in rows:
            (root / row.poses).parent.mkdir(parents=True, exist_ok=True)
            write_keypoints(root / row.poses, poses)
        write_manifest(root / "m.parquet", rows)
        arguments = ["check", str(root / "m.parquet"), "--workers", "1"]
        if any(row.gloss for row in rows) and not all(row.text for row in rows):
            arguments += ["--task", "recognise"]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.stdout
        assert result.stdout == ""

    return run
