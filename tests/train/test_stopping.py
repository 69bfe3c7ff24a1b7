"""Ctrl-C and SIGTERM save what was done and say the truth; a run may be extended, and its log says so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from keypoint_corpus import corpus
from tiny_runs import MODEL, config

from signet_runtime.errors import CheckpointError
from signet_train.checkpoint import load_checkpoint
from signet_train.cli import main
from signet_train.config import TrainConfig
from signet_train.stages import loop
from signet_train.stages.run import run_stage
from signet_train.stages.stopping import Stopped

EPOCHS = 4


@pytest.fixture
def settings(tmp_path: Path) -> TrainConfig:
    """Two steps an epoch, eight steps."""
    manifest = corpus(tmp_path / "data")
    return config("pretrain", manifest, optimisation={"epochs": EPOCHS, "batch_size": 4})


def interrupt(monkeypatch: pytest.MonkeyPatch, signum: int, after: int) -> None:
    """Send this process a signal in the middle of a step, once ``after`` of them were begun."""
    original, begun = loop._step, [0]

    def step(*arguments: Any) -> float:
        begun[0] += 1
        if begun[0] == after:
            os.kill(os.getpid(), signum)
        return original(*arguments)

    monkeypatch.setattr(loop, "_step", step)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(run / "last").model.state_dict()


def assert_same(one: Path, other: Path) -> None:
    expected, found = weights(one), weights(other)
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def logged(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("signum", "after"), [(signal.SIGINT, 1), (signal.SIGTERM, 2), (signal.SIGTERM, 5)])
def test_a_signal_in_a_step_loses_nothing(
    settings: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: int, after: int
) -> None:
    run_stage(settings, tmp_path / "whole", "cpu")
    before = signal.getsignal(signum)
    with monkeypatch.context() as patched:
        interrupt(patched, signum, after)
        with pytest.raises(Stopped) as stopped:
            run_stage(settings, tmp_path / "parts", "cpu")
    assert signal.getsignal(signum) is before
    assert (stopped.value.step, stopped.value.steps) == (after, 2 * EPOCHS)
    assert str(stopped.value) == f"stopped after step {after} of 8, and saved in {tmp_path / 'parts' / 'last'}"
    run_stage(settings, tmp_path / "parts", "cpu", resume=True)
    assert_same(tmp_path / "whole", tmp_path / "parts")
    steps = [(row["step"], "bleu4" in row) for row in logged(tmp_path / "parts")]
    assert steps == [(row["step"], "bleu4" in row) for row in logged(tmp_path / "whole")]


def test_a_signal_in_a_validation_ends_it_and_it_is_done_when_the_run_goes_on(
    settings: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from signet_train.stages import run as stage

    run_stage(settings, tmp_path / "whole", "cpu")
    original, done = stage.predict, [0]

    def predict(*arguments: Any, **keywords: Any) -> Any:
        done[0] += 1
        if done[0] == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr(stage, "predict", predict)
        with pytest.raises(Stopped, match="after step 4 of 8"):
            run_stage(settings, tmp_path / "parts", "cpu")
    assert [row["step"] for row in logged(tmp_path / "parts") if "bleu4" in row] == [2]
    run_stage(settings, tmp_path / "parts", "cpu", resume=True)
    assert [row["step"] for row in logged(tmp_path / "parts") if "bleu4" in row] == [2, 4, 6, 8]
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_a_second_ctrl_c_does_not_wait(settings: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(*_: Any) -> float:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("went on")

    monkeypatch.setattr(loop, "_step", step)
    with pytest.raises(KeyboardInterrupt) as stopped:
        run_stage(settings, tmp_path / "run", "cpu")
    assert not isinstance(stopped.value, Stopped) and not (tmp_path / "run" / "last").exists()


def command(tmp_path: Path, *arguments: str) -> Result:
    file = tmp_path / "c.toml"
    if not file.exists():
        manifest = corpus(tmp_path / "data")
        sizes = "\n".join(
            f"[model.{section}]\n" + "\n".join(f"{key} = {value}" for key, value in MODEL[section].items())
            for section in MODEL
        )
        optimisation = "[optimisation]\nepochs = 2\nbatch_size = 4\naccumulation = 1\n"
        data = f'[data]\nmanifests = ["{manifest}"]\nframe_rate = 6.25\nworkers = 0\n'
        card = "[card]\nnum_beams = 1\nmax_new_tokens = 4\n"
        file.write_text(f'stage = "pretrain"\ntokenize = "char"\n{sizes}\n{data}{optimisation}{card}')
    run = ["pretrain", str(file), "--out", str(tmp_path / "run"), "--device", "cpu"]
    return CliRunner().invoke(main, [*run, *arguments])


def test_what_the_command_says_when_it_is_stopped_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        interrupt(patched, signal.SIGINT, 1)
        stopped = command(tmp_path)
    assert stopped.exit_code == 130
    last = tmp_path / "run" / "last"
    assert stopped.stderr.splitlines()[-1] == (
        f"signet-train: stopped after step 1 of 4, and saved in {last}; "
        "the same command with --resume goes on from there"
    )
    resumed = command(tmp_path, "--resume")
    assert resumed.exit_code == 0, resumed.output
    told = resumed.stderr.splitlines()
    best = tmp_path / "run" / "best"
    assert any(line.startswith(f"{best}: bleu4 ") and "the best, after step" in line for line in told)
    assert told[-1] == f"Next: signet-train align or finetune CONFIG, with '{best}' among its experts"
    # Before anything was done there is nothing to go on from, and nothing is promised.
    monkeypatch.setattr("signet_train.stages.run.plan_stage", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    early = CliRunner().invoke(main, ["pretrain", str(tmp_path / "c.toml"), "--out", str(tmp_path / "other")])
    assert early.exit_code == 130
    assert early.stderr.splitlines()[-1] == "signet-train: interrupted; nothing is saved yet: start it again"


def test_a_run_is_extended_and_its_log_says_so(settings: TrainConfig, tmp_path: Path) -> None:
    run_stage(settings, tmp_path / "run", "cpu")
    longer = {"epochs": EPOCHS + 1, "save_every": 3}
    extended = settings.model_copy(update={"optimisation": settings.optimisation.model_copy(update=longer)})
    outcome = run_stage(extended, tmp_path / "run", "cpu", resume=True)
    assert outcome.steps == 2 * (EPOCHS + 1)
    rows = logged(tmp_path / "run")
    assert [row["step"] for row in rows if "bleu4" in row] == [2, 4, 6, 8, 10]
    (change,) = [row for row in rows if "changed" in row]
    assert change == {"step": 8, "changed": {"optimisation.epochs": [4, 5], "optimisation.save_every": [1000, 3]}}
    assert load_checkpoint(tmp_path / "run" / "last").config.optimisation.epochs == 5


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("optimisation", "lr", 0.5), ("data", "noise", 0.2)],
)
def test_a_setting_that_would_make_another_run_is_named(
    settings: TrainConfig, tmp_path: Path, section: str, key: str, value: float
) -> None:
    run_stage(settings, tmp_path / "run", "cpu")
    changed = getattr(settings, section).model_copy(update={key: value})
    was = getattr(getattr(settings, section), key)
    with pytest.raises(CheckpointError, match=rf"{section}\.{key} was {was} and is {value}; set them as they were"):
        run_stage(settings.model_copy(update={section: changed}), tmp_path / "run", "cpu", resume=True)


def test_steps_of_another_size_are_named(settings: TrainConfig, tmp_path: Path) -> None:
    run_stage(settings, tmp_path / "run", "cpu")
    smaller = {"optimisation": settings.optimisation.model_copy(update={"batch_size": 2})}
    with pytest.raises(
        CheckpointError, match=r"a step took 4 samples .*, and would take 2: set optimisation\.batch_size"
    ):
        run_stage(settings.model_copy(update=smaller), tmp_path / "run", "cpu", resume=True)


def test_worker_processes_leave_signals_to_who_trains(settings: TrainConfig, tmp_path: Path) -> None:
    """Terminals and schedulers send signals to the workers, too: they neither end nor write a traceback."""
    from signet_train.data.batches.collate import load_batches

    class Workers(torch.utils.data.Dataset[int]):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, _: Any) -> int:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            return os.getpid()

    found = list(load_batches(Workers(), [[(0, i)] for i in range(8)], list, workers=2))
    assert len(found) == 8 and os.getpid() not in {pid for batch in found for pid in batch}


def test_a_loader_that_nobody_closes_does_not_keep_its_process() -> None:
    code = (
        "import builtins\n"
        "from signet_train.data.batches.collate import load_batches\n"
        "builtins.kept = load_batches([1, 2, 3, 4], [[0], [1], [2], [3]], list, 1)\n"
        "print(next(builtins.kept))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert (done.stdout, done.stderr) == ("[1]\n", "")
