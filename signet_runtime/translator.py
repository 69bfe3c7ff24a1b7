"""The pipeline: video -> poses -> sentences -> regions -> experts and mT5 encoder -> text."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from signet_runtime.bundle import Bundle
from signet_runtime.engines.incremental import IncrementalEncoder, read_along
from signet_runtime.engines.onnx import Encoder, load_encoder
from signet_runtime.errors import EngineError, InputError
from signet_runtime.generation import DecoderBackend, TextDecoder, load_text_decoder
from signet_runtime.pose.estimators import PoseEstimator, extract_poses, load_estimator
from signet_runtime.pose.files import KEYPOINT_SUFFIXES, read_keypoints, write_keypoints
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.regions import prepare
from signet_runtime.sentences.keypoints import PoseStream, RecordedStream, stream_live, stream_sequence, stream_video
from signet_runtime.sentences.segmenter import Pauses, PosedFrame, Segmenter, cut
from signet_runtime.sources.live import Live
from signet_runtime.sources.video import Video

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
            those of the whole batch. Of `sentences`, pose is how long their keypoints were waited for, and
            last_frame_to_text the time from the frame that ended the sentence to the text.
        complete: False for what there is of a sentence that still goes on.
    """

    text: str
    start: float
    end: float
    language: str
    routing: dict[str, float]
    pose_source: str
    frames: int
    timings: dict[str, float]
    complete: bool = True


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
        generation: DecoderBackend | None = None,
        detect_every: int = 1,
    ) -> None:
        self.bundle = bundle
        self.device = device
        self.num_beams = num_beams
        self._pose, self._pose_weights, self._offline = pose, pose_weights, offline
        self._detect_every = detect_every
        self._estimator: PoseEstimator | None = None
        chosen = bundle.engine(engine)
        self._engines: LoadedEngines | None = None
        self.encoder: Encoder | TensorRTEncoder
        self.decoder: TextDecoder
        if chosen.kind == "onnx":
            self.encoder = load_encoder(bundle, chosen, device)
            # On a GPU the two have not been compared yet, so there the reference stays.
            way = generation or ("fast" if device == "cpu" else "optimum")
            self.decoder = load_text_decoder(bundle, chosen, device, self.encoder.session, way)
        elif generation == "fast":
            raise EngineError("fast generation runs on ONNX Runtime; TensorRT engines take --generation optimum")
        else:
            from signet_runtime.engines.tensorrt_model import load_engines
            from signet_runtime.generation.optimum import OptimumDecoder

            self._engines = load_engines(bundle, chosen)  # imports torch
            self.encoder, self.decoder = self._engines.encoder, OptimumDecoder.tensorrt(bundle, self._engines)
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
        generation: DecoderBackend | None = None,
        detect_every: int = 1,
    ) -> Translator:
        """Load a bundle.

        Args:
            path: the bundle's directory; None is the demonstration that comes with the package.
            device: "cpu" or "cuda".
            pose: who finds keypoints in videos, see `signet_runtime.pose.estimators`; "auto" takes the
                estimator that the model was trained on.
            pose_weights: directory of the pose estimator's weight files.
            offline: never download weights.
            verify: check all of the bundle's contents even if that was done before.
            num_beams: None takes the bundle's default.
            engine: "onnx", or "trt" for a bundle's TensorRT engines; no other is taken in its place.
            generation: what searches for the text: "fast", or "optimum", the reference, which needs
                signet-slt[optimum] and alone drives TensorRT engines; None is "fast" on a CPU, "optimum" on a GPU.
            detect_every: RTMPose looks for people in every so many frames.

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
            generation=generation,
            detect_every=detect_every,
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
            InputError: the clip cannot be read, or there is no signer in it.
            OutputError: the keypoints cannot be written.
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

    def sentences(
        self,
        source: str | Path | PoseSequence | PoseStream | Live,
        *,
        pauses: Pauses | None = None,
        whole: int | None = 0,
        partial: float | None = None,
        keypoints_out: Path | None = None,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> Generator[Translation]:
        """Translate what is signed sentence by sentence, each as soon as it has ended.

        Decoding, pose estimation and translation work side by side, and memory does not grow with the length. With a
        bundle whose features are apart, a sentence is read along while it is signed.

        Args:
            source: a video file, a keypoint file, keypoints, a `Live` source, or a `PoseStream` of keypoints that
                somebody else finds, on the bundle's clock.
            pauses: what ends a sentence, see `signet_runtime.sentences.segmenter`.
            whole: a source of up to so many frames is one sentence and not cut; None: any source.
            partial: every so many seconds of a sentence also translate, greedily, what there is of it.
            keypoints_out: also write the keypoints there, as .npz, when the source has ended; they are held till then.
            progress: called with the number of frames done and of all, None if unknown.

        Yields:
            translations with their ``start`` and ``end`` in the source, in seconds.

        Raises:
            InputError: the source cannot be read, or breaks off (after what was signed until then), or nobody signs in
                it, which is no error in what is live.
            OutputError: the keypoints cannot be written.
            EngineError: the pose estimator is not available.
        """
        with contextlib.ExitStack() as stack:
            name, stream = self._stream(source, stack)
            live = isinstance(source, Live | PoseStream)
            recorded = RecordedStream(stream, live, keypoints_out, progress)
            longest = self.bundle.manifest.max_frames
            segmenter = Segmenter(stream.fps, stream.size, stream.source, longest, pauses or Pauses())
            frames: Iterable[PosedFrame] = recorded
            encoder: Encoder | TensorRTEncoder | IncrementalEncoder = self.encoder
            if isinstance(encoder, Encoder) and encoder.can_stream:
                encoder = reader = IncrementalEncoder(encoder)
                frames = read_along(recorded, reader, self._regions, segmenter, whole, longest)
            signed = False
            since = time.perf_counter()
            for sentence in cut(frames, segmenter, whole=whole, partial=partial):
                if not recorded.found:
                    break
                waited = time.perf_counter() - since
                num_beams = self.num_beams if sentence.complete else 1
                translation = self._translate([sentence.poses], [name], num_beams, encoder)[0]
                since = time.perf_counter()
                arrived = sentence.arrived
                if recorded.ended and isinstance(source, Live):
                    arrived = source.last_arrival  # its last frame may be between two ticks of the clock
                signed = signed or sentence.complete
                yield replace(
                    translation,
                    start=sentence.start,
                    end=sentence.start + translation.end,
                    timings={"pose": waited, **translation.timings, "last_frame_to_text": since - arrived},
                    complete=sentence.complete,
                )
            if not recorded.found and not live:
                raise InputError(f"{name}: no person found in any of the {recorded.seen} frames")
            if not signed and not live:
                raise InputError(
                    f"{name}: nobody signs in it, the hands are down or still in all {recorded.seen} frames; "
                    "if they are not, --cut never takes it as one sentence"
                )

    def _stream(
        self, source: str | Path | PoseSequence | PoseStream | Live, stack: contextlib.ExitStack
    ) -> tuple[str, PoseStream]:
        """What to call a source in messages, and its keypoints; the stack closes what is opened for them."""
        rate = self.bundle.manifest.frame_rate
        if isinstance(source, PoseStream):
            return "the keypoints", source
        if isinstance(source, Live):
            return source.name, stack.enter_context(stream_live(source, self.estimator))
        if isinstance(source, PoseSequence) or Path(source).suffix.lower() in KEYPOINT_SUFFIXES:
            name = "the pose sequence" if isinstance(source, PoseSequence) else str(source)
            poses = source if isinstance(source, PoseSequence) else read_keypoints(Path(source))
            return name, stream_sequence(poses.resample(rate) if rate else poses)
        estimator = self.estimator
        video = stack.enter_context(Video(source, rate))
        return str(source), stack.enter_context(stream_video(video, estimator))

    @property
    def estimator(self) -> PoseEstimator:
        """Who finds the keypoints in videos; loaded when it is first needed, since keypoint files need none.

        Raises:
            EngineError: it cannot run here.
        """
        if self._estimator is None:
            self._estimator = load_estimator(
                self._pose,
                self.bundle.manifest.pose_estimator,
                offline=self._offline,
                device=self.device,
                weights=self._pose_weights,
                detect_every=self._detect_every,
            )
        return self._estimator

    def read_poses(
        self, path: str | Path, *, progress: Callable[[int, int | None], None] | None = None
    ) -> PoseSequence:
        """Keypoints of a video, or of a keypoint file, as they were found: not resampled, not thinned."""
        path = Path(path)
        if path.suffix.lower() in KEYPOINT_SUFFIXES:
            return read_keypoints(path)
        return extract_poses(path, self.estimator, frame_rate=self.bundle.manifest.frame_rate, progress=progress)

    def translate_poses(self, clips: Sequence[PoseSequence], *, names: Sequence[str] = ()) -> list[Translation]:
        """Translate clips together in one padded batch; each comes out as it would alone.

        Args:
            clips: any number, of any lengths.
            names: what to call the clips in messages.

        Raises:
            InputError: there is no signer in one of them.
        """
        return self._translate(clips, names or ["the pose sequence"] * len(clips), self.num_beams, self.encoder)

    def _regions(self, clip: PoseSequence) -> dict[str, np.ndarray]:
        """What the model reads of a clip."""
        return prepare(clip, self.bundle.manifest)

    def _translate(
        self,
        clips: Sequence[PoseSequence],
        names: Sequence[str],
        num_beams: int | None,
        encoder: Encoder | TensorRTEncoder | IncrementalEncoder,
    ) -> list[Translation]:
        manifest = self.bundle.manifest
        clock = _StageClock()

        regions: list[dict[str, np.ndarray]] = []
        for clip, name in zip(clips, names, strict=True):
            at_rate = clip.resample(manifest.frame_rate) if manifest.frame_rate else clip
            if len(at_rate) > manifest.max_frames:
                logger.warning(
                    "%s: %d frames thinned to the %d the model reads; cut the clip into sentences for a better text",
                    name,
                    len(at_rate),
                    manifest.max_frames,
                )
            clip_regions = self._regions(at_rate)
            if not clip_regions["body"].any():
                raise InputError(f"{name}: no signer found; the upper body must be in view")
            regions.append(clip_regions)
        clock.lap("regions")

        texts: list[str] = []
        routing: list[list[float]] = []
        together = encoder.max_clips or len(regions)
        for start in range(0, len(regions), together):
            encoded = encoder(regions[start : start + together])
            clock.lap("encoder")
            texts += self.decoder.text(self.decoder.generate(encoded, num_beams))
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
