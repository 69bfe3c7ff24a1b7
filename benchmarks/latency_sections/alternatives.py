"""What a user would have without this project: the published way of reading a video, and the decoder in CTranslate2."""

from __future__ import annotations

import contextlib
import io
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
from signet_runtime.pose.mediapipe.estimator import MediaPipeEstimator
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


class FrameByFrameHolistic:
    """MediaPipe's own holistic solution, one frame after the other."""

    name = "mediapipe"

    def __init__(self) -> None:
        MediaPipeEstimator().close()  # loads MediaPipe quietly, or says in one line why it cannot
        from mediapipe.python.solutions.holistic import Holistic

        self._holistic = Holistic(model_complexity=1, refine_face_landmarks=True)

    def __call__(self, frames: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield keypoints (133, 2) in fractions of the frame and scores (133,) of every frame, uint8 RGB (H, W, 3)."""
        self._holistic.reset()
        for frame in frames:
            found = self._holistic.process(frame)
            parts = (found.pose_landmarks, found.face_landmarks, found.left_hand_landmarks, found.right_hand_landmarks)
            if parts[0] is None:
                yield np.zeros((NUM_KEYPOINTS, 2), np.float32), np.zeros(NUM_KEYPOINTS, np.float32)
                continue
            visible = np.array([point.visibility for point in parts[0].landmark])
            body, *rest = (None if p is None else np.array([(q.x, q.y) for q in p.landmark]) for p in parts)
            assert body is not None
            yield to_wholebody(body, visible, *rest)


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
