"""YouTube-SL-25: captioned videos in more than 25 sign languages on YouTube (Tanzer and Zhang, 2024).

Published are the videos' ids and their sign languages (CC BY 4.0),
https://storage.googleapis.com/gresearch/youtube-sl-25/youtube-sl-25-metadata.csv, lines of ``{video id},{code}``
without a header; videos and captions lie below the root as yt-dlp names them, as for YouTube-ASL (see `youtube_asl`,
whose rules on cues, ids and splits hold here)::

    youtube-sl-25-metadata.csv      or youtube-sl-25_youtube-sl-25-metadata.csv, as the bucket's web page saves it
    videos/{video id}.mp4
    videos/{video id}.de.vtt

Codes are ISO 639-3, but for ``slovenia``, ``vietnam`` and ``???``, which become ``und`` (undetermined). Of a video's
captions those are read that are written where it is signed (`WRITTEN`; International Sign: in English), and none if
there are only translations. The format, the codes, and that uploaders tag captions with the sign language's code, was
read in public code that processes the release (https://github.com/matteo270303/signworld), not in the file itself.
YouTube-ASL is a part of this corpus: do not give both to one training.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from signet_runtime.errors import InputError
from signet_train.data.datasets.annotations import find_file
from signet_train.data.datasets.youtube_asl import caption_rows, list_lines, video_id
from signet_train.data.manifest import Row

_WRITTEN = """
    aed: es, ase: en, asf: en, asq: de, bfi: en, bzs: pt, csc: ca es, cse: cs, csg: es, csn: es, csq: hr, dse: nl,
    dsl: da, eso: et, fcs: fr, fse: fi, fsl: fr, fss: sv, gsg: de, gss: el, hks: zh yue, hsh: hu, icl: is, ils: en,
    inl: id, ins: hi en, ise: it, isg: en ga, isr: he, jos: ar, jsl: ja, kvk: ko, lls: lt, mfs: es, nsl: no nb nn,
    nzs: en, pks: ur en, prl: es, pso: pl, psp: fil en, rsl: ru, sfb: fr, sgg: de, slf: it, slovenia: sl, sls: en,
    ssp: es, ssr: fr, svk: sk, swl: sv, tsm: tr, tsq: th, tss: zh, vgt: nl, vietnam: vi
"""
# Sign language -> the languages that its signers' captions are written in, the most usual first.
WRITTEN = {code.strip(): written.split() for code, written in (e.split(":") for e in _WRITTEN.split(","))}
_COUNTRIES = ("slovenia", "vietnam")  # published in place of a code


def read(root: Path) -> list[Row]:
    """Make a row for each cue of the captions that were downloaded, in all sign languages.

    Raises:
        InputError: no list of ids, a broken line of it, no captions of any of them, or a damaged caption file.
    """
    path = find_file(
        root,
        ["youtube-sl-25-metadata.csv", "youtube-sl-25_youtube-sl-25-metadata.csv"],
        "it is at https://storage.googleapis.com/gresearch/youtube-sl-25/youtube-sl-25-metadata.csv",
    )
    listed = {}
    for where, line in list_lines(path):
        name, comma, code = line.partition(",")
        if not comma or not code or "," in code:
            raise InputError(f"{where}: not a video id and a sign language's code with a comma between")
        listed[video_id(name, where)] = "und" if code == "???" else code
    rows = caption_rows(root, listed, WRITTEN)
    return [replace(row, sign_language="und") if row.sign_language in _COUNTRIES else row for row in rows]
