"""The pipeline: video -> poses -> sentences -> regions -> experts and mT5 encoder -> text."""

from __future__ import annotations

import contextlib
import copy
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import numpy as np

from signet_runtime.bundle import Bundle
from signet_runtime.engines.encoder import Encoder
from signet_runtime.engines.incremental import incremental, read_along
from signet_runtime.engines.load import load_engine
from signet_runtime.errors import InputError
from signet_runtime.forking import refuse_forked
from signet_runtime.options import TranslatorOptions, with_defaults
from signet_runtime.overlay.drawn import Drawn, refuse_overlay
from signet_runtime.pose.estimators import PoseEstimator, load_estimator
from signet_runtime.pose.files import is_keypoints, read_keypoints
from signet_runtime.pose.people import Asked
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.progress import Progress, shown_progress
from signet_runtime.reading import ClipReader
from signet_runtime.regions import on_clock
from signet_runtime.sentences.keypoints import (
    PoseStream,
    RecordedStream,
    extract_poses,
    on_ticks,
    stream_live,
    stream_sequence,
    stream_video,
)
from signet_runtime.sentences.segmenter import Pauses, PosedFrame, Segmenter, cut
from signet_runtime.sources.arrays import FrameArrays
from signet_runtime.sources.isolation import open_video
from signet_runtime.sources.isolation.processes import prepare
from signet_runtime.sources.live import Live
from signet_runtime.translation import Translation

logger = logging.getLogger("signet_runtime")

# What can be translated, see `Translator.sentences`.
Source = str | Path | np.ndarray | Iterable[np.ndarray] | PoseSequence | PoseStream | Live


