"""Keypoints of a corpus: every row once, whole or not at all, whatever happens to a video, a process or the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import av
import fake_estimator
import numpy as np
import pytest
from click.testing import CliRunner, Result
from fake_estimator import CRASHES, KILLS, RAISES, RAISES_ENGINE_ERROR, SEES_NOBODY, FakeEstimator
from hypothesis import given, settings
from hypothesis import strategies as st
from rtmpose_models import paint, write_detector, write_pose
from stores import write_store

from signet_runtime.errors import EngineError, InputError, OutputError
from signet_runtime.leftovers import temporary_name
from signet_runtime.pose.files import read_keypoints
from signet_runtime.pose.sequence import PoseSequence
from signet_train.commands.extract_poses import extract_poses
from signet_train.data.extraction import extract
from signet_train.data.extraction_plan import in_shard, plan
from signet_train.data.extraction_work import Failure
from signet_train.data.manifest import Manifest, Row, read_manifest, write_manifest
from signet_train.data.workers import run_jobs

FINE = 240  # a brightness at which nothing happens


def row(name: str, **changes: object) -> Row:
    fields = {"split": "train", "text": "a", "language": "de", "sign_language": "gsg", "video": f"{name}.mp4"}
    return Row(**{"id": name, "poses": f"poses/{name}.npz", **fields, **changes})


def write_video(path: Path, images: list[np.ndarray], rate: int = 25) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv444p"
        stream.options = {"crf": "1", "preset": "ultrafast"}
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode())


def grey(brightness: int, frames: int = 5) -> list[np.ndarray]:
    return [np.full((32, 32, 3), brightness, np.uint8)] * frames


def corpus(root: Path, brightness: list[int]) -> Manifest:
    """One clip a brightness, called a, b, c…"""
    rows = [row(chr(ord("a") + i)) for i in range(len(brightness))]
    for clip, value in zip(rows, brightness, strict=True):
        write_video(root / str(clip.video), grey(value))
    return Manifest(rows, root)


def written(root: Path) -> set[str]:
    """The keypoint files, all of which can be read, and nothing else lies there."""
    names = {path.name for path in (root / "poses").iterdir()}
    for name in names:
        assert len(read_keypoints(root / "poses" / name)) > 0
    return names


def run(manifest: Manifest, workers: int = 1, **options: object) -> list[Failure]:
    return extract(plan(manifest).jobs, FakeEstimator, partial(run_jobs, processes=workers), **options)


# --- What there is to do ------------------------------------------------------------------------------------


@given(st.text(min_size=1), st.integers(1, 50))
def test_every_keypoint_file_is_in_exactly_one_shard(poses: str, count: int) -> None:
    assert sum(in_shard(poses, number, count) for number in range(1, count + 1)) == 1


@settings(max_examples=30)
@given(st.sets(st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True), min_size=1), st.integers(1, 5))
def test_shards_together_do_all_rows_and_none_twice(names: set[str], count: int) -> None:
    manifest = Manifest([row(name) for name in sorted(names)], Path("/nowhere"))
    parts = [plan(manifest, shard=(number, count)).jobs for number in range(1, count + 1)]
    ids = [job.id for jobs in parts for job in jobs]
    assert sorted(ids) == sorted(names)


def test_shards_are_of_like_size_and_the_same_on_every_machine() -> None:
    sizes = [sum(in_shard(f"poses/{n:05}.npz", k, 4) for n in range(4000)) for k in range(1, 5)]
    assert min(sizes) > 900
    assert [in_shard("poses/a.npz", k, 3) for k in (1, 2, 3)] == [in_shard("poses//./a.npz", k, 3) for k in (1, 2, 3)]
    assert [in_shard("poses/a.npz", k, 3) for k in (1, 2, 3)] == [True, False, False]


def test_what_is_there_is_left_alone_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "poses").mkdir()
    for name in ("a.npz", "d.pkl"):
        (tmp_path / "poses" / name).touch()
    manifest = Manifest(
        [row("a"), row("b", split="dev"), row("c", poses="spell://ase/abc"), row("d", poses="poses/d.pkl", video=None)],
        tmp_path,
    )
    todo = plan(manifest)
    assert ([job.id for job in todo.jobs], todo.present, todo.failures) == (["b"], 3, [])
    todo = plan(manifest, force=True)
    assert [job.id for job in todo.jobs] == ["a", "b"]
    assert [job.id for job in plan(manifest, split="dev").jobs] == ["b"]
    with pytest.raises(InputError, match="the manifest has dev, train"):
        plan(manifest, split="test")


def test_clips_of_a_pose_store_are_there_or_not_and_never_extracted(tmp_path: Path) -> None:
    clip = PoseSequence(np.zeros((1, 133, 2)), np.ones((1, 133)), 25, (1, 1), "a")
    write_store(tmp_path / "a.arrow", [("x", clip)])
    manifest = Manifest([row("x", poses="a.arrow#x"), row("y", poses="a.arrow#y")], tmp_path)
    todo = plan(manifest)
    assert (todo.jobs, todo.present, [failure.id for failure in todo.failures]) == ([], 1, ["y"])
    assert "a.arrow#y: `signet-train convert-poses`" in todo.failures[0].message
    assert plan(manifest, force=True).jobs == []


def test_rows_that_never_can_be_extracted_say_why() -> None:
    manifest = Manifest(
        [
            row("a", poses="a.pkl"),
            row("b", video=None),
            row("c"),
            row("d", poses="poses/c.npz"),
            row("e", poses="./poses/c.npz", video="c.mp4"),
            row("f", poses="poses/c.npz", video="c.mp4", end=2.0),
        ],
        Path("/nowhere"),
    )
    todo = plan(manifest)
    assert [job.id for job in todo.jobs] == ["c"]  # which is e's file, too
    said = {failure.row: failure.message for failure in todo.failures}
    assert list(said) == [1, 2, 4, 6]
    assert "written as .npz" in said[1] and "names no video" in said[2]
    assert "row 3 keeps another recording's" in said[4] and "row 3" in said[6]


# --- Doing it -----------------------------------------------------------------------------------------------


def test_failures_are_told_by_row_and_stop_nobody_else(tmp_path: Path) -> None:
    manifest = corpus(tmp_path, [FINE, RAISES, FINE, SEES_NOBODY, FINE])
    (tmp_path / "c.mp4").write_text("not a video")
    (tmp_path / "d.mp4").rename(tmp_path / "nobody.mp4")
    manifest = Manifest([*manifest.rows, row("nobody")], tmp_path)
    failures = run(manifest)
    assert written(tmp_path) == {"a.npz", "e.npz"}  # e: the estimator was broken by b, and a new one took over
    assert [(failure.row, failure.id) for failure in failures] == [(2, "b"), (3, "c"), (4, "d"), (6, "nobody")]
    for failure, said in zip(failures, ("graph has errors", "not a video", "no such file", "no person"), strict=True):
        assert said in failure.message and "\n" not in failure.message


def test_a_killed_process_takes_only_its_own_row_along(tmp_path: Path) -> None:
    manifest = corpus(tmp_path, [FINE, KILLS, FINE, CRASHES, FINE, FINE])
    done = []
    failures = run(manifest, workers=2, progress=lambda: done.append(1))
    assert written(tmp_path) == {"a.npz", "c.npz", "e.npz", "f.npz"}
    assert [failure.id for failure in failures] == ["b", "d"]
    assert "b.mp4: the process that was reading it was killed, as happens when memory runs out," in failures[0].message
    assert "crashed (SIGSEGV)" in failures[1].message
    assert len(done) == 6


def test_an_estimator_that_cannot_run_ends_the_run(tmp_path: Path) -> None:
    manifest = corpus(tmp_path, [FINE, RAISES_ENGINE_ERROR])
    with pytest.raises(EngineError, match="no weights for this estimator"):
        extract(plan(manifest).jobs, fake_estimator.no_estimator, partial(run_jobs, processes=2))
    with pytest.raises(EngineError, match=r"was killed.*while it started"):
        extract(plan(manifest).jobs, fake_estimator.dying_estimator, partial(run_jobs, processes=2))
    with pytest.raises(EngineError, match="the device is gone"):
        run(manifest)


def test_stretches_clocks_and_directories_of_frames_reach_the_estimator(tmp_path: Path) -> None:
    images = [np.full((32, 32, 3), 225 + n, np.uint8) for n in range(20)]
    write_video(tmp_path / "v.mp4", images)
    (tmp_path / "frames").mkdir()
    for n, image in enumerate(images):
        with av.open(str(tmp_path / "frames" / f"{n}.png"), "w", format="image2", options={"update": "1"}) as container:
            stream = container.add_stream("png", rate=1)
            stream.height, stream.width, stream.pix_fmt = 32, 32, "rgb24"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
    rows = [
        row("v"),
        row("part", video="v.mp4", start=0.4, end=0.8),
        row("frames", video="frames", fps=25.0, start=0.4, end=0.8),
        row("unsaid", video="frames"),
    ]
    (failure,) = run(Manifest(rows, tmp_path), frame_rate=12.5)
    assert failure.id == "unsaid" and "frame rate" in failure.message
    whole, part, frames = (read_keypoints(tmp_path / "poses" / f"{name}.npz") for name in ("v", "part", "frames"))
    assert (len(whole), whole.fps) == (10, 12.5)
    for sequence in (part, frames):
        assert sequence.fps == 12.5
        np.testing.assert_allclose(
            sequence.keypoints[:, 0, 0] * 255, 235 + 2 * np.arange(5), atol=1
        )  # the codec's error


def test_a_full_disk_ends_the_run_and_says_that_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from signet_train.data import extraction_work

    def full(path: Path, *_: object) -> None:
        raise OutputError(f"{path}: cannot write the keypoints") from OSError(28, "No space left on device")

    manifest = corpus(tmp_path, [FINE])
    monkeypatch.setattr(extraction_work, "write_keypoints", full)
    with pytest.raises(OutputError, match="make room and run the same command again"):
        extraction_work.Extractor(FakeEstimator, None)(plan(manifest).jobs[0])


def test_a_run_that_was_killed_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    manifest = corpus(tmp_path, [FINE] * 8)
    write_manifest(tmp_path / "m.parquet", manifest.rows)
    code = (
        "import sys, pathlib, functools, fake_estimator;"
        "from signet_train.data import extraction, extraction_plan, manifest, workers;"
        "jobs = extraction_plan.plan(manifest.read_manifest(pathlib.Path(sys.argv[1]))).jobs;"
        "crew = functools.partial(workers.run_jobs, processes=2);"
        "extraction.extract(jobs, functools.partial(fake_estimator.FakeEstimator, 0.15), crew)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "m.parquet")]
    environment = {**os.environ, "PYTHONPATH": str(Path(fake_estimator.__file__).parent)}
    process = subprocess.Popen(command, env=environment)
    wait_for(lambda: len(list((tmp_path / "poses").glob("*.npz"))) >= 2)
    process.kill()
    process.wait()
    time.sleep(0.5)  # its workers finish the clips they are at, and end
    first = {name: (tmp_path / "poses" / name).stat().st_mtime_ns for name in written(tmp_path)}
    assert 2 <= len(first) < 8
    (tmp_path / "poses" / temporary_name("h", ".npz")).write_bytes(b"PK")  # as when it is killed while it writes
    subprocess.run(command, env=environment, check=True)
    assert written(tmp_path) == {f"{name}.npz" for name in "abcdefgh"}
    for name, when in first.items():
        assert (tmp_path / "poses" / name).stat().st_mtime_ns == when


def is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition: object, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.02)


# --- The command --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("rtmpose")
    write_detector(directory / "detector.onnx")
    write_pose(directory / "pose.onnx")
    return directory


PERSON = paint((240, 180), {"green": ((75, 25, 155, 155), (95, 55), (125, 125))})


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(extract_poses, [str(argument) for argument in arguments])


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_what_was_assumed_or_chosen_is_in_the_report(tmp_path: Path, weights: Path, suffix: str) -> None:
    rows = [row("a"), row("b", video=f"b.{suffix}"), row("c", video="c.gone")]
    write_video(tmp_path / "a.mp4", [PERSON] * 4)
    with av.open(str(tmp_path / f"b.{suffix}"), "w") as container:
        streams = [container.add_stream("mpeg4", rate=25) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 240, 180, "yuv420p"
        for stream in streams:
            for _ in range(4):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(PERSON)))
            container.mux(stream.encode())
    manifest = tmp_path / "m.jsonl"
    write_manifest(manifest, rows)
    options = (manifest, "--pose", "rtmpose-lightweight", "--pose-weights", weights, "--workers", 1)
    result = invoke(*options)
    assert result.exit_code == 3 and "2 extracted, 0 there already, 1 failed" in result.stderr
    report = tmp_path / "m.failures.jsonl"
    failure, note = [json.loads(line) for line in report.read_text().splitlines()]
    assert (failure["row"], failure["id"]) == (3, "c") and "no such file" in failure["message"]
    said = "track 1 of 2 video tracks is read; --track N reads another"
    assert note == {"row": 2, "id": "b", "notes": [said]}
    assert f"{report} has notes on 1 of the extracted; the first is row 2, b: {said}" in result.stderr


def test_two_shards_a_report_each_and_the_same_again(tmp_path: Path, weights: Path) -> None:
    rows = [row(name) for name in "abcd"]
    shards = {r.id: 1 if in_shard(r.poses, 1, 2) else 2 for r in rows}
    assert set(shards.values()) == {1, 2}
    for r in rows[1:]:
        write_video(tmp_path / str(r.video), [PERSON] * 4)
    manifest = tmp_path / "m.jsonl"
    write_manifest(manifest, rows)
    options = (manifest, "--pose", "rtmpose-lightweight", "--pose-weights", weights, "--workers", 1)

    results = {number: invoke(*options, "--shard", f"{number}/2") for number in (1, 2)}
    of_a, other = shards["a"], 3 - shards["a"]
    assert (results[of_a].exit_code, results[other].exit_code) == (3, 0)
    assert written(tmp_path) == {"b.npz", "c.npz", "d.npz"}
    assert read_keypoints(tmp_path / "poses" / "b.npz").source == "rtmpose-lightweight"
    report = tmp_path / f"m.failures.{of_a}-of-2.jsonl"
    (failure,) = [json.loads(line) for line in report.read_text().splitlines()]
    assert (failure["row"], failure["id"]) == (1, "a") and "no such file" in failure["message"]
    assert (tmp_path / f"m.failures.{other}-of-2.jsonl").read_text() == ""
    assert results[of_a].stdout == ""
    assert f"{report} says why; the first is row 1, a" in results[of_a].stderr

    write_video(tmp_path / "a.mp4", [PERSON] * 4)
    again = invoke(*options)
    assert again.exit_code == 0
    assert "1 extracted, 3 there already, 0 failed" in again.stderr
    assert written(tmp_path) == {"a.npz", "b.npz", "c.npz", "d.npz"}
    assert (tmp_path / "m.failures.jsonl").read_text() == ""


def test_ctrl_c_ends_all_processes_at_once_in_one_line(tmp_path: Path, weights: Path) -> None:
    rows = [row(name) for name in "abcd"]
    for r in rows:
        write_video(tmp_path / str(r.video), [PERSON] * 600)
    write_manifest(tmp_path / "m.jsonl", rows)
    code = "from signet_train.commands.extract_poses import extract_poses; extract_poses()"
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            code,
            str(tmp_path / "m.jsonl"),
            "--workers",
            "2",
            "--pose",
            "rtmpose-balanced",
            "--pose-weights",
            str(weights),
        ],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for((tmp_path / "poses").is_dir)  # the first job has begun, the other process is starting
    time.sleep(0.2)
    asked = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, stderr = process.communicate(timeout=20)
    assert time.monotonic() - asked < 10
    assert process.returncode == 130
    assert stderr.splitlines()[-1].startswith("signet-train: interrupted; the same command goes on")
    assert "Traceback" not in stderr
    assert not list((tmp_path / "poses").iterdir())
    wait_for(lambda: not is_alive(process.pid), 2)


def test_wrong_usage_is_said_before_anything_is_done(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.jsonl", [row("a")])
    for shard in ("0/4", "5/4", "1", "1/0", "a/b", "-1/4"):
        result = invoke(tmp_path / "m.jsonl", "--shard", shard)
        assert result.exit_code == 2 and "1/4 is the first of four" in result.stderr
    result = invoke(tmp_path / "m.jsonl", "--report", tmp_path / "m.jsonl")
    assert result.exit_code == 2 and "overwrite the manifest" in result.stderr
    result = invoke(tmp_path / "m.jsonl", "--report", tmp_path / "missing" / "r.jsonl")
    assert isinstance(result.exception, OutputError)
    assert isinstance(invoke(tmp_path / "missing.jsonl").exception, InputError)
    assert read_manifest(tmp_path / "m.jsonl").rows == [row("a")]
    assert [path.name for path in tmp_path.iterdir()] == ["m.jsonl"]


def test_the_help_shows_how_shards_run_under_a_scheduler() -> None:
    result = invoke("--help")
    assert "do signet-train extract-poses m.parquet --shard $k/4 & done" in result.stdout
    assert "SLURM_ARRAY_TASK_ID" in result.stdout
