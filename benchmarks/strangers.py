"""What a demo reads of people it has never seen, and of words that are joined unlike those it learned.

    python -m benchmarks.strangers letters                       which letters the alphabets share
    python -m benchmarks.strangers read --generator other        the demo, on the other generator's words
    python -m benchmarks.strangers train a --out runs/unseen/a   a demo without the signers of fold a
    python -m benchmarks.strangers read --fold a --bundle runs/unseen/a/bundle

The signers of the folds a and b are there to choose by, those of c, d and e to report; no signer of a fold is in its
training in any form. The other generator (`unseen/joining.py`) trains nothing at all.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

from benchmarks.unseen.folds import CHOOSING, FOLDS, Recipe, known_to, train_fold
from benchmarks.unseen.joining import MAX_LETTERS, draw_otherwise, spell_otherwise
from benchmarks.unseen.scoring import Tally, tally
from benchmarks.unseen.sharing import Sharing, nearest_letters, sharing
from signet_runtime import Translator
from signet_runtime.pose.sequence import PoseSequence
from signet_train.data.spelled.clips import SIGN_LANGUAGES, Pace, lexicon, spell, split_letters, words
from signet_train.data.spelled.drawing import draw_word

_BATCH = 20

_LEARNED = 6  # letters of the longest words that the shipped demo learned

# An alphabet shares its letters where those that are shared make up so much of its words.
_SHARES = 0.75


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure a demo on signers and on joins that it has not seen."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")


@main.command()
def letters() -> None:
    """Print what the alphabets share, by the nearest hand of another signer, without any model."""
    click.echo("| alphabet | letters | shared | signed otherwise | nowhere else | nearest is the same | of its words |")
    click.echo("| --- | --- | --- | --- | --- | --- | --- |")
    for language in SIGN_LANGUAGES:
        found = sharing(language)
        counts = Counter(found.values())
        elsewhere = [name for name, kind in found.items() if kind is not Sharing.NONE]
        same = max(
            sum(nearest_letters(language, name)[view][0] == name for name in elsewhere) for view in range(3)
        ) / len(elsewhere)
        listed = words(language, split="test", max_letters=_LEARNED)
        characters = [found[part] for word in listed for part in split_letters(word, language) for _ in part]
        share = characters.count(Sharing.SHAPE) / len(characters)
        kinds = " | ".join(str(counts[kind]) for kind in Sharing)
        click.echo(f"| {language} | {len(lexicon()[language])} | {kinds} | {same:.0%} | {share:.0%} |")


def _recipe(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that make a `Recipe`."""
    for option in reversed(
        (
            click.option(
                "--configs",
                type=click.Path(exists=True, file_okay=False, path_type=Path),
                default=Path("signet_train/configs/demo"),
                show_default=True,
                help="The five configurations of the demo, or others of these names.",
            ),
            click.option("--words", default=5000, show_default=True, help="Training words an alphabet."),
            click.option("--max-letters", default=6, show_default=True, help="Training words of up to this many."),
            click.option("--foreign", default=0.0, show_default=True, help="Share of words of other languages."),
            click.option("--people", is_flag=True, help="Signed as by other people, in many manners."),
            click.option(
                "--redrawn", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Second view."
            ),
            click.option("--seed", default=1, show_default=True),
            click.option("--set", "changes", multiple=True, metavar="SECTION.KEY=VALUE", help="In every stage."),
        )
    ):
        command = option(command)
    return command


@main.command()
@click.argument("fold", type=click.Choice(sorted(FOLDS)))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Directory of the runs.")
@_recipe
@click.option("--views", default=2, show_default=True, help="Of every word, in the cache of features.")
@click.option("--single", is_flag=True, help="One expert of all alphabets and no more, to compare corpora quickly.")
def train(fold: str, out: Path, **recipe: Any) -> None:
    """Train the demo's recipe without the signers of FOLD, and export it; the same command goes on where it stopped."""
    started = time.perf_counter()
    bundle = train_fold(fold, out, Recipe(**recipe))
    minutes = (time.perf_counter() - started) / 60
    click.echo(f"{bundle}: without {', '.join(FOLDS[fold])}; {minutes:.0f} minutes", err=True)


@main.command()
@click.argument("fold", type=click.Choice(sorted(CHOOSING)))
@click.option("--steps", default=1200, show_default=True, help="Of 48 words.")
@_recipe
def quick(fold: str, steps: int, **recipe: Any) -> None:
    """Train a small reader of letters, without a language model, in minutes: to choose data by, not to report."""
    from benchmarks.unseen.quick import read_letters, train_reader

    reader, characters, config = train_reader(fold, Recipe(**recipe), steps)
    click.echo("| alphabet | our words | the other generator's | of these shared | otherwise |")
    click.echo("| --- | --- | --- | --- | --- |")
    for language in SIGN_LANGUAGES:
        ours, other = (
            read_letters(reader, characters, config, language, otherwise, 100, fold) for otherwise in (False, True)
        )
        alike, named = (other.share_misread(kind) or 0.0 for kind in (Sharing.SHAPE, Sharing.NAME))
        held_out = " (a stranger)" if language in FOLDS[fold] else ""
        rates = " | ".join(f"{rate:.1%}" for rate in (ours.error_rate, other.error_rate, alike, named))
        click.echo(f"| {language}{held_out} | {rates} |")


