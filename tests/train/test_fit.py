"""`fit` does a project's steps in their order, goes on where it was, and does again what is no longer true."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from keypoint_corpus import corpus

from signet_train.checkpoint import load_checkpoint
from signet_train.cli import main
from signet_train.commands import fit as command
from signet_train.config import load_config
from signet_train.data.manifest import read_manifest, write_manifest
from signet_train.stages import loop

SMALL = {
    "input_channels = 16": "input_channels = 4",
    "spatial_channels = [16, 32, 64]": "spatial_channels = [4, 8]",
    "temporal_channels = [64]": "temporal_channels = [8]",
    "embedding = 128": "embedding = 16",
    "d_model = 128": "d_model = 16",
    "d_ff = 256": "d_ff = 32",
    "num_layers = 2": "num_layers = 1",
    "num_beams = 4": "num_beams = 1",
    "frame_rate = 12.5": "frame_rate = 6.25",
}


def shrink(file: Path, epochs: int) -> None:
    """Make a stage one of a second."""
    lines = []
    for line in file.read_text().splitlines():
        for old, new in SMALL.items():
            line = line.replace(old, new)
        if line.startswith("epochs = "):
            line = f"epochs = {epochs}"
        lines.append("validate_every = 1" if line.startswith("validate_every") else line)
    file.write_text("\n".join(lines) + "\n")


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What fit runs of the other programs, which is noted and not run."""
    called: list[list[str]] = []

    class Done:
        returncode = 0

    def run(arguments: list[str], **_: Any) -> Done:
        called.append(arguments[1:])
        return Done()

    monkeypatch.setattr(command.subprocess, "run", run)
    return called


@pytest.fixture
def project(tmp_path: Path) -> Path:
    manifest = corpus(tmp_path / "data")
    made = CliRunner().invoke(main, ["init", str(manifest), "--out", str(tmp_path / "project"), "--mt5", "none"])
    assert made.exit_code == 0, made.output
    for name in ("pretrain-gsg", "finetune"):
        shrink(tmp_path / "project" / f"{name}.toml", 2)
    return tmp_path / "project"


def fit(project: Path) -> Result:
    return CliRunner().invoke(main, ["fit", str(project), "--device", "cpu"])


def steps(result: Result) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("[")]


