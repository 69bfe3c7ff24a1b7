"""The pipeline: video -> poses -> sentences -> regions -> experts and mT5 encoder -> text."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

from signet_runtime.bundle import Bundle
from signet_runtime.engines.encoder import Encoder
from signet_runtime.engines.incremental import incremental, read_along
from signet_runtime.engines.load import load_engine
from signet_runtime.errors import InputError
from signet_runtime.forking import refuse_forked
from signet_runtime.options import TranslatorOptions, with_defaults
from signet_runtime.pose.estimators import PoseEstimator, load_estimator
from signet_runtime.pose.files import is_keypoints, read_keypoints
from signet_runtime.pose.people import Asked
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.regions import Regions, on_clock, prepare
from signet_runtime.sentences.keypoints import (
    PoseStream,
    RecordedStream,
    extract_poses,
    stream_live,
    stream_sequence,
    stream_video,
)
from signet_runtime.sentences.segmenter import Pauses, PosedFrame, Segmenter, cut
from signet_runtime.sources.live import Live
from signet_runtime.sources.video import Video

logger = logging.getLogger("signet_runtime")


@dataclass(frozen=True)
class Translation:
    """What one clip says.

    Attributes:
        text: in ``language``.
        start, end: seconds on the clip's own clock.
        language: BCP 47 of the text, "mul" where the bundle writes several.
        routing: weight of every expert by its name; 0 for those not chosen.
        pose_source: who found the keypoints.
        frames: how many the model read.
        timings: seconds by stage (pose, regions, encoder, decoder); in a batch, encoder and decoder are
            those of the whole batch. Of `sentences`, pose is how long their keypoints were waited for, and
            last_frame_to_text the time from the frame that ended the sentence to the text.
        complete: False for what there is of a sentence that still goes on.
        notes: what was assumed, chosen or left out in reading the clip so far, a line each.
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
    notes: tuple[str, ...] = ()


