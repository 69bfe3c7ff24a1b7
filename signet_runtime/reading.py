"""Clips in, translations out: what the model reads of them, what it writes, and how sure that is."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import numpy as np

from signet_runtime.bundle import Bundle
from signet_runtime.confidence.calibration import read_calibration
from signet_runtime.engines.encoder import Encoder
from signet_runtime.errors import BundleError, InputError
from signet_runtime.generation import TextDecoder
from signet_runtime.generation.hypothesis import Hypothesis
from signet_runtime.limits import check_limit
from signet_runtime.options import TranslatorOptions
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.printable import printable
from signet_runtime.regions import Regions, on_clock, prepare, sample_frames
from signet_runtime.translation import Alternative, Piece, Translation

logger = logging.getLogger("signet_runtime")

# Of a piece's attention, the share that lies within its times.
_WITHIN = 0.5


class ClipReader:
    """Reads clips with a bundle's encoder and decoder, and judges what it reads.

    Args:
        options: of `TranslatorOptions`, with the defaults.

    Raises:
        BundleError: the bundle lacks what the options ask for: a calibration, or what piece times follow from.
        InputError: there are more beams than may be.
        ValueError: more texts are asked for than there are beams.
    """

    def __init__(self, bundle: Bundle, decoder: TextDecoder, options: TranslatorOptions) -> None:
        self._manifest, self._decoder = bundle.manifest, decoder
        self._n_best, self._least = options["n_best"], options["min_confidence"]
        self._piece_times = options["piece_times"]
        beams = options["num_beams"] or bundle.manifest.generation.num_beams
        check_limit("beams", beams, "num_beams", InputError)
        if self._n_best > beams:
            raise ValueError(f"n_best {self._n_best}: a search with {beams} beams finds no more than {beams} texts")
        self._reliability = read_calibration(bundle)
        if self._least > 0 and self._reliability is None:
            raise BundleError(
                f"{bundle.path}: has no calibration, so nothing says how reliable a text is; export it with "
                "--calibrate-confidence, or leave out --min-confidence"
            )
        if self._piece_times and not decoder.gives_attention:
            raise BundleError(
                f"{bundle.path}: its decoder does not say what it looks at, so there are no piece times; export it "
                "again (TensorRT engines have none), or leave out --piece-times"
            )

    def prepare(self, clip: PoseSequence) -> Regions:
        """Return what the model reads of a clip."""
        return prepare(clip, self._manifest)

    def read(
        self, clips: Sequence[PoseSequence], names: Sequence[str], num_beams: int | None, encoder: Encoder
    ) -> list[Translation]:
        """Translate clips together in one padded batch; each comes out as it would alone.

        Args:
            names: what to call the clips in messages.
            num_beams: of the search; None takes the bundle's.
            encoder: the bundle's, or what has read along with it.

        Raises:
            InputError: there is no signer in one of them.
        """
        clock = _StageClock()
        on_time = [on_clock(clip, self._manifest.frame_rate) for clip in clips]
        regions = [self._regions(clip, name) for clip, name in zip(on_time, names, strict=True)]
        clock.lap("regions")

        n_best = 1 if num_beams == 1 else self._n_best
        found: list[list[Hypothesis]] = []
        routing: list[list[float]] = []
        together = encoder.max_clips or len(regions)
        prompt = 0  # positions before the frames, of the graph
        for start in range(0, len(regions), together):
            batch = regions[start : start + together]
            encoded = encoder(batch)
            prompt = encoded.hidden_states.shape[1] - max(len(clip["body"]) for clip in batch)
            clock.lap("encoder")
            found += self._decoder.search(encoded, num_beams, n_best=n_best, attention=self._piece_times)
            clock.lap("decoder")
            routing += encoded.routing_weights.tolist()  # on a GPU they are there when the text is
            if len(routing[0]) != len(self._manifest.experts):
                raise BundleError(
                    f"the encoder engine routes to {len(routing[0])} experts, and the manifest lists "
                    f"{len(self._manifest.experts)}; export the bundle again"
                )
        # A vocabulary is a file of somebody's: what it spells goes to terminals and into files of lines.
        texts = [[printable(text) for text in self._decoder.text([one.tokens for one in each])] for each in found]
        clock.lap("decoder")
        return [
            self._translation(at_rate, clip, said, hypotheses, weights, clip_regions, prompt, dict(clock.seconds))
            for at_rate, clip, said, hypotheses, weights, clip_regions in zip(
                on_time, clips, texts, found, routing, regions, strict=True
            )
        ]

    def _regions(self, at_rate: PoseSequence, name: str) -> Regions:
        manifest = self._manifest
        if len(at_rate) > manifest.max_frames:
            logger.warning(
                "%s: %d frames %s %d the model reads; cut the clip into sentences for a better text",
                name,
                len(at_rate),
                "thinned to the" if manifest.long_clips == "sampled" else "cut to the first",
                manifest.max_frames,
            )
        regions = self.prepare(at_rate)
        if not regions["body"].any():
            raise InputError(f"{name}: no signer found; the upper body must be in view")
        return regions

    def _translation(
        self,
        at_rate: PoseSequence,
        clip: PoseSequence,
        texts: list[str],
        found: list[Hypothesis],
        routing: list[float],
        regions: Regions,
        prompt: int,
        timings: dict[str, float],
    ) -> Translation:
        best = found[0]
        reliability = None if self._reliability is None else self._reliability(best, routing, regions)
        translation = Translation(
            text=texts[0],
            start=0.0,
            end=clip.duration,
            language=self._manifest.language,
            routing=dict(zip([expert.name for expert in self._manifest.experts], routing, strict=True)),
            pose_source=clip.source,
            frames=len(regions["body"]),
            timings=timings,
            log_prob=best.log_prob,
            reliability=reliability,
            pieces=self._pieces(best, at_rate, len(regions["body"]), prompt),
            alternatives=tuple(
                Alternative(text, other.log_prob) for text, other in zip(texts[1:], found[1:], strict=True)
            ),
        )
        unsure = reliability is not None and reliability < self._least
        return (translation.without_text() if unsure else translation).placed(clip.start)

    def _pieces(self, text: Hypothesis, at_rate: PoseSequence, frames: int, prompt: int) -> tuple[Piece, ...]:
        times: list[tuple[float, float]] | list[tuple[None, None]] = [(None, None)] * len(text.tokens)
        if text.attention is not None:
            read = sample_frames(len(at_rate), self._manifest.max_frames, None, self._manifest.long_clips)
            seconds = read / at_rate.fps
            spans = looked_at(text.attention[:, prompt : prompt + frames])
            times = [(float(seconds[first]), float(seconds[last] + 1 / at_rate.fps)) for first, last in spans]
        named = [printable(piece) for piece in self._decoder.pieces(text.tokens)]
        return tuple(
            Piece(name, log_prob, start, end)
            for name, log_prob, (start, end) in zip(named, text.log_probs, times, strict=True)
            if name
        )


def looked_at(attention: np.ndarray) -> list[tuple[int, int]]:
    """Return of each piece the first and last frame of the shortest stretch that half of its weight lies on.

    Args:
        attention: float32 (pieces, T), of the frames alone.
    """
    spans = []
    for weights in attention.astype(np.float64):
        until = np.concatenate([[0.0], np.cumsum(weights)])
        last = np.searchsorted(until, until[:-1] + _WITHIN * until[-1] - 1e-9)
        length = np.where(last < len(until), last - np.arange(len(weights)), len(weights) + 1)
        first = int(length.argmin())
        spans.append((first, min(len(weights), first + int(length[first])) - 1))
    return spans


class _StageClock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now
