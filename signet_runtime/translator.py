"""The pipeline: video -> poses -> regions -> experts and mT5 encoder -> text."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from signet_runtime.bundle import Bundle
from signet_runtime.engines.onnx import Encoder
from signet_runtime.engines.session import create_session
from signet_runtime.errors import InputError
from signet_runtime.generation import TextDecoder
from signet_runtime.pose.estimator import PoseEstimator, extract_poses, load_estimator
from signet_runtime.pose.files import KEYPOINT_SUFFIXES, read_keypoints, write_keypoints
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.regions import extract_regions, sample_frames

if TYPE_CHECKING:
    from signet_runtime.engines.tensorrt_model import LoadedEngines, TensorRTEncoder

logger = logging.getLogger("signet_runtime")


@dataclass(frozen=True)
class Translation:
    """What one clip says.

    Attributes:
        text: in ``language``.
        start, end: seconds in the clip.
        language: BCP 47 of the text, "mul" where the bundle writes several.
        routing: weight of every expert by its name; 0 for those not chosen.
        pose_source: who found the keypoints.
        frames: how many the model read.
        timings: seconds by stage (pose, regions, encoder, decoder); in a batch, encoder and decoder are
            those of the whole batch.
    """

    text: str
    start: float
    end: float
    language: str
    routing: dict[str, float]
    pose_source: str
    frames: int
    timings: dict[str, float]


class Translator:
    """A bundle, loaded: made once, used for many clips."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "cpu",
        pose: str = "auto",
        pose_weights: Path | None = None,
        offline: bool = False,
        num_beams: int | None = None,
        engine: str = "onnx",
    ) -> None:
        self.bundle = bundle
        self.device = device
        self.num_beams = num_beams
        self._pose, self._pose_weights, self._offline = pose, pose_weights, offline
        self._estimator: PoseEstimator | None = None  # keypoint files need none
        chosen = bundle.engine(engine)
        self._engines: LoadedEngines | None = None
        self.encoder: Encoder | TensorRTEncoder
        if chosen.kind == "onnx":
            sessions = [
                create_session(bundle.file(name), device)
                for name in (chosen.encoder, chosen.decoder, chosen.decoder_with_past)
            ]
            self.encoder = Encoder(sessions[0])
            self.decoder = TextDecoder.onnx(bundle, *sessions)
        else:
            from signet_runtime.engines.tensorrt_model import load_engines  # imports torch

            self._engines = load_engines(bundle, chosen)
            self.encoder, self.decoder = self._engines.encoder, TextDecoder.tensorrt(bundle, self._engines)
        if bundle.manifest.notice:
            logger.warning("%s", bundle.manifest.notice)

    @classmethod
    def from_bundle(
        cls,
        path: str | Path | None = None,
        *,
        device: str = "cpu",
        pose: str = "auto",
        pose_weights: str | Path | None = None,
        offline: bool = False,
        verify: bool = False,
        num_beams: int | None = None,
        engine: str = "onnx",
    ) -> Translator:
        """Load a bundle.

        Args:
            path: the bundle's directory; None is the demonstration that comes with the package.
            device: "cpu" or "cuda".
            pose: who finds keypoints in videos, see `signet_runtime.pose.estimator`; "auto" takes the
                estimator that the model was trained on.
            pose_weights: directory of the pose estimator's weight files.
            offline: never download weights.
            verify: check all of the bundle's contents even if that was done before.
            num_beams: None takes the bundle's default.
            engine: "onnx", or "trt" for a bundle's TensorRT engines; no other is taken in its place.

        Raises:
            BundleError: the bundle is missing, damaged or unknown.
            EngineError: the device or a package is not available.
        """
        return cls(
            Bundle.load(path, verify=verify),
            device=device,
            pose=pose,
            pose_weights=None if pose_weights is None else Path(pose_weights),
            offline=offline,
            num_beams=num_beams,
            engine=engine,
        )

    def translate(
        self,
        source: str | Path | PoseSequence,
        *,
        keypoints_out: Path | None = None,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> Translation:
        """Translate one clip.

        Args:
            source: a video file, a keypoint file (.npz, .pose, .pkl), or keypoints.
            keypoints_out: also write the keypoints there, as .npz.
            progress: called with the number of frames read so far and of all frames, None if unknown.

        Raises:
            InputError: the clip cannot be read, there is no signer in it, or the keypoints cannot be written.
            EngineError: the pose estimator is not available.
        """
        if isinstance(source, PoseSequence):
            return self.translate_poses([source])[0]
        started = time.perf_counter()
        poses = self.read_poses(source, progress=progress)
        seconds = time.perf_counter() - started
        if keypoints_out is not None:
            write_keypoints(keypoints_out, poses)
        translation = self.translate_poses([poses], names=[str(source)])[0]
        return replace(translation, timings={"pose": seconds, **translation.timings})

    def read_poses(
        self, path: str | Path, *, progress: Callable[[int, int | None], None] | None = None
    ) -> PoseSequence:
        """Keypoints of a video, or of a keypoint file, as they were found: not resampled, not thinned."""
        path = Path(path)
        if path.suffix.lower() in KEYPOINT_SUFFIXES:
            return read_keypoints(path)
        manifest = self.bundle.manifest
        if self._estimator is None:
            self._estimator = load_estimator(
                self._pose,
                manifest.pose_estimator,
                offline=self._offline,
                device=self.device,
                weights=self._pose_weights,
            )
        return extract_poses(path, self._estimator, frame_rate=manifest.frame_rate, progress=progress)

    def translate_poses(self, clips: Sequence[PoseSequence], *, names: Sequence[str] = ()) -> list[Translation]:
        """Translate clips together in one padded batch; each comes out as it would alone.

        Args:
            clips: any number, of any lengths.
            names: what to call the clips in messages.

        Raises:
            InputError: there is no signer in one of them.
        """
        manifest = self.bundle.manifest
        clock = _StageClock()

        regions: list[dict[str, np.ndarray]] = []
        for clip, name in zip(clips, names or ["the pose sequence"] * len(clips), strict=True):
            at_rate = clip.resample(manifest.frame_rate) if manifest.frame_rate else clip
            if len(at_rate) > manifest.max_frames:
                logger.warning(
                    "%s: %d frames thinned to the %d the model reads; cut the clip into sentences for a better text",
                    name, len(at_rate), manifest.max_frames,
                )  # fmt: skip
            clip_regions = extract_regions(at_rate.take(sample_frames(len(at_rate), manifest.max_frames)))
            if not clip_regions["body"].any():
                raise InputError(f"{name}: no signer found; the upper body must be in view")
            regions.append(clip_regions)
        clock.lap("regions")

        texts: list[str] = []
        routing: list[list[float]] = []
        together = self.encoder.max_clips or len(regions)
        for start in range(0, len(regions), together):
            encoded = self.encoder(regions[start : start + together])
            clock.lap("encoder")
            texts += self.decoder.text(self.decoder.generate(encoded, self.num_beams))
            clock.lap("decoder")
            routing += encoded.routing_weights.tolist()  # on a GPU they are there when the text is

        experts = [expert.name for expert in manifest.experts]
        return [
            Translation(
                text=text,
                start=0.0,
                end=clip.duration,
                language=manifest.language,
                routing=dict(zip(experts, weights, strict=True)),
                pose_source=clip.source,
                frames=len(clip_regions["body"]),
                timings=dict(clock.seconds),
            )
            for clip, clip_regions, text, weights in zip(clips, regions, texts, routing, strict=True)
        ]

    def close(self) -> None:
        """Give back what the pose estimator and the engines hold."""
        if self._engines is not None:
            self._engines.close()
            self._engines = None
        if self._estimator is not None:
            self._estimator.close()
            self._estimator = None

    def __enter__(self) -> Translator:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class _StageClock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now