class Translator:
    """A bundle, loaded: made once, used for many clips.

    Args:
        bundle: that `Bundle.load` gave.
        options: see `TranslatorOptions`.

    Raises:
        BundleError: the bundle is damaged.
        EngineError: the device, the engine or a package is not available.
    """

    def __init__(self, bundle: Bundle, **options: Unpack[TranslatorOptions]) -> None:
        refuse_forked()
        self._options = with_defaults(options)
        self.bundle = bundle
        self.device, self.num_beams = self._options["device"], self._options["num_beams"]
        self._estimator: PoseEstimator | None = None
        self.encoder, self.decoder, self._close_engine = load_engine(
            bundle, self._options["engine"], self.device, self._options["generation"]
        )
        if bundle.manifest.notice:
            logger.warning("%s", bundle.manifest.notice)

    @classmethod
    def from_bundle(
        cls, path: str | Path | None = None, *, verify: bool = False, **options: Unpack[TranslatorOptions]
    ) -> Translator:
        """Load a bundle.

        Args:
            path: the bundle's directory; None is the demonstration that comes with the package.
            verify: check all of the bundle's contents even if that was done before.
            options: see `TranslatorOptions`.

        Raises:
            BundleError: the bundle is missing, damaged or unknown.
            EngineError: the device, the engine or a package is not available.
        """
        return cls(Bundle.load(path, verify=verify), **options)

    @classmethod
    def from_model(
        cls, name: str, *, accept_licence: bool = False, verify: bool = False, **options: Unpack[TranslatorOptions]
    ) -> Translator:
        """Load a model by name; what is not here is fetched first, unless ``offline`` is among the options.

        Args:
            name: that `signet-models list` tells, or hf:ORG/NAME[@REVISION], or https://….signet#sha256=…
            accept_licence: accept the model's licence, which `signet-models show` tells; remembered.
            verify, options: see `from_bundle`.

        Raises:
            ModelError: there is no such model, it is not here and may not or cannot be fetched, or its licence is not
                accepted.
            CheckpointError: a file of it is another than it has to be.
            OutputError: there is no room for it.
            BundleError, EngineError: as `from_bundle`.
        """
        from signet_runtime.models.pull import Wishes, bundle_of

        wishes = Wishes(offline=options.get("offline", False), accept=lambda _: accept_licence, report=logger.info)
        return cls.from_bundle(bundle_of(name, wishes), verify=verify, **options)

    def translate(
        self,
        source: str | Path | PoseSequence,
        *,
        keypoints_out: Path | None = None,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> Translation:
        """Translate one clip.

        Args:
            source: a video file, a keypoint file or folder (see `read_keypoints`), or keypoints.
            keypoints_out: also write the keypoints there, as .npz.
            progress: called with the number of frames read so far and of all frames, None if unknown.

        Raises:
            InputError: the clip cannot be read, or there is no signer in it.
            OutputError: the keypoints cannot be written.
            EngineError: the pose estimator is not available.
        """
        if isinstance(source, PoseSequence):
            return self.translate_poses([source])[0]
        with contextlib.ExitStack() as stack:
            name, stream = self._open(source, None, stack)
            recorded = RecordedStream(stream, False, keypoints_out, progress)
            (translation,) = self._follow(name, recorded, whole=None, even_if_still=True)
        timings = {stage: seconds for stage, seconds in translation.timings.items() if stage != "last_frame_to_text"}
        return replace(translation, timings=timings)

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
        refuse_forked()
        live = source if isinstance(source, Live) else None
        with contextlib.ExitStack() as stack:
            name, stream = self._open(source, self.bundle.manifest.frame_rate, stack)
            recorded = RecordedStream(stream, isinstance(source, Live | PoseStream), keypoints_out, progress)
            yield from self._follow(name, recorded, pauses=pauses, whole=whole, partial=partial, live=live)

    def _open(
        self,
        source: str | Path | PoseSequence | PoseStream | Live,
        frame_rate: float | None,
        stack: contextlib.ExitStack,
    ) -> tuple[str, PoseStream]:
        """Return what to call a source in messages, and its keypoints.

        Args:
            frame_rate: a clock to bring keypoints to that are there; None leaves them as they are. What is yet to be
                posed is on the bundle's.
            stack: closes what is opened.
        """
        if isinstance(source, PoseStream):
            return "the keypoints", source
        if isinstance(source, Live):
            return source.name, stack.enter_context(stream_live(source, self.estimator))
        if isinstance(source, PoseSequence):
            return "the pose sequence", stream_sequence(on_clock(source, frame_rate))
        if is_keypoints(Path(source)):
            notes: list[str] = []
            return str(source), stream_sequence(on_clock(self._read_keypoints(source, notes), frame_rate), notes)
        estimator, speed = self.estimator, self._options["speed"]
        clock = self.bundle.manifest.frame_rate
        video = stack.enter_context(Video(source, clock and clock * speed, track=self._options["track"]))
        return str(source), stack.enter_context(stream_video(video, estimator, speed))

    def _read_keypoints(self, path: str | Path, notes: list[str]) -> PoseSequence:
        options = self._options
        poses = read_keypoints(path, Asked(options["fps"], options["signer"], notes))
        return _as_signed(poses, options["speed"])

    def _follow(
        self,
        name: str,
        recorded: RecordedStream,
        *,
        pauses: Pauses | None = None,
        whole: int | None,
        partial: float | None = None,
        live: Live | None = None,
        even_if_still: bool = False,
    ) -> Generator[Translation]:
        """Translate the sentences of a stream, see `sentences`; ``live`` is what it comes from, if that is live."""
        longest = self.bundle.manifest.max_frames
        stream = recorded.stream
        segmenter = Segmenter(stream.fps, stream.size, stream.source, longest, pauses or Pauses())
        frames: Iterable[PosedFrame] = recorded
        encoder: Encoder = self.encoder
        reader = incremental(self.encoder)
        if reader is not None:
            encoder = reader
            frames = read_along(recorded, reader, self._prepare, segmenter, whole, longest)
        signed = False
        said: list[str] = []

        def say() -> tuple[str, ...]:
            for note in stream.notes():
                if note not in said:
                    said.append(note)
                    logger.warning("%s: %s", name, note)
            return tuple(said)

        # What comes from a file has the file's times, whatever its speed.
        speed = 1.0 if recorded.live or name == "the pose sequence" else self._options["speed"]
        since = time.perf_counter()
        for sentence in cut(frames, segmenter, whole=whole, partial=partial, even_if_still=even_if_still):
            if not recorded.found:
                break
            waited = time.perf_counter() - since
            num_beams = self.num_beams if sentence.complete else 1
            translation = self._translate([sentence.poses], [name], num_beams, encoder)[0]
            since = time.perf_counter()
            arrived = sentence.arrived
            if recorded.ended and live is not None:
                arrived = live.last_arrival  # its last frame may be between two ticks of the clock
            signed = signed or sentence.complete
            yield replace(
                translation,
                start=translation.start / speed,
                end=translation.end / speed,
                timings={"pose": waited, **translation.timings, "last_frame_to_text": since - arrived},
                complete=sentence.complete,
                notes=say(),
            )
        say()
        if not recorded.found and not recorded.live:
            raise InputError(f"{name}: no person found in any of the {recorded.seen} frames")
        if not signed and not recorded.live:
            raise InputError(
                f"{name}: nobody signs in it, the hands are down or still in all {recorded.seen} frames; "
                "if they are not, a lower --still tells"
            )

    @property
    def estimator(self) -> PoseEstimator:
        """The pose estimator of videos; loaded when it is first needed, since keypoint files need none.

        Raises:
            EngineError: it cannot run here.
        """
        if self._estimator is None:
            options, weights = self._options, self._options["pose_weights"]
            self._estimator = load_estimator(
                options["pose"],
                self.bundle.manifest.pose_estimator,
                offline=options["offline"],
                device=self.device,
                weights=None if weights is None else Path(weights),
                detect_every=options["detect_every"],
                signer=options["signer"],
            )
        return self._estimator

    def read_poses(
        self, path: str | Path, *, progress: Callable[[int, int | None], None] | None = None
    ) -> PoseSequence:
        """Return the keypoints of a video, or of a keypoint file, as they were found: not resampled, not thinned.

        Raises:
            InputError: the file cannot be read, or there is no signer in it.
            EngineError: the pose estimator is not available.
        """
        path = Path(path)
        if is_keypoints(path):
            return self._read_keypoints(path, [])
        speed, clock = self._options["speed"], self.bundle.manifest.frame_rate
        track, frame_rate = self._options["track"], clock and clock * speed
        poses = extract_poses(path, self.estimator, frame_rate=frame_rate, track=track, progress=progress)
        return _as_signed(poses, speed)

    def translate_poses(self, clips: Sequence[PoseSequence], *, names: Sequence[str] = ()) -> list[Translation]:
        """Translate clips together in one padded batch; each comes out as it would alone.

        Args:
            clips: any number, of any lengths.
            names: what to call the clips in messages.

        Raises:
            InputError: there is no signer in one of them.
        """
        refuse_forked()
        return self._translate(clips, names or ["the pose sequence"] * len(clips), self.num_beams, self.encoder)

    def _prepare(self, clip: PoseSequence) -> Regions:
        return prepare(clip, self.bundle.manifest)

    def _translate(
        self,
        clips: Sequence[PoseSequence],
        names: Sequence[str],
        num_beams: int | None,
        encoder: Encoder,
    ) -> list[Translation]:
        manifest = self.bundle.manifest
        clock = _StageClock()

        regions: list[Regions] = []
        for clip, name in zip(clips, names, strict=True):
            at_rate = on_clock(clip, manifest.frame_rate)
            if len(at_rate) > manifest.max_frames:
                logger.warning(
                    "%s: %d frames %s %d the model reads; cut the clip into sentences for a better text",
                    name,
                    len(at_rate),
                    "thinned to the" if manifest.long_clips == "sampled" else "cut to the first",
                    manifest.max_frames,
                )
            clip_regions = self._prepare(at_rate)
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
                start=clip.start,
                end=clip.start + clip.duration,
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
        self._close_engine()
        if self._estimator is not None:
            self._estimator.close()
            self._estimator = None

    def __enter__(self) -> Translator:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _as_signed(poses: PoseSequence, speed: float) -> PoseSequence:
    """Return the keypoints of a recording that plays at ``speed``, on the clock of what was signed."""
    return poses if speed == 1 else replace(poses, fps=poses.fps / speed, start=poses.start * speed)


class _StageClock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now
