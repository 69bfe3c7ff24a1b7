"""How near piece times are to where letters were signed, with a bundle that reads spelled words.

    python -m benchmarks.piece_times                      20 words an alphabet

Words are joined of letter clips, so where each letter is signed is known: where its hand is up. Of words that are read
right, how many pieces' times overlap their letter's, and how far their middles are apart.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from benchmarks.measuring.report import Table, header
from signet_runtime import Translator
from signet_runtime.errors import SignetError
from signet_runtime.files import whole_file
from signet_train.data.spelled.clips import (
    CAMERA_FPS,
    SIGN_LANGUAGES,
    Pace,
    load_keypoints,
    spell,
    split_letters,
    words,
)


def signed(word: str, sign_language: str, pace: Pace) -> list[tuple[float, float]]:
    """Return when the hand is up for each letter of a word that `spell` joins (s)."""
    clips = [load_keypoints(sign_language, letters) for letters in split_letters(word, sign_language)]
    found, at = [], 0
    for i, clip in enumerate(clips):
        up, down = clip.hold
        start = 0 if pace.rest and i == 0 else up
        stop = len(clip.points) if pace.rest and i == len(clips) - 1 else down
        if i:
            at += max(1, round(pace.transition * CAMERA_FPS))
        ticks = CAMERA_FPS / (clip.fps * pace.speed)  # that a frame of the clip takes
        found.append(((at + (up - start) * ticks) / CAMERA_FPS, (at + (down - start) * ticks) / CAMERA_FPS))
        at += max(1, round((stop - start) * ticks))
    return found


@click.command()
@click.option("--bundle", type=click.Path(exists=True, path_type=Path), help="[default: the demo]")
@click.option("--words", "each", default=20, show_default=True, help="Words an alphabet.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Also write the report there.")
def main(bundle: Path | None, each: int, markdown: Path | None) -> None:
    """Print the table."""
    try:
        translator = Translator(bundle, piece_times=True)
    except SignetError as error:
        raise click.ClickException(str(error)) from error
    columns = ["alphabet", "letters", "overlap", "middles apart, median (95%), s"]
    table = Table("times", "Piece times of words that were read right", columns)
    everything: list[tuple[bool, float]] = []
    for sign_language in SIGN_LANGUAGES:
        chosen = list(words(sign_language, split="test", max_letters=6)[:each])
        clips = [spell(word, sign_language, Pace()) for word in chosen]
        found: list[tuple[bool, float]] = []
        for word, translation in zip(chosen, translator.translate_poses(clips), strict=True):
            letters = split_letters(word, sign_language)
            pieces = [piece for piece in translation.pieces if piece.text.strip()]
            if translation.text != word or [piece.text.strip() for piece in pieces] != list(letters):
                continue
            for piece, (up, down) in zip(pieces, signed(word, sign_language, Pace()), strict=True):
                assert piece.start is not None and piece.end is not None
                overlap = min(piece.end, down) > max(piece.start, up)
                found.append((overlap, abs(piece.start + piece.end - up - down) / 2))
        table.rows.append((sign_language, *_summary(found)))
        everything += found
    table.rows.append(("all", *_summary(everything)))
    text = f"{table.markdown()}\n"
    click.echo(text)
    if markdown is not None:
        with whole_file(markdown) as temporary:
            temporary.write_text(f"# Piece times\n\n`python -m benchmarks.piece_times`; {header()}\n\n{text}")


def _summary(found: list[tuple[bool, float]]) -> tuple[int, str, str]:
    overlap, apart = (np.array(values, float) for values in zip(*found, strict=True))
    return len(found), f"{overlap.mean():.1%}", f"{np.median(apart):.3f} ({np.quantile(apart, 0.95):.3f})"


if __name__ == "__main__":
    main()
