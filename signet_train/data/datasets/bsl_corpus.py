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
from signet_train.data.datasets.annotations import clip_id
from signet_train.data.datasets.captions import Cue
from signet_train.data.datasets.splits import hash_split
from signet_train.data.manifest import Row
from signet_train.data.tree import files_below

_TRANSLATION = "Free Translation"
_VIDEO_SUFFIXES = (".mp4", ".mov", ".mpg", ".mpeg", ".m4v")


def read(root: Path) -> list[Row]:
    """Make a row for each sentence of the free translations.

    Raises:
        InputError: no ELAN file with a translation, or a damaged one.
    """
    paths = list(files_below(root))
    videos = {path.name: path for path in paths if path.suffix.lower() in _VIDEO_SUFFIXES}
    rows = [row for path in paths if path.suffix.lower() == ".eaf" for row in _sentences(path, videos)]
    if not rows:
        raise InputError(
            f"{root}: no ELAN file (.eaf) with a tier {_TRANSLATION!r} below; "
            "the annotations are at https://bslcorpusproject.org/data/"
        )
    return rows


class _NoDoctype(ElementTree.TreeBuilder):
    """ELAN writes no DTD, and only a DTD can define entities: none is ever looked at."""

    def doctype(self, name: str, pubid: str, system: str) -> None:
        raise InputError("a document type definition, which ELAN files do not have")


def _sentences(path: Path, videos: dict[str, Path]) -> list[Row]:
    try:
        document = ElementTree.parse(path, ElementTree.XMLParser(target=_NoDoctype())).getroot()
    except (ElementTree.ParseError, InputError, LookupError, ValueError) as error:
        raise InputError(f"{path}: not an ELAN file, or a damaged one ({error})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    sentences = [s for s in _tier(path, document, _TRANSLATION) if s.text and s.start < s.end]
    if not sentences:
        return []
    stem = clip_id(path.stem, str(path))
    signs = _tier(path, document, "LH-IDgloss" if stem.upper().endswith("_LH") else "RH-IDgloss")
    video, origin = _media(path, document, videos)
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


def _tier(path: Path, document: ElementTree.Element, name: str) -> list[Cue]:
    """Return the time-aligned annotations of a tier, by time; none if there is no such tier."""
    times = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in document.iter("TIME_SLOT")}
    annotations = []
    for tier in document.iter("TIER"):
        for annotation in tier.iter("ALIGNABLE_ANNOTATION") if tier.get("TIER_ID") == name else ():
            try:
                start, end = (int(times[annotation.get(f"TIME_SLOT_REF{i}")] or "") / 1000 for i in (1, 2))
            except (KeyError, ValueError):
                raise InputError(
                    f"{path}: tier {name!r}: annotation {annotation.get('ANNOTATION_ID')} has no times"
                ) from None
            annotations.append(Cue(start, end, " ".join((annotation.findtext("ANNOTATION_VALUE") or "").split())))
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
    except ValueError:
        raise InputError(f"{path}: TIME_ORIGIN {origin!r} is not in milliseconds") from None
