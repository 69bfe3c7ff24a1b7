"""A pose store in shards: whole files named by content, found by one look-up, whoever writes and whatever ends them."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from keypoint_corpus import random_sequence
from test_extraction import FINE, corpus

from signet_runtime.errors import InputError, OutputError
from signet_runtime.locks import machine
from signet_runtime.pose.files import read_keypoints
from signet_runtime.pose.shards import ShardedStore, open_store
from signet_runtime.pose.store import PoseStore
from signet_train.data.extraction import extract
from signet_train.data.extraction_plan import plan, repair_stores
from signet_train.data.manifest import Manifest
from signet_train.data.poses import load_poses, poses_exist
from signet_train.data.provenance import provenance
from signet_train.data.store.arrow import quantise
from signet_train.data.store.shards import ShardWriter, take_over
from signet_train.data.workers import run_jobs


def in_process(make_work: object, jobs: object, *, finished: object, died: object) -> None:
    """A crew that is this process."""
    work = make_work()  # type: ignore[operator]
    for job in jobs:  # type: ignore[attr-defined]
        finished(job, work(job))  # type: ignore[operator]


def add(path: Path, names: list[str], clips: int = 4, seed: int = 0) -> None:
    with ShardWriter(path, clips) as writer:
        for name in names:
            writer.add(name, quantise(random_sequence(seed + len(name), frames=3)), f'{{"of": "{name}"}}')


def shards(path: Path) -> set[str]:
    return {file.name for file in path.iterdir()}


def test_clips_are_found_wherever_they_lie(tmp_path: Path) -> None:
    names = [f"clip {n}/ä#{'x' * (n % 7)}" for n in range(30)]
    add(tmp_path / "p.arrow", names[:17])
    add(tmp_path / "p.arrow", names[17:])
    assert len(shards(tmp_path / "p.arrow")) == 5 + 4  # of four clips each, and what was left
    store = open_store(tmp_path / "p.arrow")
    assert isinstance(store, ShardedStore) and open_store(tmp_path / "p.arrow") is store
    assert len(store) == 30 and sorted(store.ids) == sorted(names)
    for name in np.random.default_rng(0).permutation(names).tolist():
        expected = quantise(random_sequence(len(name), frames=3))
        found = load_poses(f"p.arrow#{name}", tmp_path)
        assert quantise(found).levels == expected.levels and found.fps == 25.0
        assert read_keypoints(f"{tmp_path}/p.arrow#{name}").source == "mediapipe"
        assert store.made_of(name) == ("mediapipe", f'{{"of": "{name}"}}')
    for name in ("", "clip", "\ud800", names[0] + " "):
        assert name not in store and not poses_exist(f"p.arrow#{name}", tmp_path)
        with pytest.raises(InputError, match="no such clip among the 30"):
            store[name]
    assert provenance(f"p.arrow#{names[0]}", tmp_path).estimator == "mediapipe"
    assert pickle.loads(pickle.dumps(store))[names[3]].size == (640, 480)


def test_the_same_clips_make_the_same_file_and_two_runs_that_did_the_same_leave_each_clip_once(tmp_path: Path) -> None:
    path = tmp_path / "p.arrow"
    add(path, ["a", "b"])
    before = shards(path)
    add(path, ["a", "b"])
    assert shards(path) == before
    add(path, ["a", "c"], seed=5)  # another run, which found a anew
    store = ShardedStore(path)
    assert sorted(store.ids) == ["a", "b", "c"]
    first = min(shards(path))
    assert store["a"].keypoints.tobytes() == PoseStore(path / first)["a"].keypoints.tobytes()


def test_what_a_killed_process_had_written_is_taken_over_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    path = tmp_path / "p.arrow"
    code = (
        "import sys, pathlib, time; from keypoint_corpus import random_sequence;"
        "from signet_train.data.store.arrow import quantise; from signet_train.data.store.shards import ShardWriter;"
        "writer = ShardWriter(pathlib.Path(sys.argv[1]));"
        "[writer.add(str(n), quantise(random_sequence(n, frames=3)), '{}') for n in range(40)];"
        "print('written', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])}
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"written\n"
    assert take_over(path) == 0 and len(ShardedStore(path)) == 0
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert take_over(path) == 32  # whole batches of 16: the rest had not been written
    assert len(shards(path)) == 1 and take_over(path) == 0
    store = ShardedStore(path)
    assert sorted(map(int, store.ids)) == list(range(32))
    assert quantise(store["7"]).levels == quantise(random_sequence(7, frames=3)).levels


@pytest.mark.parametrize("keep", [0, 5, 200, 3000, -1])
def test_an_unfinished_file_may_end_anywhere(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "p.arrow"
    writer = ShardWriter(path)
    for n in range(3):
        writer.add(str(n), quantise(random_sequence(n, frames=3)), "{}")
    writer.flush()
    (draft,) = path.iterdir()
    content = draft.read_bytes()
    (tmp_path / "left").mkdir()
    (path / f".{machine()}-01234567.unfinished").write_bytes(content[:keep] if keep >= 0 else content)
    assert take_over(path) == (3 if keep < 0 else 0)
    writer.finish()
    assert sorted(ShardedStore(path).ids) == ["0", "1", "2"] and not any(name[0] == "." for name in shards(path))


def stored(root: Path, brightness: list[int]) -> Manifest:
    """As `corpus`, with keypoints in a pose store."""
    made = corpus(root, brightness)
    return Manifest([replace(row, poses=f"p.arrow#{row.id}") for row in made.rows], root)


def run(manifest: Manifest) -> list[str]:
    from fake_estimator import FakeEstimator

    return [failure.message for failure in extract(plan(manifest).jobs, FakeEstimator, in_process)]


def test_rows_of_a_store_are_extracted_into_shards_once(tmp_path: Path) -> None:
    manifest = stored(tmp_path, [FINE] * 4)
    assert run(manifest) == []
    done = plan(manifest, pose="mediapipe")
    assert (done.present, done.untold, done.failures, len(done.jobs)) == (4, 0, [], 0)
    assert len(load_poses("p.arrow#c", tmp_path)) == 5
    assert "was found by mediapipe, not rtmpose-x" in plan(manifest, pose="rtmpose-x").failures[0].message
    with pytest.raises(InputError, match=r"OTHER\.arrow#\{id\}"):
        plan(manifest, force=True)
    (tmp_path / "a.mp4").write_bytes((tmp_path / "a.mp4").read_bytes() + b"more")
    (failure,) = plan(manifest).failures
    assert failure.id == "a" and "keypoints of another recording" in failure.message


def test_a_shard_that_was_cut_off_is_named_and_set_aside_and_its_clips_are_found_anew(tmp_path: Path) -> None:
    manifest = stored(tmp_path, [FINE] * 4)
    store = tmp_path / "p.arrow"
    run(Manifest(manifest.rows[:2], tmp_path))
    (cut,) = store.iterdir()
    run(Manifest(manifest.rows[2:], tmp_path))
    os.truncate(cut, cut.stat().st_size - 100)
    with pytest.raises(InputError, match=rf"{cut.name}.*a shard of .*extract-poses"):
        load_poses("p.arrow#d", tmp_path)
    (said,) = repair_stores(manifest)
    assert said.startswith(str(cut)) and f"{cut.name}.damaged" in said
    assert [job.id for job in plan(manifest).jobs] == ["a", "b"]
    assert run(manifest) == [] and plan(manifest).present == 4
    assert list(repair_stores(manifest)) == []


def test_a_full_disk_ends_the_run_and_the_next_goes_on_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = stored(tmp_path, [FINE] * 3)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"p\.arrow: .*No space left on device.*make room") as raised:
            run(manifest)
    assert "\n" not in str(raised.value)
    import gc

    del raised
    gc.collect()  # as when the process has ended
    assert len(plan(manifest).jobs) == 3
    (said,) = repair_stores(manifest)
    assert "3 clips of a run that was killed were taken over" in said
    assert len(plan(manifest).jobs) == 0 and len(load_poses("p.arrow#b", tmp_path)) == 5


def test_two_runs_at_once_on_one_store_do_not_clash(tmp_path: Path) -> None:
    import threading

    manifest = stored(tmp_path, [FINE] * 6)
    both = plan(manifest).jobs, plan(manifest).jobs
    from fake_estimator import FakeEstimator

    started = threading.Barrier(2)

    def one(jobs: object) -> None:
        started.wait()
        extract(jobs, FakeEstimator, in_process)  # type: ignore[arg-type]

    threads = [threading.Thread(target=one, args=(jobs,)) for jobs in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ShardedStore(tmp_path / "p.arrow").ids) == list("abcdef")
    assert plan(manifest).present == 6 and list(repair_stores(manifest)) == []


def test_a_process_that_hangs_is_replaced(tmp_path: Path) -> None:
    from fake_estimator import HANGS, FakeEstimator

    manifest = stored(tmp_path, [FINE, HANGS, FINE, FINE])
    crew = partial(run_jobs, processes=2, patience=1.5)
    (failure,) = extract(plan(manifest).jobs, FakeEstimator, crew)
    assert failure.id == "b" and "gave no sign of life for 1.5 s, and was ended, before it was done" in failure.message
    assert plan(manifest).present == 3


def test_what_a_shard_knows_of_its_recordings_is_json(tmp_path: Path) -> None:
    manifest = stored(tmp_path, [FINE])
    run(manifest)
    store = open_store(tmp_path / "p.arrow")
    assert isinstance(store, ShardedStore)
    source, recording = store.made_of("a") or ("", None)
    assert source == "mediapipe" and json.loads(str(recording))["name"] == "a.mp4"
