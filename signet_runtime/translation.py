"""What a clip says, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Piece:
    """A piece of a text: a word, or a part of one.

    Attributes:
        text: as it stands in the text; a space before it begins a word.
        log_prob: natural logarithm of its probability, given the pieces before it.
        start, end: where it was read, in seconds on the clip's clock: the shortest stretch on which half of
            cross-attention's weight lies. That is where the model looked, which approximates where it was signed, and
            need not be in the order of the pieces. None where piece times were not asked for.
    """

    text: str
    log_prob: float
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Alternative:
    """Another text that the search found, and the average log-probability of its tokens."""

    text: str
    log_prob: float


@dataclass(frozen=True)
class Translation:
    """What one clip says.

    Attributes:
        text: in ``language``; empty where it was ``suppressed``.
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
        log_prob: average natural logarithm of the tokens' probabilities, with the token that ends the text.
        reliability: how much of the text is expected to be right, in [0, 1], by the bundle's calibration; None where it
            has none.
        pieces: of the text, in its order; a piece that spells nothing is not there.
        alternatives: what else the search found, the best first.
        suppressed: whether the text was left out because its reliability is below the least that was asked for.
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
    log_prob: float | None = None
    reliability: float | None = None
    pieces: tuple[Piece, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    suppressed: bool = False

    def placed(self, start: float, speed: float = 1.0) -> Translation:
        """Return it as part of a recording: from ``start`` (s) on, both then at the recording's ``speed``."""

        def place(seconds: float | None) -> float | None:
            return None if seconds is None else (start + seconds) / speed

        pieces = tuple(replace(piece, start=place(piece.start), end=place(piece.end)) for piece in self.pieces)
        return replace(self, start=(start + self.start) / speed, end=(start + self.end) / speed, pieces=pieces)

    def without_text(self) -> Translation:
        """Return it as one whose text is not sure enough to be said."""
        return replace(self, text="", pieces=(), alternatives=(), suppressed=True)
