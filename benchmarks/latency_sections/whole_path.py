"""Videos to their text with the embedded demo: stage by stage, all of it, from the last frame on, and as a command."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from benchmarks import pose_speed
from benchmarks.latency_sections.alternatives import FrameByFrameHolistic, PublishedWay, RtmlibInThreads, other_python
from benchmarks.measuring.report import Ratio, Report, Size, Timing
from benchmarks.measuring.timing import Way, in_turns
from signet_runtime.errors import EngineError
from signet_runtime.pose.files import write_keypoints
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.regions import prepare
from signet_runtime.sentences.keypoints import PoseStream
from signet_runtime.sentences.segmenter import PosedFrame
from signet_runtime.sources.live import Live
from signet_runtime.sources.video import Video
from signet_runtime.translator import Translation, Translator
from signet_train.checkpoint import demo_checkpoint_path, load_checkpoint
from signet_train.data.spelled.video import write_video

SLOW_CAMERA = 12.5  # frames a second: what MediaPipe keeps up with on two cores

# A process starts with the peak of the one that launches it, so that has to be a small one.
_LAUNCHER = """
import os, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - began, usage.ru_maxrss)
os._exit(os.waitstatus_to_exitcode(status)) if status else sys.stdout.flush()
"""

Naive = FrameByFrameHolistic | RtmlibInThreads
Tell = Callable[[str], None]


def videos(
    report: Report,
    paths: Sequence[Path],
    pose_weights: Path | None,
    device: str,
    *,
    rounds: int,
    quick: bool,
    tell: Tell,
) -> None:
    """Fill the tables of videos; through RTMPose too where its weights are given.

    Args:
        quick: one video at real speed, and no frames a second of the estimators.
    """
    estimators: dict[str, tuple[str, Path | None]] = {"MediaPipe": ("mediapipe", None)}
    if pose_weights is not None:
        estimators["RTMPose"] = ("rtmpose", pose_weights)
    translators = {
        name: Translator.from_bundle(None, device=device, pose=pose, pose_weights=weights, offline=True)
        for name, (pose, weights) in estimators.items()
    }
    for translator in translators.values():
        translator.estimator  # noqa: B018  loaded before anything is timed
    try:
        stages(report, paths, translators, rounds, tell)
        python = other_python()
        naive: dict[str, Naive] = {} if python is None else {"MediaPipe": FrameByFrameHolistic(python)}
        if pose_weights is not None:
            naive["RTMPose"] = RtmlibInThreads(pose_weights, device)
        whole(report, paths, translators, naive, rounds, tell)
        last_frame(report, paths[:1] if quick else paths, translators["MediaPipe"], rounds, tell)
        if quick:
            left_out = "further videos at real speed, and the estimators' frames a second"
            report.tables[-1].notes.append(f"Left out by --quick: {left_out} (`python -m benchmarks.pose_speed`).")
        for path, name in product(() if quick else paths, translators):
            estimator, clock = translators[name].estimator, translators[name].bundle.manifest.frame_rate
            pose_speed.measure(report, path, estimator, naive.get(name), clock, rounds=rounds, tell=tell)
    finally:
        for translator in translators.values():
            translator.close()


def stages(report: Report, paths: Sequence[Path], translators: dict[str, Translator], rounds: int, tell: Tell) -> None:
    """Every stage alone, one after another."""
    names = ("decode", "detect", "pose", "regions", "encoder", "first token", "text", "sum")
    table = report.table("stages", "From video to text, stage by stage, ms", "video", "pose by", "frames", *names)
    table.notes.append(
        "One stage after another; signet-translate runs decoding, pose and the rest side by side. Frames: on the "
        "model's clock. Detect: looking for people, a part of pose. Text: the search, its first token included."
    )
    rows: list[tuple[Path, Translator, dict[str, Timing]]] = []
    for path in paths:
        for name, translator in translators.items():
            timings = {column: Timing() for column in names}
            with Video(path, translator.bundle.manifest.frame_rate) as video:
                frames = sum(1 for _ in video)
            table.rows.append([path.name, name, frames, *timings.values()])
            rows.append((path, translator, timings))
    for number in range(rounds + 1):
        for path, translator, timings in rows:
            tell(f"{path.name}, stages: " + (f"round {number} of {rounds}" if number else "warming up"))
            found = _stages(path, translator)
            for column, seconds in found.items() if number else ():
                timings[column].seconds.append(seconds)


def _stages(path: Path, translator: Translator) -> dict[str, float]:
    times = [time.perf_counter()]
    with Video(path, translator.bundle.manifest.frame_rate) as video:
        frames = list(video)
    times.append(time.perf_counter())
    estimator = translator.estimator
    with _DetectorClock(estimator) as clock:
        keypoints, scores = (np.stack(part) for part in zip(*estimator.estimate(frames), strict=True))
    times.append(time.perf_counter())
    poses = PoseSequence(keypoints, scores, video.info.fps, video.info.size, estimator.name)
    regions = prepare(poses, translator.bundle.manifest)
    times.append(time.perf_counter())
    encoded = translator.encoder([regions])
    times.append(time.perf_counter())
    translator.decoder.generate(encoded, max_new_tokens=1)
    times.append(time.perf_counter())
    translator.decoder.text(translator.decoder.generate(encoded))
    times.append(time.perf_counter())
    found = dict(zip(("decode", "pose", "regions", "encoder", "first token", "text"), np.diff(times), strict=True))
    total = sum(seconds for name, seconds in found.items() if name != "first token")  # text has its own
    return {name: float(seconds) for name, seconds in found.items()} | {"detect": clock.seconds, "sum": float(total)}


class _DetectorClock:
    """Seconds that a `PoseEstimator`'s person detector takes while the context is open, whoever calls it."""

    def __init__(self, estimator: Any) -> None:
        self.seconds = 0.0
        # MediaPipe's, RTMPose's. Several parts of MediaPipe's hold theirs, so its class is what is clocked.
        self._detector: Any = estimator._detect if hasattr(estimator, "_detect") else estimator._detector

    def __enter__(self) -> _DetectorClock:
        kind = type(self._detector)
        self._before = kind.__call__

        def clocked(detector: Any, *arguments: Any) -> Any:
            began = time.perf_counter()
            try:
                return self._before(detector, *arguments)
            finally:
                if detector is self._detector:
                    self.seconds += time.perf_counter() - began

        kind.__call__ = clocked
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        type(self._detector).__call__ = self._before


