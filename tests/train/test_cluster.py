"""Extraction by a cluster's workers, real processes all: whatever becomes of one, nothing is lost, nothing twice."""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import fake_estimator
import pytest
from click.testing import CliRunner
from fake_estimator import CRASHES, HANGS, KILLS, RAISES, SEES_NOBODY, FakeEstimator, WeighedEstimator
from test_extraction import FINE, PERSON, row, weights, write_video  # noqa: F401 (a fixture)
from test_shards import stored

from signet_runtime.errors import EngineError
from signet_runtime.pose.shards import ShardedStore
from signet_train.data.extraction import extract
from signet_train.data.extraction_plan import plan
from signet_train.data.manifest import Manifest, write_manifest

pytest.importorskip("distributed")

from signet_train.cluster import crew as crew_module
from signet_train.cluster.connect import crew_of, slurm
from signet_train.cluster.crew import ClusterCrew
from signet_train.cluster.worker import Answer, Order, Slots

HERE = [str(Path(fake_estimator.__file__).parent), str(Path(__file__).parent)]


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def started(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join([*sys.path, *HERE])
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


class Cluster:
    """A scheduler and workers, each a process."""

    def __init__(self) -> None:
        self.port = free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.workers: list[subprocess.Popen[str]] = []
        self.begin()

    def begin(self) -> None:
        where = ("--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")
        self.scheduler = started("distributed.cli.dask_scheduler", *where)

    def join(self, slots: int = 1, **environment: str) -> subprocess.Popen[str]:
        self.workers.append(
            started("signet_train", "pose-worker", self.address, "--nthreads", str(slots), **environment)
        )
        return self.workers[-1]

    def end(self) -> None:
        for process in [*self.workers, self.scheduler]:
            process.kill()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    try:
        yield made
    finally:
        made.end()


def connected(cluster: Cluster, **options: Any) -> ClusterCrew:
    until = time.monotonic() + 60
    while True:
        try:
            return ClusterCrew(cluster.address, **{"told": lambda line: None, **options})
        except EngineError:
            assert time.monotonic() < until


def all_there(manifest: Manifest, names: Iterable[str]) -> None:
    """Every clip once, and readable."""
    store = ShardedStore(manifest.root / "p.arrow")
    assert sorted(store.ids) == sorted(names) and len(store) == len(set(names))
    assert all(len(store[name]) == 5 for name in store.ids)


def test_poison_ends_after_its_tries_and_the_rest_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = stored(tmp_path, [FINE, KILLS, FINE, RAISES, FINE, SEES_NOBODY, FINE, CRASHES, HANGS, FINE])
    told: list[str] = []
    done: list[int] = []
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*sys.path, *HERE]))
    with crew_of("local", slots=2, told=told.append, patience=1.0) as crew:
        failures = extract(plan(manifest).jobs, FakeEstimator, crew, progress=lambda: done.append(crew.slots))
    said = {failure.id: failure.message for failure in failures}
    assert list(said) == ["b", "d", "f", "h", "i"]
    what_of = ("was killed", "graph has errors", "no person", "(SIGSEGV)", "no sign of life")
    for name, what in zip("bdfhi", what_of, strict=True):
        assert what in said[name] and "\n" not in said[name]
        assert ("at each of 3 tries" in said[name]) == (name in "bhi")
    all_there(manifest, "acegj")
    assert len(done) == 10 and done[-1] == 2
    assert len(told) == 1 and "no worker is there; one is started here" in told[0]


class _Killer:
    """Kills one of the workers at random moments, and starts another in its place."""

    def __init__(self, cluster: Cluster, times: int) -> None:
        self.cluster, self.left, self.random = cluster, times, random.Random(1)

    def __call__(self) -> None:
        if self.left and self.random.random() < 0.5:
            self.left -= 1
            victim = self.cluster.workers.pop(self.random.randrange(len(self.cluster.workers)))
            victim.send_signal(signal.SIGKILL)
            victim.communicate()
            self.cluster.join()


