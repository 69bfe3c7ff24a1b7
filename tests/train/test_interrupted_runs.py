"""Killed without warning and resumed, a run ends with the weights of one that never stopped; on two processes, too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import FUSION, MODEL, config

from signet_runtime.errors import OutputError
from signet_runtime.leftovers import OLD, OWNER, temporary_name
from signet_train.checkpoint import load_checkpoint, recover_checkpoint, save_checkpoint
from signet_train.config import TrainConfig
from signet_train.stages.run import run_stage

DRIVER = Path(__file__).with_name("two_processes.py")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(run / "last").model.state_dict()


def stage(name: str, manifest: Path, experts: list[Path], **changes: Any) -> TrainConfig:
    fused = {} if name == "pretrain" else {"experts": experts, "start_from": experts[0]}
    return config(name, manifest, **fused, **changes)


def start_run(settings: TrainConfig, out: Path) -> subprocess.Popen[bytes]:
    """A run in a process of its own, which can be killed, from the settings as JSON."""
    code = (
        "import sys; from pathlib import Path; from signet_train.config import TrainConfig;"
        "from signet_train.stages.run import run_stage;"
        "run_stage(TrainConfig.model_validate_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), 'cpu')"
    )
    file = out.with_suffix(".json")
    file.write_text(settings.model_dump_json())
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", code, str(file), str(out)], env=environment, stderr=subprocess.PIPE)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many threads as the other process has: sums in another order would be other weights."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ["pretrain", pytest.param("align", marks=pytest.mark.slow), "finetune"])
def test_killed_and_resumed_is_never_having_stopped(
    name: str, manifest: Path, experts: list[Path], tmp_path: Path, one_thread: None
) -> None:
    settings = stage(name, manifest, experts, optimisation={"epochs": 8, "save_every": 4, "batch_size": 4})
    run_stage(settings, tmp_path / "whole", "cpu")

    killed = start_run(settings, tmp_path / "parts")
    deadline = time.monotonic() + 120
    while not (tmp_path / "parts" / "last" / "training_state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    steps = [json.loads(line)["step"] for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    recover_checkpoint(tmp_path / "parts" / "last")
    reached = torch.load(tmp_path / "parts" / "last" / "training_state.pt", weights_only=True)["step"]
    assert 0 < reached < max(steps)

    run_stage(settings, tmp_path / "parts", "cpu", resume=True)
    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for key, value in expected.items():
        assert torch.equal(value, found[key]), key
    logged = [json.loads(line)["step"] for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert logged == steps  # nothing is told twice


def test_a_checkpoint_is_there_whichever_moment_its_writing_was_cut_off(experts: list[Path], tmp_path: Path) -> None:
    last = tmp_path / "last"
    checkpoint = load_checkpoint(experts[0])
    save_checkpoint(last, checkpoint)
    before = weights(tmp_path)
    left = tmp_path / temporary_name("last", ".draft")
    (left / "new").mkdir(parents=True)  # killed while writing
    (left / OWNER).touch()
    recover_checkpoint(last)
    assert weights(tmp_path).keys() == before.keys()
    last.rename(left / OLD)  # killed between the two renames
    recover_checkpoint(last)
    assert weights(tmp_path).keys() == before.keys()
    save_checkpoint(last, checkpoint)
    assert {path.name for path in tmp_path.iterdir()} == {"last"}


def test_a_checkpoint_that_cannot_be_written_leaves_the_older_one(
    experts: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = load_checkpoint(experts[0])
    save_checkpoint(tmp_path / "last", checkpoint)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("signet_train.checkpoint.save_file", full)
    with pytest.raises(OutputError, match="No space left on device"):
        save_checkpoint(tmp_path / "last", checkpoint)
    assert weights(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"last"}


@pytest.mark.parametrize("name", ["align", pytest.param("finetune", marks=pytest.mark.slow)])
def test_two_processes_equal_one_with_the_same_global_batch(
    name: str, manifest: Path, experts: list[Path], tmp_path: Path
) -> None:
    for processes, batch_size in ((1, 8), (2, 4)):
        settings = stage(
            name,
            manifest,
            experts,
            model={**MODEL, "fusion": FUSION},
            data={"noise": 0, "frame_drop": 0},
            optimisation={"batch_size": batch_size, "accumulation": 2},
        )
        file = tmp_path / f"{processes}.json"
        file.write_text(settings.model_dump_json())
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines", "1"]
        launch += ["--num_processes", str(processes), "--mixed_precision", "no", "--dynamo_backend", "no"]
        launch += ["--multi_gpu"] if processes > 1 else []  # several processes, of whatever device
        done = subprocess.run(
            [*launch, str(DRIVER), str(file), str(tmp_path / str(processes))],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(DRIVER.parent), *sys.path])},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = weights(tmp_path / "1"), weights(tmp_path / "2")
    state = torch.load(tmp_path / "2" / "last" / "training_state.pt", weights_only=True)
    assert state["processes"] == 2
    start = load_checkpoint(experts[0]).model.language_model.state_dict()
    moved = 0.0
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=1e-5, rtol=1e-4, msg=lambda m, key=key: f"{key}: {m}")
        if key.startswith("language_model."):
            moved = max(moved, (value - start[key.removeprefix("language_model.")]).abs().max().item())
    assert moved > 1e-4