@main.command()
@click.option("--bundle", type=click.Path(exists=True, path_type=Path), help="[default: the demo]")
@click.option(
    "--fold", type=click.Choice(sorted(FOLDS)), help="What the bundle was trained without; its signers are read."
)
@click.option("--generator", type=click.Choice(["ours", "other"]), default="ours", show_default=True)
@click.option("--videos", is_flag=True, help="Through drawn videos and MediaPipe, not from keypoints.")
@click.option("--words", "count", default=100, show_default=True, help="Words an alphabet and seed.")
@click.option("--max-letters", type=int, help="Words of 2 to this many. [default: 6 of ours, 8 of the other's]")
@click.option("--seeds", default=3, show_default=True, help="How many; each draws other words and other joins.")
@click.option("--show-errors", is_flag=True, help="Print what was misread.")
@click.argument("sign_languages", nargs=-1)
def read(
    bundle: Path | None,
    fold: str | None,
    generator: str,
    videos: bool,
    count: int,
    max_letters: int | None,
    seeds: int,
    show_errors: bool,
    sign_languages: tuple[str, ...],
) -> None:
    """Print what a bundle reads of SIGN_LANGUAGES, by default of the fold's signers, or of all thirteen."""
    translator = Translator.from_bundle(bundle)
    known = known_to(fold) if fold else SIGN_LANGUAGES
    click.echo("| alphabet | words | characters wrong | by seed | shared | otherwise | nowhere | words right | loops |")
    click.echo("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    longest = max_letters or (MAX_LETTERS if generator == "other" else _LEARNED)
    rates, sharers, total = [], [], Tally()
    for language in sign_languages or (FOLDS[fold] if fold else SIGN_LANGUAGES):
        found, by_seed = Tally(), []
        for seed in range(seeds):
            listed = words(language, split="test", max_letters=longest)
            rng = np.random.default_rng([seed, *language.encode()])
            chosen = rng.choice(listed, size=count, replace=False).tolist()
            texts = _read(translator, chosen, language, generator, videos, rng)
            one = tally(chosen, texts, language, known)
            by_seed.append(f"{one.error_rate:.1%}")
            found += one
            if show_errors:
                wrong = [f"{a}→{b}" for a, b in zip(chosen, texts, strict=True) if a != b]
                click.echo(f"{language}, seed {seed}: {' '.join(wrong)}", err=True)
        rates.append(found.error_rate)
        if found.letters[Sharing.SHAPE] >= _SHARES * found.characters:
            sharers.append(found.error_rate)
        click.echo(_row(language, found, " ".join(by_seed)))
        total += found
    click.echo(_row("all", total, ""))
    click.echo(f"mean of alphabets: {np.mean(rates):.1%}")
    if sharers:
        click.echo(
            f"mean of the {len(sharers)} that share {_SHARES:.0%} of their words' letters: {np.mean(sharers):.1%}"
        )


def _row(name: str, found: Tally, by_seed: str) -> str:
    kinds = [found.share_misread(kind) for kind in Sharing]
    shown = " | ".join("–" if rate is None else f"{rate:.1%}" for rate in kinds)
    right = f"{found.right / found.words:.0%}"
    return f"| {name} | {found.words} | {found.error_rate:.1%} | {by_seed} | {shown} | {right} | {found.loops} |"


def _read(
    translator: Translator, chosen: list[str], language: str, generator: str, videos: bool, rng: np.random.Generator
) -> list[str]:
    if videos:
        return _read_videos(translator, chosen, language, generator, rng)
    join: Callable[[str], PoseSequence]
    if generator == "other":
        join = lambda word: spell_otherwise(word, language, rng)  # noqa: E731
    else:
        join = lambda word: spell(word, language, Pace())  # noqa: E731
    clips = [join(word) for word in chosen]
    batches = [clips[i : i + _BATCH] for i in range(0, len(clips), _BATCH)]
    return [translation.text for batch in batches for translation in translator.translate_poses(batch)]


def _read_videos(
    translator: Translator, chosen: list[str], language: str, generator: str, rng: np.random.Generator
) -> list[str]:
    texts = []
    with tempfile.TemporaryDirectory() as directory:
        for word in tqdm(chosen, desc=language, leave=False):
            path = Path(directory, "word.mp4")
            if generator == "other":
                draw_otherwise(path, word, language, rng)
            else:
                draw_word(path, word, language)
            texts.append(translator.translate(path).text)
    return texts


if __name__ == "__main__":
    main()
