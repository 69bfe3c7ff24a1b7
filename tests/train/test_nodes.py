"""Training on two nodes, each a group of processes of this machine: the same as on one, and with other numbers."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tiny_runs import FUSION, MODEL, words
from tiny_runs import config as stage

from signet_runtime.errors import CheckpointError
from signet_train.checkpoint import load_checkpoint
from signet_train.config import TrainConfig
from signet_train.stages.progress import changes_since
from signet_train.stages.run import run_stage

DRIVER = Path(__file__).with_name("two_processes.py")
LAUNCH = Path(__file__).parents[2] / "examples" / "launch"
PLAIN = {"noise": 0, "frame_drop": 0}


def free_port() -> str:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return str(bound.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    paths = os.pathsep.join([str(DRIVER.parent), *sys.path])
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "PATH": search, **more}


def together(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        _, said = process.communicate(timeout=280)
        assert process.returncode == 0, said[-3000:]


def nodes(count: int, *command: str) -> list[subprocess.Popen[str]]:
    """Groups of one process each, as torchrun makes them on machines of their own."""
    port = free_port()
    launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(count), "--nproc_per_node", "1"]
    launch += ["--master_addr", "127.0.0.1", "--master_port", port]
    return [
        subprocess.Popen(
            [*launch, "--node_rank", str(node), *command],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for node in range(count)
    ]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(out / "last").model.state_dict()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return words(tmp_path_factory.mktemp("data") / "words.parquet")


def trained(name: str, count: int, manifest: Path, out: Path, **changes: object) -> dict[str, torch.Tensor]:
    optimisation = {"batch_size": 8 // count, "accumulation": 2, "epochs": 1}
    file = out.with_suffix(".json")
    file.write_text(stage(name, manifest, data=PLAIN, optimisation=optimisation, **changes).model_dump_json())
    together(*nodes(count, str(DRIVER), str(file), str(out)))
    return weights(out)


def test_stage_one_on_two_nodes_is_that_of_one_process(manifest: Path, tmp_path: Path) -> None:
    """BatchNorm counts the frames of both: weights and running statistics agree to 1e-5 and 1e-4 of their value."""
    one, two = (trained("pretrain", count, manifest, tmp_path / str(count)) for count in (1, 2))
    start = stage("pretrain", manifest)
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=1e-5, rtol=1e-4, msg=lambda m, key=key: f"{key}: {m}")
    statistics = [key for key in one if key.endswith("running_var")]
    assert statistics and all((one[key] - 1).abs().max() > 1e-3 for key in statistics), start


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(manifest: Path, tmp_path: Path) -> None:
    """Interrupted after the first epoch on one process, and finished by two: as if it had always been one."""
    whole = stage("pretrain", manifest, data=PLAIN, optimisation={"batch_size": 8, "accumulation": 2, "epochs": 2})
    file = tmp_path / "whole.json"
    file.write_text(whole.model_dump_json())
    together(*nodes(1, str(DRIVER), str(file), str(tmp_path / "whole")))
    file.write_text(whole.model_dump_json())
    together(*nodes(1, str(DRIVER), str(file), str(tmp_path / "part"), "3"))  # stopped after three steps
    halves = whole.model_copy(
        update={"optimisation": whole.optimisation.model_copy(update={"batch_size": 4, "accumulation": 2})}
    )
    file.write_text(halves.model_dump_json())
    together(*nodes(2, str(DRIVER), str(file), str(tmp_path / "part"), "resume"))
    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "part")
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=1e-5, rtol=1e-4, msg=lambda m, key=key: f"{key}: {m}")
    changed = [json.loads(line) for line in (tmp_path / "part" / "log.jsonl").read_text().splitlines()]
    (row,) = [row["changed"] for row in changed if "changed" in row]
    assert row["processes"] == [1, 2] and row["optimisation.batch_size"] == [8, 4]


@pytest.mark.parametrize(
    ("name", "batch", "accumulation", "processes", "said"),
    [
        ("pretrain", 8, 1, 2, r"batch 8 x accumulation 1 x 1 processes\), and would take 16"),
        ("align", 4, 1, 1, "and would take 4"),
        ("align", 4, 2, 1, "a forward pass of all processes had 8 samples, and would have 4: Stage II"),
        ("align", 2, 1, 4, None),
        ("pretrain", 2, 2, 2, None),
    ],
)
def test_what_cannot_be_the_same_step_is_refused(
    tmp_path: Path, manifest: Path, name: str, batch: int, accumulation: int, processes: int, said: str | None
) -> None:
    before = stage(name, manifest, optimisation={"batch_size": 8, "accumulation": 1})
    (tmp_path / "last").mkdir()
    (tmp_path / "last" / "config.json").write_text(before.model_dump_json(by_alias=True))
    torch.save({"step": 1, "processes": 1, "best": 0.0, "optimizer": {}}, tmp_path / "last" / "training_state.pt")
    now = stage(name, manifest, optimisation={"batch_size": batch, "accumulation": accumulation})
    if said is None:
        assert changes_since(tmp_path, now, processes)["optimisation.batch_size"] == (8, batch)
        return
    with pytest.raises(CheckpointError, match=said):
        changes_since(tmp_path, now, processes)


def test_gradient_checkpointing_makes_the_same_step(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Adam would make much of the last bit of a gradient that is all but zero.
    monkeypatch.setattr(torch.optim, "AdamW", lambda groups, **_: torch.optim.SGD(groups, lr=0.01))
    found = []
    for on in (False, True):
        optimisation = {"epochs": 1, "batch_size": 8, "gradient_checkpointing": on}
        run_stage(stage("pretrain", manifest, optimisation=optimisation), tmp_path / str(on), "cpu")
        found.append(weights(tmp_path / str(on)))
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, atol=1e-6, rtol=1e-5)


# --- The launch files -----------------------------------------------------------------------------------------


def toml(config: TrainConfig, path: Path) -> Path:
    """What the commands read; as JSON's values are TOML's."""
    lines: list[str] = []

    def section(values: dict, name: str) -> None:
        plain = {k: v for k, v in values.items() if not isinstance(v, dict) and v is not None}
        lines.extend([f"[{name}]"] if name else [])
        lines.extend(f"{key} = {json.dumps(value)}" for key, value in plain.items())
        for key, value in values.items():
            if isinstance(value, dict):
                section(value, f"{name}.{key}" if name else key)

    section(config.model_dump(mode="json", by_alias=True), "")
    path.write_text("\n".join(lines))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("script", ["single_node", "multi_node", "slurm"])
def test_the_launch_files_train_on_this_machine(script: str, manifest: Path, tmp_path: Path) -> None:
    optimisation = {"epochs": 1, "batch_size": 4, "accumulation": 1}
    file = toml(stage("pretrain", manifest, data=PLAIN, optimisation=optimisation), tmp_path / "c.toml")
    command = ["pretrain", str(file), "--out", str(tmp_path / "run"), "--device", "cpu"]
    if script == "single_node":
        started = [({"PROCESSES": "2"}, LAUNCH / "single_node.sh")]
    elif script == "multi_node":
        where = {"HEAD": "127.0.0.1", "NODES": "2", "PORT": free_port(), "PROCESSES": "1"}
        started = [({**where, "NODE": node}, LAUNCH / "multi_node.sh") for node in "01"]
    else:  # SLURM's part is played by two scripts
        (tmp_path / "bin").mkdir()
        fakes = {
            "scontrol": "echo 127.0.0.1; echo elsewhere",
            "srun": 'shift; SLURM_NODEID=1 "$@" & SLURM_NODEID=0 "$@"; code=$?; wait $!; exit $((code | $?))',
        }
        for name, content in fakes.items():
            (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{content}\n")
            (tmp_path / "bin" / name).chmod(stat.S_IRWXU)
        slurm = {"SLURM_NNODES": "2", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]", "PROCESSES": "1"}
        path = os.pathsep.join([str(tmp_path / "bin"), environment()["PATH"]])
        slurm |= {"SLURM_SUBMIT_DIR": str(LAUNCH.parents[1]), "PATH": path, "PORT": free_port()}
        started = [(slurm, LAUNCH / "slurm.sh")]
    together(
        *(
            subprocess.Popen(
                ["bash", str(file_), *command],
                env=environment(**given),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for given, file_ in started
        )
    )
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    assert described["processes"] == 2 and (tmp_path / "run" / "best" / "config.json").is_file()


@pytest.mark.slow
def test_evaluation_and_caching_on_two_nodes_are_those_of_one_process(manifest: Path, tmp_path: Path) -> None:
    run_stage(stage("pretrain", manifest, optimisation={"epochs": 1}), tmp_path / "expert", "cpu")
    best = str(tmp_path / "expert" / "best")
    from signet_train.commands.evaluate import evaluate

    told = CliRunner().invoke(evaluate, [best, "--split", "dev", "--out", str(tmp_path / "1.jsonl"), "--device", "cpu"])
    assert told.exit_code == 0, told.output
    given = ["-m", "signet_train", "evaluate", best, "--split", "dev", "--device", "cpu"]
    together(*nodes(2, *given, "--batch-size", "3", "--out", str(tmp_path / "2.jsonl")))
    assert (tmp_path / "1.jsonl").read_text() == (tmp_path / "2.jsonl").read_text()

    caches = []
    for count in (1, 2):
        cache = tmp_path / f"cache{count}"
        changes = {"experts": [best, best], "model": {**MODEL, "fusion": FUSION}, "data": {"cache": cache}}
        file = toml(stage("align", manifest, **changes), tmp_path / f"{count}.toml")
        together(*nodes(count, "-m", "signet_train", "cache", str(file), "--device", "cpu", "--views", "2"))
        caches.append({p.relative_to(cache): p.read_bytes() for p in sorted(cache.rglob("*")) if p.is_file()})
    assert caches[0] == caches[1] and len(caches[0]) >= 4
