"""What of the words is read: characters, letters by how they are shared, and words that run into a loop."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from rapidfuzz.distance import Levenshtein

from benchmarks.unseen.sharing import Sharing, sharing
from signet_train.data.spelled.clips import split_letters

_LOOP = re.compile(r"(.{1,3}?)\1\1")


@dataclass
class Tally:
    """Counts over words of one alphabet, or of several.

    Attributes:
        wrong: characters inserted, left out or taken for others; of ``characters`` in the words.
        right, words: words that are read without a fault, and all.
        loops: texts with up to three letters three times in a row that the word does not have: "vapororor".
        letters, misread: characters of the words by how their letters are shared, and those left out or taken for
            others; what is inserted belongs to none.
    """

    wrong: int = 0
    characters: int = 0
    right: int = 0
    words: int = 0
    loops: int = 0
    letters: Counter[Sharing] = field(default_factory=Counter)
    misread: Counter[Sharing] = field(default_factory=Counter)

    def add(self, word: str, text: str, sign_language: str, known: tuple[str, ...]) -> None:
        """Count one word of an alphabet; ``known`` are the alphabets whose signers the model knows."""
        edits = Levenshtein.editops(word, text)
        self.wrong += len(edits)
        self.characters += len(word)
        self.right += word == text
        self.words += 1
        self.loops += is_loop(word, text)
        kinds = [
            sharing(sign_language, known)[letters] for letters in split_letters(word, sign_language) for _ in letters
        ]
        self.letters.update(kinds)
        self.misread.update(kinds[edit.src_pos] for edit in edits if edit.tag != "insert")

    def __iadd__(self, other: Tally) -> Tally:
        for name in ("wrong", "characters", "right", "words", "loops"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.letters += other.letters
        self.misread += other.misread
        return self

    @property
    def error_rate(self) -> float:
        """Characters wrong, of the words' characters."""
        return self.wrong / self.characters

    def share_misread(self, kind: Sharing) -> float | None:
        """Letters of a kind that are misread, of all of it; None where there is none."""
        return self.misread[kind] / self.letters[kind] if self.letters[kind] else None


def is_loop(word: str, text: str) -> bool:
    """Tell whether a text repeats up to three letters three times in a row where its word does not."""
    return any(found[0] not in word for found in _LOOP.finditer(text))


def tally(words: Sequence[str], texts: Sequence[str], sign_language: str, known: tuple[str, ...]) -> Tally:
    """Count the words of an alphabet and what was read of each."""
    found = Tally()
    for word, text in zip(words, texts, strict=True):
        found.add(word, text, sign_language, known)
    return found