@pytest.mark.parametrize("times", [2, pytest.param(100, marks=pytest.mark.slow)])
def test_workers_that_are_killed_lose_nothing_and_nothing_is_done_twice(
    tmp_path: Path, cluster: Cluster, times: int
) -> None:
    manifest = stored(tmp_path, [FINE] * 8)
    rows = [manifest.rows[n % 8] for n in range(12 * times)]
    rows = [type(r)(**{**_fields(r), "id": f"{n}", "poses": f"p.arrow#{n}"}) for n, r in enumerate(rows)]
    manifest = Manifest(rows, tmp_path)
    for _ in range(2):
        cluster.join()
    finished: list[int] = []
    killer = _Killer(cluster, times)

    def progress() -> None:
        finished.append(1)
        killer()

    with connected(cluster) as crew:
        failures = extract(plan(manifest).jobs, functools.partial(FakeEstimator, 0.05), crew, progress=progress)
    assert [f.message for f in failures] == [] and killer.left == 0 and len(finished) == len(rows)
    all_there(manifest, [r.id for r in rows])


def _fields(r: Any) -> dict[str, Any]:
    return {name: getattr(r, name) for name in ("split", "text", "language", "sign_language", "video")}


@pytest.mark.slow
def test_a_scheduler_that_was_killed_and_started_again_is_found_again(tmp_path: Path, cluster: Cluster) -> None:
    manifest = stored(tmp_path, [FINE] * 8)
    cluster.join(slots=2)
    told: list[str] = []
    finished: list[int] = []

    def progress() -> None:
        finished.append(1)
        if len(finished) == 3:
            cluster.scheduler.send_signal(signal.SIGKILL)
            cluster.scheduler.communicate()
            cluster.begin()

    with connected(cluster, told=told.append) as crew:
        failures = extract(plan(manifest).jobs, functools.partial(FakeEstimator, 0.2), crew, progress=progress)
    assert failures == [] and len(finished) == 8
    all_there(manifest, "abcdefgh")
    assert any("the scheduler has gone" in line or "asked for again" in line for line in told) or told == []


@pytest.mark.slow
def test_a_scheduler_that_does_not_come_back_ends_the_run_in_one_line(tmp_path: Path, cluster: Cluster) -> None:
    manifest = stored(tmp_path, [FINE] * 8)
    cluster.join()

    def progress() -> None:
        cluster.scheduler.kill()

    with connected(cluster, wait=1.0) as crew, pytest.raises(EngineError, match="the same command goes on") as raised:
        extract(plan(manifest).jobs, functools.partial(FakeEstimator, 0.2), crew, progress=progress)
    assert "\n" not in str(raised.value)
    assert 0 < plan(manifest).present < 8  # what was done is there
    with pytest.raises(EngineError, match="no scheduler there"):
        ClusterCrew(f"tcp://127.0.0.1:{free_port()}", told=lambda line: None)


@pytest.mark.slow
def test_a_machine_without_the_weights_is_refused_and_the_others_do_its_clips(tmp_path: Path, cluster: Cluster) -> None:
    manifest = stored(tmp_path, [FINE] * 6)
    without = cluster.join(NO_WEIGHTS="1")
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        if "was refused" in line:
            cluster.join()

    said = r"no worker is left that can do this.*no weights for this estimator"
    with connected(cluster, told=tell) as crew, pytest.raises(EngineError, match=said):
        extract(plan(manifest).jobs, WeighedEstimator, crew)
    assert "no weights for this estimator on this machine" in without.communicate(timeout=30)[1]
    assert without.returncode == 5
    with connected(cluster, told=tell) as crew:  # the one that has joined in its place
        assert extract(plan(manifest).jobs, WeighedEstimator, crew) == []
    all_there(manifest, "abcdef")