def weights(project: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(project / "runs" / "finetune" / "last").model.state_dict()


def test_the_whole_way_and_a_second_time_nothing(project: Path, others: list[list[str]]) -> None:
    done = fit(project)
    assert done.exit_code == 0, done.output
    names = ["extract-poses", "check", "pretrain", "cache", "finetune", "evaluate", "signet-export", "signet-translate"]
    assert [name in line for name, line in zip(names, steps(done), strict=True)] == [True] * 8
    assert (project / "predictions.jsonl").read_text().count("\n") == 2
    assert (project / "runs" / "finetune" / "report.html").exists()
    assert [arguments[1] for arguments in others] == ["signet_export", "signet_runtime.commands.translate"]
    assert done.stderr.splitlines()[-1] == f"Next: signet-translate --bundle {project / 'bundle'} VIDEO"
    before = weights(project)
    again = fit(project)
    assert again.exit_code == 0, again.output
    finished = [line.partition("] ")[2] for line in steps(again) if "done before" in line]
    assert finished == [f"{n}: done before" for n in ("check", "pretrain-gsg", "finetune", "evaluate", "export")]
    assert all(torch.equal(before[name], value) for name, value in weights(project).items())


@pytest.mark.parametrize("signum", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_stopped_it_says_so_and_goes_on_to_the_same_weights(
    project: Path, others: list[list[str]], monkeypatch: pytest.MonkeyPatch, signum: int
) -> None:
    whole = Path(shutil.copytree(project, project.with_name("whole")))
    for file in whole.glob("*.toml"):
        file.write_text(file.read_text().replace(str(project), str(whole)))
    original, begun = loop._step, [0]

    def step(*arguments: Any) -> float:
        begun[0] += 1
        if begun[0] == 3:  # of the first stage's four, then of the second's
            os.kill(os.getpid(), signum)
        return original(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "_step", step)
        stopped = fit(project)
    assert stopped.exit_code == 130
    assert stopped.stderr.splitlines()[-1] == (
        f"signet-train: pretrain-gsg: stopped after step 3 of 4, and saved in "
        f"{project / 'runs' / 'pretrain-gsg' / 'last'}; `signet-train fit {project}` goes on from there"
    )
    resumed = fit(project)
    assert resumed.exit_code == 0, resumed.output
    assert any("pretrain" in line and line.endswith("--resume") for line in steps(resumed))
    assert fit(whole).exit_code == 0
    expected = weights(whole)
    assert all(torch.equal(expected[name], value) for name, value in weights(project).items())


def test_a_changed_configuration_extends_its_stage_and_renews_what_builds_on_it(
    project: Path, others: list[list[str]]
) -> None:
    assert fit(project).exit_code == 0
    shrink(project / "pretrain-gsg.toml", 3)
    done = fit(project)
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in (project / "runs/pretrain-gsg/log.jsonl").read_text().splitlines()]
    assert [row["changed"] for row in rows if "changed" in row] == [{"optimisation.epochs": [2, 3]}]
    # The experts are others now: their features and who was tuned on them are made anew, and the old ones kept.
    assert (project / "features.1").is_dir() and (project / "runs" / "finetune.1" / "best").is_dir()
    tuned = load_checkpoint(project / "runs" / "finetune" / "last").model.experts[0].state_dict()
    expert = load_checkpoint(project / "runs" / "pretrain-gsg" / "last").model.experts[0].state_dict()
    assert all(torch.equal(expert[name], value) for name, value in tuned.items())


def test_it_stops_where_a_person_must_decide(project: Path, others: list[list[str]]) -> None:
    row = read_manifest(project / "manifest.parquet").rows[0]
    (project / row.poses).write_bytes(b"damaged")
    stopped = fit(project)
    assert stopped.exit_code == 3
    assert f"{row.id}: {row.poses}" in stopped.stdout  # as `check` says it
    assert "fit stops at check; put the rows right, or `signet-train check MANIFEST --clean" in stopped.stderr
    assert not (project / "runs").exists() and not others


def test_a_program_that_fails_ends_it_with_its_own_code(
    project: Path, others: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failed:
        returncode = 4

    monkeypatch.setattr(command.subprocess, "run", lambda *_, **__: Failed())
    stopped = fit(project)
    assert stopped.exit_code == 4 and "fit stops at export: signet-export says why" in stopped.stderr
    assert load_config(project / "finetune.toml").optimisation.epochs == 2


def test_no_project_is_said(tmp_path: Path) -> None:
    result = fit(tmp_path)
    assert result.exit_code == 4 and "`signet-train init` makes a project" in result.stderr


@pytest.mark.slow
def test_two_sign_languages_go_through_all_three_stages(tmp_path: Path, others: list[list[str]]) -> None:
    manifest = corpus(tmp_path / "data", splits=("train",) * 12 + ("dev",) * 2 + ("test",) * 2)
    rows = [replace(r, sign_language=("gsg", "ase")[i % 2]) for i, r in enumerate(read_manifest(manifest).rows)]
    write_manifest(manifest, rows)
    made = CliRunner().invoke(main, ["init", str(manifest), "--out", str(tmp_path / "project"), "--mt5", "none"])
    assert made.exit_code == 0, made.output
    for file in (tmp_path / "project").glob("*.toml"):
        shrink(file, 2)
    done = fit(tmp_path / "project")
    assert done.exit_code == 0, done.output
    names = [line.split()[2] for line in steps(done)]
    assert names[2:6] == ["pretrain", "pretrain", "cache", "align"]
    tuned = load_checkpoint(tmp_path / "project" / "runs" / "finetune" / "last")
    assert [card.sign_languages for card in tuned.experts] == [("ase",), ("gsg",)]
    assert "ase" in (tmp_path / "project" / "runs" / "finetune" / "report.html").read_text()