def whole(
    report: Report,
    paths: Sequence[Path],
    translators: dict[str, Translator],
    naive: dict[str, Naive],
    rounds: int,
    tell: Tell,
) -> None:
    """Time a video's file to its text: ours, and the published way."""
    table = report.table(
        "video",
        "From video to text, ms",
        "video",
        "way",
        "seconds of video",
        "all",
        "times real time",
        "speed-up",
        "text",
    )
    table.notes += [
        "The published way: every frame of the file is decoded, then every one is posed, then come PyTorch and "
        "transformers' generate; with RTMPose 16 threads share one session, as in Uni-Sign's demo. On the model's "
        "clock: the same, but no more frames than the model reads. The model is the same, loaded before it is timed.",
    ]
    if "MediaPipe" not in naive:
        table.notes.append(
            "The published way through MediaPipe was not measured: SIGNET_MEDIAPIPE_PYTHON names no Python that has "
            "mediapipe 0.10.21."
        )
    checkpoint = load_checkpoint(demo_checkpoint_path())
    ways: list[Way] = []
    for path in paths:
        with Video(path) as video:
            duration = (video.info.num_frames or sum(1 for _ in video)) / video.info.fps
        for name, translator in translators.items():
            runs: dict[str, Callable[[], str]] = {"signet-translate": partial(_text, translator, path)}
            if name in naive:
                published = PublishedWay(checkpoint, translator.bundle.manifest, naive[name])
                runs = {
                    "published way": partial(published.translate, path),
                    "published way, on the model's clock": partial(published.translate, path, sample=True),
                    **runs,
                }
            said = {label: Said(run) for label, run in runs.items()}
            timed = {label: Way(f"{label}, {name}, {path.name}", run) for label, run in said.items()}
            for label, way in timed.items():
                table.rows.append(
                    [
                        path.name,
                        f"{label}, {name}",
                        f"{duration:.1f}",
                        way.timing,
                        RealTime(duration, way.timing),
                        Ratio(timed["published way"].timing, way.timing) if "published way" in timed else None,
                        said[label],
                    ]
                )
            ways += timed.values()
    in_turns(ways, rounds, torch.device("cpu"), tell)


def _text(translator: Translator, path: Path) -> str:
    return translator.translate(path).text


class Said:
    """What was last said: a cell that is there when the way to it has been run."""

    def __init__(self, run: Callable[[], str]) -> None:
        self._run, self._text = run, ""

    def __call__(self) -> None:
        self._text = self._run()

    def __str__(self) -> str:
        return self._text

    def as_json(self) -> object:
        return self._text


