"""A corpus of spelled words: what the demo learns, as a manifest like any other.

Nothing is stored but the words. A row's poses are ``spell://<sign language>/<word>``, and the keypoints are put
together from real signers' letter clips when they are asked for, in training every time in another pace.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import numpy as np

from signet_runtime.errors import InputError
from signet_runtime.pose.sequence import PoseSequence
from signet_train.data.manifest import Row
from signet_train.data.spelled.clips import (
    CAMERA_FPS,
    ONE_HANDED_LATIN,
    WORD_LISTS,
    Pace,
    join,
    lexicon,
    spell,
    split_letters,
    split_of,
    words,
)
from signet_train.data.spelled.freely import join_freely
from signet_train.data.spelled.people import Person, as_person, load_deep

_DOUBLED = 0.2  # of the letters in random strings repeat the one before: real words double few of them

# With people: how often a word is joined freely, and is signed by somebody else than the clips' signer.
_FREELY, _ANOTHER = 0.65, 0.8


def sign_word(location: str, root: Path, rng: np.random.Generator | None = None) -> PoseSequence:
    """Make the keypoints of ``spell://<sign language>/<word>[?redrawn=<directory>&people=1]`` at the camera's rate.

    With ``rng`` in a random pace, and every other time from the clips in ``redrawn`` (`signet-train redraw`); where
    the location says ``people``, also in other manners and by other people. Without, in the default pace, as recorded.

    Raises:
        InputError: no such sign language, or a letter that its alphabet lacks.
    """
    parts = urlsplit(location)
    sign_language, word = parts.netloc, unquote(parts.path[1:])
    if sign_language not in lexicon() or not word:
        raise InputError(f"{location}: a spelled word is spell://LANGUAGE/WORD, LANGUAGE one of {' '.join(lexicon())}")
    if rng is None:
        return spell(word, sign_language, Pace())
    pace = Pace(rng.uniform(1.4, 2.4), rng.uniform(0.08, 0.24), bool(rng.random() < 0.5))
    asked = parse_qs(parts.query)
    redrawn = asked.get("redrawn")
    redrawn_clips = root / redrawn[0] if redrawn and rng.random() < 0.5 else None
    if "people" in asked:
        return _spell_as_people(word, sign_language, pace, redrawn_clips, rng)
    return spell(word, sign_language, pace, redrawn_clips)


def _spell_as_people(
    word: str, sign_language: str, pace: Pace, redrawn: Path | None, rng: np.random.Generator
) -> PoseSequence:
    letters = split_letters(word, sign_language)
    clips = [load_deep(sign_language, part, redrawn) for part in letters]
    repeated = [a == b for a, b in itertools.pairwise(letters)]
    if rng.random() < _FREELY:
        points, scores = join_freely(clips, repeated, CAMERA_FPS, rng)
    else:
        points, scores = join(clips, pace, CAMERA_FPS, repeated)
    if rng.random() < _ANOTHER:
        points, scores = as_person(points, scores, Person(), rng)
    return PoseSequence(points[..., :2], scores, CAMERA_FPS, (500, 500), f"spoken-to-signed/{sign_language}")


def spelling_rows(
    sign_languages: tuple[str, ...],
    max_letters: int,
    words_each: int,
    redrawn: str | None,
    seed: int,
    dev_words: int = 20,
    foreign: float = 0.0,
    people: bool = False,
) -> Iterator[Row]:
    """Make every alphabet's rows: ``words_each`` for training, held-out ``dev_words`` for ``dev``, 100 for ``test``.

    Seven in ten training rows are real words (again from the start where a language has fewer), the rest random
    strings, so that rare letters and short words are seen; never a word that is held out.

    Args:
        foreign: share of the real words that are of the other twelve alphabets' languages, so that every language's
            words are known in several signers' letters.
        people: training rows are signed as by other people, in other manners (`sign_word`).
    """
    languages = sorted(set(ONE_HANDED_LATIN.values()))
    for sign_language in sign_languages:
        rng = np.random.default_rng([seed, *sign_language.encode()])
        real = rng.permutation(words(sign_language, split="train", max_letters=max_letters)).tolist()
        count = round(0.7 * words_each)
        others = [language for language in languages if language != WORD_LISTS[sign_language]] if foreign else []
        abroad = [
            word
            for language in others
            for word in words(sign_language, split="train", max_letters=max_letters, language=language)
        ]
        borrowed = rng.choice(abroad, round(foreign * count)).tolist() if abroad else []
        chosen = [real[i % len(real)] for i in range(count - len(borrowed))] + borrowed
        lengths = rng.integers(1, max(1, max_letters - 2) + 1, words_each - count)
        chosen += [_random_string(sign_language, int(length), rng) for length in lengths]
        samples = [("train", word) for word in chosen]
        for split, number in (("dev", dev_words), ("test", 100)):
            held_out = words(sign_language, split=split, max_letters=max_letters)
            samples += [(split, word) for word in rng.permutation(held_out)[:number].tolist()]
        asked = {**({"redrawn": redrawn} if redrawn else {}), **({"people": "1"} if people else {})}
        query = f"?{urlencode(asked, quote_via=quote)}" if asked else ""
        for i, (split, word) in enumerate(samples):
            location = f"spell://{sign_language}/{quote(word)}{query}"
            yield Row(
                id=f"{sign_language}-{i:05}",
                split=split,
                poses=location,
                text=word,
                language=WORD_LISTS[sign_language],
                sign_language=sign_language,
                signer=sign_language,
            )


def _random_string(sign_language: str, count: int, rng: np.random.Generator) -> str:
    """Draw ``count`` letters, some of them doubled, that are not by chance a held-out word."""
    alphabet = sorted(lexicon()[sign_language])
    while True:
        letters: list[str] = []
        for _ in range(count):
            doubled = letters and rng.random() < _DOUBLED
            letters.append(letters[-1] if doubled else str(rng.choice(alphabet)))
        word = "".join(letters)
        if count == 1 or split_of(word) == "train":
            return word
