"""What a user would have without this project: the published way of reading a video, and the decoder in CTranslate2."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.modeling_outputs import BaseModelOutput

from benchmarks.generation import (
    FULL,
    TRIMMED,
    Work,
    convert_to_ctranslate2,
    ctranslate2_way,
    eager_way,
    has_ctranslate2,
    onnx_ways,
    prepare,
)
from benchmarks.measuring.report import Ratio, Report
from benchmarks.measuring.timing import Way, in_turns
from signet_runtime.bundle import Manifest
from signet_runtime.errors import EngineError
from signet_runtime.pose.mediapipe_landmarks import to_wholebody
from signet_runtime.pose.rtmpose.estimator import RTMPoseEstimator
from signet_runtime.pose.rtmpose.weights import find_weights
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.regions import prepare as prepare_clip
from signet_runtime.skeleton import NUM_KEYPOINTS
from signet_runtime.sources.video import Video
from signet_train.checkpoint import Checkpoint

_THREADS = 16  # of Uni-Sign's demo/pose_extraction.py

Tell = Callable[[str], None]


def other_python() -> Path | None:
    """Return the Python with mediapipe 0.10.21 that ``SIGNET_MEDIAPIPE_PYTHON`` names, None where it names none."""
    named = os.environ.get("SIGNET_MEDIAPIPE_PYTHON")
    return Path(named) if named else None


class FrameByFrameHolistic:
    """MediaPipe's own holistic solution, one frame after the other, in a process of the Python that has it.

    Args:
        python: of an environment with mediapipe 0.10.21, which is not this one's: it wants numpy 1. A frame's way
            there and back takes about a millisecond.

    Raises:
        EngineError: it does not start.
    """

    name = "mediapipe"

    def __init__(self, python: Path) -> None:
        worker = Path(__file__).resolve().parents[1] / "peers" / "holistic_solution.py"
        self._process = subprocess.Popen(
            [str(python), str(worker)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        try:
            self._ask(None)
        except (EOFError, OSError) as error:
            raise EngineError(f"{python}: does not run mediapipe's holistic solution; it needs 0.10.21") from error

    def _ask(self, frame: np.ndarray | None) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        pickle.dump(None if frame is None else (frame.shape, frame.tobytes()), self._process.stdin)
        self._process.stdin.flush()
        return pickle.load(self._process.stdout)

    def __call__(self, frames: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield keypoints (133, 2) in fractions of the frame and scores (133,) of every frame, uint8 RGB (H, W, 3)."""
        self._ask(None)
        for frame in frames:
            body, *rest = (None if part is None else np.array(part) for part in self._ask(frame))
            if body is None:
                yield np.zeros((NUM_KEYPOINTS, 2), np.float32), np.zeros(NUM_KEYPOINTS, np.float32)
                continue
            yield to_wholebody(body[:, :2], body[:, 2], *(None if part is None else part[:, :2] for part in rest))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class RtmlibInThreads:
    """rtmlib's whole-body solution over the models of a directory, shared by 16 threads, as in Uni-Sign's demo.

    Raises:
        EngineError: the directory has no such models.
    """

    name = "rtmpose"

    def __init__(self, weights: Path, device: str) -> None:
        RTMPoseEstimator("balanced", offline=True, device=device, weights=weights).close()  # looks at them
        from rtmlib import Wholebody

        files = find_weights("balanced", weights)
        with contextlib.redirect_stdout(io.StringIO()):  # rtmlib prints what it loads
            self._wholebody = Wholebody(det=str(files["det"]), pose=str(files["pose"]), device=device)
        # Models of one's own have their own sizes; rtmlib's order differs between the two.
        *_, height, width = self._wholebody.det_model.session.get_inputs()[0].shape
        self._wholebody.det_model.model_input_size = (height, width)
        *_, height, width = self._wholebody.pose_model.session.get_inputs()[0].shape
        self._wholebody.pose_model.model_input_size = (width, height)

    def __call__(self, frames: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield each frame's keypoints (133, 2) in fractions of it and scores (133,), of several people the first."""
        size = np.array([frames[0].shape[1], frames[0].shape[0]])
        with ThreadPoolExecutor(_THREADS) as executor:
            for keypoints, scores in executor.map(
                self._wholebody, (np.ascontiguousarray(f[..., ::-1]) for f in frames)
            ):
                yield keypoints[0] / size, scores[0].clip(0, 1)


class PublishedWay:
    """As Uni-Sign's demo reads a video: all of it is decoded, then posed, then come PyTorch and `generate`."""

    def __init__(
        self, checkpoint: Checkpoint, manifest: Manifest, pose: FrameByFrameHolistic | RtmlibInThreads
    ) -> None:
        self._model, self._tokenizer = checkpoint.model.eval(), checkpoint.tokenizer
        self._manifest, self._pose = manifest, pose

    def translate(self, path: Path, sample: bool = False) -> str:
        """Return the text of one clip; ``sample``: the frames that the model reads are decoded and posed alone."""
        manifest = self._manifest
        with Video(path, manifest.frame_rate if sample else None) as video:
            frames = list(video)
        keypoints, scores = (np.stack(part) for part in zip(*self._pose(frames), strict=True))
        poses = PoseSequence(keypoints, scores, video.info.fps, video.info.size, self._pose.name)
        regions = prepare_clip(poses, manifest)
        inputs = {name: torch.from_numpy(region)[None] for name, region in regions.items()}
        with torch.inference_mode():
            encoded = self._model(inputs, torch.ones(1, len(regions["body"]), dtype=torch.bool))
            tokens: Any = self._model.language_model.generate(
                encoder_outputs=BaseModelOutput(encoded.hidden_states),
                attention_mask=encoded.mask.long(),
                num_beams=manifest.generation.num_beams,
                max_new_tokens=manifest.generation.max_new_tokens,
                do_sample=False,
            )
        return self._tokenizer.batch_decode(tokens, skip_special_tokens=True)[0].strip()


def decoder(report: Report, *, rounds: int, quick: bool, tell: Tell) -> None:
    """Time mT5-base's decoder alone, 32 tokens, 4 beams, fp32; `benchmarks.generation` has int8 and greedy search."""
    work = Work()
    table = report.table(
        "decoder_alone",
        f"mT5-base's decoder alone, {work.tokens} tokens, {work.beams} beams, fp32, ms",
        "vocabulary",
        "decoder",
        "all",
        "times CTranslate2's",
    )
    if quick:
        table.notes.append(f"Left out by --quick: mT5's whole vocabulary of {FULL:,}.")
    if not has_ctranslate2():
        table.notes.append("CTranslate2 was not measured: it is not installed; pip install 'signet-slt[bench]'.")
    for size in (TRIMMED,) if quick else (FULL, TRIMMED):
        with tempfile.TemporaryDirectory() as scratch:
            tell(f"decoder alone: preparing a vocabulary of {size:,}")
            directory = Path(scratch)
            model = prepare(directory, size, work.tokens, ["fp32"])
            ways: dict[str, Way] = {}
            if has_ctranslate2():
                convert_to_ctranslate2(model, directory / "ctranslate2")
                ways["CTranslate2"] = ctranslate2_way(directory / "ctranslate2", "fp32", work)
            ways["PyTorch, transformers"] = eager_way(model, work)
            ours = onnx_ways(directory / "onnx" / "fp32", work, model.config.d_model)
            ways |= {"ONNX Runtime, Optimum": ours["optimum"], "ONNX Runtime, ours (fast)": ours["fast"]}
            reference = ways.get("CTranslate2")
            for name, way in ways.items():
                ratio = Ratio(way.timing, reference.timing) if reference is not None else None
                table.rows.append([f"{size:,}", name, way.timing, ratio])
            in_turns(list(ways.values()), rounds, torch.device("cpu"), tell)
            del ways, ours, model