class Translator:
    """A bundle, loaded: made once, used for many clips.

    Args:
        bundle: that `Bundle.load` gave, or its directory; None is the demonstration that comes with the package.
        options: see `TranslatorOptions`.

    Raises:
        BundleError: the bundle is damaged, or lacks what ``min_confidence`` or ``piece_times`` need.
        EngineError: the device, the engine or a package is not available.
        ValueError: ``n_best`` is more than there are beams.
    """

    def __init__(self, bundle: Bundle | str | Path | None = None, **options: Unpack[TranslatorOptions]) -> None:
        refuse_forked()
        self._options = with_defaults(options)
        if self._options["isolate"]:
            prepare()
        if not isinstance(bundle, Bundle):
            bundle = Bundle.load(bundle)
        self.bundle = bundle
        self.device, self.num_beams = self._options["device"], self._options["num_beams"]
        self._estimator: PoseEstimator | None = None
        self.encoder, self.decoder, self._close_engine = load_engine(
            bundle, self._options["engine"], self.device, self._options["generation"]
        )
        self._reader = ClipReader(bundle, self.decoder, self._options)
        # Where the decoder takes one thread at a time, so does the encoder: TensorRT's contexts hold what they are at.
        self._turn: contextlib.AbstractContextManager[object] = (
            contextlib.nullcontext() if self.decoder.reentrant else threading.Lock()
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
        source: str | Path | np.ndarray | Iterable[np.ndarray] | PoseSequence,
        *,
        fps: float | None = None,
        keypoints_out: Path | None = None,
        progress: Progress = None,
    ) -> Translation:
        """Translate one clip.

        Args:
            source: a video file, a keypoint file or folder (see `read_keypoints`), pictures (see `sentences`), or
                keypoints.
            fps: of pictures, frames a second; None takes 25, which is noted.
            keypoints_out: also write the keypoints there, as .npz.
            progress: see `sentences`.

        Raises:
            InputError: the clip cannot be read, or there is no signer in it.
            OutputError: the keypoints cannot be written.
            EngineError: the pose estimator is not available.
        """
        if isinstance(source, PoseSequence):
            return self.translate_poses([source])[0]
        with contextlib.ExitStack() as stack:
            called = stack.enter_context(shown_progress(progress, source))
            name, stream = self._open(source, None, stack, fps)
            recorded = RecordedStream(stream, False, keypoints_out, called)
            (translation,) = self._follow(name, recorded, whole=None, even_if_still=True)
        timings = {stage: seconds for stage, seconds in translation.timings.items() if stage != "last_frame_to_text"}
        return replace(translation, timings=timings)

    def sentences(
        self,
        source: Source,
        *,
        fps: float | None = None,
        pauses: Pauses | None = None,
        whole: int | None = 0,
        partial: float | None = None,
        keypoints_out: Path | None = None,
        overlay: Path | None = None,
        all_frames: bool = False,
        progress: Progress = None,
        opened: Callable[[PoseStream], None] | None = None,
        watch: Callable[[PosedFrame], None] | None = None,
    ) -> Generator[Translation]:
        """Translate what is signed sentence by sentence, each as soon as it has ended.

        Decoding, pose estimation and translation work side by side, and memory does not grow with the length. With a
        bundle whose features are apart, a sentence is read along while it is signed.

        Args:
            source: a video file; pictures, uint8 RGB, as an array (T, H, W, 3) or whatever gives them one by one, each
                (H, W, 3); a keypoint file; keypoints; a `Live` source; or a `PoseStream` of keypoints that somebody
                else finds, on the bundle's clock.
            fps: of pictures, frames a second; None takes 25, which is noted.
            pauses: what ends a sentence, see `signet_runtime.sentences.segmenter`.
            whole: a source of up to so many frames is one sentence and not cut; None: any source.
            partial: every so many seconds of a sentence also translate, greedily, what there is of it.
            keypoints_out: also write the keypoints there, as .npz, when the source has ended; they are held till then.
            overlay: also write the video there, with what was seen and said, when all of it was read.
            all_frames: find the keypoints of every frame of a video, for these two; the model reads those on its clock.
            progress: called with the number of frames done and of all, None if unknown; True shows a bar, on a terminal
                or in a notebook.
            opened: called with the source's keypoints before any was read: their clock, the size of the pictures.
            watch: called with every frame's keypoints on their way; what it raises ends the reading.

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
        if overlay is not None:
            refuse_overlay(source)
        with contextlib.ExitStack() as stack:
            called = stack.enter_context(shown_progress(progress, source))
            name, stream = self._open(source, self.bundle.manifest.frame_rate, stack, fps, all_frames)
            if opened is not None:
                opened(stream)
            drawn = stack.enter_context(contextlib.closing(Drawn(overlay, self._options))) if overlay else None
            also = [look for look in (watch, drawn and drawn.poses.add) if look]
            recorded = RecordedStream(stream, isinstance(source, Live | PoseStream), keypoints_out, called, also)
            for translation in self._follow(name, recorded, pauses=pauses, whole=whole, partial=partial, live=live):
                if drawn is not None and translation.complete:
                    drawn.sentences.append(translation)
                yield translation
            if drawn is not None and isinstance(source, str | Path):
                for note in drawn.write(Path(source), called):
                    logger.warning("%s: %s", name, note)

    def _open(
        self,
        source: Source,
        frame_rate: float | None,
        stack: contextlib.ExitStack,
        fps: float | None = None,
        all_frames: bool = False,
    ) -> tuple[str, PoseStream]:
        """Return what to call a source in messages, and its keypoints.

        Args:
            frame_rate: a clock to bring keypoints to that are there; None leaves them as they are. What is yet to be
                posed is on the bundle's.
            stack: closes what is opened.
            fps, all_frames: see `sentences`.
        """
        if isinstance(source, PoseStream):
            return "the keypoints", source
        if isinstance(source, Live):
            return source.name, stack.enter_context(stream_live(source, self.estimator))
        if isinstance(source, PoseSequence):
            return "the pose sequence", stream_sequence(on_clock(source, frame_rate))
        clock, speed = self.bundle.manifest.frame_rate, self._options["speed"]
        wanted = clock and clock * speed
        if not isinstance(source, str | Path):
            pictures = FrameArrays(source, fps, wanted)
            return "the frames", stack.enter_context(stream_video(pictures, self.estimator, speed))
        if is_keypoints(Path(source)):
            notes: list[str] = []
            return str(source), stream_sequence(on_clock(self._read_keypoints(source, notes), frame_rate), notes)
        track, isolate = self._options["track"], self._options["isolate"]
        video = open_video(source, None if all_frames else wanted, track=track, isolate=isolate)
        stack.callback(video.close)
        estimator = self.estimator
        thinned = all_frames and wanted is not None and (video.info.fps > wanted or not video.regular)
        return str(source), stack.enter_context(
            stream_video(video, estimator, speed, all_frames, clock if thinned else None)
        )

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
        frames: Iterable[PosedFrame] = recorded
        if stream.clock is not None and stream.end is not None:
            frames = on_ticks(recorded, stream.clock, stream.end)
        fps = stream.clock or stream.fps
        segmenter = Segmenter(fps, stream.size, stream.source, longest, pauses or Pauses())
        encoder: Encoder = self.encoder
        reader = incremental(self.encoder)
        if reader is not None:
            encoder = reader
            frames = read_along(frames, reader, self._reader.prepare, segmenter, whole, longest)
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
            with self._turn:
                translation = self._reader.read([sentence.poses], [name], num_beams, encoder)[0]
            since = time.perf_counter()
            arrived = sentence.arrived
            if recorded.ended and live is not None:
                arrived = live.last_arrival  # its last frame may be between two ticks of the clock
            signed = signed or sentence.complete
            yield replace(
                translation.placed(0.0, speed),
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
        track, isolate = self._options["track"], self._options["isolate"]
        poses = extract_poses(
            path, self.estimator, frame_rate=clock and clock * speed, track=track, progress=progress, isolate=isolate
        )
        return _as_signed(poses, speed)

    def translate_batch(
        self, sources: Iterable[str | Path | PoseSequence], *, batch_size: int = 8
    ) -> list[Translation]:
        """Translate clips, each as a whole, in batches of those that are about as long, so that little is padded.

        Args:
            sources: videos, keypoint files, or keypoints.
            batch_size: clips that the model reads together.

        Returns:
            translations in the order of the sources; each as it would be alone.

        Raises:
            InputError: one of them cannot be read, or there is no signer in it.
            EngineError: the pose estimator is not available.
        """
        clips: list[PoseSequence] = []
        names: list[str] = []
        for source in sources:
            if isinstance(source, PoseSequence):
                clips.append(source)
                names.append("the pose sequence")
            else:
                clips.append(self.read_poses(source))
                names.append(str(source))
        order = sorted(range(len(clips)), key=lambda i: clips[i].duration)
        found: dict[int, Translation] = {}
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            together = self.translate_poses([clips[i] for i in batch], names=[names[i] for i in batch])
            found.update(zip(batch, together, strict=True))
        return [found[i] for i in range(len(clips))]

    def translate_poses(self, clips: Sequence[PoseSequence], *, names: Sequence[str] = ()) -> list[Translation]:
        """Translate clips together in one padded batch; each comes out as it would alone.

        Args:
            clips: any number, of any lengths.
            names: what to call the clips in messages.

        Raises:
            InputError: there is no signer in one of them.
        """
        refuse_forked()
        with self._turn:
            return self._reader.read(clips, names or ["the pose sequence"] * len(clips), self.num_beams, self.encoder)

    def beside(self) -> Translator:
        """Return a translator for another thread: its engines are this one's, its pose estimator is its own.

        To close it gives its pose estimator back; the engines are this one's to close, when no other is at work.
        """
        other = copy.copy(self)
        other._estimator, other._close_engine = None, lambda: None
        return other

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
