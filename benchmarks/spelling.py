"""Character error rate of a bundle on real words that were not in training, by alphabet, through ONNX.

    python -m benchmarks.spelling                                 100 words an alphabet, from keypoints
    python -m benchmarks.spelling --videos --words 30             drawn, encoded, and read by MediaPipe

The letter clips were in training, the words were not. With --videos every word becomes an H.264 file and
goes through the whole path of signet-translate.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from signet_runtime import Translator
from signet_train.data.spelled.clips import SIGN_LANGUAGES, Pace, spell, words
from signet_train.data.spelled.drawing import draw_word
from signet_train.evaluation.metrics import character_error_rate

_BATCH = 20


def read_keypoints(translator: Translator, chosen: list[str], sign_language: str) -> list[str]:
    """Return what the bundle reads from the recorded letters, joined."""
    clips = [spell(word, sign_language, Pace()) for word in chosen]
    batches = [clips[i : i + _BATCH] for i in range(0, len(clips), _BATCH)]
    return [translation.text for batch in batches for translation in translator.translate_poses(batch)]


def read_videos(translator: Translator, chosen: list[str], sign_language: str) -> list[str]:
    """Return what the bundle reads from a drawn video of each word."""
    texts = []
    with tempfile.TemporaryDirectory() as directory:
        for word in tqdm(chosen, desc=sign_language, leave=False):
            path = Path(directory, "word.mp4")
            draw_word(path, word, sign_language)
            texts.append(translator.translate(path).text)
    return texts


@click.command()
@click.option("--bundle", type=click.Path(exists=True, path_type=Path), help="[default: the demo]")
@click.option("--words", "count", default=100, show_default=True, help="Words an alphabet.")
@click.option("--videos", is_flag=True, help="Through drawn videos and MediaPipe, not from keypoints.")
@click.option("--max-letters", default=6, show_default=True, help="Words of 2 to this many; the demo learned up to 6.")
@click.option("--seed", default=0, show_default=True)
@click.option("--show-errors", is_flag=True, help="Print what was misread.")
@click.argument("sign_languages", nargs=-1)
def main(
    bundle: Path | None,
    count: int,
    videos: bool,
    max_letters: int,
    seed: int,
    show_errors: bool,
    sign_languages: tuple[str, ...],
) -> None:
    """Print a table of error rates for SIGN_LANGUAGES, by default the thirteen one-handed Latin alphabets."""
    translator = Translator.from_bundle(bundle)
    read = read_videos if videos else read_keypoints
    click.echo("| alphabet | words | characters wrong | words right |\n| --- | --- | --- | --- |")
    rates = []
    for sign_language in sign_languages or SIGN_LANGUAGES:
        listed = words(sign_language, split="test", max_letters=max_letters)
        chosen = np.random.default_rng(seed).choice(listed, size=count, replace=False).tolist()
        texts = read(translator, chosen, sign_language)
        rates.append(character_error_rate(chosen, texts))
        right = sum(a == b for a, b in zip(chosen, texts, strict=True)) / count
        click.echo(f"| {sign_language} | {count} | {rates[-1]:.1%} | {right:.0%} |")
        if show_errors:
            wrong = [f"{a}→{b}" for a, b in zip(chosen, texts, strict=True) if a != b]
            click.echo("  " + " ".join(wrong), err=True)
    click.echo(f"| mean | | {np.mean(rates):.1%} | |")


if __name__ == "__main__":
    main()
