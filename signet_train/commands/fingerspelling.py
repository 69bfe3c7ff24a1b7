"""signet-train fingerspelling, redraw, draw: the demo's data."""

from __future__ import annotations

import os
from pathlib import Path

import click


@click.command()
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help=".parquet or .jsonl")
@click.option(
    "--words", type=click.IntRange(1, 1_000_000), default=5000, show_default=True, help="Training words an alphabet."
)
@click.option(
    "--max-letters",
    type=click.IntRange(2, 100),  # the word lists have words of two letters and more
    default=6,
    show_default=True,
    help="Words of up to this many letters.",
)
@click.option(
    "--redrawn", type=click.Path(exists=True, file_okay=False, path_type=Path), help="What `signet-train redraw` wrote."
)
@click.option("--people", is_flag=True, help="Signed as by other people, in many manners, and not as recorded alone.")
@click.option(
    "--foreign", default=0.0, show_default=True, help="Share of an alphabet's real words that are of other languages."
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
def fingerspelling(
    out: Path, words: int, max_letters: int, redrawn: Path | None, people: bool, foreign: float, seed: int
) -> None:
    """Make a corpus of spelled words in thirteen alphabets, from real signers' letter clips.

    It is a manifest like that of any data set; two words in ten, by a hash of their letters, are in no training split.

    \b
    Example: signet-train fingerspelling --out data/fingerspelling.parquet --redrawn runs/redrawn
    """  # noqa: D301
    from signet_train.data.manifest import write_manifest
    from signet_train.data.spelled.clips import SIGN_LANGUAGES
    from signet_train.data.spelled.corpus import spelling_rows

    clips = str(redrawn.resolve()) if redrawn else None
    rows = list(spelling_rows(SIGN_LANGUAGES, max_letters, words, clips, seed, foreign=foreign, people=people))
    write_manifest(out, rows)
    click.echo(f"{out}: {len(rows)} words", err=True)
    click.echo(f"Next: signet-train pretrain CONFIG --out RUN, with data.manifests = [{str(out)!r}]", err=True)


@click.command()
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Directory of the clips.")
@click.argument("sign_languages", nargs=-1)
def redraw(out: Path, sign_languages: tuple[str, ...]) -> None:
    """Draw the letter clips of SIGN_LANGUAGES (all of the demo's if none is given) as an avatar, and read them
    back with MediaPipe.

    \b
    Example: signet-train redraw --out runs/redrawn
    """  # noqa: D301
    from signet_runtime.errors import OutputError
    from signet_runtime.files import reporting
    from signet_runtime.pose.estimators import load_estimator
    from signet_train.data.spelled.clips import SIGN_LANGUAGES
    from signet_train.data.spelled.redraw import redraw as run

    unknown = set(sign_languages) - set(SIGN_LANGUAGES)
    if unknown:
        raise click.UsageError(f"no clips for {', '.join(sorted(unknown))}; there are: {' '.join(SIGN_LANGUAGES)}")
    with reporting(out):
        out.mkdir(parents=True, exist_ok=True)
    if not os.access(out, os.W_OK | os.X_OK):
        raise OutputError(f"{out}: no permission to write there; choose another place")
    estimator = load_estimator("mediapipe", "mediapipe", offline=True)  # the clips are its landmarks
    try:
        run(sign_languages or SIGN_LANGUAGES, estimator, out)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; the alphabets in {out} that are whole are kept: give it again") from None
    click.echo(f"Next: signet-train fingerspelling --redrawn {out} --out MANIFEST", err=True)


@click.command()
@click.argument("word")
@click.option("--sign-language", required=True, help="Whose alphabet, as an ISO 639-3 code: ase, gsg, …")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The .mp4 to write.")
def draw(word: str, sign_language: str, out: Path) -> None:
    """Draw WORD, spelled with a real signer's letters, as a video.

    \b
    Example: signet-train draw planet --sign-language ase --out planet.mp4
    """  # noqa: D301
    from signet_runtime.files import check_writable
    from signet_train.data.spelled.drawing import SUFFIXES, draw_word

    if not word:
        raise click.UsageError("WORD is empty; give one, as planet")
    if out.suffix.lower() not in SUFFIXES:
        raise click.UsageError(f"--out {out}: a video's name ends in one of {' '.join(SUFFIXES)}")
    check_writable(out)
    draw_word(out, word, sign_language)
    click.echo(f"Next: signet-translate {out}", err=True)
