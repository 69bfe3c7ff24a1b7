"""What `signet-export` says before and after its work is true."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from signet_export.cli import main
from signet_export.verification import Verification
from signet_train.checkpoint import demo_checkpoint_path, load_cards


def test_more_experts_than_there_are_is_said_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signet_train.checkpoint.load_checkpoint", lambda _: pytest.fail("was loaded"))
    experts = len(load_cards(demo_checkpoint_path()))
    result = CliRunner().invoke(main, ["--out", str(tmp_path / "b"), "--top-k", str(experts + 1)])
    assert result.exit_code == 4
    assert f"--top-k {experts + 1}: {demo_checkpoint_path()} has {experts} experts" in result.stderr
    nothing = CliRunner().invoke(main, [str(tmp_path), "--out", str(tmp_path / "b"), "--top-k", "1"])
    assert nothing.exit_code == 4 and "no checkpoint" in nothing.stderr


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_verified_is_what_writes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    found = Verification(
        precision="int8",
        frames=(9, 4),
        largest=0.1,
        mean=0.01,
        relative=0.01,
        routing=0.0,
        same_tokens={1: 1.0, 4: share},
        allowed=(0.1, 0.05),
    )
    monkeypatch.setattr("signet_export.bundle.export_bundle", lambda *_, **__: found)
    result = CliRunner().invoke(main, ["--out", str(tmp_path / "b"), "--precision", "int8"])
    assert result.exit_code == 0, result.output
    assert ("verified against PyTorch" in result.stderr) == (share == 1)
    assert ("int8 writes other texts than the checkpoint for the rest" in result.stderr) == (share < 1)