class RealTime:
    """How many seconds of video go through in a second."""

    def __init__(self, duration: float, timing: Timing) -> None:
        self._duration, self._timing = duration, timing

    def __str__(self) -> str:
        return f"{self._duration / self._timing.median:.1f}" if self._timing.seconds else ""

    def as_json(self) -> object:
        return self._duration / self._timing.median if self._timing.seconds else None


def last_frame(report: Report, paths: Sequence[Path], translator: Translator, rounds: int, tell: Tell) -> None:
    """How long after the last frame the text is there, with frames coming at real speed."""
    table = report.table(
        "last_frame", "From the last frame to the text, ms", "video", "comes as", "last frame to text", "text"
    )
    table.notes.append("Each comes at real speed and is one sentence; the clock starts when its last frame is there.")
    rate = translator.bundle.manifest.frame_rate
    with tempfile.TemporaryDirectory() as scratch:
        for path in paths:
            poses = translator.read_poses(path)
            slow = Path(scratch, f"{path.stem}.mp4")
            with Video(path, SLOW_CAMERA) as video:
                write_video(slow, video, SLOW_CAMERA)
            sources: dict[str, Callable[[], PoseStream | Live]] = {
                "keypoints": partial(_at_real_speed, poses),
                f"video, {SLOW_CAMERA:g} frames/s": partial(Live, str(slow), rate),
                "video as it is": partial(Live, str(path), rate),
            }
            rows = {name: (Timing(), make) for name, make in sources.items()}
            for number in range(rounds):
                for name, (timing, make) in rows.items():
                    tell(f"{path.name}, {name}, at real speed: round {number + 1} of {rounds}")
                    translation = _played(translator, make())
                    timing.seconds.append(translation.timings["last_frame_to_text"])
                    if number == 0:
                        table.rows.append([path.name, name, timing, translation.text])


def _played(translator: Translator, source: PoseStream | Live) -> Translation:
    """Return the last sentence of a source that is read as it comes."""
    found = list(translator.sentences(source, whole=None))
    if isinstance(source, Live):
        source.stop()
    return found[-1]


def _at_real_speed(poses: PoseSequence) -> PoseStream:
    def frames() -> Iterator[PosedFrame]:
        began = time.perf_counter()
        for i, (keypoints, scores) in enumerate(zip(poses.keypoints, poses.scores, strict=True)):
            time.sleep(max(0.0, began + i / poses.fps - time.perf_counter()))
            yield PosedFrame(i / poses.fps, keypoints, scores, 1, time.perf_counter())

    return PoseStream(frames(), poses.fps, poses.size, poses.source, len(poses))


def start(report: Report, paths: Sequence[Path], *, rounds: int, tell: Tell) -> None:
    """Time processes from their first instruction to their end, and the most memory that they hold."""
    table = report.table("start", "Start-up, ms", "command", "from start to end", "memory")
    table.notes.append("New processes, their files in the page cache; memory is the process' peak resident set.")
    with tempfile.TemporaryDirectory() as scratch:
        keypoints = Path(scratch, "keypoints.npz")
        with Translator.from_bundle(None) as translator:
            write_keypoints(keypoints, translator.read_poses(paths[0]))
        translate = [sys.executable, "-m", "signet_runtime.commands.translate", "--quiet"]
        commands = {
            "python -c 'import signet_runtime'": [sys.executable, "-c", "import signet_runtime"],
            "signet-translate keypoints.npz": [*translate, str(keypoints)],
            f"signet-translate {paths[0].name}": [*translate, str(paths[0])],
        }
        rows = {name: (Timing(), Size()) for name in commands}
        table.rows += [[name, *cells] for name, cells in rows.items()]
        for number in range(rounds + 1):
            for name, command in commands.items():
                tell(f"{name}: " + (f"round {number} of {rounds}" if number else "warming up"))
                seconds, peak = _process(command)
                timing, size = rows[name]
                size.bytes = peak
                timing.seconds += [seconds] if number else []


def _process(command: Sequence[str]) -> tuple[float, int]:
    """Seconds of a process, and its peak resident set in bytes."""
    launched = subprocess.run([sys.executable, "-c", _LAUNCHER, *command], capture_output=True, text=True, check=False)
    if launched.returncode:
        raise EngineError(f"{' '.join(command)}: failed ({launched.stderr.strip().splitlines()[-1]})")
    seconds, peak = launched.stdout.split()
    return float(seconds), int(peak) * (1 if sys.platform == "darwin" else 1024)
