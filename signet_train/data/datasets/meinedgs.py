"""MeineDGS, the Public DGS Corpus: conversations in German Sign Language (DGS), with translations and glosses.

Annotations and videos are at https://www.sign-lang.uni-hamburg.de/meinedgs/ (research needs a licence), here in
its directories::

    eaf/{transcript}.eaf                                     ELAN; or beside each other in the root
    videos/{transcript}/{transcript}_1{a,b}1.mp4             who sits at A and B; 50 frames a second

Two forms of sentences are read:

- The translation protocols of Saunders et al. (https://github.com/BenSaunders27/meineDGS-Translation-Protocols),
  on whose splits (40,230 sentences) translation is reported, when ``mDGS/mDGS_Protocol_{Train,Dev,Test}.csv`` are in
  the root or in ``meineDGS-Translation-Protocols``. Fields, between ``|`` and unquoted, are filename (transcript,
  A or B, number), camera, ger_text, gloss (``GLOSS/first frame/last frame …``), start_time and stop_time: frames, at
  50 a second (compared with the ELAN file of transcript 1413703). Their text is in lower case and ASCII, without
  punctuation ("spater"), and is taken so, as it is what they score.
- Otherwise the ELAN files: every annotation of the tiers ``Deutsche_Übersetzung_{A,B}``, with the German
  glosses (``Lexem_Gebärde_{r,l}_{A,B}``) of either hand inside its time, by their start; ids as in
  sign-language-datasets (``{transcript}_{annotation}``). The splits are those of ``split.3.0.0-uzh-document.json``
  (from there, ``dgs_corpus/splits``) when it is in the root, and transcripts it does not list (two, at 25 frames a
  second) are left out; else the CRC-32 of the participants' names makes 5% of the pairs dev, 5% test.
  Sentences without text are left out. The tiers were read in the corpus' 1413703.eaf (its copy in
  eq4all-projects/SignBLEU).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from signet_runtime.errors import InputError
from signet_train.data.datasets.annotations import clip_id, find_file, read_json, read_table, readable
from signet_train.data.datasets.elan import Annotation, read_elan
from signet_train.data.datasets.splits import hash_split
from signet_train.data.manifest import Row
from signet_train.data.tree import is_kept

_FPS = 50
_PROTOCOLS = ("mDGS", "meineDGS-Translation-Protocols/mDGS")
_SPLIT = "split.3.0.0-uzh-document.json"


def read(root: Path) -> list[Row]:
    """Make the rows of the protocols when they are there, else of the ELAN files.

    Raises:
        InputError: neither is there, or one of them is incomplete or broken.
    """
    root = root.absolute()
    for protocols in _PROTOCOLS:
        if (root / protocols).is_dir():
            return [row for split in ("Train", "Dev", "Test") for row in _protocol(root, protocols, split)]
    below = root / "eaf" if (root / "eaf").is_dir() else root
    transcripts = sorted(path for path in below.glob("*.eaf") if is_kept(path.name))
    if not transcripts:
        raise InputError(
            f"{root}: no {_PROTOCOLS[0]} (translation protocols) and no eaf/*.eaf there;"
            " https://www.sign-lang.uni-hamburg.de/meinedgs/ publishes the latter"
        )
    splits = _published_splits(root / _SPLIT) if (root / _SPLIT).is_file() else None

    def rows(path: Path) -> list[Row]:
        elan = read_elan(path)
        pair = " ".join(sorted(set(elan.participants.values()))) or path.stem
        split = hash_split(pair, percent=5) if splits is None else splits[path.stem]
        return list(_sentences(root, path, split, elan.tiers, elan.participants))

    listed = (path for path in transcripts if splits is None or path.stem in splits)
    return [row for _, of_file in readable(listed, rows) for row in of_file]


def _protocol(root: Path, protocols: str, split: str) -> Iterator[Row]:
    path = find_file(
        root,
        [f"{protocols}/mDGS_Protocol_{split}.csv"],
        "https://github.com/BenSaunders27/meineDGS-Translation-Protocols publishes it",
    )
    columns = ("filename", "camera", "ger_text", "gloss", "start_time", "stop_time")
    for where, line in read_table(path, columns, "|"):
        name = clip_id(line["filename"], where)
        transcript, _, _ = name.rpartition("-")
        if line["camera"] not in ("A", "B") or not transcript.endswith(line["camera"]):
            raise InputError(f"{where}: {name!r} is not a transcript, its camera and a number")
        try:
            start, end = int(line["start_time"]) / _FPS, int(line["stop_time"]) / _FPS
        except (ValueError, OverflowError):
            raise InputError(f"{where}: start_time and stop_time are not frames") from None
        text, gloss = line["ger_text"], " ".join(token.split("/")[0] for token in line["gloss"].split())
        yield _row(root, split.lower(), name, transcript[:-1], line["camera"], start, end, text, gloss, None)


def _sentences(
    root: Path, path: Path, split: str, tiers: dict[str, list[Annotation]], participants: dict[str, str]
) -> Iterator[Row]:
    for camera in "AB":
        tier = f"Deutsche_Übersetzung_{camera}"
        hands = [a for hand in "rl" for a in tiers.get(f"Lexem_Gebärde_{hand}_{camera}", [])]
        timed = [(a.start, a.end, a.value) for a in hands if a.start is not None and a.end is not None]
        signs = sorted(timed, key=lambda sign: sign[0])
        for sentence in tiers.get(tier, []):
            if sentence.start is None or sentence.end is None:
                raise InputError(f"{path}: not an ELAN file, or a damaged one (annotation {sentence.id} has no times)")
            if not sentence.value:
                continue
            gloss = " ".join(value for a, b, value in signs if a >= sentence.start and b <= sentence.end)
            name = clip_id(f"{path.stem}_{sentence.id}", f"{path}: {tier}")
            start, end = sentence.start / 1000, sentence.end / 1000
            yield _row(root, split, name, path.stem, camera, start, end, sentence.value, gloss, participants.get(tier))


def _published_splits(path: Path) -> dict[str, str]:
    document = read_json(path)
    try:
        return {transcript: split for split in ("train", "dev", "test") for transcript in document[split]}
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: not lists of transcripts for train, dev and test") from error


def _row(
    root: Path,
    split: str,
    name: str,
    transcript: str,
    camera: str,
    start: float,
    end: float,
    text: str,
    gloss: str,
    signer: str | None,
) -> Row:
    file = f"{transcript}_1{camera.lower()}1.mp4"
    return Row(
        id=name,
        split=split,
        poses=f"poses/{name}.npz",
        text=text.strip(),
        language="de",
        sign_language="gsg",
        video=str(root / file if (root / file).is_file() else root / "videos" / transcript / file),
        start=start,
        end=end,
        signer=signer,
        gloss=gloss or None,
    )
