"""BSL Corpus: conversations and narratives of Deaf people in eight regions of the United Kingdom (UCL).

From https://bslcorpusproject.org/data/ (registered researchers; annotations and videos each file by file). The ELAN
files that have a translation, and the videos, lie anywhere below the root::

    Conversation/Belfast/BF02M25WDC.eaf     region, participant, sex, age, …, C(onversation) or N(arrative)
    Conversation/Belfast/BF2c.mp4           or .mov, .mpg: as the .eaf calls it, without "-comp"

Read are the tiers of the project's annotation conventions (version 3.0, 2017): "Free Translation", English with times,
whose annotations are the rows, and "RH-IDgloss", the dominant hand's signs ("LH-IDgloss" in files ending ``_LH``),
of which those within a sentence are its gloss; spaces in a gloss become hyphens. Of several videos that a file names
the one with the shortest name is the signer's own (the others show both signers), and its ``TIME_ORIGIN`` is added to
the times. All this was read in https://github.com/sign-language-processing/datasets and in public scripts that cut the
corpus; the corpus itself, being closed, was not at hand.

The id is ``{eaf}-{start}-{end}`` in milliseconds of the ELAN file. The signer is region and participant (``BF02``).
No split is published: by a hash, 5% of the signers are dev and 5% test. Sentences without text, or that end before
they start, are left out; so are files without a translation.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote
from xml.etree import ElementTree

from signet_runtime.errors import InputError
from signet_train.data.datasets.annotations import clip_id, readable
from signet_train.data.datasets.captions import Cue
from signet_train.data.datasets.elan import Elan, read_elan
from signet_train.data.datasets.splits import hash_split
from signet_train.data.manifest import Row
from signet_train.data.tree import VIDEO_SUFFIXES, files_below

_TRANSLATION = "Free Translation"
_PUBLISHED_AS = (".mp4", ".mov", ".mpg", ".mpeg", ".m4v")
_VIDEO_SUFFIXES = (*_PUBLISHED_AS, *sorted(VIDEO_SUFFIXES.difference(_PUBLISHED_AS)))


def read(root: Path) -> list[Row]:
    """Make a row for each sentence of the free translations.

    Raises:
        InputError: no ELAN file with a translation, or a damaged one.
    """
    paths = list(files_below(root))
    videos = {path.name: path for path in paths if path.suffix.lower() in _VIDEO_SUFFIXES}
    transcripts = (path for path in paths if path.suffix.lower() == ".eaf")
    rows = [row for _, of_file in readable(transcripts, lambda path: _sentences(path, videos)) for row in of_file]
    if not rows:
        raise InputError(
            f"{root}: no ELAN file (.eaf) with a tier {_TRANSLATION!r} below; "
            "the annotations are at https://bslcorpusproject.org/data/"
        )
    return rows


def _sentences(path: Path, videos: dict[str, Path]) -> list[Row]:
    elan = read_elan(path)
    sentences = [s for s in _tier(path, elan, _TRANSLATION) if s.text and s.start < s.end]
    if not sentences:
        return []
    stem = clip_id(path.stem, str(path))
    signs = _tier(path, elan, "LH-IDgloss" if stem.upper().endswith("_LH") else "RH-IDgloss")
    video, origin = _media(path, elan.document, videos)
    participant = re.match(r"[A-Z]{2}\d{2}", stem)
    signer = participant[0] if participant else stem
    rows = []
    for sentence in sentences:
        gloss = ["-".join(s.text.split()) for s in signs if sentence.start <= s.start and s.end <= sentence.end]
        clip = f"{stem}-{1000 * sentence.start:.0f}-{1000 * sentence.end:.0f}"
        rows.append(
            Row(
                id=clip,
                split=hash_split(signer, percent=5),
                poses=f"poses/{clip}.npz",
                text=sentence.text,
                language="en",
                sign_language="bfi",
                video=str(video),
                start=sentence.start + origin,
                end=sentence.end + origin,
                signer=signer,
                gloss=" ".join(filter(None, gloss)) or None,
            )
        )
    return rows


def _tier(path: Path, elan: Elan, name: str) -> list[Cue]:
    """Return the annotations of a tier, by time; none if there is no such tier."""
    annotations = []
    for annotation in elan.tiers.get(name, []):
        if annotation.start is None or annotation.end is None:
            raise InputError(f"{path}: tier {name!r}: annotation {annotation.id} has no times")
        text = " ".join(annotation.value.split())
        annotations.append(Cue(annotation.start / 1000, annotation.end / 1000, text))
    return sorted(annotations, key=lambda annotation: (annotation.start, annotation.end))


def _media(path: Path, document: ElementTree.Element, videos: dict[str, Path]) -> tuple[Path, float]:
    """Return the signer's video, there or where it is expected, and the time in it (s) when annotations start."""
    media = [
        (PurePosixPath(unquote(descriptor.get("MEDIA_URL", ""))).name, descriptor.get("TIME_ORIGIN", "0"))
        for descriptor in document.iter("MEDIA_DESCRIPTOR")
        if not descriptor.get("MIME_TYPE", "").startswith("audio")
    ]
    if not any(name for name, _ in media):
        raise InputError(f"{path}: names no video (MEDIA_DESCRIPTOR)")
    name, origin = min((medium for medium in media if medium[0]), key=lambda medium: len(medium[0]))
    published = PurePosixPath(re.sub(r"(-comp|\.compressed)(?=\.|$)", "", name))
    candidates = [name, published.name, *(f"{published.stem}{suffix}" for suffix in _VIDEO_SUFFIXES)]
    video = next((videos[candidate] for candidate in candidates if candidate in videos), path.parent / published.name)
    try:
        return video, int(origin) / 1000
    except (ValueError, OverflowError):
        raise InputError(f"{path}: TIME_ORIGIN {origin[:40]!r} is not in milliseconds") from None