def test_another_version_on_a_worker_is_refused(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = stored(tmp_path, [FINE] * 2)
    worker = cluster.join()
    monkeypatch.setattr(crew_module, "code_version", lambda: "9.9 (0123456789ab)")
    with connected(cluster) as crew, pytest.raises(EngineError, match=r"and the run is of 9\.9 \(0123456789ab\)"):
        extract(plan(manifest).jobs, FakeEstimator, crew)
    assert "refused by the run: has signet-slt " in worker.communicate(timeout=30)[1] and worker.returncode == 5


def instantly(order: Order, job: int) -> Answer:
    return Answer("done", job + 1)


def test_no_more_jobs_are_given_out_than_workers_can_be_busy_with(tmp_path: Path) -> None:
    from distributed import LocalCluster

    ahead, finished = [], []

    def jobs() -> Iterator[int]:
        for n in range(300):
            ahead.append(n + 1 - len(finished))
            yield n

    three = {"n_workers": 1, "threads_per_worker": 3, "processes": False, "resources": {"pose": 3}}
    with (
        LocalCluster(**three, dashboard_address=None) as c,
        ClusterCrew(c.scheduler_address, told=lambda line: None, act=instantly) as crew,
    ):
        crew(int, jobs(), finished=lambda job, result: finished.append(result), died=lambda job, how: None)
    assert sorted(finished) == list(range(1, 301)) and max(ahead) <= 3 * 2 + 3


# --- A worker's slots, without a scheduler --------------------------------------------------------------------


def order(make_work: Any, patience: float = 30.0) -> Order:
    return Order(pickle.dumps(make_work), "", patience)


@pytest.mark.slow
def test_each_process_has_a_gpu_of_its_own() -> None:
    import threading

    slots = Slots(2, ("3", "GPU-7"))
    try:
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(slots.do(order(_slow_device), 0))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answer.value for answer in answers) == ["3", "GPU-7"]
    finally:
        slots.close()


def _slow_device() -> Any:
    return _device_after_a_second


def _device_after_a_second(_: int) -> str | None:
    time.sleep(1.0)  # so that no slot does both
    return os.environ.get("CUDA_VISIBLE_DEVICES")


# --- The commands ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_does_it_on_a_local_cluster(tmp_path: Path, weights: Path) -> None:  # noqa: F811
    from signet_train.commands.extract_poses import extract_poses

    rows = [row(name, poses=f"p.arrow#{name}") for name in "abcd"]
    for r in rows[1:]:
        write_video(tmp_path / str(r.video), [PERSON] * 4)
    manifest = tmp_path / "m.jsonl"
    write_manifest(manifest, rows)
    given = [str(manifest), "--pose", "rtmpose-lightweight", "--pose-weights", str(weights), "--workers", "1"]
    result = CliRunner().invoke(extract_poses, [*given, "--scheduler", "local"])
    assert result.exit_code == 3 and "3 extracted, 0 there already, 1 failed" in result.stderr, result.stderr
    assert "a.mp4: no such file" in (tmp_path / "m.failures.jsonl").read_text()
    write_video(tmp_path / "a.mp4", [PERSON] * 4)
    again = CliRunner().invoke(extract_poses, given)  # on one machine, as ever
    assert again.exit_code == 0 and "1 extracted, 3 there already, 0 failed" in again.stderr
    assert sorted(ShardedStore(tmp_path / "p.arrow").ids) == list("abcd")


def test_slurm_s_script_starts_a_worker_of_ours(tmp_path: Path) -> None:
    from signet_train.commands.extract_poses import extract_poses

    write_manifest(tmp_path / "m.jsonl", [row("a")])
    given = [str(tmp_path / "m.jsonl"), "--scheduler", "slurm", "--workers", "4", "--job-script"]
    result = CliRunner().invoke(extract_poses, [*given, "--job-option=--gres=gpu:4", "--job-option=--partition=big"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("#!") and "#SBATCH --gres=gpu:4" in lines and "#SBATCH --partition=big" in lines
    (command,) = [line for line in lines if "pose-worker" in line]
    assert " -m signet_train pose-worker tcp://" in command and "--nthreads 4" in command
    assert any("--mem" in line for line in lines) and any("cpus-per-task=4" in line for line in lines)
    # What SLURM would run is what the command takes.
    from signet_train.commands.pose_worker import pose_worker

    words = command.split()[command.split().index("pose-worker") + 1 :]
    pose_worker.make_context("pose-worker", words)
    for wrong in (["--scheduler", "http://x"], ["--job-script"]):
        refused = CliRunner().invoke(extract_poses, [str(tmp_path / "m.jsonl"), *wrong])
        assert refused.exit_code == 2
    with contextlib.closing(slurm(2, [])) as made:
        assert "--nthreads 2" in made.job_script()


def test_without_the_extra_the_command_says_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from signet_train.commands.extract_poses import extract_poses

    write_manifest(tmp_path / "m.jsonl", [row("a")])
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = CliRunner().invoke(extract_poses, [str(tmp_path / "m.jsonl"), "--scheduler", "local"])
    assert isinstance(result.exception, EngineError) and "[cluster]" in str(result.exception)
